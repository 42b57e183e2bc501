"""The prediction files of several trainings of one method, read as one for each test set, and checked to be of the same
samples.
"""

import glob
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import SEPARATING_LINE, tabulate

from gazepipe.common.units import ERROR_UNIT
from gazepipe.common.units import errors as gaze_errors
from gazepipe.errors import UserError
from gazepipe.evaluation import inference
from gazepipe.evaluation.metrics import (
    NO_CSV,
    TEST,
    TRUE,
    format_errors,
    natural_order,
    read_predictions,
    read_tests,
    sample_errors,
    tests_in,
    tests_text,
    titled,
    units_of,
)

ONE = "0"
"""The fold or seed of predictions that name none."""
GROUP = ["side", "fold", "seed"]
"""What names a training's file among those that are compared."""
TOLERANCE = {"rad": 0.06, "px": 0.5}
"""By the unit of the target: degrees or pixels that true gaze may differ by, as files round it (to 0.001 rad)."""
PLACES = ("{seed}", "{fold}")


@dataclass(frozen=True)
class File:
    """A test set's rows of a prediction CSV; fold and seed are empty where the file itself tells them, or there is one
    of each; test is where it tells no test set.
    """

    path: Path
    fold: str = ""
    seed: str = ""
    test: str = ""


def named_by(pattern: str) -> tuple[File, ...]:
    """The files that a name stands for, in natural order: one, or all that match `{seed}` and `{fold}` in it. Their
    test sets are for `by_test` to say.

    Raises UserError where none matches.
    """
    if not any(place in pattern for place in PLACES):
        return (File(Path(pattern)),)
    path = Path(pattern)
    start = next(parent for parent in path.parents if not any(place in str(parent) for place in PLACES))
    wild, named = glob.escape(str(path.relative_to(start))), re.escape(str(path))
    for place in PLACES:
        name, escaped = place.strip("{}"), re.escape(place)
        wild = wild.replace(place, "*")
        named = named.replace(escaped, f"(?P<{name}>[^/]+)", 1).replace(escaped, f"(?P={name})")
    found = [(each, re.fullmatch(named, str(each))) for each in start.glob(wild)]
    files = [File(each, **match.groupdict()) for each, match in found if match]
    if not files:
        raise UserError(f"{pattern}: no file is named so; check the folder, and quote the name for the shell")
    return tuple(sorted(files, key=lambda file: (natural_order(file.seed), natural_order(file.fold))))


def by_test(files: Sequence[File]) -> dict[str, tuple[File, ...]]:
    """The files of each test set that they hold, in the order of the first; "" where they tell none.

    Raises UserError where one holds other test sets than the first.
    """
    tests = [tests_in(file.path) for file in files]
    for file, held in zip(files, tests, strict=True):
        if set(held) != set(tests[0]):
            said, first = map(tests_text, (held, tests[0]))
            raise UserError(f"{file.path}: has {said}, but {files[0].path} {first}; name files of the same test sets")
    return {test: tuple(replace(file, test=test) for file in files) for test in tests[0]}


def read(files: tuple[File, ...]) -> pd.DataFrame:
    """One row a sample and training of one test set: fold, seed, subject, true_0, true_1, error, path, line, units, and
    frame and sample where every file has them.

    A column fold or seed in a file tells what its name does not. Raises UserError as `read_predictions` does, for files
    in different units, an empty fold or seed, and a fold or seed that both the name and a column tell.

    All test sets of the last few files are kept, since one network may be compared with many; `forget()` lets them go.
    """
    return _read(tuple(replace(file, test="") for file in files))[files[0].test]


@lru_cache(maxsize=4)
def _read(files: tuple[File, ...]) -> dict[str, pd.DataFrame]:
    """What `read` gives, by test set; each file is read once."""
    held: dict[str, list[pd.DataFrame]] = {}
    for file in files:
        for test, frame in read_tests(file.path).items():
            held.setdefault(test, []).append(_rows(file, frame))
    first = next(iter(held.values()))[0]["units"].iat[0]
    for part in (part for parts in held.values() for part in parts):
        if part["units"].iat[0] != first:
            raise UserError(
                f"{part['path'].iat[0]}: is in {part['units'].iat[0]}, unlike {files[0].path}; compare one task"
            )
    return {test: pd.concat(parts, ignore_index=True, join="inner") for test, parts in held.items()}


def forget() -> None:
    """Let go of the files that `read` keeps."""
    _read.cache_clear()


