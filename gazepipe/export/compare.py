"""What each exported file predicts for the test subjects, beside torch: the tables of a bundle."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from gazepipe.common.units import ERROR_UNIT
from gazepipe.evaluation.comparisons import change_interval
from gazepipe.evaluation.inference import mean_interval
from gazepipe.export.onnx import check, largest_difference, subject_errors
from gazepipe.export.trained import EAGER, Trained
from gazepipe.live.runtime import FILES

PRECISIONS = ("fp32", "int8")
RUNTIMES = ("onnxruntime", "openvino")
"""In the order of the tables."""


def compared(
    trained: Trained, weights: Path, work: Path, recipes: dict[str, str], reference: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each file of the folder `work` predicts for the fold's test subjects, beside torch's `reference` [n, 2].

    One row per runtime and precision, eager torch first: runtime, precision, recipe (of int8; `recipes` by runtime),
    units (of errors), error (mean over subjects), low, high (95 % t interval over subjects, of this training only),
    n_subjects, change_percent against eager, with change_low and change_high, max_difference to eager over the samples,
    bytes. And the error of every subject: runtime, precision, subject, error. Raises UserError where an fp32 file does
    not predict what torch does.
    """
    test, rows, subjects = trained.samples["test"], [], []
    baseline = pd.Series(subject_errors(reference, test))
    for runtime, precision, path in _files(work):
        predicted = reference if path is None else trained.predict(path, "test")
        difference = largest_difference(predicted, reference, test.units)
        if precision == "fp32" and path is not None:
            check(path.name, difference, test.units)
        found = pd.Series(subject_errors(predicted, test))
        names = {"runtime": runtime, "precision": precision}
        rows.append(
            {
                **names,
                "recipe": recipes[runtime] if precision == "int8" else "",
                "units": ERROR_UNIT[test.units],
                **_statistics(found, baseline),
                "max_difference": difference,
                "bytes": _size(path or weights),
            }
        )
        subjects += [{**names, "subject": subject, "error": error} for subject, error in found.items()]
    return pd.DataFrame(rows), pd.DataFrame(subjects)


def _statistics(found: pd.Series, baseline: pd.Series) -> dict[str, float | int | None]:
    """Means over subjects and their intervals. A bundle is one training: nothing is known of others."""
    mine, theirs = _run(found), _run(baseline)
    interval, change = mean_interval(mine), change_interval(mine, theirs)
    percent = 100 / max(baseline.mean(), 1e-9)
    return {
        "error": interval.mean,
        "low": _known(interval.low),
        "high": _known(interval.high),
        "n_subjects": interval.n_subjects,
        "change_percent": percent * change.mean,
        "change_low": _known(percent * change.low),
        "change_high": _known(percent * change.high),
    }


def _run(errors: pd.Series) -> pd.DataFrame:
    """Errors by subject as the long table of one run."""
    return pd.DataFrame({"fold": 0, "seed": 0, "subject": errors.index, "error": errors.to_numpy()})


def _known(value: float) -> float | None:
    """None for the NaN of an interval over one subject, which JSON does not have."""
    return None if np.isnan(value) else value


def _files(work: Path) -> Iterator[tuple[str, str, Path | None]]:
    """(runtime, precision, file) of a folder with all model files; torch itself, which has none there, first."""
    yield EAGER, "fp32", None
    for runtime in RUNTIMES:
        for precision, name in zip(PRECISIONS, FILES[runtime], strict=True):
            yield runtime, precision, work / name


def _size(path: Path) -> int:
    """Bytes of a model file, with the weights beside an IR."""
    parts = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    return sum(part.stat().st_size for part in parts)
