"""Re-birth: the most redundant filters of a trained network start again, in directions that no other filter
covers.

The network keeps its size: this buys accuracy, not speed. After Guo et al. (2019) with the aligned orthogonal
initialisation as reconstructed from their paper, in generations as in RePr (Prakash et al. 2019).
"""

import torch
import torch.nn.functional as F
from torch import nn

from gazepipe.errors import UserError
from gazepipe.methods.settings import Rebirth
from gazepipe.training.losses import Objective, dense_3x3, pearson
from gazepipe.training.method import Kind, Network, Told
from gazepipe.training.settings import Training

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
CHANNELWISE = (
    *NORMS,
    nn.ReLU,
    nn.LeakyReLU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
)
"""Modules that keep channel i of their input in channel i of their output."""
PAIRS_ABOVE = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""|cosine| of two filters above which pairs are counted."""


class FilterRebirth(Kind):
    """The kind `rebirth`: filters start again before each generation, which is a cycle of the schedule; with a penalty
    on the correlation of filters, if it has a weight. New directions come from `draws`.
    """

    settings: Rebirth

    def schedule(self, training: Training, cycles: int) -> tuple[Training, int]:
        return training.model_copy(update={"epochs": self.settings.epochs}), cycles * self.settings.generations

    def objective(self, base: Objective, network: Network) -> Objective:
        weight, largest = self.settings.pearson, self.settings.max_filters
        if weight == 0:
            return base

        def regularised(model: nn.Module, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return base(model, images, target) + weight * pearson(model, largest)

        return regularised

    def before_cycle(self, cycle: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> Told | None:
        """Filters start again; tells of each of the `layers`, from the first to the last, how many did, and how alike
        its filters are before and after (`likeness`).
        """
        if self.settings.share == 0:
            return None
        largest = self.settings.max_filters
        before = likeness(model, largest)
        chosen = reborn(model, self.settings.share, largest, self.draws, optimizer)
        after = likeness(model, largest)
        layers = [
            {"name": name, "reborn": len(chosen.get(name, ())), "before": before[name], "after": after[name]}
            for name in before
        ]
        return {"layers": layers}


@torch.no_grad()
def likeness(model: nn.Module, max_filters: int) -> dict[str, dict[str, float]]:
    """How alike the filters of each 3x3 layer of 2 to `max_filters` filters are: over the pairs of a layer the mean
    |cosine|, and the shares of pairs above each of PAIRS_ABOVE.
    """
    names = {module: name for name, module in model.named_modules()}
    found = {}
    for layer in dense_3x3(model):
        if 2 <= layer.out_channels <= max_filters:
            unit = F.normalize(layer.weight.flatten(1).double().cpu(), dim=1)
            pairs = (unit @ unit.T).abs()[*torch.triu_indices(len(unit), len(unit), offset=1)]
            above = {f"{limit:g}": round((pairs > limit).double().mean().item(), 6) for limit in PAIRS_ABOVE}
            found[names[layer]] = {"mean": round(pairs.mean().item(), 6), **above}
    return found


@torch.no_grad()
def reborn(
    model: nn.Module,
    share: float,
    max_filters: int,
    generator: torch.Generator,
    optimizer: torch.optim.Optimizer | None = None,
) -> dict[str, list[int]]:
    """Re-initialise, in place, the most redundant `share` of every 3x3 layer; returns the reborn filters by
    layer.

    Layers are the dense 3x3 convolutions of at most `max_filters` filters. Each reborn filter is orthogonal
    to the layer's kept filters, has a fresh bias and fresh batch statistics, no optimizer moments, and starts
    silent, so that all the network does at first is forget the old filter. Inside one nn.Sequential the next
    convolution is the only reader, and its weights for the filter become zero: their gradient is not, so the
    filter joins in as soon as it helps. Where the output leaves the Sequential (into a residual sum, usually)
    there is no such weight, and the scale of its batch norm becomes zero instead. A layer followed by neither
    starts loud. Later layers are judged after the readers of earlier ones were zeroed.

    Raises UserError for a network without such a layer.
    """
    names = {module: name for name, module in model.named_modules()}
    layers = [layer for layer in dense_3x3(model) if layer.out_channels <= max_filters]
    if not layers:
        raise UserError(
            f"rebirth: {type(model).__name__} has no dense 3x3 convolution of at most {max_filters} filters; "
            "raise rebirth.max_filters or leave this method out for this model"
        )
    followers = sequential_followers(model)
    report = {}
    for layer in layers:
        chosen = most_redundant(layer.weight.flatten(1), share)
        if len(chosen) == 0:
            continue
        filters = layer.weight.flatten(1).double().cpu()
        kept = filters[~torch.isin(torch.arange(len(filters)), chosen)]
        fresh = orthogonal_filters(kept, len(chosen), generator)
        norm, reader = followers.get(layer, (None, None))
        _restart(layer, norm, reader, chosen.to(layer.weight.device), fresh)
        if optimizer is not None:
            _forget(optimizer, layer, norm, reader, chosen)
        report[names[layer]] = chosen.tolist()
    return report


def redundancy(filters: torch.Tensor) -> torch.Tensor:
    """Score of each filter: its mean |cosine| with the others. [n, fan_in] -> [n] in [0, 1]; n > 1."""
    unit = F.normalize(filters.detach().double(), dim=1)
    similarity = (unit @ unit.T).abs()
    return (similarity.sum(dim=1) - similarity.diagonal()) / (len(filters) - 1)


def most_redundant(filters: torch.Tensor, share: float) -> torch.Tensor:
    """Indices, rising, of the round(share * n) filters [n, fan_in] of the highest score: at least 1.

    At most n - 1, so that one is kept, and at most fan_in, since no more can be orthogonal to each other.
    """
    count, fan_in = filters.shape
    number = min(max(1, round(share * count)), count - 1, fan_in)
    if number == 0:
        return torch.empty(0, dtype=torch.long)
    return redundancy(filters).topk(number).indices.sort().values.cpu()


def orthogonal_filters(kept: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` filters, float64 [count, fan_in], orthogonal to every row of kept [k, fan_in] and to each
    other.

    (N B)^T with N the null space of the kept filters by a complete QR decomposition and B random orthonormal
    columns, scaled to the kept filters' mean norm. |cosine| to a kept filter stays below 1e-7, also once
    rounded to float32. Where the null space is too small (more filters than inputs of one filter), they are
    the `count` <= fan_in directions that the kept filters cover least: right singular vectors of the smallest
    singular values.
    """
    kept = kept.double()
    scale = kept.norm(dim=1).mean()
    directions = F.normalize(kept, dim=1)
    fan_in = kept.shape[1]
    if fan_in - len(kept) < count:
        return scale * torch.linalg.svd(directions, full_matrices=True).Vh[fan_in - count :]
    null_space = torch.linalg.qr(directions.T, mode="complete").Q[:, len(kept) :]
    mixture = torch.randn(null_space.shape[1], count, dtype=torch.float64, generator=generator)
    return scale * (null_space @ torch.linalg.qr(mixture).Q).T


