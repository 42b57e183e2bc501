"""Which channels of a network belong together, so that taking one out of every layer that holds it is exact.

torch-pruning's dependency graph (Fang et al., CVPR 2023, "DepGraph") says what belongs together. It does not know every
network: each group that it finds is therefore tried out, and left whole where taking channels out that no layer reads
changes the output.
"""

import copy
import warnings
from dataclasses import dataclass

import torch
import torch_pruning
from torch import nn

from gazepipe.errors import UserError
from gazepipe.models.channels import CONVOLUTIONS, LAYERS, is_depthwise, narrow, outputs, sizes, sizes_with
from gazepipe.models.network import LocalNorm

DENSE = (*CONVOLUTIONS, nn.Linear)
TOLERANCE = 1e-9
"""Of the largest output, in double precision."""


@dataclass(frozen=True, eq=False)
class Member:
    """One side of one layer: entry `index[k]` of its outputs ("out") or inputs ("in") is channel `root[k]` of the
    group."""

    layer: str
    side: str
    index: torch.Tensor
    root: torch.Tensor


@dataclass(frozen=True, eq=False)
class Group:
    """`size` channels that several layers share; `root` is the layer after which it is named.

    `blocks` [b, size / b] lists the channels by the groups of the convolutions in groups that hold them (b is 1 where
    there are none): each block must lose equally many.
    """

    root: str
    size: int
    members: tuple[Member, ...]
    blocks: torch.Tensor

    def removed(self, channels: torch.Tensor) -> dict[tuple[str, str], torch.Tensor]:
        """What goes from each (layer, side) with these of the group's channels."""
        return {(each.layer, each.side): each.index[torch.isin(each.root, channels)] for each in self.members}


Removed = dict[str, torch.Tensor]
"""Channels to take out, by the group's root."""


def channel_groups(model: nn.Module) -> tuple[list[Group], dict[str, str]]:
    """The groups that can be pruned exactly, and each other layer that has outputs with the reason why it stays
    whole.

    `model` carries `input_shape` and is left as it is. Raises UserError where not one layer can be pruned: its message
    names the first one and the reason.
    """
    work = copy.deepcopy(model).cpu().eval().requires_grad_(True)
    names = {layer: name for name, layer in work.named_modules()}
    graph = _traced(work)
    steps = _StepLimit(graph)
    groups, whole, seen = [], {}, set()
    for name, layer in work.named_modules():
        if name in seen or not isinstance(layer, DENSE) or is_depthwise(layer):
            continue
        try:
            groups.append(_group(graph, steps, layer, names))
            seen.update(member.layer for member in groups[-1].members if member.side == "out")
        except _Whole as reason:
            whole[name] = str(reason)
    exact = _exact(work, groups)
    for group in groups:
        if group not in exact:
            whole[group.root] = "taking out channels that no layer reads changes the output"
    whole = {name: whole[name] for name in names.values() if name in whole}
    if not exact:
        first = next((f"{name}: {reason}" for name, reason in whole.items()), "it has no layer with filters")
        raise UserError(f"structural: {type(model).__name__} cannot be pruned, {first}; use another method")
    return exact, whole


def without(model: nn.Module, groups: list[Group], removed: Removed) -> tuple[nn.Module, dict[str, list[int]]]:
    """A copy of `model` without the given channels, and the `sizes` of each layer that lost some.

    Raises ValueError where the groups of a convolution would not keep equally many.
    """
    gone: dict[tuple[str, str], torch.Tensor] = {}
    for group in groups:
        for key, index in group.removed(removed.get(group.root, torch.empty(0))).items():
            gone[key] = torch.cat([gone[key], index]) if key in gone else index
    state, channels = dict(model.state_dict()), {}
    for name in dict.fromkeys(name for (name, _), index in gone.items() if len(index)):
        layer = model.get_submodule(name)
        outs = _kept(outputs(layer), gone.get((name, "out")))
        ins = _kept(sizes(layer)[1], gone.get((name, "in"))) if _mixes(layer) else outs
        channels[name] = sizes_with(layer, outs.tolist(), ins.tolist())
        for key in [key for key in layer.state_dict(prefix=f"{name}.") if state[key].ndim > 0]:
            cut = _filters if _mixes(layer) and state[key].ndim > 1 else _rows
            state[key] = cut(state[key], outs, ins, getattr(layer, "groups", 1))
    smaller = copy.deepcopy(model)
    narrow(smaller, channels)
    smaller.load_state_dict(state)
    return smaller, channels


