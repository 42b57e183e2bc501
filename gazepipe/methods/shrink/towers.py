"""Structural pruning of itracker4's towers: channels are taken out, and the network really gets smaller."""

import itertools

import torch
from torch import nn

from gazepipe.common.progress import track
from gazepipe.errors import UserError
from gazepipe.methods.rebirth import redundancy
from gazepipe.methods.shrink.rebuild import rebuilt
from gazepipe.models.itracker import GROUPED, VIEWS, tower_positions
from gazepipe.models.registry import checked_spec

BATCH = 32
IMPORTANCES = ("taylor", "l2", "cosine")
SCOPES = ("global", "layer")

Scores = list[list[torch.Tensor]]
"""A score for each channel, by tower and convolution: [channels]."""
Kept = list[list[list[int]]]
"""The channels to keep, by tower and convolution, rising, counted in the network as it is."""


def prune_towers(
    model: nn.Module,
    spec: dict,
    images: torch.Tensor | None,
    keep_share: float,
    importance: str = "taylor",
    scope: str = "global",
    multiple: int = 1,
) -> tuple[nn.Module, dict]:
    """The network with about `keep_share` of its towers' channels, the most important, and its spec.

    `images` [N, 4, H, W], normalised, are only looked at for `taylor` (see `channel_scores`); `scope` and `multiple`
    are those of `kept_channels`. Raises UserError for a choice that does not exist.
    """
    return remove_channels(
        model, spec, kept_channels(channel_scores(model, images, importance), keep_share, scope, multiple)
    )


def channel_scores(model: nn.Module, images: torch.Tensor | None, importance: str) -> Scores:
    """How much each channel matters, float64, at least 0.

    `taylor`: how far the gaze point moves, to first order, without the channel: mean over images of the sum over both
    coordinates of |sum over places of activation x gradient| (after Molchanov et al., CVPR 2019, of the output
    instead of the loss: it needs no labels). `l2`: norm of the filter with its bias. `cosine`: 1 - mean |cosine| with
    the other filters of the same inputs, 0 for a filter of zeros.
    """
    if importance == "taylor":
        return _taylor(model, images)
    if importance not in IMPORTANCES:
        raise UserError(f"shrink: importance is {importance!r}; use one of {', '.join(IMPORTANCES)}")
    score = _norms if importance == "l2" else _distinctness
    return [[score(layer) for layer in tower.convolutions()] for tower in model.towers]


def kept_channels(scores: Scores, keep_share: float, scope: str = "global", multiple: int = 1) -> Kept:
    """The channels of the highest scores, about `keep_share` of all, at least one of each layer and group.

    Scores are divided by their layer's mean. `global` compares them across layers and towers, `layer` keeps the same
    share of each layer. Of the layers that the grouped convolution joins, both halves keep equally many: the best of
    one half is judged with the best of the other, and so on. Each layer's number is then rounded to a multiple of
    `multiple` (where two halves go together, of the next even number), or is all that the layer has.
    """
    if not 0 < keep_share <= 1:
        raise UserError(f"shrink: the share of channels to keep is {keep_share}; use a number above 0 and up to 1")
    if scope not in SCOPES:
        raise UserError(f"shrink: scope is {scope!r}; use one of {', '.join(SCOPES)}")
    towers = [[_units(score, layer in GROUPED) for layer, score in enumerate(tower)] for tower in scores]
    layers = list(itertools.chain(*towers))
    if scope == "layer":
        numbers = [round(keep_share * len(units)) for units, _ in layers]
    else:
        numbers = _globally(layers, keep_share)
    number = iter(numbers)
    return [[_best(units, next(number), multiple) for units, _ in tower] for tower in towers]


@torch.no_grad()
def remove_channels(model: nn.Module, spec: dict, kept: Kept) -> tuple[nn.Module, dict]:
    """The network without the channels that `kept` leaves out, and its spec.

    Exact where those channels are zero: a silent channel adds nothing to its readers, nor to the normalisation of its
    neighbours. The first fully connected layer loses the columns of both images of a shared tower. Raises UserError
    as `itracker4` does for channels that cannot be kept.
    """
    spec = checked_spec(spec)
    width, options = spec["width"], spec["options"]
    shared = options.get("shared", False)
    positions = tower_positions(width, shared, options.get("towers"))
    towers = [
        [[places[channel] for channel in chosen] for places, chosen in zip(*layers, strict=True)]
        for layers in zip(positions, kept, strict=True)
    ]
    tower_positions(width, shared, towers)  # refuses what cannot be kept before it is cut
    weights = {}
    for number, (tower, keep) in enumerate(zip(model.towers, kept, strict=True)):
        layers = zip(tower.convolutions(), [[0], *keep[:-1]], keep, strict=True)
        for layer, (convolution, ins, outs) in enumerate(layers, 1):
            weights[f"towers.{number}.conv{layer}.weight"] = _selected(convolution, ins, outs)
            weights[f"towers.{number}.conv{layer}.bias"] = convolution.bias[outs]
    for view in range(VIEWS):
        number = view % len(kept)
        columns = model.first.parts[view].weight
        maps = columns.unflatten(1, (model.towers[number].conv5.out_channels, -1))
        weights[f"first.parts.{view}.weight"] = maps[:, kept[number][-1]].flatten(1)
    return rebuilt(model, spec, {"towers": towers}, weights)


