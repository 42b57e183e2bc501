"""The registry of networks: a name, or the dotted name of a user's own function, to a module.

Networks are imported when they are built, so that the source fingerprint of one does not hold the others.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from gazepipe.errors import UserError
from gazepipe.models.settings import NETWORKS

if TYPE_CHECKING:
    import torch
    from torch import nn

SPEC_KEYS = {"arch", "width", "input", "options", "channels"}


def build(spec: dict) -> nn.Module:
    """The network of a spec, initialised from torch's global generator.

    `spec` is {"arch": name or "module:function", "width": multiplier of the channels (1.0), "input": [C, H,
    W], "options": further keywords ({}), "channels": sizes of the layers that structural pruning narrowed (see
    `gazepipe.models.channels.narrow`)}. A user's function is called as function(width=..., input_shape=(C, H,
    W), **options) and returns a module that maps [B, C, H, W] to [B, 2]. The result carries `input_shape`. Raises
    UserError for an unknown name or option, a function that cannot be imported, a result that is no such
    module, and channels that do not fit the network or each other.
    """
    spec = checked_spec(spec)
    arch, width, shape = spec["arch"], spec["width"], tuple(spec["input"])
    constructor = _constructor(arch)
    _check_options(arch, constructor, spec["options"])
    network = constructor(width=width, input_shape=shape, **spec["options"])
    if arch not in NETWORKS:
        _check_users_network(arch, network, shape)
    network.input_shape = shape
    if "channels" in spec:
        from gazepipe.models.channels import narrow

        narrow(network, spec["channels"])
    return network


def checked_spec(spec: dict) -> dict:
    """The spec with plain types and every key, `channels` only where a layer was narrowed: equal models have equal
    specs. UserError if it is none."""
    unknown, missing = sorted(set(spec) - SPEC_KEYS), sorted({"arch", "input"} - set(spec))
    if unknown or missing:
        raise UserError(f"model: keys unknown {unknown}, missing {missing}; a model has {sorted(SPEC_KEYS)}")
    arch, width, shape = spec["arch"], spec.get("width", 1.0), spec["input"]
    if not isinstance(arch, str):
        raise UserError(f"model: arch is {arch!r}; use one of {sorted(NETWORKS)} or 'module:function'")
    if not isinstance(width, (int, float)) or not 0 < width <= 8:
        raise UserError(f"model {arch}: width is {width!r}; use a number above 0 and up to 8")
    whole = isinstance(shape, (list, tuple)) and all(isinstance(size, int) and size > 0 for size in shape)
    if not whole or len(shape) != 3:
        raise UserError(f"model {arch}: input is {shape!r}; use [channels, height, width]")
    options, channels = (_plain(arch, name, spec.get(name, {})) for name in ("options", "channels"))
    plain = {"arch": arch, "width": float(width), "input": list(shape), "options": options}
    return {**plain, "channels": channels} if channels else plain


def model_module(arch: str) -> str:
    """The dotted name of the Python module that holds `arch`, for source fingerprints."""
    return _target(arch).partition(":")[0]


def forward_features(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """One forward pass of images [B, C, H, W]: prediction [B, 2] and each stage's feature map [B, C, h, w].

    Raises UserError where the network has no `features` and `head` (`models.network.GazeNetwork` has).
    """
    if not hasattr(model, "features") or not hasattr(model, "head"):
        raise UserError(f"{type(model).__name__}: has no features() and head; subclass GazeNetwork for feature KD")
    features = model.features(x)
    return model.head(features[-1]), features


def stage_shapes(model: nn.Module) -> list[tuple[int, int, int]]:
    """(C, h, w) of each stage's feature map for an image of the size the network was built for."""
    import torch

    example = next(model.parameters()).new_zeros(1, *model.input_shape)
    was_training = model.training
    with torch.no_grad():
        _, features = forward_features(model.eval(), example)
    model.train(was_training)
    return [tuple(feature.shape[1:]) for feature in features]


def stage_channels(model: nn.Module) -> list[int]:
    """Channels of each stage's feature map."""
    return [channels for channels, _, _ in stage_shapes(model)]


def _plain(arch: str, key: str, values: object) -> dict:
    """A copy of the values as JSON gives them back, so that they are the same in a weights file's header."""
    try:
        plain = json.loads(json.dumps(values, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"model {arch}: {key} hold what JSON cannot ({error}); use plain values") from None
    if not isinstance(plain, dict):
        raise UserError(f"model {arch}: {key} is {values!r}; use a mapping of names to values")
    return plain


def _check_options(arch: str, constructor: Callable[..., object], options: dict) -> None:
    parameters = inspect.signature(constructor).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters if parameter.name not in ("width", "input_shape")]
    unknown = sorted(set(options) - set(known))
    if unknown:
        there = f"use one of {', '.join(known)}" if known else "it has none"
        raise UserError(f"model {arch}: option {unknown[0]!r} is unknown; {there}")


def _target(arch: str) -> str:
    if arch in NETWORKS:
        return NETWORKS[arch]
    module, colon, function = arch.partition(":")
    if colon and module and function:
        return arch
    near = difflib.get_close_matches(arch, NETWORKS, 1, 0)[0]
    raise UserError(f"model {arch!r}: unknown; did you mean {near!r}? Your own network is named 'module:function'")


def _constructor(arch: str) -> Callable[..., nn.Module]:
    module, _, function = _target(arch).partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"model {arch!r}: cannot be imported ({error}); check the name and PYTHONPATH") from None


def _check_users_network(arch: str, network: object, shape: tuple[int, int, int]) -> None:
    """Refuse what is no network from images to gaze; one forward pass of a blank image in eval mode."""
    import torch
    from torch import nn

    if not isinstance(network, nn.Module):
        raise UserError(f"model {arch!r}: returned {type(network).__name__}; return a torch.nn.Module")
    was_training = network.training
    with torch.no_grad():
        output = network.eval()(torch.zeros(1, *shape))
    network.train(was_training)
    if not isinstance(output, torch.Tensor) or output.shape != (1, 2):
        found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise UserError(f"model {arch!r}: maps one image to {found}; return a tensor [B, 2] of pitch and yaw")
