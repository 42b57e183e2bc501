"""What is collected from a near-eye network: tower features, embeddings, gaze points; and the sweep through them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gazepipe.common.progress import track
from gazepipe.datasets.store import Store
from gazepipe.errors import UserError
from gazepipe.methods.shrink.first_layer import term_weights
from gazepipe.models.itracker import ITracker4
from gazepipe.near_eye.explain.width import Cached
from gazepipe.training.samples import Samples, batches, normalised, to_unit

BATCH = 16
SWEEP_STEPS = 25
SWEEP_RANGE = (0.05, 0.95)


def near_eye(model: nn.Module, path: Path) -> ITracker4:
    """The network itself, in eval mode and without gradients of its weights; UserError where it is no itracker4."""
    if not isinstance(model, ITracker4):
        raise UserError(
            f"{path}: holds a {type(model).__name__}; explain reads near-eye networks (arch itracker4) only"
        )
    return model.eval().requires_grad_(False)


def first_weight(model: ITracker4) -> np.ndarray:
    """The weights [E, D] of the first FC, written as one Linear per tower and perhaps factored, as one matrix."""
    return torch.cat(term_weights(model.first), dim=1).detach().float().cpu().numpy()


@torch.no_grad()
def tower_features(
    model: ITracker4, samples: Samples, mean: float, std: float, device: torch.device, label: str
) -> torch.Tensor:
    """What the first FC reads, [n, D] on the CPU, of samples in their order."""
    steps = -(-len(samples) // BATCH)
    parts = [
        torch.cat(model.tower_features(normalised(to_unit(images, device), mean, std)), dim=1).float().cpu()
        for images, _ in track(batches(samples, BATCH), label, steps, "batch")
    ]
    return torch.cat(parts)


def cached(features: torch.Tensor, samples: Samples, scale: torch.Tensor) -> Cached:
    """Features with what they should lead to; `scale` [2] pixels per unit of the network's output."""
    return Cached(features, torch.from_numpy(samples.target) / scale, samples.subject)


def thinned(samples: Samples, most: int) -> Samples:
    """At most `most` samples, evenly spaced in the order of the store."""
    if len(samples) <= most:
        return samples
    chosen = np.linspace(0, len(samples) - 1, most).round().astype(int)
    return replace(samples, rows=samples.rows[chosen], target=samples.target[chosen], subject=samples.subject[chosen])


def write_embedding(path: Path, z: torch.Tensor, prediction: torch.Tensor, samples: Samples, store: Store) -> None:
    """An .npz of z [n, E], subject, frame, target and prediction [n, 2] in pixels."""
    np.savez(
        path,
        z=z.numpy(),
        subject=samples.subject,
        frame=store.frame[samples.rows],
        target=samples.target,
        prediction=prediction.numpy(),
    )


@torch.no_grad()
def sweep(head, z: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gaze point while one dimension goes from its 5 % to its 95 % quantile, the others at their mean.

    `head` maps embeddings [n, E] to pixels. Returns paths [E, SWEEP_STEPS, 2] px, their lengths [E] px, and the
    ranges [E, 2] of the dimensions.
    """
    low, high = torch.quantile(z, torch.tensor(SWEEP_RANGE), dim=0)
    share = torch.linspace(0, 1, SWEEP_STEPS)
    paths = []
    for dimension in range(z.shape[1]):
        points = z.mean(dim=0).repeat(SWEEP_STEPS, 1)
        points[:, dimension] = torch.lerp(low[dimension], high[dimension], share)
        paths.append(head(points))
    stacked = torch.stack(paths).double().numpy()
    lengths = np.linalg.norm(np.diff(stacked, axis=1), axis=2).sum(axis=1)
    return stacked, lengths, torch.stack([low, high], dim=1).numpy()
