"""Layers narrower than their network's constructor makes them: what structural pruning leaves, described by sizes."""

import copy

import torch
from torch import nn

from gazepipe.errors import UserError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Norms that treat each channel by itself: a channel less changes nothing for the others."""
LAYERS = (*CONVOLUTIONS, nn.Linear, *NORMS, nn.PReLU)


def sizes(layer: nn.Module) -> list[int]:
    """[out, in, groups] of a convolution, [out, in] of a linear layer, [channels] of a batch norm or PReLU."""
    if isinstance(layer, CONVOLUTIONS):
        return [layer.out_channels, layer.in_channels, layer.groups]
    if isinstance(layer, nn.Linear):
        return [layer.out_features, layer.in_features]
    return [layer.num_parameters if isinstance(layer, nn.PReLU) else layer.num_features]


def narrow(network: nn.Module, channels: dict[str, list[int]]) -> None:
    """Give the named layers the `sizes` in `channels`, in place; their weights are the first of those they had.

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
    whole = isinstance(wanted, list) and all(type(size) is int and size > 0 for size in wanted)
    if not whole or len(wanted) != len(full) or any(a > b for a, b in zip(wanted, full, strict=True)):
        raise UserError(f"channels: layer {name!r} is to be {wanted!r}; use at most {full}, whole numbers above 0")
    if isinstance(layer, CONVOLUTIONS):
        depthwise = full[0] == full[1] == full[2] > 1
        if (depthwise and len(set(wanted)) > 1) or (not depthwise and wanted[2] != full[2]):
            raise UserError(f"channels: layer {name!r} of {full} cannot be {wanted}; leave its groups as they are")
        if not depthwise and full[2] > 1 and wanted != full:
            raise UserError(f"channels: layer {name!r} has {full[2]} groups; only depth-wise ones can be narrowed")


def _narrow(layer: nn.Module, wanted: list[int]) -> None:
    if isinstance(layer, CONVOLUTIONS):
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
