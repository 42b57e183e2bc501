"""Angular errors of a file of predictions: between 3-D gaze vectors, per subject, then their mean."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from gazepipe.errors import UserError
from gazepipe.geometry import angles_to_vector, angular_error_deg

TRUE_ANGLES = ["pitch", "yaw"]
PREDICTED_ANGLES = ["pitch_pred", "yaw_pred"]
NO_CSV = (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError)
ANGLES = TRUE_ANGLES + PREDICTED_ANGLES


def read_predictions(path: str | Path) -> pd.DataFrame:
    """A prediction CSV: the columns subject (text), pitch, yaw, pitch_pred, yaw_pred (radians), any others.

    Raises UserError, naming file, line (the header is line 1) and column, for a file that is missing, empty
    or no CSV, a missing column, and a value that is no number, not finite or beyond +-pi.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a prediction CSV") from None
    except NO_CSV as error:
        raise UserError(f"{path}: is no CSV ({str(error).strip()}); name a prediction CSV") from None
    missing = [column for column in ["subject", *ANGLES] if column not in frame.columns]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; found {', '.join(frame.columns)}")
    if frame.empty:
        raise UserError(f"{path}: holds no rows; predict on a data set that has samples")
    nameless = frame["subject"].fillna("").str.strip() == ""
    if nameless.any():
        raise UserError(f"{path}: line {_line(nameless)}: subject is empty; name the subject of every row")
    for column in ANGLES:
        frame[column] = _radians(path, column, frame[column])
    return frame


def angular_errors(frame: pd.DataFrame) -> pd.Series:
    """Angle in degrees between true and predicted gaze of each row; index as `frame`."""
    true = angles_to_vector(frame[TRUE_ANGLES].to_numpy(np.float64))
    predicted = angles_to_vector(frame[PREDICTED_ANGLES].to_numpy(np.float64))
    return pd.Series(angular_error_deg(true, predicted), index=frame.index, name="error_deg")


def per_subject_errors(frame: pd.DataFrame) -> pd.Series:
    """Mean angular error in degrees of each subject; index `subject`, in natural order (p2 before p10)."""
    errors = angular_errors(frame).groupby(frame["subject"]).mean()
    return errors.loc[sorted(errors.index, key=_natural_order)]


def mean_error(frame: pd.DataFrame) -> float:
    """Mean over subjects of their mean angular errors, in degrees: every subject counts alike."""
    return float(per_subject_errors(frame).mean())


def format_errors(path: str | Path) -> str:
    """A table of the errors in a prediction CSV: each subject's samples and mean error, then the mean."""
    frame = read_predictions(path)
    errors = per_subject_errors(frame)
    samples = frame["subject"].value_counts()
    rows = [(str(subject), str(samples[subject]), f"{error:.4f}") for subject, error in errors.items()]
    header, last = ("subject", "samples", "error_deg"), ("mean", str(len(frame)), f"{errors.mean():.4f}")
    widths = [max(map(len, column)) for column in zip(header, last, *rows, strict=True)]
    rule = tuple("-" * width for width in widths)
    lines = [header, rule, *rows, rule, last]
    return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in lines)


def _radians(path: str | Path, column: str, texts: pd.Series) -> pd.Series:
    values = pd.to_numeric(texts, errors="coerce").astype(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        found = texts[bad].iloc[0]
        raise UserError(f"{path}: line {_line(bad)}: {column} is {found!r}; every angle is a finite number")
    large = values.abs() > np.pi
    if large.any():
        found = texts[large].iloc[0]
        raise UserError(f"{path}: line {_line(large)}: {column} is {found}, beyond pi; angles are in radians")
    return values


def _line(bad: pd.Series) -> int:
    """Line in the file of the first row that is marked: the header is line 1."""
    return int(np.flatnonzero(bad)[0]) + 2


def _natural_order(subject: object) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", str(subject))
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
