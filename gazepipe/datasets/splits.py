"""Folds over subjects: who is tested, who chooses the epoch, who trains; nobody has two roles in a fold."""

import csv
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gazepipe.common.files import write_text
from gazepipe.datasets.columbia import COLUMBIA_FOLDS
from gazepipe.datasets.settings import Split
from gazepipe.datasets.store import Store, open_store
from gazepipe.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("fold", "subject", "role")
ROLES = ("train", "validation", "test")
GIVEN_ROLES = {"train": "train", "val": "validation", "test": "test"}


def split_subjects(settings: Split, store: Path, split: Path) -> None:
    """Assign subjects to folds and roles.

    Writes the table of `make_split` for the subjects of a store.
    """
    write_split(make_split(set(open_store(store).subject), settings), split)


def make_split(subjects: Iterable[str], settings: Split) -> "pd.DataFrame":
    """Table (fold, subject, role) in which every fold lists every subject once.

    Protocols: `columbia`, the five
    published folds, of which those without a present subject are left out; `leave-one-out`, fold i tests
    the i-th name; `k-fold`, seeded groups whose sizes differ by at most one; `given`, one fold of the roles that
    names begin with (`train-`, `val-`, `test-`). The share `validation` of a
    fold's training subjects, at least one, is drawn by a generator seeded with (seed, fold). Raises
    UserError where the subjects do not suffice or do not belong to the protocol.
    """
    names = sorted(subjects)
    if not names:
        raise UserError("split: there are no subjects; prepare the data first")
    if _double(names) is not None:
        raise UserError(f"split: subject {_double(names)} is listed twice; list each subject once")
    if settings.protocol == "given":
        return _table([(0, name, _given_role(name)) for name in names])
    rows = []
    for fold, test in _test_folds(names, settings).items():
        rest = [name for name in names if name not in test]
        if len(rest) < 2:
            raise UserError(
                f"split: fold {fold} tests {len(test)} of {len(names)} subjects, which leaves {len(rest)} "
                "to train and validate on; it takes at least 2: use more subjects"
            )
        validation = _draw_validation(rest, settings.validation, settings.seed, fold)
        for name in names:
            role = "test" if name in test else "validation" if name in validation else "train"
            rows.append((fold, name, role))
    return _table(rows)


def _table(rows: list[tuple[int, str, str]]) -> "pd.DataFrame":
    check_rows(rows, "split")
    import pandas as pd  # here, since every training and prediction reads a split and none needs a table

    return pd.DataFrame(rows, columns=COLUMNS)


def write_split(split: "pd.DataFrame", path: str | Path) -> None:
    """Write a split as CSV after `check_rows`."""
    rows = list(split[list(COLUMNS)].itertuples(index=False, name=None))
    check_rows(rows, path)
    write_text(path, split.to_csv(index=False, lineterminator="\n"))