def by_group(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """The weights of a convolution or linear layer as [groups, out, in, ...]; a linear layer is one group."""
    return weight.unflatten(0, (getattr(layer, "groups", 1), -1))


def _mixes(layer: nn.Module) -> bool:
    """Whether inputs and outputs of the layer are different channels."""
    return isinstance(layer, DENSE) and not is_depthwise(layer)


def _in_groups(layer: nn.Module) -> bool:
    return _mixes(layer) and getattr(layer, "groups", 1) > 1


def _kept(count: int, gone: torch.Tensor | None) -> torch.Tensor:
    every = torch.arange(count)
    return every if gone is None else every[~torch.isin(every, gone)]


def _rows(value: torch.Tensor, outs: torch.Tensor, ins: torch.Tensor, groups: int) -> torch.Tensor:
    return value.index_select(0, outs.to(value.device))


def _filters(weight: torch.Tensor, outs: torch.Tensor, ins: torch.Tensor, groups: int) -> torch.Tensor:
    """The weights [outs, ins / groups, ...] of some outputs and inputs; each group keeps its own."""
    rows, columns = len(weight) // groups, weight.shape[1]
    for kept, each in ((outs, rows), (ins, columns)):
        numbers = (kept // each).bincount(minlength=groups)
        if numbers.min() < numbers.max():
            raise ValueError(f"the groups would keep {numbers.tolist()} channels, not equally many")
    some = _rows(weight, outs, ins, groups).chunk(groups)
    inputs = (ins % columns).to(weight.device).chunk(groups)
    return torch.cat([block.index_select(1, of) for block, of in zip(some, inputs, strict=True)])


class _Whole(Exception):
    """Why a group has to stay as it is."""


def _traced(work: nn.Module) -> torch_pruning.DependencyGraph:
    example = next(work.parameters()).new_zeros(1, *work.input_shape)
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch_pruning.DependencyGraph().build_dependency(
                work, example, customized_pruners={LocalNorm: _LocalNorms()}, verbose=False
            )
        except (RuntimeError, AttributeError, TypeError, KeyError, ValueError, IndexError, RecursionError) as error:
            raise UserError(
                f"structural: {type(work).__name__} cannot be traced ({_first_line(error)}); "
                "use layers that autograd can follow, or another method"
            ) from None


class _LocalNorms(torch_pruning.BasePruningFunc):
    """Tells torch-pruning that a LocalNorm gives as many channels as it gets; `without` takes them out."""

    def prune_out_channels(self, layer: LocalNorm, idxs: list[int]) -> LocalNorm:
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: LocalNorm) -> int:
        return outputs(layer)

    get_in_channels = get_out_channels


class _StepLimit:
    """Ends the search for a group that never closes: where channels are shifted on their way, as in attention that
    stacks its heads, the graph finds ever new ones. One channel crosses each edge about once."""

    def __init__(self, graph: torch_pruning.DependencyGraph) -> None:
        edges = [edge for node in graph.module2node.values() for edge in node.dependencies]
        self.limit, self.steps = max(1000, len(edges)), 0
        for edge in edges:
            edge.index_mapping.append(self)  # called for each step along the edge

    def __call__(self, index: list) -> list:
        self.steps += 1
        if self.steps > self.limit:
            raise _Whole("its channels cannot be followed")
        return index


def _group(graph: torch_pruning.DependencyGraph, steps: _StepLimit, layer: nn.Module, names: dict) -> Group:
    _members(graph, steps, layer, names, [0])  # ends sooner than all channels where there is no end
    size = sizes(layer)[0]
    members = _members(graph, steps, layer, names, list(range(size)))
    if all(member.side == "out" for member in members):
        raise _Whole("no layer reads its channels, they are the output")
    layers = {name: layer for layer, name in names.items()}
    return Group(names[layer], size, members, _blocks(layers, size, members))


def _blocks(layers: dict[str, nn.Module], size: int, members: tuple[Member, ...]) -> torch.Tensor:
    """`Group.blocks`: two channels are of one block where every convolution in groups has them in the same groups."""
    held = [torch.zeros(size, 1)]
    for member in members:
        layer = layers[member.layer]
        if _in_groups(layer):
            each = sizes(layer)[("out", "in").index(member.side)] // layer.groups
            counts = torch.zeros(size, layer.groups)
            counts.index_put_((member.root, member.index // each), torch.ones(len(member.root)), accumulate=True)
            held.append(counts)
    block = torch.cat(held, dim=1).unique(dim=0, return_inverse=True)[1]
    numbers = block.bincount()
    if any((counts.sum(dim=0) != counts[:, 0].sum()).any() for counts in held) or (numbers != numbers[0]).any():
        name = next(member.layer for member in members if _in_groups(layers[member.layer]))
        raise _Whole(
            f"its channels meet {name}, a convolution in {layers[name].groups} groups that share them unequally"
        )
    return block.argsort(stable=True).reshape(len(numbers), -1)


def _members(
    graph: torch_pruning.DependencyGraph, steps: _StepLimit, layer: nn.Module, names: dict, channels: list[int]
) -> tuple[Member, ...]:
    if layer not in graph.module2node:
        raise _Whole("the output does not depend on it in a way that can be traced")
    steps.steps = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, channels)
    members = []
    for position in range(len(found)):
        edge, index, root = found[position].dep, found[position].idxs, found[position].root_idxs
        target = edge.target.module
        if isinstance(target, nn.Parameter):
            raise _Whole("its channels meet a parameter of no known layer")
        if isinstance(target, torch_pruning.ops._OutputOp):
            raise _Whole("its channels are the output")
        if target not in names:
            continue  # an operator without weights
        _check_kind(target, names[target])
        reads = _mixes(target) and "in_channels" in edge.handler.__name__
        side = "in" if reads else "out"
        members.append(Member(names[target], side, torch.tensor(index), torch.tensor(root)))
    return tuple(members)


def _check_kind(layer: nn.Module, name: str) -> None:
    if not isinstance(layer, LAYERS):
        raise _Whole(f"its channels meet {name}, a {type(layer).__name__}")
    if _in_groups(layer) and layer.groups in sizes(layer)[:2]:
        raise _Whole(f"its channels meet {name}, a convolution in {layer.groups} groups of a single channel")


def _exact(work: nn.Module, groups: list[Group]) -> list[Group]:
    """Those of the groups that can be taken out: all at once, if that is exact, or those that are by themselves."""
    work = copy.deepcopy(work).double()
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(2, *work.input_shape, generator=generator, dtype=torch.float64)
    if _is_exact(work, groups, example):
        return groups
    found = [group for group in groups if _is_exact(work, [group], example)]
    return found if _is_exact(work, found, example) else []


@torch.no_grad()
def _is_exact(work: nn.Module, groups: list[Group], example: torch.Tensor) -> bool:
    """Whether the output stays when each group loses every second channel, once no layer reads those."""
    deaf = copy.deepcopy(work)
    removed = {group.root: group.blocks[:, 1::2].flatten() for group in groups}
    for group in groups:
        for (name, side), index in group.removed(removed[group.root]).items():
            _deafen(deaf.get_submodule(name), side, index)
    expected = deaf(example)
    try:
        found = without(deaf, groups, removed)[0](example)
    except (UserError, RuntimeError, IndexError, ValueError, AssertionError):
        return False
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _deafen(layer: nn.Module, side: str, index: torch.Tensor) -> None:
    """Let the layer read nothing of these of its inputs, in place; a LocalNorm reads its channels' neighbours."""
    if side == "in":
        weight = by_group(layer, layer.weight)
        weight[index // weight.shape[2], :, index % weight.shape[2]] = 0
    elif isinstance(layer, LocalNorm):
        layer.band[:, index] = 0


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
