"""Error against width: how narrow the layer that makes the embedding may be.

The towers stay as they are, so their features are computed once and each width costs a small matrix problem.
Two ways to narrow the layer: `low_rank` keeps E outputs and passes them through r directions, `dropped` keeps r
of the outputs. Both are measured as built and after a short recovery of that layer and the head.
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
from gazepipe.near_eye.explain.importance import ranking

KINDS = ("low_rank", "dropped")
BATCH = 64
LEARNING_RATE = 5e-4
TEACHER_SHARE = 0.5


@dataclass(frozen=True)
class Layer:
    """The first FC as one matrix: z = activation(x weight^T + bias), x [n, D], weight [E, D], bias [E]."""

    weight: torch.Tensor
    bias: torch.Tensor
    activation: Callable[[torch.Tensor], torch.Tensor]

    def before(self, features: torch.Tensor) -> torch.Tensor:
        """Pre-activations [n, E]."""
        return features @ self.weight.T + self.bias

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings [n, E]."""
        return self.activation(self.before(features))


@dataclass(frozen=True)
class Cached:
    """Samples as the towers leave them: `features` [n, D], `target` [n, 2] in the network's units, `subject`
    [n].
    """

    features: torch.Tensor
    target: torch.Tensor
    subject: np.ndarray


class Narrow(nn.Module):
    """A narrowed layer with its head; `forward` maps features [n, D] to outputs [n, 2]."""

    def __init__(self, layers: list[nn.Linear], activation: Callable, head: nn.Module) -> None:
        super().__init__()
        self.layers, self.activation, self.head = nn.Sequential(*layers), activation, head

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(self.activation(self.layers(features)))


def low_rank(layer: Layer, head: nn.Module, features: torch.Tensor, rank: int) -> Narrow:
    """W' = V V^T W with V [E, rank] the leading principal directions of the centred pre-activations of
    `features` [n, D], and the bias that keeps their mean; D -> rank -> E.
    """
    values = layer.before(features).double()
    mean = values.mean(dim=0)
    _, vectors = torch.linalg.eigh((values - mean).T @ (values - mean))
    basis = vectors.flip(1)[:, :rank]
    # The sign of an eigenvector is the machine's choice.
    basis = basis * basis.gather(0, basis.abs().argmax(dim=0, keepdim=True)).sign()
    bias = mean + basis @ (basis.T @ (layer.bias.double() - mean))
    down = _linear((basis.T @ layer.weight.double()).float(), None)
    return Narrow([down, _linear(basis.float(), bias.float())], layer.activation, copy.deepcopy(head))


def dropped(layer: Layer, head: nn.Module, features: torch.Tensor, keep: np.ndarray) -> Narrow:
    """Only the dimensions `keep` of the embedding; the others stand at their mean over `features` [n, D],
    folded into the bias of the head's first layer.
    """
    mean = layer(features).mean(dim=0)
    kept = torch.as_tensor(np.sort(keep))
    gone = torch.ones(len(layer.weight), dtype=torch.bool).index_fill(0, kept, False)
    narrowed = copy.deepcopy(head)
    name, first = next((name, module) for name, module in narrowed.named_modules() if isinstance(module, nn.Linear))
    weight, bias = first.weight.detach(), first.bias.detach()
    small = _linear(weight[:, kept], bias + weight[:, gone] @ mean[gone])
    if not name:
        narrowed = small
    else:
        parent, _, child = name.rpartition(".")
        setattr(narrowed.get_submodule(parent), child, small)
    return Narrow([_linear(layer.weight[kept], layer.bias[kept])], layer.activation, narrowed)


def parameters(network: Narrow) -> int:
    """Weights and biases of the narrowed layer and the head."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def error_px(network: Callable, samples: Cached, scale: torch.Tensor) -> float:
    """Mean over subjects of each subject's mean distance in pixels; `scale` [2] pixels per unit."""
    distance = torch.linalg.vector_norm((network(samples.features) - samples.target) * scale, dim=1).double().numpy()
    return float(np.mean([distance[samples.subject == name].mean() for name in np.unique(samples.subject)]))


def recover(
    network: Narrow,
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
    layer: Layer,
    head: nn.Module,
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
        narrowed = (dropped(layer, head, train.features, order[:width]) for width in widths)
        errors[name] = [error_px(network, validation, scale) for network in narrowed]
    return min(errors, key=lambda name: np.mean(errors[name])), errors


def error_curve(
    layer: Layer,
    head: nn.Module,
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
        teacher = head(layer(train.features))
    rows = []
    for kind, width in track([(kind, width) for kind in KINDS for width in widths], "error against width"):
        if kind == "low_rank":
            network = low_rank(layer, head, train.features, width)
        else:
            network = dropped(layer, head, train.features, order[:width])
        row = {"kind": kind, "width": width, "parameters": parameters(network)}
        row["before_px"] = error_px(network, validation, scale)
        row["after_px"] = recover(network, teacher, train, validation, scale, epochs, seed)
        rows.append(row)
    return rows


def choose_width(curve: list[dict], kind: str, full_error: float, tolerance: float) -> int:
    """The smallest width of `kind` that, like every wider one, has a recovered error of at most (1 + tolerance) *
    full_error; the widest where there is none.

    A narrow network that is good where somewhat wider ones are not owes it to the draw of validation subjects.
    """
    widest, *others = sorted((row for row in curve if row["kind"] == kind), key=lambda row: -row["width"])
    within = takewhile(lambda row: row["after_px"] <= (1 + tolerance) * full_error, others)
    return min([widest["width"], *(row["width"] for row in within)])


def checked_widths(widths: list[int], full: int) -> list[int]:
    """The widths below the `full` one, and that one, rising."""
    return sorted({width for width in widths if width < full} | {full})


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone().contiguous())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear
