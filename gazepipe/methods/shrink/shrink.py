"""A smaller near-eye network cut from a trained one: narrow towers, then a narrow first fully connected layer."""

from pathlib import Path

import torch
from torch import nn

from gazepipe.common.files import read_json
from gazepipe.errors import UserError
from gazepipe.methods.settings import Shrink
from gazepipe.methods.shrink.first_layer import drop_dimensions, low_rank
from gazepipe.methods.structural.prune import prune
from gazepipe.models.itracker import ITracker4
from gazepipe.models.settings import Spec
from gazepipe.training.losses import loss_of, supervised
from gazepipe.training.method import Kind, Network, Recover
from gazepipe.training.samples import Samples, batches, judged, normalised, to_unit

JUDGED = 128
"""Images that tell which channels matter; more change the ranking little."""
LOSS = "smooth_l1"
"""Whose first-order change says, by the criterion taylor, how much a channel matters."""
BATCH = 32


class Shrinking(Kind):
    """The kind `shrink`: the network trained is a smaller one, cut from the one started from."""

    settings: Shrink

    def start(self, network: Network, recover: Recover) -> Network:
        context = self.context
        return shrink(self.settings, *network, context.samples, context.files.get("width"), context.device)


def shrink(
    settings: Shrink, model: nn.Module, spec: Spec, samples: Samples, width: Path | None, device: torch.device
) -> Network:
    """The smaller network and its spec; `model` is left as it is.

    `samples` are those of the training subjects; `width` the width.json of the explanation, read where the settings'
    width is `auto` or dimensions are dropped. Deterministic. Raises UserError where the network is no itracker4, or
    width.json is missing what is asked for.
    """
    if not isinstance(model, ITracker4):
        raise UserError(f"shrink: the network is {spec['arch']}; only itracker4 can be shrunk so, use another method")
    model = model.to(device).eval()
    if settings.towers < 1:
        judges = *judged(samples, JUDGED, device), supervised(loss_of(LOSS, samples.units))
        how = {"criterion": settings.criterion, "scope": "local", "round_to": 1}
        model, spec = prune(model, spec, *judges, target="channels", ratio=settings.towers, **how)
    if settings.first_layer is None:
        return model, spec
    chosen = read_json(width) if width is not None else {}
    features = _features(model.eval(), samples, device)
    if settings.first_layer == "low_rank":
        return low_rank(model, spec, features, _width(settings, chosen, width))
    keep = sorted(chosen["order"][: _width(settings, chosen, width)])
    with torch.no_grad():
        mean = model.activation(model.first(features)).mean(dim=0)
    return drop_dimensions(model, spec, keep, mean)


def _width(settings: Shrink, chosen: dict, path: Path | None) -> int:
    if settings.width != "auto":
        return settings.width
    if settings.first_layer not in chosen:
        raise UserError(f"{path}: recommends no width for {settings.first_layer}; run the explanation again")
    return chosen[settings.first_layer]


def _features(model: ITracker4, samples: Samples, device: torch.device) -> list[torch.Tensor]:
    with torch.inference_mode():
        found = [
            model.tower_features(normalised(to_unit(images, device), samples.mean, samples.std))
            for images, _ in batches(samples, BATCH)
        ]
    return [torch.cat(parts) for parts in zip(*found, strict=True)]
