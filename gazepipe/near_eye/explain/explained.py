"""The network that is explained, and the samples of its fold."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from gazepipe.datasets.splits import read_split
from gazepipe.datasets.store import Store, open_store
from gazepipe.models.itracker import ITracker4
from gazepipe.models.settings import Spec
from gazepipe.models.weights import load_weights
from gazepipe.near_eye.explain.embedding import near_eye, thinned
from gazepipe.near_eye.explain.importance import importances
from gazepipe.near_eye.explain.width import Cached, Readout
from gazepipe.near_eye.settings import ExplainSettings
from gazepipe.training.samples import Samples, check_images, samples_of

MOST_SAMPLES = 2000
UNIT = "px"


@dataclass(frozen=True)
class Explained:
    """A trained near-eye network and its fold's samples by role; `scale` [2] are the pixels per unit of its output."""

    settings: ExplainSettings
    model: ITracker4
    spec: Spec
    mean: float
    std: float
    scale: torch.Tensor
    store: Store
    samples: dict[str, Samples]

    def head(self, z: torch.Tensor) -> torch.Tensor:
        """Embeddings [n, E] to gaze points [n, 2] in pixels."""
        return self.model.head(z) * self.scale

    def importances(self, z: torch.Tensor, target: torch.Tensor) -> dict[str, np.ndarray]:
        """The shares [E] of the dimensions, by each score, for embeddings [n, E] and targets [n, 2] in pixels."""
        return importances(self.head, z, target, self.settings.trees, self.settings.seed)


def open_explained(settings: ExplainSettings, weights: Path, store: Path, split: Path) -> Explained:
    """The network of a weights file, and the samples of its fold: of training and validation subjects at most
    MOST_SAMPLES each. UserError where they do not fit together."""
    model, metadata = load_weights(weights)
    model, opened = near_eye(model, weights), open_store(store)
    check_images(opened, metadata["model"]["input"], metadata["patch"])
    subjects = read_split(split, settings.fold)
    samples = {role: samples_of(opened, subjects[role]) for role in ("train", "validation", "test")}
    samples |= {role: thinned(samples[role], MOST_SAMPLES) for role in ("train", "validation")}
    scale = torch.tensor(metadata["target_scale"], dtype=torch.float32)
    seen = metadata["mean"], metadata["std"]
    return Explained(settings, model, metadata["model"], *seen, scale, opened, samples)


class Embedded:
    """The test subjects' embedding: z [n, E], target [n, 2] in pixels, subject [n]."""

    def __init__(self, network: Explained, test: Cached) -> None:
        self.network = network
        with torch.no_grad():
            self.z = Readout(network.model).embed(test.features)
        self.target, self.subject = test.target * network.scale, test.subject

    @property
    def few(self) -> np.ndarray:
        """Positions of the samples that importances and dimensions are taken of."""
        return evenly_spaced(len(self.z))

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """Importances of the dimensions, shares [E] by score."""
        return self.scores_of(self.few)

    def scores_of(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The same, of the samples at these positions."""
        return self.network.importances(self.z[rows], self.target[rows])


def evenly_spaced(count: int) -> np.ndarray:
    """Evenly spaced positions of at most MOST_SAMPLES of `count` samples."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_SAMPLES)).round().astype(int))


def rounded(value: float) -> float:
    """A number with six digits, as JSON files hold it."""
    return float(f"{value:.6g}")
