"""Files of predictions, angles or gaze points, by test set, and their errors: of each sample, per subject, then their
mean.
"""

import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import SEPARATING_LINE, tabulate

from gazepipe.common.units import ERROR_UNIT, errors
from gazepipe.errors import UserError
from gazepipe.evaluation.inference import mean_interval

TRUE = {"rad": ["pitch", "yaw"], "px": ["x", "y"]}
HEAD = ["head_pitch", "head_yaw"]
"""Columns of the head pose, rad; a file may lack them."""
PREDICTED = {units: [f"{name}_pred" for name in names] for units, names in TRUE.items()}
TEST = "test"
"""Column of the name of the data set that a sample is of; a file without it is of one test set."""
NO_ROWS = "holds no rows; predict on a data set that has samples"
NO_CSV = (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError)


def read_tests(path: str | Path) -> dict[str, pd.DataFrame]:
    """The rows of a prediction CSV by the name in its column TEST, in the order of the file; "" where it has none.

    Rows are as `read_predictions` has them, which raises.
    """
    frame = read_predictions(path)
    if TEST not in frame.columns:
        return {"": frame}
    return {str(test): rows for test, rows in frame.groupby(TEST, sort=False)}


def tests_in(path: Path) -> list[str]:
    """The keys of `read_tests`, without the rest of the file. Raises UserError as that does, of these alone."""
    frame = _text(path, lambda column: column == TEST)
    if TEST not in frame.columns:
        return [""]
    if frame.empty:
        raise UserError(f"{path}: {NO_ROWS}")
    _check_tests(path, frame)
    return list(frame[TEST].unique())


def tests_text(tests: Iterable[str]) -> str:
    """What a message says of the test sets of a file: the keys of `read_tests`."""
    names = ", ".join(tests)
    return f"the test sets {names}" if names else f"no column {TEST}"


def read_predictions(path: str | Path) -> pd.DataFrame:
    """A prediction CSV: the columns subject (text), pitch, yaw, pitch_pred, yaw_pred (radians) or x, y, x_pred,
    y_pred (pixels), any others; `units_of` tells which. Where it has both columns HEAD they are numbers, NaN where a
    cell is empty.

    Raises UserError, naming file, line (the header is line 1) and column, for a file that is missing, empty
    or no CSV, a missing column, a value that is no number, not finite or an angle beyond +-pi, an empty test set, one
    whose rows are not together, and, where there is a column sample, two rows of one subject's sample (of one test set,
    fold and seed, where it has those).
    """
    frame = _text(path)
    units = units_of(frame)
    numbers = TRUE[units] + PREDICTED[units]
    missing = [column for column in ["subject", *numbers] if column not in frame.columns]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; found {', '.join(frame.columns)}")
    if frame.empty:
        raise UserError(f"{path}: {NO_ROWS}")
    nameless = frame["subject"].fillna("").str.strip() == ""
    if nameless.any():
        raise UserError(f"{path}: line {_line(nameless)}: subject is empty; name the subject of every row")
    if TEST in frame.columns:
        _check_tests(path, frame)
    if "sample" in frame.columns:
        names = (TEST, "fold", "seed", "sample", "subject")
        twice = frame.duplicated([name for name in names if name in frame.columns])
        if twice.any():
            named = frame["sample"][twice].iloc[0]
            raise UserError(f"{path}: line {_line(twice)}: sample {named} is predicted twice; keep one row of each")
    for column in numbers:
        frame[column] = _numbers(path, column, frame[column], limit=np.pi if units == "rad" else np.inf)
    for column in HEAD if set(HEAD) <= set(frame.columns) else ():
        known = frame[column].str.strip() != ""
        frame[column] = _numbers(path, column, frame[column].where(known, "0"), limit=np.pi).where(known)
    return frame


