"""A smaller near-eye network cut from a trained one: narrow towers, then a narrow first fully connected layer."""

from pathlib import Path

import torch
from torch import nn

from gazepipe.common.files import read_json
from gazepipe.errors import UserError
from gazepipe.methods.shrink.first_layer import drop_dimensions, low_rank
from gazepipe.methods.shrink.towers import prune_towers
from gazepipe.models.itracker import ITracker4
from gazepipe.training.samples import Samples, batches, judged, normalised, to_unit

JUDGED = 128
"""Images that tell which channels matter; more change the ranking little."""
BATCH = 32


def shrink(
    block: dict, model: nn.Module, spec: dict, samples: Samples, width: Path | None, device: torch.device
) -> tuple[nn.Module, dict]:
    """The smaller network and its spec; `model` is left as it is.

    `block` is {"first_layer": low_rank, dropped or None, "width": a number or auto, "towers": share of the channels that
    stay, "criterion": taylor, l2 or cosine}; `samples` are those of the training subjects; `width` the width.json
    of the explanation, read where the width is `auto` or dimensions are dropped. Deterministic. Raises
    UserError where the network is no itracker4, or width.json is missing what is asked for.
    """
    if not isinstance(model, ITracker4):
        raise UserError(f"shrink: the network is {spec['arch']}; only itracker4 can be shrunk so, use another method")
    model = model.to(device).eval()
    if block["towers"] < 1:
        images, _ = judged(samples, JUDGED, device)
        model, spec = prune_towers(model, spec, images, block["towers"], block["criterion"], scope="layer")
    if block["first_layer"] is None:
        return model, spec
    chosen = read_json(width) if width is not None else {}
    features = _features(model.eval(), samples, device)
    if block["first_layer"] == "low_rank":
        return low_rank(model, spec, features, _width(block, chosen, width))
    keep = sorted(chosen["order"][: _width(block, chosen, width)])
    with torch.no_grad():
        mean = model.activation(model.first(features)).mean(dim=0)
    return drop_dimensions(model, spec, keep, mean)


def _width(block: dict, chosen: dict, path: Path | None) -> int:
    if block["width"] != "auto":
        return block["width"]
    if block["first_layer"] not in chosen:
        raise UserError(f"{path}: recommends no width for {block['first_layer']}; run the explanation again")
    return chosen[block["first_layer"]]


def _features(model: ITracker4, samples: Samples, device: torch.device) -> list[torch.Tensor]:
    with torch.inference_mode():
        found = [
            model.tower_features(normalised(to_unit(images, device), samples.mean, samples.std))
            for images, _ in batches(samples, BATCH)
        ]
    return [torch.cat(parts) for parts in zip(*found, strict=True)]
