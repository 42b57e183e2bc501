"""The stage `predict`: a run's weights and a store to a CSV with one row per sample."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gazepipe.datasets.splits import read_split
from gazepipe.datasets.store import Store, open_store
from gazepipe.errors import UserError
from gazepipe.geometry import angles_to_vector, vector_to_angles
from gazepipe.io import atomic
from gazepipe.models.weights import load_weights
from gazepipe.progress import track
from gazepipe.training.data import batches, check_images, normalised, samples_of, to_unit
from gazepipe.training.device import make_deterministic, resolve_device
from gazepipe.training.inherit import check_units, load_like, scale_of

KEYS = ("sample", "subject", "frame")
COLUMNS = {
    "rad": (*KEYS, "pitch", "yaw", "pitch_pred", "yaw_pred"),
    "px": (*KEYS, "x", "y", "x_pred", "y_pred"),
}
"""By the unit of the target."""
DECIMALS = {"rad": 6, "px": 3}


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
    samples = samples_of(opened, _test_subjects(split, block["fold"]))
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


def predict_mean(block: dict, train_store: Path, split: Path, store: Path, out: Path) -> None:
    """Write the prediction of who has seen only labels: `mean_gaze` of a fold's training subjects, for all
    samples.

    `block` is {"fold": of `split`, which belongs to `train_store`, "own": whether `store` is the same data
    set, of which only the fold's test subjects are predicted}. Same CSV as `predict`; the image size does not
    matter.
    """
    trained, opened = open_store(train_store), open_store(store)
    if trained.attrs["units"] != opened.attrs["units"]:
        raise UserError(
            f"{store}: is in {opened.attrs['units']}, {train_store} in {trained.attrs['units']}; "
            "compare data sets of one task"
        )
    mean = mean_gaze(trained, read_split(split, block["fold"])["train"])
    rows = samples_of(opened, _test_subjects(split, block["fold"] if block["own"] else None)).rows
    with prediction_csv(out, opened.attrs["units"]) as write:
        write(opened, rows, np.broadcast_to(mean, (len(rows), 2)))


def _test_subjects(split: Path, fold: int | None) -> set[str] | None:
    return None if fold is None else read_split(split, fold)["test"]


def mean_gaze(store: Store, subjects: set[str]) -> np.ndarray:
    """(pitch, yaw) [2] rad of the mean gaze direction of `subjects`, or (x, y) [2] px of their mean gaze point; each
    of them counts the same.
    """
    samples = samples_of(store, subjects)
    angles = samples.units == "rad"
    values = angles_to_vector(samples.target) if angles else samples.target.astype(np.float64)
    means = [values[samples.subject == subject].mean(axis=0) for subject in np.unique(samples.subject)]
    mean = np.mean(means, axis=0)
    return vector_to_angles(mean) if angles else mean


@contextmanager
def prediction_csv(path: Path, units: str) -> Iterator[Any]:
    """A function (store, rows [n], predicted [n, 2] in `units`) that appends rows to a CSV of COLUMNS, atomic as
    a whole.
    """
    with atomic(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS[units])

        def write(store: Store, rows: np.ndarray, predicted: np.ndarray) -> None:
            for row, gaze in zip(rows, predicted, strict=True):
                numbers = (f"{value:.{DECIMALS[units]}f}" for value in (*store.target[row], *gaze))
                writer.writerow([row, store.subject[row], store.frame[row], *numbers])

        yield write