def _text(path: str | Path, columns: Callable[[str], bool] | None = None) -> pd.DataFrame:
    """The cells of a CSV, of all or these `columns`, as text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            return pd.read_csv(
                path, usecols=columns, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8"
            )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a prediction CSV") from None
    except NO_CSV as error:
        raise UserError(f"{path}: is no CSV ({str(error).strip()}); name a prediction CSV") from None


def _check_tests(path: str | Path, frame: pd.DataFrame) -> None:
    """UserError where a test set has no name, or rows in two places."""
    names = frame[TEST].fillna("")  # cells that a short row lacks
    nameless = names.str.strip() == ""
    if nameless.any():
        raise UserError(f"{path}: line {_line(nameless)}: {TEST} is empty; name the test set of every row")
    begins = names != names.shift()
    again = begins & names.where(begins).duplicated()
    if again.any():
        raise UserError(
            f"{path}: line {_line(again)}: {TEST} is {names[again].iloc[0]} again; put the rows of a test set together"
        )


def units_of(frame: pd.DataFrame) -> str:
    """Unit of the gaze in a table of predictions, by its columns: "px" for points, and "rad" for all others."""
    points = {"x", "y", "x_pred", "y_pred"} & set(frame.columns)
    return "px" if len(points) > 0 and "pitch" not in frame.columns else "rad"


def sample_errors(frame: pd.DataFrame) -> pd.Series:
    """Error of each row, index as `frame`: the angle between true and predicted gaze in degrees, or the distance of
    the points in pixels; the series is named error_deg or error_px.
    """
    units = units_of(frame)
    true, predicted = (frame[names[units]].to_numpy(np.float64) for names in (TRUE, PREDICTED))
    return pd.Series(errors(predicted, true, units), index=frame.index, name=f"error_{ERROR_UNIT[units]}")


def per_subject_errors(frame: pd.DataFrame) -> pd.Series:
    """Mean error, degrees or pixels, of each subject; index `subject`, in natural order (p2 before p10)."""
    return _by_subject(sample_errors(frame), frame["subject"])


def _by_subject(errors: pd.Series, subjects: pd.Series | pd.Index) -> pd.Series:
    found = errors.groupby(subjects).mean()
    return found.loc[sorted(found.index, key=natural_order)]


def mean_error(frame: pd.DataFrame) -> float:
    """Mean over subjects of their mean errors, in degrees or pixels: every subject counts alike."""
    return float(per_subject_errors(frame).mean())


def format_errors(errors: pd.Series) -> str:
    """A table of `errors` of samples, error_deg or error_px by subject: each subject's samples and mean error, then the
    mean, and below it the 95 % t interval of the mean over subjects.
    """
    found = _by_subject(errors, errors.index)
    samples = errors.index.value_counts()
    rows = [(str(subject), str(samples[subject]), f"{error:.4f}") for subject, error in found.items()]
    rows += [SEPARATING_LINE, ("mean", str(len(errors)), f"{found.mean():.4f}")]
    align = ("left", "right", "right")
    text = tabulate(rows, ("subject", "samples", found.name), "simple", disable_numparse=True, colalign=align)
    return f"{text}\n\n{_interval_text(found)}"


def titled(texts: dict[str, str]) -> str:
    """Texts one below the other, each headed by its name; one alone without."""
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "\n\n\n".join(f"Tested on {name}:\n\n{text}" for name, text in texts.items())


def _interval_text(found: pd.Series) -> str:
    rows = pd.DataFrame({"seed": 0, "subject": found.index, "error": found.to_numpy()})
    interval = mean_interval(rows)
    if np.isnan(interval.low):
        return f"no interval of the mean: {interval.reason}"
    between = f"{interval.low:.4f} to {interval.high:.4f}"
    return f"95 % interval of the mean over {interval.n_subjects} subjects: {between}; for these predictions only"


def _numbers(path: str | Path, column: str, texts: pd.Series, limit: float) -> pd.Series:
    values = pd.to_numeric(texts, errors="coerce").astype(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        found, kind = texts[bad].iloc[0], "coordinate" if limit == np.inf else "angle"
        raise UserError(f"{path}: line {_line(bad)}: {column} is {found!r}; every {kind} is a finite number")
    large = values.abs() > limit
    if large.any():
        found = texts[large].iloc[0]
        raise UserError(f"{path}: line {_line(large)}: {column} is {found}, beyond pi; angles are in radians")
    return values


def _line(bad: pd.Series) -> int:
    """Line in the file of the first row that is marked: the header is line 1."""
    return int(np.flatnonzero(bad)[0]) + 2


def natural_order(subject: object) -> list[tuple[int, int, str]]:
    """A key that sorts subjects by the numbers in their names: p2 before p10."""
    parts = re.split(r"(\d+)", str(subject))
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
