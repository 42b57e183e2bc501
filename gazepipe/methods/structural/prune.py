"""Structural pruning: the channels that matter least are taken out, and the network gets smaller.

What belongs together comes from `gazepipe.methods.structural.graph`; what is left is described in the spec, so that
`gazepipe.models.build` makes the same smaller network. One call is one step: between the steps of a `schedule` the
caller lets the network recover.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import nn

from gazepipe.errors import UserError
from gazepipe.methods.structural.criteria import SCORES, scores
from gazepipe.methods.structural.graph import DENSE, Group, Removed, channel_groups, without
from gazepipe.models.channels import CONVOLUTIONS, LAYERS, outputs
from gazepipe.models.network import LocalNorm
from gazepipe.models.registry import build, checked_spec
from gazepipe.profiling.cost import count

TARGETS = ("macs", "params", "channels")
SCOPES = ("local", "global")
WORTH = 0.01
"""A group whose channels carry less than this share of the cost stays whole: it would lose information for nothing."""

Objective = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


def schedule(ratio: float, steps: int) -> list[float]:
    """The ratios of `steps` prunings in a row, each of which divides the cost by the same number."""
    return [ratio ** (step / steps) for step in range(1, steps + 1)]


def prune(
    model: nn.Module,
    spec: dict,
    images: torch.Tensor,
    labels: torch.Tensor,
    objective: Objective,
    *,
    target: str = "macs",
    ratio: float,
    criterion: str = "taylor",
    scope: str = "global",
    round_to: int = 8,
) -> tuple[nn.Module, dict]:
    """A smaller copy of `model`, whose spec is `spec`, and its spec; both arguments are left as they are.

    It has about `ratio` (0-1) of the `target` (multiply-adds, parameters, or channels: outputs of convolutions) of the
    network that the spec describes without its `channels`: a second call with a smaller ratio goes on from the first.
    `criterion` and what of `images` [B, C, H, W], as the network sees them, and `labels` [B, 2] it needs: see
    `gazepipe.methods.structural.criteria`. `scope` local takes the same share of every group of channels; global takes
    the channels of the lowest scores, each divided by the mean of its group, wherever they are. Every group keeps
    `round_to` channels or more, a multiple of it. Where convolutions in groups ask for equally many of each block of
    channels, the best of one block is judged with the best of the others, and so on. Deterministic.

    Raises UserError for an unknown value, a network that cannot be traced or has no channels to take out, and a
    ratio that is out of reach.
    """
    _check_values(target, ratio, criterion, scope, round_to)
    spec = checked_spec(spec)
    with torch.random.fork_rng(devices=[]):
        full = build({name: value for name, value in spec.items() if name != "channels"})
    goal = ratio * _total(full, model.input_shape, target)
    cost = _total(model, model.input_shape, target)
    if cost <= goal:
        return model, spec
    groups, whole = channel_groups(model)
    weigher = _Weigher(model, groups, target)
    worth = [group for group in groups if weigher.saved({group.root: torch.arange(group.size)}) >= WORTH * cost]
    scored = scores(model, worth, criterion, images, labels, objective)
    blocks = _in_order(worth, scored, scope, round_to)
    chosen = _nearest(lambda some: cost - weigher.saved(_together(some)), blocks, goal)
    if chosen is None:
        least = (cost - weigher.saved(_together(blocks))) * ratio / goal
        raise UserError(_out_of_reach(weigher, spec["arch"], target, ratio, least, round_to, whole))
    smaller, channels = without(model, groups, _together(chosen))
    smaller.train(model.training)
    return smaller, checked_spec({**spec, "channels": {**spec.get("channels", {}), **channels}})


Block = tuple[float, str, torch.Tensor]
"""When it goes (lowest first), the group's root, and the channels that go together."""


def _total(model: nn.Module, shape: tuple[int, int, int], target: str) -> int:
    if target != "channels":
        return count(model, shape)[target]
    return sum(outputs(layer) for layer in model.modules() if isinstance(layer, CONVOLUTIONS))


def _in_order(groups: list[Group], scored: list[torch.Tensor], scope: str, round_to: int) -> list[Block]:
    """All that could go, in the order in which it goes: blocks of channels that leave a multiple of `round_to`."""
    blocks = []
    for group, score in zip(groups, scored, strict=True):
        order = _worst_first(group, score)
        start, step = 0, math.lcm(round_to, order.shape[1]) // order.shape[1]
        while len(order) - start > step:
            stop = start + ((len(order) - start) % step or step)
            # Local: the share of the group at which rounding takes the block along.
            key = (start + stop) / 2 / len(order) if scope == "local" else score[order[start:stop]].mean().item()
            blocks.append((key, group.root, order[start:stop].flatten()))
            start = stop
    return sorted(blocks, key=lambda block: block[0])