def digests(files: tuple[File, ...]) -> list[str]:
    """Of each file the SHA-256 of the header and the lines of its test set, without the column test where that is the
    first; of the whole file where it has quotes, which may hold line breaks.
    """
    found = []
    for (path, lines), file in zip(read(files).groupby("path", sort=False)["line"], files, strict=True):
        content = Path(path).read_bytes()
        if b'"' not in content:
            head, *rest = (line for line in content.splitlines(keepends=True) if line.strip(b"\r\n"))
            own = rest[lines.min() - 2 : lines.max() - 1]
            if file.test and head.startswith(f"{TEST},".encode()):
                head, *own = (line.partition(b",")[2] for line in (head, *own))
            content = b"".join((head, *own))
        found.append(hashlib.sha256(content).hexdigest())
    return found


def units(path: Path) -> str:
    """The unit of the gaze in a prediction CSV, by its first line."""
    try:
        return units_of(pd.read_csv(path, nrows=0, dtype=str, encoding="utf-8"))
    except (OSError, *NO_CSV):
        return units_of(read_predictions(path))


def errors(rows: pd.DataFrame) -> pd.DataFrame:
    """The long table of `gazepipe.evaluation.inference`: fold, seed, subject, the mean error of its samples."""
    return rows.groupby(["fold", "seed", "subject"], sort=False)["error"].mean().reset_index()


def over_folds(table: pd.DataFrame) -> pd.DataFrame:
    """A long table with the folds' mean error of each seed and subject, as one fold."""
    means = table.groupby(["seed", "subject"], sort=False)["error"].mean().reset_index()
    return means.assign(fold=ONE)


def same_samples(rows: pd.DataFrame) -> tuple[pd.Series, str]:
    """Whether the predictions in `rows` (of `read`, of one or more sides, told by a column `side`) are of the same
    samples: which rows are of samples that every training that tested the subject has, and why not all are, or "".

    Samples go by their subject and frame; by the column sample where frames are not told or not unique; else by how
    many there are of a subject (where that differs, none is known to be the same) and the ranks of their true gaze.
    Raises UserError, naming file and line, where the true gaze of a sample differs between two files by more than
    TOLERANCE.
    """
    key = _key(rows)
    if key is not None:
        _check_truth(rows, rows[key], _distance)
        return _in_all(rows, rows[key], key)
    inside = pd.Series(True, index=rows.index)
    for column in ("true_0", "true_1"):
        ranks = rows.sort_values(column, kind="stable").groupby([*GROUP, "subject"]).cumcount().reindex(rows.index)
        _, reason = _in_all(rows, ranks, "")
        if reason:
            return ~inside, reason
        _check_truth(rows, ranks, lambda one, other, units, column=column: _apart(one[column], other[column], units))
    return inside, ""


def format_trainings(names: Sequence[str | Path]) -> str:
    """A table of the errors in prediction CSVs of one method's trainings: each subject's samples, its mean error over
    trainings and their standard deviation, then the mean, and below it the 95 % interval over subjects and trainings.

    Each name is a file, or a pattern with `{seed}` and `{fold}`; of several plain files each is a training. One file
    of one training is shown as `format_errors` does. Of several test sets each has a table, headed by its name.
    """
    files = [file for name in names for file in named_by(str(name))]
    if len(names) > 1:
        files = [replace(file, seed=file.seed or str(number)) for number, file in enumerate(files)]
    forget()
    return titled({test: _format(own) for test, own in by_test(files).items()})


def _format(files: tuple[File, ...]) -> str:
    """The table of one test set."""
    rows = read(files).assign(side="")
    table = errors(rows)
    if len(files) == 1 and table["seed"].nunique() == 1:
        return format_errors(rows.set_index("subject")["error"].rename(_error_name(rows)))
    _, reason = same_samples(rows)
    if reason:
        raise UserError(f"{files[0].path}: {reason}; name trainings that were tested on the same samples")
    return _formatted(table, rows)


def _formatted(table: pd.DataFrame, rows: pd.DataFrame) -> str:
    name = _error_name(rows)
    found = inference.mean_interval(table, name="these files")
    by_seed = over_folds(table).groupby("subject")["error"]
    means, spreads = by_seed.mean(), by_seed.std()
    samples = rows["subject"].value_counts()
    shown = [
        (subject, str(samples[subject]), f"{means[subject]:.4f}", "" if np.isnan(spread) else f"{spread:.4f}")
        for subject, spread in spreads.loc[sorted(means.index, key=natural_order)].items()
    ]
    mean = "" if np.isnan(found.mean) else f"{found.mean:.4f}"
    shown += [SEPARATING_LINE, ("mean", str(len(rows)), mean, "")]
    headings = ("subject", "predictions", name, "sd of trainings")
    text = tabulate(shown, headings, "simple", disable_numparse=True, colalign=("left", "right", "right", "right"))
    return f"{text}\n\n{_interval_text(found)}"


