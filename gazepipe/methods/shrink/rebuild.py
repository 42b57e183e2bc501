"""A network with other options and other weights, the old one left as it was."""

import torch
from torch import nn

from gazepipe.models.registry import build, checked_spec


def rebuilt(
    model: nn.Module, spec: dict, options: dict, weights: dict[str, torch.Tensor | None]
) -> tuple[nn.Module, dict]:
    """`model` of `spec` with some `options` and some tensors of its state replaced (None: taken out), all of them of
    linear layers; where the spec's `channels` say a layer's size, they say its new one.

    The new network shares no memory with the old one, is on its device and in its mode, and its parameters require
    gradients; the new spec rebuilds it. torch's random state is left as it was.
    """
    spec = checked_spec(spec)
    channels = {name: _size(weights.get(f"{name}.weight", size)) for name, size in spec.get("channels", {}).items()}
    channels = {name: size for name, size in channels.items() if size is not None}
    spec = checked_spec({**spec, "options": {**spec["options"], **options}, "channels": channels})
    state = {name: value for name, value in {**model.state_dict(), **weights}.items() if value is not None}
    with torch.random.fork_rng(devices=[]):
        smaller = build(spec)
    smaller.load_state_dict(state)
    device = next(model.parameters()).device
    return smaller.to(device).train(model.training), spec


def _size(found: torch.Tensor | list[int] | None) -> list[int] | None:
    return list(found.shape) if isinstance(found, torch.Tensor) else found


def parameter_counts(spec: dict) -> dict[str, int]:
    """Parameters of an itracker4 by part: `towers` (shared ones once), `first_fc` with its bias, `head`, `total`."""
    with torch.device("meta"):
        model = build(spec)
    parts = {"towers": model.towers, "first_fc": model.first, "head": model.head, "total": model}
    return {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in parts.items()}


def first_fc_parameters(spec: dict) -> int:
    """Parameters of an itracker4's first fully connected layer: 8512 * 128 + 128 at 576x720."""
    return parameter_counts(spec)["first_fc"]
