"""The stage `predict`: a run's weights and a store to a CSV with one row per sample."""

from pathlib import Path

import numpy as np
import torch

from gazepipe.common.progress import track
from gazepipe.datasets.store import open_store
from gazepipe.evaluation.predictions import prediction_csv, tested_subjects
from gazepipe.models.weights import load_weights
from gazepipe.training.device import make_deterministic, resolve_device
from gazepipe.training.inherit import check_units, load_like, scale_of
from gazepipe.training.samples import batches, check_images, normalised, samples_of, to_unit


def predict(block: dict, weights: Path, store: Path, split: Path, out: Path, batch_size: int = 64) -> None:
    """Write the gaze that a run's `weights` (model.safetensors) see in a store.

    `block` is {"fold": the fold whose test subjects are predicted, None for all subjects of the store,
    "device", "threads"}, and "model", the spec but for what shrinking changed, needed for a user's own network
    (see `load_weights`). The CSV has the COLUMNS of the store's unit, in the order of the store, `sample` the
    row of the store and angles in radians with six decimals, or points in pixels with three; it appears when it
    is complete. Computed in fp32 whatever the run was trained in, with the image normalisation and the target
    scale of the run. Raises UserError for a store of another image size, patch or unit, a missing subject, and
    bad files.
    """
    torch.set_num_threads(block["threads"])
    make_deterministic()
    model, metadata = load_like(weights, block["model"]) if "model" in block else load_weights(weights)
    opened = open_store(store)
    check_images(opened, metadata["model"]["input"], metadata["patch"])
    check_units(weights, metadata, opened.attrs["units"])
    samples = samples_of(opened, tested_subjects(split, block["fold"]))
    where = resolve_device(block["device"])
    model.to(where, memory_format=torch.channels_last).eval()
    steps = -(-len(samples) // batch_size)
    done = 0
    scale = np.float32(scale_of(metadata))
    with prediction_csv(out, samples.units) as write, torch.inference_mode():
        for images, _ in track(batches(samples, batch_size), f"predict {out}", steps, "batch"):
            seen = normalised(to_unit(images, where), metadata["mean"], metadata["std"])
            predicted = model(seen).float().cpu().numpy() * scale
            write(opened, samples.rows[done : done + len(predicted)], predicted)
            done += len(predicted)