def _error_name(rows: pd.DataFrame) -> str:
    return f"error_{ERROR_UNIT[rows['units'].iat[0]]}"


def _interval_text(found: inference.Interval) -> str:
    if np.isnan(found.low):
        return f"no interval of the mean: {found.reason}"
    over = f"{found.n_subjects} subjects" + (f" and {found.n_seeds} trainings" if found.n_seeds > 1 else "")
    said = f"95 % interval of the mean over {over}: {found.low:.4f} to {found.high:.4f}"
    return f"{said}; {found.reason}" if found.reason else said


def _rows(file: File, frame: pd.DataFrame) -> pd.DataFrame:
    target = units_of(frame)
    rows = frame[[column for column in ("subject", "frame", "sample") if column in frame]].copy()
    rows["fold"], rows["seed"] = (_told(file, frame, name) for name in ("fold", "seed"))
    rows[["true_0", "true_1"]] = frame[TRUE[target]].to_numpy(np.float64)
    return rows.assign(error=sample_errors(frame), path=str(file.path), line=frame.index + 2, units=target)


def _told(file: File, frame: pd.DataFrame, name: str) -> str | pd.Series:
    """The fold or the seed of the rows of a file."""
    by_name = getattr(file, name)
    if name not in frame:
        return by_name or ONE
    if by_name:
        raise UserError(f"{file.path}: the {name} is told by its name and by a column; leave one of them out")
    empty = frame[name].str.strip() == ""
    if empty.any():
        raise UserError(f"{file.path}: line {empty.idxmax() + 2}: {name} is empty; name the {name} of every row")
    return frame[name]


def _key(rows: pd.DataFrame) -> str | None:
    """The column that tells the samples of a subject apart."""
    for name in ("frame", "sample"):
        if name in rows and not rows.duplicated([*GROUP, "subject", name]).any():
            return name
    return None


def _in_all(rows: pd.DataFrame, keys: pd.Series, name: str) -> tuple[pd.Series, str]:
    """Which rows are of samples that all trainings of their subject have, and an example of one that is not."""
    trainings = rows[[*GROUP, "subject"]].drop_duplicates()["subject"].value_counts()
    times = rows.groupby([rows["subject"], keys])["error"].transform("size")
    inside = times == rows["subject"].map(trainings)
    if inside.all():
        return inside, ""
    first = rows[~inside].iloc[0]
    example = f"{first['path']}, line {first['line']}" + (
        f" ({name} {first[name]} of {first['subject']})" if name else ""
    )
    return inside, f"other samples were tested: not every file has that of {example}"


def _check_truth(rows: pd.DataFrame, keys: pd.Series, distance) -> None:
    """UserError where samples of equal subject and key have another true gaze in one file than in the first."""
    columns = ["true_0", "true_1", "path", "line", "units", "subject"]
    table = rows[columns].assign(key=keys)
    first = table.drop_duplicates(["subject", "key"])
    both = table.merge(first, on=["subject", "key"], suffixes=("", "_first"), sort=False)
    one, other = both[columns[:2]], both[["true_0_first", "true_1_first"]].set_axis(columns[:2], axis=1)
    wrong = distance(one, other, rows["units"].iat[0]) > TOLERANCE[rows["units"].iat[0]]
    if wrong.any():
        at = both[wrong].iloc[0]
        raise UserError(
            f"{at['path']}: line {at['line']}: the true gaze of subject {at['subject']} is "
            f"({at['true_0']:.4f}, {at['true_1']:.4f}), but ({at['true_0_first']:.4f}, {at['true_1_first']:.4f}) in "
            f"{at['path_first']}, line {at['line_first']}; compare predictions of the same test set"
        )


def _distance(one: pd.DataFrame, other: pd.DataFrame, units: str) -> np.ndarray:
    return gaze_errors(one.to_numpy(), other.to_numpy(), units)


def _apart(one: pd.Series, other: pd.Series, units: str) -> np.ndarray:
    """How far sorted coordinates lie apart: never more than the samples do, whatever their order."""
    apart = np.abs(one.to_numpy() - other.to_numpy())
    return np.degrees(apart) if units == "rad" else apart
