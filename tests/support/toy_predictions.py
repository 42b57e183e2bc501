"""Prediction files whose errors per subject are given, and results folders of them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd


def frame_of(errors: Mapping[str, float], samples: int = 3, shift: float = 0.0) -> pd.DataFrame:
    """The table of predictions of subjects with these errors (degrees); all true yaws are shifted by `shift` rad."""
    rows = []
    for subject, error in errors.items():
        true = np.random.default_rng(sum(map(ord, subject))).uniform(-0.3, 0.3, (samples, 2))
        # Along a meridian pitches subtract.
        rows += [
            (f"{subject}-{n}", subject, f"{n:04}", pitch, yaw + shift, pitch + np.radians(error), yaw + shift)
            for n, (pitch, yaw) in enumerate(true)
        ]
    return pd.DataFrame(rows, columns=["sample", "subject", "frame", "pitch", "yaw", "pitch_pred", "yaw_pred"])


def write_predictions(path: Path, errors: Mapping[str, float], **options: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame_of(errors, **options).to_csv(path, index=False, float_format="%.9f")
    return path


def put_test(path: Path, test: str, frame: pd.DataFrame, **options: object) -> Path:
    """Put the rows of a test set into a file of predictions, in place of those that it has, else behind the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {test: frame.assign(test=test)[["test", *frame.columns]]}
    if path.exists():
        there = pd.read_csv(path, dtype=str, keep_default_na=False)
        parts = dict(iter(there.groupby("test", sort=False))) | parts
    pd.concat(parts.values()).to_csv(path, index=False, **options)
    return path


def prediction_path(folder: Path, seed: int, fold: int = 0, train: str = "lab", network: str = "net/base") -> Path:
    """Where a results folder has the predictions of a run."""
    return folder / "predictions" / train / network / f"fold{fold}" / f"seed{seed}.csv"


def write_run(
    folder: Path, seed: int, errors: Mapping[str, float], place: Mapping[str, object] = {}, test: str = "lab", **options
) -> Path:
    """Put the predictions of a run for a test set into a results folder; `place` as of `prediction_path`."""
    path = prediction_path(folder, seed, **place)
    return put_test(path, test, frame_of(errors, **options), float_format="%.9f")


def errors_of(matrix: np.ndarray) -> list[dict[str, float]]:
    """Errors [seeds, subjects] as one mapping a seed."""
    return [{f"p{subject:02}": error for subject, error in enumerate(row)} for row in matrix]


def write_results(folder: Path, matrix: np.ndarray, network: str = "net/base", **options: float) -> Path:
    """A results folder with one network's errors [seeds, subjects] on its own set."""
    for seed, errors in enumerate(errors_of(matrix)):
        write_run(folder, seed, errors, {"network": network}, **options)
    return folder
