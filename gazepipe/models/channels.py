"""Layers narrower than their network's constructor makes them: what structural pruning leaves, described by sizes."""

import copy

import torch
from torch import nn

from gazepipe.errors import UserError
from gazepipe.models.network import LocalNorm

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Norms that treat each channel by itself: a channel less changes nothing for the others."""
LAYERS = (*CONVOLUTIONS, nn.Linear, *NORMS, nn.PReLU, LocalNorm)


def sizes(layer: nn.Module) -> list[int]:
    """[out, in, groups] of a convolution, [out, in] of a linear layer, [channels] of a batch norm or PReLU; of a
    LocalNorm the positions of its channels in the unpruned layer."""
    if isinstance(layer, LocalNorm):
        return list(layer.positions)
    if isinstance(layer, CONVOLUTIONS):
        return [layer.out_channels, layer.in_channels, layer.groups]
    if isinstance(layer, nn.Linear):
        return [layer.out_features, layer.in_features]
    return [layer.num_parameters if isinstance(layer, nn.PReLU) else layer.num_features]


def outputs(layer: nn.Module) -> int:
    """The number of channels that the layer gives."""
    return len(layer.positions) if isinstance(layer, LocalNorm) else sizes(layer)[0]


def is_depthwise(layer: nn.Module) -> bool:
    """Whether the layer is a convolution that gives each channel a filter of its own: its inputs are its outputs."""
    return isinstance(layer, CONVOLUTIONS) and sizes(layer)[0] == sizes(layer)[1] == sizes(layer)[2] > 1


def sizes_with(layer: nn.Module, outs: list[int], ins: list[int]) -> list[int]:
    """The `sizes` that are left of a layer that keeps these of its outputs and, where it has any, inputs."""
    if isinstance(layer, LocalNorm):
        return [layer.positions[out] for out in outs]
    if isinstance(layer, CONVOLUTIONS):
        return [len(outs)] * 3 if is_depthwise(layer) else [len(outs), len(ins), layer.groups]
    return [len(outs), len(ins)] if isinstance(layer, nn.Linear) else [len(outs)]


def narrow(network: nn.Module, channels: dict[str, list[int]]) -> None:
    """Give the named layers the `sizes` in `channels`, in place; their weights are the first of those they had.

    A convolution in groups keeps equally many inputs and outputs in each, or becomes a depth-wise one.

    Weights of convolutions and linear layers grow by sqrt(inputs before / inputs now), so that the layer's outputs
    start as widely spread as those of the full network: what is trained from nothing at this size starts
    fairly. Raises UserError for a layer that is absent or of another kind, for sizes that it cannot have, and for
    sizes that do not fit each other, found by one forward pass.
    """
    found = dict(network.named_modules())
    for name, wanted in channels.items():
        layer = found.get(name)
        if not isinstance(layer, LAYERS):
            there = "there is none" if layer is None else f"it is a {type(layer).__name__}"
            raise UserError(f"channels: layer {name!r} cannot be narrowed, {there}; build the spec by pruning")
        _check(name, layer, wanted)
        _narrow(layer, wanted)
    _check_together(network)


def _check(name: str, layer: nn.Module, wanted: object) -> None:
    full = sizes(layer)
    if isinstance(layer, LocalNorm):
        if not isinstance(wanted, list) or not wanted or wanted != [each for each in full if each in wanted]:
            raise UserError(f"channels: layer {name!r} is to be {wanted!r}; list some of {full}, rising")
        return
    whole = isinstance(wanted, list) and all(type(size) is int and size > 0 for size in wanted)
    if not whole or len(wanted) != len(full) or any(a > b for a, b in zip(wanted, full, strict=True)):
        raise UserError(f"channels: layer {name!r} is to be {wanted!r}; use at most {full}, whole numbers above 0")
    if isinstance(layer, CONVOLUTIONS):
        out, fan_in, groups = wanted
        shared = groups == full[2] and out % groups == 0 == fan_in % groups
        if not shared and not out == fan_in == groups:
            raise UserError(
                f"channels: layer {name!r} of {full} cannot be {wanted}; "
                "leave its groups as they are, with equally many channels in each"
            )


def _narrow(layer: nn.Module, wanted: list[int]) -> None:
    if isinstance(layer, LocalNorm):
        layer.keep(wanted)
    elif isinstance(layer, CONVOLUTIONS):
        layer.out_channels, layer.in_channels, layer.groups = wanted
        _slice(layer, wanted[0], wanted[1] // wanted[2])
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = wanted
        _slice(layer, *wanted)
    else:
        if isinstance(layer, nn.PReLU):
            layer.num_parameters = wanted[0]
        else:
            layer.num_features = wanted[0]
        _slice(layer, wanted[0])


def _slice(layer: nn.Module, out: int, fan_in: int | None = None) -> None:
    for name, value in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        if value.ndim == 0:
            continue  # a batch norm's count of batches
        part = value.detach()[:out]
        if part.ndim > 1:
            part = part[:, :fan_in] * (part.shape[1] / fan_in) ** 0.5
        part = part.clone()
        if isinstance(value, nn.Parameter):
            part = nn.Parameter(part, requires_grad=value.requires_grad)
        setattr(layer, name, part)


def _check_together(network: nn.Module) -> None:
    example = next(network.parameters()).new_zeros(1, *network.input_shape)
    try:
        with torch.no_grad():
            copy.deepcopy(network).eval()(example)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"channels: the narrowed layers do not fit each other ({reason}); prune again") from None