def sequential_followers(model: nn.Module) -> dict[nn.Module, tuple[nn.BatchNorm2d | None, nn.Conv2d | None]]:
    """For each convolution that stands in an nn.Sequential: its batch norm, and the one convolution that
    reads it.

    Both are looked for in the same Sequential behind channel-wise modules only; None where there is none.
    """
    found = {}
    for sequence in (module for module in model.modules() if isinstance(module, nn.Sequential)):
        members = list(sequence)
        for position, module in enumerate(members):
            if isinstance(module, nn.Conv2d):
                found[module] = _follow(members[position + 1 :])
    return found


def _follow(members: list[nn.Module]) -> tuple[nn.BatchNorm2d | None, nn.Conv2d | None]:
    norm = None
    for module in members:
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            return norm, module
        if not isinstance(module, CHANNELWISE):
            break
        if isinstance(module, NORMS):
            norm = module
    return norm, None


def _restart(
    layer: nn.Conv2d,
    norm: nn.BatchNorm2d | None,
    reader: nn.Conv2d | None,
    chosen: torch.Tensor,
    fresh: torch.Tensor,
) -> None:
    layer.weight[chosen] = fresh.reshape(len(chosen), *layer.weight.shape[1:]).to(layer.weight)
    if layer.bias is not None:
        layer.bias[chosen] = 0
    if norm is not None:
        norm.running_mean[chosen] = 0
        norm.running_var[chosen] = 1
        norm.weight[chosen] = 0.0 if reader is None else 1.0
        norm.bias[chosen] = 0
    if reader is not None:
        reader.weight[:, chosen] = 0


def _forget(
    optimizer: torch.optim.Optimizer,
    layer: nn.Conv2d,
    norm: nn.BatchNorm2d | None,
    reader: nn.Conv2d | None,
    chosen: torch.Tensor,
) -> None:
    """Zero the optimizer's moments (state of a parameter's own shape) of the values that started again."""
    own = [layer.weight, layer.bias] + ([norm.weight, norm.bias] if norm is not None else [])
    for parameter in own:
        for moment in _moments(optimizer, parameter):
            moment[chosen.to(moment.device)] = 0
    if reader is not None:
        for moment in _moments(optimizer, reader.weight):
            moment[:, chosen.to(moment.device)] = 0


def _moments(optimizer: torch.optim.Optimizer, parameter: nn.Parameter | None) -> list[torch.Tensor]:
    if parameter is None or parameter not in optimizer.state:
        return []
    states = optimizer.state[parameter].values()
    return [state for state in states if torch.is_tensor(state) and state.shape == parameter.shape]
