"""The mutable state of a training, which can be saved at any step and restored."""

import hashlib
import json
import time
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from gazepipe.training.device import random_states, set_random_states
from gazepipe.training.distributed import ALONE, Group
from gazepipe.training.method import Regime
from gazepipe.training.state import Snapshot


class Average(AveragedModel):
    """Exponential moving average of a network's weights; its batch statistics are those of the last step.

    The decay of the n-th update is (1 + n) / (10 + n), up to `decay`, so that the initial weights soon count little.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.requires_grad_(False)
        self.decay = decay
        self.n_averaged.fill_(1)  # the weights at the start count as one
        self._weights = list(self.module.parameters()), list(model.parameters())
        self._statistics = list(self.module.buffers()), list(model.buffers())

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Approach the weights of `model`, of which this was made, and take over its batch statistics. Its tensors are
        listed only once. The count stays on the CPU: torch's own method would send it to the GPU and wait.
        """
        count = self.n_averaged.item()
        torch._foreach_lerp_(*self._weights, 1 - min(self.decay, (1 + count) / (10 + count)))
        if self._statistics[0]:
            torch._foreach_copy_(*self._statistics)
        self.n_averaged += 1


@dataclass
class Run:
    """A training under way: it is in `cycle`, in the cycle's `epoch` (both from 0), behind as many steps as `losses`.

    `generators` are all that it draws from, besides torch's own and the order of samples, which follows from the
    epoch. `history` holds the epochs that are complete; `best` the weights of the best of them, and `best_errors` its
    validation error by subject; `told` what the hook told before each cycle. `earlier_seconds` is the time that earlier
    processes spent, `resumes` their number. In a `group` of processes generators and losses are each one's own.
    """

    model: nn.Module
    regime: Regime
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    precision: str
    generators: dict[str, torch.Generator]
    group: Group = ALONE
    average: Average | None = None
    losses: list[torch.Tensor] = field(default_factory=list)
    history: list[dict] = field(default_factory=list)
    told: list[dict] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    best_errors: dict[str, float] = field(default_factory=dict)
    cycle: int = 0
    epoch: int = 0
    earlier_seconds: float = 0.0
    resumes: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def adapters(self) -> nn.Module | None:
        """What is trained along and not kept."""
        return self.regime.adapters

    @property
    def seconds(self) -> float:
        """The time spent on it by all processes."""
        return self.earlier_seconds + time.monotonic() - self.began

    @property
    def trained(self) -> list[nn.Module]:
        """The modules that the optimizer changes."""
        return [self.model] if self.adapters is None else [self.model, self.adapters]

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.model if self.average is None else self.average.module


COUNTERS = ("history", "told", "best_errors", "cycle", "epoch", "resumes")


def snapshot(run: Run) -> Snapshot:
    """A run, behind at least one step of its epoch, as `restore` takes it.

    What each process of a group has for itself is stacked by rank.
    """
    gathered = run.group.gathered
    parts = {
        "model": run.model.state_dict(),
        "best": run.best,
        "generator": {name: gathered(generator.get_state()) for name, generator in run.generators.items()},
        "epoch": {"losses": gathered(torch.stack(run.losses))},
        "random": {name: gathered(state) for name, state in random_states(run.device).items()},
    }
    if run.adapters is not None:
        parts["adapters"] = run.adapters.state_dict()
    if run.average is not None:
        parts["average"] = run.average.state_dict()
    for number, values in run.optimizer.state_dict()["state"].items():
        parts[f"optimizer/{number}"] = {name: value for name, value in values.items() if torch.is_tensor(value)}
    tensors = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
    facts = {name: getattr(run, name) for name in COUNTERS}
    return tensors, {**facts, "seconds": run.seconds, "scaler": run.scaler.state_dict()}


def restore(run: Run, saved: Snapshot) -> None:
    """Make `run`, fresh and of the same identity, what it was when the snapshot was taken."""
    (tensors, facts), rank = saved, run.group.rank
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.rpartition("/") if name.startswith("optimizer/") else name.partition("/")
        parts.setdefault(part, {})[rest] = value
    run.model.load_state_dict(parts["model"])
    if run.adapters is not None:
        run.adapters.load_state_dict(parts["adapters"])
    if run.regime.training.ema > 0:
        run.average = Average(run.model, run.regime.training.ema)
        run.average.load_state_dict(parts["average"])
    moments = {int(part.partition("/")[2]): values for part, values in parts.items() if part.startswith("optimizer/")}
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    run.scaler.load_state_dict(facts["scaler"])
    # Generators crash on a state that begins within another tensor (torch 2.13): hence the copies.
    for name, generator in run.generators.items():
        generator.set_state(parts["generator"][name][rank].clone())
    set_random_states(run.device, {name: states[rank].clone() for name, states in parts["random"].items()})
    run.losses = list(parts["epoch"]["losses"][rank].to(run.device))
    run.best = parts.get("best", {})
    for name in COUNTERS:
        setattr(run, name, facts[name])
    run.earlier_seconds = facts["seconds"]
    run.resumes += 1


def identity(run: Run, facts: dict) -> str:
    """Digest of a fresh run's weights and of the `facts` that decide what becomes of them."""
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for module in run.trained:
        for name, value in module.state_dict().items():
            found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
