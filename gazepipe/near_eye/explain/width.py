"""Error against width: how narrow the layer that makes the embedding may be.

The towers stay as they are, so their features are computed once and each width costs a small matrix problem.
The two ways to narrow the layer are those of `gazepipe.methods.shrink.first_layer`: `low_rank` keeps E outputs and
passes them through r directions, `dropped` keeps r of the outputs. Both are measured as built and after a short
recovery of that layer and the head.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from gazepipe.common.progress import track
from gazepipe.methods.shrink.first_layer import drop_dimensions, low_rank
from gazepipe.models.itracker import ITracker4
from gazepipe.near_eye.explain.importance import ranking

KINDS = ("low_rank", "dropped")
BATCH = 64
LEARNING_RATE = 5e-4
TEACHER_SHARE = 0.5


@dataclass(frozen=True)
class Cached:
    """Samples as the towers leave them: `features` [n, D], `target` [n, 2] in the network's units, `subject`
    [n].
    """

    features: torch.Tensor
    target: torch.Tensor
    subject: np.ndarray


class Readout(nn.Module):
    """What an itracker4 does behind its towers, by modules that are its own; features [n, D] to gaze points [n, 2]."""

    def __init__(self, model: ITracker4) -> None:
        super().__init__()
        self.first, self.activation, self.head = model.first, model.activation, model.head

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings [n, E]."""
        return self.activation(self.first(self.by_tower(features)))

    def by_tower(self, features: torch.Tensor) -> list[torch.Tensor]:
        """What each of the towers gave of them."""
        return list(features.split([term.in_features for term in self.first.terms], dim=1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(features))


@torch.no_grad()
def narrowed(model: ITracker4, spec: dict, kind: str, width: int, order: np.ndarray, features: torch.Tensor) -> Readout:
    """`model` of `spec` behind its towers with a first layer of `width`: of that rank for `features` [n, D] of the
    training subjects, or (`kind` dropped) with the first so many dimensions of `order` [E] only."""
    whole = Readout(model)
    if kind == "low_rank":
        return Readout(low_rank(model, spec, whole.by_tower(features), width)[0])
    keep = np.sort(order[:width]).tolist()
    return Readout(drop_dimensions(model, spec, keep, whole.embed(features).mean(dim=0))[0])


def parameters(network: Readout) -> int:
    """Weights and biases of the first layer and the head."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def error_px(network: Callable, samples: Cached, scale: torch.Tensor) -> float:
    """Mean over subjects of each subject's mean distance in pixels; `scale` [2] pixels per unit."""
    distance = torch.linalg.vector_norm((network(samples.features) - samples.target) * scale, dim=1).double().numpy()
    return float(np.mean([distance[samples.subject == name].mean() for name in np.unique(samples.subject)]))


def recover(
    network: Readout,
    teacher: torch.Tensor,
    train: Cached,
    validation: Cached,
    scale: torch.Tensor,
    epochs: int,
    seed: int,
) -> float:
    """Train layer and head for `epochs` over the features, L1 to half label, half `teacher` [n, 2]; the
    network is left as it was after the epoch best on `validation`, whose error in pixels is returned.

    The start counts as an epoch, so recovery never makes it worse.
    """
    draws = torch.Generator().manual_seed(seed)
    aim = torch.lerp(train.target, teacher, TEACHER_SHARE)
    steps = -(-len(aim) // BATCH)
    network.requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, foreach=False, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, epochs * steps))
    best, state = error_px(network, validation, scale), copy.deepcopy(network.state_dict())
    for _ in range(epochs):
        for rows in torch.randperm(len(aim), generator=draws).split(BATCH):
            optimizer.zero_grad()
            F.l1_loss(network(train.features[rows]), aim[rows]).backward()
            optimizer.step()
            schedule.step()
        error = error_px(network, validation, scale)
        if error < best:
            best, state = error, copy.deepcopy(network.state_dict())
    network.load_state_dict(state)
    return best


def best_importance(
    model: ITracker4,
    spec: dict,
    scores: dict[str, np.ndarray],
    train: Cached,
    validation: Cached,
    scale: torch.Tensor,
    widths: list[int],
) -> tuple[str, dict[str, list[float]]]:
    """The importance whose leading dimensions, without recovery, lose least on the validation subjects in the
    mean over `widths`; and every importance's errors in pixels at the widths.
    """
    errors = {}
    for name, score in scores.items():
        order = ranking(score)
        networks = (narrowed(model, spec, "dropped", width, order, train.features) for width in widths)
        errors[name] = [error_px(network, validation, scale) for network in networks]
    return min(errors, key=lambda name: np.mean(errors[name])), errors


def error_curve(
    model: ITracker4,
    spec: dict,
    order: np.ndarray,
    train: Cached,
    validation: Cached,
    scale: torch.Tensor,
    widths: list[int],
    epochs: int,
    seed: int,
) -> list[dict]:
    """One row per kind and width: kind, width, parameters, before_px and after_px on the validation subjects.

    `order` [E] ranks the dimensions; the teacher is the network as it is.
    """
    with torch.no_grad():
        teacher = Readout(model)(train.features)
    rows = []
    for kind, width in track([(kind, width) for kind in KINDS for width in widths], "error against width"):
        network = narrowed(model, spec, kind, width, order, train.features)
        row = {"kind": kind, "width": width, "parameters": parameters(network)}
        row["before_px"] = error_px(network, validation, scale)
        row["after_px"] = recover(network, teacher, train, validation, scale, epochs, seed)
        rows.append(row)
    return rows


def choose_width(curve: list[dict], kind: str, full_error: float, tolerance: float) -> int:
    """The smallest width of `kind` that, like every wider one, has a recovered error of at most (1 + tolerance) *
    full_error; the widest where there is none.

    A narrow network that is better than somewhat wider ones is so by chance of the validation subjects.
    """
    widest, *others = sorted((row for row in curve if row["kind"] == kind), key=lambda row: -row["width"])
    within = takewhile(lambda row: row["after_px"] <= (1 + tolerance) * full_error, others)
    return min([widest["width"], *(row["width"] for row in within)])


def checked_widths(widths: list[int], full: int) -> list[int]:
    """The widths below the `full` one, and that one, rising."""
    return sorted({width for width in widths if width < full} | {full})
