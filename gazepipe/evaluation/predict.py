"""The stage `predict`: a run's weights and the stores it is tested on to one CSV with a row per sample."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from gazepipe.common.progress import track
from gazepipe.datasets.store import Store
from gazepipe.evaluation.predictions import prediction_csv, tested_sets
from gazepipe.evaluation.settings import PredictSettings
from gazepipe.models.settings import Spec
from gazepipe.training.device import make_deterministic, resolve_device
from gazepipe.training.inherit import check_units, load_like, scale_of
from gazepipe.training.samples import check_images, normalised, to_unit

BATCH = 64


def predict(settings: PredictSettings, weights: Path, stores: list[Path], split: Path, predictions: Path) -> None:
    """Predict the samples of every test set with one trained network.

    The CSV `predictions` has the COLUMNS of the stores' unit, test sets in the order of `stores`, samples in that of
    the store, `sample` the row of the store and angles in radians with six decimals, or points in pixels with three; it
    appears when it is complete. Computed in fp32 whatever the run was trained in, with the image normalisation and the
    target scale of the run. Raises UserError for a store of another image size, patch or unit, a missing subject, and
    bad files.
    """
    torch.set_num_threads(settings.threads)
    make_deterministic()
    sets = tested_sets(settings, stores, split)
    opened = [store for _, store, _ in sets]
    network = predictor(weights, settings.model, opened, settings.device)
    steps = sum(-(-len(rows) // BATCH) for _, _, rows in sets)
    with prediction_csv(predictions, opened[0].attrs["units"]) as write:
        for name, store, rows in track(_batches(sets), f"predict {predictions}", steps, "batch"):
            images = torch.from_numpy(np.ascontiguousarray(store.image[rows]))
            write(name, store, rows, network(images))


def _batches(sets: list[tuple[str, Store, np.ndarray]]) -> Iterator[tuple[str, Store, np.ndarray]]:
    """The sets with at most BATCH rows at a time."""
    for name, store, rows in sets:
        for start in range(0, len(rows), BATCH):
            yield name, store, rows[start : start + BATCH]


def predictor(weights: Path, spec: Spec, stores: list[Store], device: str) -> Callable[[torch.Tensor], np.ndarray]:
    """The network of a weights file as a function: images u8 [B, V, H, W] -> predictions f32 [B, 2] in the unit of the
    target.

    Computed in fp32, with the image normalisation and the target scale of the run. Raises UserError for bad weights and
    those of another network, and for one of `stores` whose images, patch or unit the network is not for.
    """
    model, metadata = load_like(weights, spec)
    for store in stores:
        check_images(store, metadata["model"]["input"], metadata["patch"])
        check_units(weights, metadata, store.attrs["units"])
    where, scale = resolve_device(device), np.float32(scale_of(metadata))
    model.to(where, memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def predicted(images: torch.Tensor) -> np.ndarray:
        seen = normalised(to_unit(images, where), metadata["mean"], metadata["std"])
        return model(seen).float().cpu().numpy() * scale

    return predicted