def read_split(path: str | Path, fold: int) -> dict[str, set[str]]:
    """Subjects of a fold by role ("train", "validation", "test"), from a CSV that passes `check_rows`.

    Raises UserError where the file is missing or broken, or has no such fold.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
            rows = [(int(number), subject, role) for number, subject, role in lines]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); run the split stage") from None
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: is not a split table ({error}); delete it and split again") from None
    if tuple(header) != COLUMNS:
        raise UserError(f"{path}: columns are {', '.join(header)}; delete it and split again")
    check_rows(rows, path)
    here = [(subject, role) for number, subject, role in rows if number == fold]
    if not here:
        present = ", ".join(map(str, sorted({number for number, _, _ in rows})))
        raise UserError(f"{path}: has no fold {fold}; folds with subjects: {present}")
    return {role: {subject for subject, own in here if own == role} for role in ROLES}


def rows_of(store: "Store", subjects: set[str] | None) -> np.ndarray:
    """Numbers [n] of the rows of `subjects` (None: of all), in the order of the store.

    Raises UserError for a subject that the store does not have, and where nothing is left.
    """
    present = store.subject
    missing = sorted((subjects or set()) - set(present))
    if missing:
        raise UserError(f"{store.path}: has no subject {missing[0]!r} that the split names; make store and split anew")
    rows = np.arange(len(present)) if subjects is None else np.flatnonzero(np.isin(present, sorted(subjects)))
    if len(rows) == 0:
        raise UserError(f"{store.path}: no sample is left to use; give at least one subject")
    return rows


def check_rows(rows: Sequence[tuple[int, str, str]], source: str | Path) -> None:
    """Raise UserError, naming `source`, unless every fold gives each subject one role and no role is empty.

    `rows` are (fold, subject, role). No subject may be tested in two folds either.
    """
    mend = "delete it and split again"
    if not rows:
        raise UserError(f"{source}: holds no subject; {mend}")
    unknown = {role for _, _, role in rows} - set(ROLES)
    if unknown:
        raise UserError(f"{source}: unknown role {min(unknown)!r}; {mend}")
    everyone = {subject for _, subject, _ in rows}
    for fold in sorted({number for number, _, _ in rows}):
        here = [(subject, role) for number, subject, role in rows if number == fold]
        double = _double([subject for subject, _ in here])
        if double is not None:
            raise UserError(f"{source}: fold {fold} lists subject {double} twice; {mend}")
        missing = everyone - {subject for subject, _ in here}
        if missing:
            raise UserError(f"{source}: fold {fold} lacks subject {min(missing)}; {mend}")
        empty = [role for role in ROLES if role not in {own for _, own in here}]
        if empty:
            raise UserError(f"{source}: fold {fold} has no {empty[0]} subject; {mend}")
    double = _double([subject for _, subject, role in rows if role == "test"])
    if double is not None:
        raise UserError(f"{source}: subject {double} is tested in two folds; {mend}")


def _test_folds(names: Sequence[str], settings: Split) -> dict[int, set[str]]:
    match settings.protocol:
        case "columbia":
            return _columbia_folds(names)
        case "leave-one-out":
            return {fold: {name} for fold, name in enumerate(names)}
        case "k-fold":
            assert settings.folds is not None
            if not 2 <= settings.folds <= len(names):
                raise UserError(f"split: {settings.folds} folds of {len(names)} subjects; use 2 to {len(names)} folds")
            order = np.random.default_rng(settings.seed).permutation(len(names))
            groups = np.array_split(order, settings.folds)
            return {fold: {names[i] for i in group} for fold, group in enumerate(groups)}
        case other:
            raise UserError(f"split: protocol {other!r} is unknown; use columbia, leave-one-out or k-fold")


def _given_role(name: str) -> str:
    prefix = name.partition("-")[0]
    if prefix not in GIVEN_ROLES:
        raise UserError(f"split: subject {name} has no role in its name; use another protocol than given")
    return GIVEN_ROLES[prefix]


def _columbia_folds(names: Sequence[str]) -> dict[int, set[str]]:
    published = {f"{number + 1:04d}": fold for fold, numbers in enumerate(COLUMBIA_FOLDS) for number in numbers}
    unknown = [name for name in names if name not in published]
    if unknown:
        raise UserError(f"split: subject {unknown[0]} is in none of the published Columbia folds; use k-fold")
    folds = {fold: {name for name in names if published[name] == fold} for fold in range(len(COLUMBIA_FOLDS))}
    return {fold: test for fold, test in folds.items() if test}


def _draw_validation(rest: Sequence[str], share: float, seed: int, fold: int) -> set[str]:
    """At least one subject, and at least one left to train on."""
    count = min(max(1, math.floor(share * len(rest) + 0.5)), len(rest) - 1)
    chosen = np.random.default_rng([seed, fold]).choice(len(rest), count, replace=False)
    return {rest[i] for i in chosen}


def _double(names: Sequence[str]) -> str | None:
    """The first name, in order, that stands there twice."""
    ordered = sorted(names)
    return next((name for name, following in pairwise(ordered) if name == following), None)
