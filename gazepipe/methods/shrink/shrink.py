"""A smaller near-eye network cut from a trained one: narrow towers, then a narrow first fully connected layer."""

from pathlib import Path

import torch
from torch import nn

from gazepipe.common.files import read_json
from gazepipe.errors import UserError
from gazepipe.methods.shrink.first_layer import drop_dimensions, low_rank
from gazepipe.methods.structural.prune import prune
from gazepipe.models.itracker import ITracker4
from gazepipe.training.losses import loss_of, supervised
from gazepipe.training.samples import Samples, batches, judged, normalised, to_unit

JUDGED = 128
"""Images that tell which channels matter; more change the ranking little."""
LOSS = "smooth_l1"
"""Whose first-order change says, by the criterion taylor, how much a channel matters."""
BATCH = 32


def shrink(
    block: dict, model: nn.Module, spec: dict, samples: Samples, width: Path | None, device: torch.device
) -> tuple[nn.Module, dict]:
    """The smaller network and its spec; `model` is left as it is.

    `block` is {"embedding": low_rank, dropped or None, "width": a number or auto, "towers": share of the full
    network's channels that stay, the same of each layer, "importance": their criterion, see
    `gazepipe.methods.structural.criteria`}; `samples` are those of the training subjects; `width` the width.json
    of the explanation, read where the width is `auto` or dimensions are dropped. Deterministic. Raises
    UserError where the network is no itracker4, or width.json is missing what is asked for.
    """
    if not isinstance(model, ITracker4):
        raise UserError(f"shrink: the network is {spec['arch']}; only itracker4 can be shrunk so, use another method")
    model = model.to(device).eval()
    if block["towers"] < 1:
        judges = *judged(samples, JUDGED, device), supervised(loss_of(LOSS, samples.units))
        settings = {"criterion": block["importance"], "scope": "local", "round_to": 1}
        model, spec = prune(model, spec, *judges, target="channels", ratio=block["towers"], **settings)
    if block["embedding"] is None:
        return model, spec
    chosen = read_json(width) if width is not None else {}
    features = _features(model.eval(), samples, device)
    if block["embedding"] == "low_rank":
        return low_rank(model, spec, features, _width(block, chosen, width))
    keep = sorted(chosen["order"][: _width(block, chosen, width)])
    with torch.no_grad():
        mean = model.activation(model.first(features)).mean(dim=0)
    return drop_dimensions(model, spec, keep, mean)


def _width(block: dict, chosen: dict, path: Path | None) -> int:
    if block["width"] != "auto":
        return block["width"]
    if block["embedding"] not in chosen:
        raise UserError(f"{path}: recommends no width for {block['embedding']}; run the explanation again")
    return chosen[block["embedding"]]


def _features(model: ITracker4, samples: Samples, device: torch.device) -> list[torch.Tensor]:
    with torch.inference_mode():
        found = [
            model.tower_features(normalised(to_unit(images, device), samples.mean, samples.std))
            for images, _ in batches(samples, BATCH)
        ]
    return [torch.cat(parts) for parts in zip(*found, strict=True)]
