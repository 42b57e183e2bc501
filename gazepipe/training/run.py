"""All that changes while a network is trained, so that it can be put away at any step and taken up again."""

import copy
import hashlib
import json
from dataclasses import dataclass, field

import torch
from torch import nn

from gazepipe.training.device import random_states, set_random_states
from gazepipe.training.state import Snapshot


class Average:
    """Exponential moving average of a network's weights; its batch statistics are those of the last step.

    The decay rises as (1 + n) / (10 + n) to its final value, so that the start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)


@dataclass
class Run:
    """A training under way: it is in `cycle`, in the cycle's `epoch` (both from 0), behind as many steps as `losses`.

    `generators` are all that it draws from, besides torch's own and the order of samples, which follows from the
    epoch. `history` holds the epochs that are complete; `best` the weights of the best of them, and `best_errors` its
    validation error by subject. `seconds` is the time that earlier processes spent, `resumes` their number.
    """

    model: nn.Module
    adapters: nn.Module | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    generators: dict[str, torch.Generator]
    average: Average | None = None
    losses: list[torch.Tensor] = field(default_factory=list)
    history: list[dict] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    best_errors: dict[str, float] = field(default_factory=dict)
    cycle: int = 0
    epoch: int = 0
    seconds: float = 0.0
    resumes: int = 0

    @property
    def trained(self) -> list[nn.Module]:
        """The modules that the optimizer changes."""
        return [self.model] if self.adapters is None else [self.model, self.adapters]

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.model if self.average is None else self.average.model


COUNTERS = ("history", "best_errors", "cycle", "epoch", "resumes")


def snapshot(run: Run, seconds: float) -> Snapshot:
    """A run, behind at least one step of its epoch, and the `seconds` spent on it, as `restore` takes them."""
    parts = {
        "model": run.model.state_dict(),
        "best": run.best,
        "generator": {name: generator.get_state() for name, generator in run.generators.items()},
        "epoch": {"losses": torch.stack(run.losses)},
        "random": random_states(run.device),
    }
    if run.adapters is not None:
        parts["adapters"] = run.adapters.state_dict()
    if run.average is not None:
        parts["average"] = run.average.model.state_dict()
    for number, values in run.optimizer.state_dict()["state"].items():
        parts[f"optimizer/{number}"] = {name: value for name, value in values.items() if torch.is_tensor(value)}
    tensors = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
    facts = {name: getattr(run, name) for name in COUNTERS}
    updates = 0 if run.average is None else run.average.updates
    return tensors, {**facts, "seconds": seconds, "updates": updates, "scaler": run.scaler.state_dict()}


def restore(run: Run, saved: Snapshot, ema: float) -> None:
    """Make `run`, fresh and of the same identity, what it was when the snapshot was taken; `ema` as in `fit`."""
    tensors, facts = saved
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.rpartition("/") if name.startswith("optimizer/") else name.partition("/")
        parts.setdefault(part, {})[rest] = value
    run.model.load_state_dict(parts["model"])
    if run.adapters is not None:
        run.adapters.load_state_dict(parts["adapters"])
    if ema > 0:
        run.average = Average(run.model, ema)
        run.average.model.load_state_dict(parts["average"])
        run.average.updates = facts["updates"]
    moments = {int(part.partition("/")[2]): values for part, values in parts.items() if part.startswith("optimizer/")}
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    run.scaler.load_state_dict(facts["scaler"])
    for name, generator in run.generators.items():
        generator.set_state(parts["generator"][name])
    set_random_states(run.device, parts["random"])
    run.losses = list(parts["epoch"]["losses"].to(run.device))
    run.best = parts.get("best", {})
    for name in COUNTERS:
        setattr(run, name, facts[name])
    run.seconds = facts["seconds"]
    run.resumes += 1


def identity(run: Run, facts: dict) -> str:
    """Digest of a fresh run's weights and of the `facts` that decide what becomes of them."""
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for module in run.trained:
        for name, value in module.state_dict().items():
            found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
