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
from gazepipe.geometry import angles_to_vector, vector_to_angles
from gazepipe.io import atomic
from gazepipe.models.weights import load_weights
from gazepipe.progress import track
from gazepipe.training.data import batches, check_images, normalised, samples_of, to_unit
from gazepipe.training.device import make_deterministic, resolve_device

COLUMNS = ("sample", "subject", "frame", "pitch", "yaw", "pitch_pred", "yaw_pred")


def predict(block: dict, weights: Path, store: Path, split: Path, out: Path, batch_size: int = 64) -> None:
    """Write the gaze that a run's `weights` (model.safetensors) see in a store.

    `block` is {"fold": the fold whose test subjects are predicted, None for all subjects of the store,
    "device", "threads"}, and "model", the spec, where it is a user's own network (see `load_weights`). The
    CSV has COLUMNS, in the order of the store, `sample` the row of the store and angles in radians with six
    decimals; it appears when it is complete. Computed in fp32 whatever the run was trained in, with the image
    normalisation of the run. Raises UserError for a store of another image size or patch, a missing subject,
    and bad files.
    """
    torch.set_num_threads(block["threads"])
    make_deterministic()
    model, metadata = load_weights(weights, expect_spec=block.get("model"))
    opened = open_store(store)
    check_images(opened, metadata["model"]["input"], metadata["patch"])
    samples = samples_of(opened, _test_subjects(split, block["fold"]))
    where = resolve_device(block["device"])
    model.to(where, memory_format=torch.channels_last).eval()
    steps = -(-len(samples) // batch_size)
    done = 0
    with prediction_csv(out) as write, torch.inference_mode():
        for images, _ in track(batches(samples, batch_size), f"predict {out}", steps, "batch"):
            seen = normalised(to_unit(images, where), metadata["mean"], metadata["std"])
            predicted = model(seen).float().cpu().numpy()
            write(opened, samples.rows[done : done + len(predicted)], predicted)
            done += len(predicted)


def predict_mean(block: dict, train_store: Path, split: Path, store: Path, out: Path) -> None:
    """Write the prediction of who has seen only labels: `mean_gaze` of a fold's training subjects, for all
    samples.

    `block` is {"fold": of `split`, which belongs to `train_store`, "own": whether `store` is the same data
    set, of which only the fold's test subjects are predicted}. Same CSV as `predict`; the image size does not
    matter.
    """
    mean = mean_gaze(open_store(train_store), read_split(split, block["fold"])["train"])
    opened = open_store(store)
    rows = samples_of(opened, _test_subjects(split, block["fold"] if block["own"] else None)).rows
    with prediction_csv(out) as write:
        write(opened, rows, np.broadcast_to(mean, (len(rows), 2)))


def _test_subjects(split: Path, fold: int | None) -> set[str] | None:
    return None if fold is None else read_split(split, fold)["test"]


def mean_gaze(store: Store, subjects: set[str]) -> np.ndarray:
    """(pitch, yaw) [2] rad of the mean gaze direction of `subjects`, each of whom counts the same."""
    samples = samples_of(store, subjects)
    vectors = angles_to_vector(samples.target)
    means = [vectors[samples.subject == subject].mean(axis=0) for subject in np.unique(samples.subject)]
    return vector_to_angles(np.mean(means, axis=0))


@contextmanager
def prediction_csv(path: Path) -> Iterator[Any]:
    """A function (store, rows [n], predicted [n, 2] rad) that appends rows to a CSV of COLUMNS, atomic as a
    whole.
    """
    with atomic(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)

        def write(store: Store, rows: np.ndarray, predicted: np.ndarray) -> None:
            for row, angles in zip(rows, predicted, strict=True):
                numbers = (f"{value:.6f}" for value in (*store.target[row], *angles))
                writer.writerow([row, store.subject[row], store.frame[row], *numbers])

        yield write
