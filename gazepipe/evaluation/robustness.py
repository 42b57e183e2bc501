"""The stage `robustness`: errors of a network when its test images are corrupted, and how precise it is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gazepipe.common.files import write_text
from gazepipe.common.progress import track
from gazepipe.common.units import errors as errors_of
from gazepipe.datasets.splits import rows_of
from gazepipe.datasets.store import Store, open_store
from gazepipe.errors import UserError
from gazepipe.evaluation.corruptions import corrupted, seen_again, variants
from gazepipe.evaluation.precision import deviations, root_mean_square
from gazepipe.evaluation.predict import predictor
from gazepipe.evaluation.predictions import tested_subjects
from gazepipe.evaluation.settings import RobustnessSettings
from gazepipe.training.device import make_deterministic
from gazepipe.training.samples import EVALUATION_PIXELS

BATCH = 256
"""Images that are predicted together; fewer large ones."""

Networks = dict[int, Callable[[torch.Tensor], np.ndarray]]
"""The networks of one fold, by seed."""


def robustness(
    settings: RobustnessSettings, weights: list[Path], store: Path, split: Path, errors: Path, jitter: Path
) -> None:
    """Test one network with corrupted images of the test subjects of its own data set, every fold and seed of it.

    `weights` are those of `settings.runs`. Two CSV files, errors in degrees or, for gaze points, in pixels:

    - `errors`: fold, seed, subject, corruption, strength (1 mild, 2 medium, 3 strong; 0: the clean images), level (of
      the strength, in the kind's own unit), error (mean over the subject's images), n (of these).
    - `jitter`: fold, seed, subject, std, rms_s2s (see `precision.deviations`, root mean squares over the subject's
      images), n (of these), repeats.

    Raises UserError as `predict` does.
    """
    if len(weights) != len(settings.runs):
        raise UserError(f"{len(weights)} weights of {len(settings.runs)} runs; name one file for each fold and seed")
    torch.set_num_threads(settings.threads)
    make_deterministic()
    opened = open_store(store)
    folds: dict[int, dict[int, Path]] = {}
    for (fold, seed), file in zip(settings.runs, weights, strict=True):
        folds.setdefault(fold, {})[seed] = file
    tables = []
    for fold, files in track(folds.items(), f"robustness {errors}", unit="fold"):
        networks = {seed: predictor(file, settings.model, [opened], settings.device) for seed, file in files.items()}
        subjects = sorted(tested_subjects(split, fold))
        tables += [_tested(settings, opened, subject, fold, networks) for subject in subjects]
    for path, parts in zip((errors, jitter), zip(*tables, strict=True), strict=True):
        table = pd.concat(parts, ignore_index=True).sort_values(["fold", "seed"], kind="stable")
        write_text(path, table.to_csv(index=False, float_format="%.8g", lineterminator="\n"))


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows [n], evenly spread, the first and the last among them (of one: the first)."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))]


def _tested(
    settings: RobustnessSettings, store: Store, subject: str, fold: int, networks: Networks
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of both tables of one subject, for the networks of one fold."""
    rows, patch = rows_of(store, {subject}), store.attrs["patch"]
    clean, seen = spread(rows, settings.samples), spread(rows, settings.jitter.samples)
    harmed = _predicted(networks, clean, lambda row: corrupted(store.image[row], row, settings))
    still = _predicted(networks, seen, lambda row: seen_again(store.image[row], row, settings.jitter, patch))
    units = store.attrs["units"]
    names = {seed: {"fold": fold, "seed": seed, "subject": subject} for seed in networks}
    return (
        pd.concat(_errors(settings, harmed[seed], store.target[clean], units, names[seed]) for seed in networks),
        pd.concat(_jitter(still[seed], units, names[seed]) for seed in networks),
    )


def _predicted(networks: Networks, rows: np.ndarray, images_of: Callable[[int], np.ndarray]) -> dict[int, np.ndarray]:
    """What each network predicts, [n, K, 2] by seed, of the images u8 [K, V, H, W] that `images_of` makes of each of n
    rows: once, for all networks.
    """
    found: dict[int, list[np.ndarray]] = {seed: [] for seed in networks}
    for row in rows:
        for images in _batches(images_of(int(row))):
            for seed, network in networks.items():
                found[seed].append(network(images))
    return {seed: np.concatenate(parts).reshape(len(rows), -1, 2) for seed, parts in found.items()}


def _batches(images: np.ndarray) -> tuple[torch.Tensor, ...]:
    """Images [K, V, H, W] in pieces that fit into memory."""
    return torch.from_numpy(images).split(max(1, min(BATCH, EVALUATION_PIXELS // images[0].size)))


def _errors(
    settings: RobustnessSettings, predicted: np.ndarray, target: np.ndarray, units: str, names: dict
) -> pd.DataFrame:
    """A row for each of K variants of n images, `predicted` [n, K, 2] of `target` [n, 2]."""
    kinds, strengths, levels = zip(*variants(settings), strict=True)
    error = errors_of(predicted, np.broadcast_to(target[:, None], predicted.shape), units).mean(axis=0)
    columns = {"corruption": kinds, "strength": strengths, "level": levels, "error": error}
    return pd.DataFrame({**names, **columns, "n": len(predicted)})


def _jitter(predicted: np.ndarray, units: str, names: dict) -> pd.DataFrame:
    """One row for n images seen R times, `predicted` [n, R, 2]."""
    std, rms_s2s = (float(root_mean_square(each)) for each in deviations(predicted, units))
    count, repeats, _ = predicted.shape
    return pd.DataFrame([{**names, "std": std, "rms_s2s": rms_s2s, "n": count, "repeats": repeats}])
