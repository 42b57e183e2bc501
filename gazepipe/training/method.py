"""The interface between the training loop and the kinds of method: what a kind may do to a training.

The loop takes a `Regime`. `gazepipe.methods.train` makes it from the kinds that a method is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gazepipe.models.settings import Spec
from gazepipe.training.compiled import compiled, stepwise
from gazepipe.training.losses import Objective, loss_of, predicted, supervised
from gazepipe.training.samples import Samples
from gazepipe.training.settings import Augmentation, Training

Network = tuple[nn.Module, Spec]
"""A network, and the spec that builds it."""
Recover = Callable[[str, Callable[[], Network], int], Network]
"""(name, function that makes a smaller network, epochs): that network, trained for so many epochs. It may come from the
state that a killed run kept under the name; then the function is not called."""
Told = dict[str, Any]
"""What a hook tells of what it did, as JSON has it; empty: nothing."""
CycleHook = Callable[[int, nn.Module, torch.optim.Optimizer], Told]
"""Called with (cycle, model, optimizer) before each cycle's first step; what it tells is among the facts of the run."""


@dataclass(frozen=True)
class Context:
    """What a kind is told of the run that it is part of: its training and augmentation, the samples of the training
    subjects, the files of the job by name, those that it has: weights of `parent`, `teacher` and `shape`, and `width`
    (width.json), and the stores of `unlabelled` images.
    """

    training: Training
    augmentation: Augmentation
    samples: Samples
    seed: int
    device: torch.device
    files: Mapping[str, Path]
    unlabelled: tuple[Path, ...] = ()


class Kind:
    """One kind of method in one training; each hook does nothing unless a subclass says otherwise.

    An object serves for one training: a run that trains several times, between prunings, makes new ones. Kinds of a
    method act in the order of `gazepipe.methods.settings.Kinds`.

    - `settings`: those of the kind.
    - `draws`: the generator of this kind, seeded by the run's seed and the kind's name; a killed run keeps its state.
    - `adapters`: modules that are trained along and not kept, once `objective` has set them.
    """

    adapters: nn.Module | None = None

    def __init__(self, settings: Any, context: Context, draws: torch.Generator) -> None:
        self.settings, self.context, self.draws = settings, context, draws

    def start(self, network: Network, recover: Recover) -> Network:
        """The network to train, from the one started from; `recover` trains on the way there."""
        return network

    def schedule(self, training: Training, cycles: int) -> tuple[Training, int]:
        """The settings of the training, and how often its schedule is gone through; 0: the network stays as it is."""
        return training, cycles

    def samples(self, samples: Samples) -> Samples:
        """The samples to learn from, from those of the training subjects."""
        return samples

    def objective(self, base: Objective, network: Network) -> Objective:
        """The objective, from that of the kinds before; the network is on the device, as before the first step."""
        return base

    def before_cycle(self, cycle: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> Told | None:
        """Change weights and optimizer, in place, before a cycle's first step; cycles count from 0. What it returns is
        among the facts of the run, under the name of the kind."""


@dataclass(frozen=True)
class Regime:
    """How a network is trained. `cycles` repeat the schedule, `before_cycle` is called before each; `adapters` are
    trained along and not kept; `generators` are what objective and hook draw from.
    """

    objective: Objective
    training: Training
    augmentation: Augmentation
    cycles: int = 1
    before_cycle: CycleHook | None = None
    adapters: nn.Module | None = None
    generators: Mapping[str, torch.Generator] = field(default_factory=dict)


def regime(kinds: Mapping[str, Kind], network: Network, context: Context, augmentation: Augmentation) -> Regime:
    """How `kinds`, by name, train a network: supervised by the labels, and what each kind makes of it."""
    training, cycles = context.training, 1
    for kind in kinds.values():
        training, cycles = kind.schedule(training, cycles)
    plain = supervised(loss_of(training.loss, context.samples.units), compiled(predicted, context))
    objective = reduce(lambda base, kind: kind.objective(base, network), kinds.values(), plain)

    def before_cycle(cycle: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> Told:
        told = {name: kind.before_cycle(cycle, model, optimizer) for name, kind in kinds.items()}
        return {name: what for name, what in told.items() if what}

    return Regime(
        objective=stepwise(objective, context),
        training=training,
        augmentation=augmentation,
        cycles=cycles,
        before_cycle=before_cycle,
        adapters=_together(kind.adapters for kind in kinds.values()),
        generators={name: kind.draws for name, kind in kinds.items()},
    )


def _together(adapters: Iterable[nn.Module | None]) -> nn.Module | None:
    some = [each for each in adapters if each is not None]
    return some[0] if len(some) == 1 else nn.ModuleList(some) if some else None