def _worst_first(group: Group, score: torch.Tensor) -> torch.Tensor:
    """What of the group goes together, [size / b, b], lowest scores first: of each of its b blocks the worst, then of
    each the next."""
    ranks = score[group.blocks].argsort(dim=1, stable=True)
    return group.blocks.gather(1, ranks).T


def _together(blocks: list[Block]) -> Removed:
    roots = dict.fromkeys(root for _, root, _ in blocks)
    return {root: torch.cat([channels for _, of, channels in blocks if of == root]) for root in roots}


def _nearest(cost: Callable[[list[Block]], float], blocks: list[Block], goal: float) -> list[Block] | None:
    """The first blocks, by bisection, that leave the cost just above the goal, and one more: the one that leads
    nearest to it, the first of several that do. None where all blocks together stay more than 2 % above."""
    if cost(blocks) > 1.02 * goal:
        return None
    low, high = 0, len(blocks)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(blocks[:middle]) > goal else (low, middle)
    following: dict[str, Block] = {}
    for block in blocks[low:]:
        following.setdefault(block[1], block)
    choices = [blocks[:low], *([*blocks[:low], block] for block in following.values())]
    return min(choices, key=lambda chosen: abs(cost(chosen) - goal))


class _Weigher:
    """What layers cost of the target, and what taking channels out saves, from the layers' shapes alone.

    A layer's multiply-adds are its weights times the places that they are applied to; products without weights
    (attention) stay as they are.
    """

    def __init__(self, model: nn.Module, groups: list[Group], target: str) -> None:
        self.groups, self.target = groups, target
        self.layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LAYERS)}
        self.places = _places(model, self.layers) if target == "macs" else None

    def saved(self, removed: Removed) -> float:
        """How much less of the target the network then has."""
        gone: dict[str, dict[str, int]] = {}
        for group in self.groups:
            for (name, side), index in group.removed(removed.get(group.root, torch.empty(0))).items():
                sides = gone.setdefault(name, {"out": 0, "in": 0})
                sides[side] += len(index)
        return sum(self.cost(name) - self.cost(name, sides["out"], sides["in"]) for name, sides in gone.items())

    def cost(self, name: str, less_out: int = 0, less_in: int = 0) -> int:
        """What one layer has of the target, or what is left of it without so many outputs and inputs."""
        layer, weights = self.layers[name], 0
        out = outputs(layer) - less_out
        if self.target == "channels":
            return out if isinstance(layer, CONVOLUTIONS) else 0
        if isinstance(layer, DENSE):
            inputs, *kernel = layer.weight.shape[1:]
            weights = out * (inputs - less_in // getattr(layer, "groups", 1)) * math.prod(kernel)
        if isinstance(layer, LocalNorm) and self.places is not None:
            weights = out * out
        if self.places is not None:
            return weights * self.places.get(name, 0)
        return weights + out * sum(vector.ndim == 1 for vector in layer.parameters(recurse=False))


def _places(model: nn.Module, layers: dict[str, nn.Module]) -> dict[str, int]:
    """For each layer, the number of places in one image that its weights are applied to, over all its calls."""
    found = dict.fromkeys(layers, 0)

    def counted(name: str) -> Callable[[nn.Module, tuple, torch.Tensor], None]:
        def count_places(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            found[name] += output.numel() // outputs(layer)

        return count_places

    copied = copy.deepcopy(model).eval()
    for name in layers:
        copied.get_submodule(name).register_forward_hook(counted(name))
    with torch.no_grad():
        copied(next(copied.parameters()).new_zeros(1, *model.input_shape))
    return found


def _check_values(target: str, ratio: float, criterion: str, scope: str, round_to: int) -> None:
    chosen = (("target", target, TARGETS), ("criterion", criterion, SCORES), ("scope", scope, SCOPES))
    for name, value, known in chosen:
        if value not in known:
            raise UserError(f"structural: {name} is {value!r}; use one of {', '.join(known)}")
    if not 0 < ratio < 1:
        raise UserError(f"structural: ratio is {ratio!r}; use the share that is left, above 0 and below 1")
    if round_to < 1:
        raise UserError(f"structural: round_to is {round_to!r}; use a whole number above 0")


def _out_of_reach(
    weigher: _Weigher, arch: str, target: str, ratio: float, least: float, round_to: int, whole: dict[str, str]
) -> str:
    kept = ""
    if whole:
        name = max(whole, key=weigher.cost)
        kept = f"; the costliest layer that stays whole is {name}: {whole[name]}"
    return (
        f"structural: ratio {ratio:g} is out of reach, {arch} keeps {least:.3f} of its {target} with {round_to} "
        f"channels left of each group that can be pruned{kept}; raise the ratio"
    )
