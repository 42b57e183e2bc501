"""The stage `predict`: a run's weights and a store to a CSV with one row per sample."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gazepipe.common.progress import track
from gazepipe.datasets.store import Store, open_store
from gazepipe.evaluation.predictions import prediction_csv, tested_subjects
from gazepipe.evaluation.settings import PredictSettings
from gazepipe.models.settings import Spec
from gazepipe.training.device import make_deterministic, resolve_device
from gazepipe.training.inherit import check_units, load_like, scale_of
from gazepipe.training.samples import batches, check_images, normalised, samples_of, to_unit

BATCH = 64


def predict(settings: PredictSettings, weights: Path, store: Path, split: Path, predictions: Path) -> None:
    """Predict the samples of a data set with one trained network.

    The CSV `predictions` has the COLUMNS of the store's unit, in the order of the store, `sample` the
    row of the store and angles in radians with six decimals, or points in pixels with three; it appears when it
    is complete. Computed in fp32 whatever the run was trained in, with the image normalisation and the target
    scale of the run. Raises UserError for a store of another image size, patch or unit, a missing subject, and
    bad files.
    """
    torch.set_num_threads(settings.threads)
    make_deterministic()
    opened = open_store(store)
    network = predictor(weights, settings.model, opened, settings.device)
    samples = samples_of(opened, tested_subjects(split, settings.fold))
    steps = -(-len(samples) // BATCH)
    done = 0
    with prediction_csv(predictions, samples.units) as write:
        for images, _ in track(batches(samples, BATCH), f"predict {predictions}", steps, "batch"):
            predicted = network(images)
            write(opened, samples.rows[done : done + len(predicted)], predicted)
            done += len(predicted)


def predictor(weights: Path, spec: Spec, store: Store, device: str) -> Callable[[torch.Tensor], np.ndarray]:
    """The network of a weights file as a function: images u8 [B, V, H, W] -> predictions f32 [B, 2] in the unit of the
    target.

    Computed in fp32, with the image normalisation and the target scale of the run. Raises UserError for bad weights and
    those of another network, and for a `store` whose images, patch or unit the network is not for.
    """
    model, metadata = load_like(weights, spec)
    check_images(store, metadata["model"]["input"], metadata["patch"])
    check_units(weights, metadata, store.attrs["units"])
    where, scale = resolve_device(device), np.float32(scale_of(metadata))
    model.to(where, memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def predicted(images: torch.Tensor) -> np.ndarray:
        seen = normalised(to_unit(images, where), metadata["mean"], metadata["std"])
        return model(seen).float().cpu().numpy() * scale

    return predicted