def _taylor(model: nn.Module, images: torch.Tensor) -> Scores:
    layers = [tower.convolutions() for tower in model.towers]
    outputs: dict[nn.Module, list[torch.Tensor]] = {layer: [] for layer in itertools.chain(*layers)}
    totals = {layer: torch.zeros(layer.out_channels, dtype=torch.float64) for layer in outputs}

    def note(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        outputs[layer].append(output)

    hooks = [layer.register_forward_hook(note) for layer in outputs]
    try:
        for batch in track(images.split(BATCH), "importance of channels", -(-len(images) // BATCH), "batch"):
            _add_effects(model(batch.detach().requires_grad_()), outputs, totals)
    finally:
        for hook in hooks:
            hook.remove()
    return [[totals[layer] / len(images) for layer in tower] for tower in layers]


def _add_effects(
    prediction: torch.Tensor, outputs: dict[nn.Module, list[torch.Tensor]], totals: dict[nn.Module, torch.Tensor]
) -> None:
    """Add to the totals, sum over the batch, what each channel does to the prediction [B, 2]; forget the outputs.

    The activations behind the convolutions and max-pooling are homogeneous, so that output x gradient is the same
    before and behind them.
    """
    seen = list(itertools.chain(*outputs.values()))
    for coordinate in prediction.sum(dim=0):
        gradients = iter(torch.autograd.grad(coordinate, seen, retain_graph=True))
        for layer, views in outputs.items():
            effect = sum((output.detach() * next(gradients)).sum(dim=(2, 3)) for output in views)
            totals[layer] += effect.abs().sum(dim=0).double().cpu()
    for views in outputs.values():
        views.clear()


def _norms(layer: nn.Conv2d) -> torch.Tensor:
    filters = torch.cat((layer.weight.detach().flatten(1), layer.bias.detach()[:, None]), dim=1)
    return filters.double().norm(dim=1).cpu()


def _distinctness(layer: nn.Conv2d) -> torch.Tensor:
    groups = layer.weight.detach().flatten(1).chunk(layer.groups)
    distinct = [1 - redundancy(group) if len(group) > 1 else torch.ones(1) for group in groups]
    return torch.where(_norms(layer) > 0, torch.cat(distinct).double().cpu(), 0.0)


def _units(score: torch.Tensor, grouped: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What is kept or removed together, best first: channels [units, 1 or 2], and scores [units] of mean 1."""
    groups = 2 if grouped else 1
    ranked = score.reshape(groups, -1).sort(dim=1, descending=True, stable=True)
    channels = ranked.indices + torch.arange(groups)[:, None] * (len(score) // groups)
    return channels.T, ranked.values.mean(dim=0) / score.mean().clamp_min(torch.finfo(score.dtype).tiny)


def _best(units: torch.Tensor, number: int, multiple: int) -> list[int]:
    """The channels, rising, of about the `number` best units: a multiple of `multiple` channels, or all there are."""
    step = -(-multiple // units.shape[1])
    number = max(step, step * round(number / step))
    return sorted(units[:number].flatten().tolist())


def _globally(layers: list[tuple[torch.Tensor, torch.Tensor]], keep_share: float) -> list[int]:
    """Units to keep of each layer: the best of each, then the best of all, until the share of channels is reached."""
    numbers = [1] * len(layers)
    wanted = round(keep_share * sum(units.numel() for units, _ in layers))
    held = sum(units.shape[1] for units, _ in layers)
    others = [(-score, layer) for layer, (_, scores) in enumerate(layers) for score in scores[1:].tolist()]
    for _, layer in sorted(others):
        width = layers[layer][0].shape[1]
        if held + width > wanted:
            break
        held += width
        numbers[layer] += 1
    return numbers


def _selected(convolution: nn.Conv2d, ins: list[int], outs: list[int]) -> torch.Tensor:
    """The weights [outs, ins per group, k, k] of some inputs and outputs; each group keeps its own."""
    blocks = convolution.weight.chunk(convolution.groups)
    rows, columns = len(blocks[0]), blocks[0].shape[1]
    return torch.cat(
        [
            block[[out - group * rows for out in outs if out // rows == group]][
                :, [channel - group * columns for channel in ins if channel // columns == group]
            ]
            for group, block in enumerate(blocks)
        ]
    )
