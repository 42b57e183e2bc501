"""Networks compared across results folders and with predictions of others, from prediction files alone."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from gazepipe.common.units import ERROR_UNIT
from gazepipe.errors import UserError
from gazepipe.evaluation import comparisons, inference
from gazepipe.evaluation.settings import CONTROLS, Statistics
from gazepipe.evaluation.sides import Pair, Predictions
from gazepipe.evaluation.trainings import digests, errors, over_folds, read, same_samples, units

NAMES = ["train", "model", "method"]
SAME_WEIGHTS = "the same weights to the byte: the networks are the same, and paired with themselves"
SAME_BYTES = "the same predictions to the byte: nothing to compare"
MINE, THEIRS = "mine", "theirs"


Trainings = Literal["separate", "paired", "same"]


@dataclass(frozen=True)
class Rules:
    """How pairs are compared: in degrees or percent, and as `inference.compare` does.

    `trainings`: "separate", their chance adds up; "paired", those of one seed share a network; "same", the networks of
    both sides are the same. `shared`: only the folds, subjects and samples that both have count.
    """

    unit: str
    statistics: Statistics = field(default_factory=Statistics)
    trainings: Trainings = "separate"
    shared: bool = False


def unit_of(met: list[Pair], asked: str | None) -> str:
    """The unit of the differences: what is `asked`, else degrees where all errors are in degrees, else percent."""
    found = {
        ERROR_UNIT[units(file.path)] for file in {each.files[0] for pair in met for each in (pair.mine, pair.theirs)}
    }
    if asked == "deg" and "px" in found:
        raise UserError("unit: errors of points are in pixels, not degrees; use --unit percent")
    return asked or ("deg" if found == {"deg"} else comparisons.PERCENT)


def compared(met: list[Pair], rules: Rules, same_runs: Callable[[Pair], bool]) -> pd.DataFrame:
    """A row a pair: side, test, what was compared (train, model, method) and with what (against_...), both mean errors
    in their own unit, and `comparisons.columns`, corrected over all pairs after Holm.

    The difference is that of the later side minus the first: negative where the later one is better. Trainings count
    as `rules.trainings` says, and as the same where `same_runs` of a pair: the networks are the same to the byte.
    Raises UserError as `read`, `same_samples` and `inference.compare` do.
    """
    # Pairs of the same files one after the other: these are read once for all their test sets.
    found = {pair: _row(pair, rules, same_runs(pair)) for pair in sorted(met, key=_paths)}
    rows = [{**_names(pair), **found[pair]} for pair in met]
    first = ["side", "test", *NAMES, "against_side", *(f"against_{name}" for name in NAMES)]
    return comparisons.corrected(rows, [*first, "error", "error_against", "error_unit"], rules.unit)


def _paths(pair: Pair) -> list[list[str]]:
    return [[str(file.path) for file in each.files] for each in (pair.theirs, pair.mine)]


def _names(pair: Pair) -> dict[str, str]:
    return {
        "side": pair.side.letter,
        "test": pair.mine.test or pair.theirs.test,
        **{name: getattr(pair.mine, name) for name in NAMES},
        "against_side": pair.first.letter,
        **{f"against_{name}": getattr(pair.theirs, name) for name in NAMES},
    }


def _row(pair: Pair, rules: Rules, same_runs: bool) -> dict[str, Any]:
    rows, target = _both(pair)
    names = f"{pair.mine.label} of {pair.side.letter}", f"{pair.theirs.label} of {pair.first.letter}"
    rows, reason, notes = _on_the_same(rows, pair, rules.shared)
    tables = [errors(rows[rows["side"] == side]) for side in (MINE, THEIRS)]
    means = [inference.mean_interval(table, name=name) for table, name in zip(tables, names, strict=True)]
    if pair.mine.foreign or pair.theirs.foreign:
        # Folds of others are not ours: what counts is who was tested.
        reason = reason or next((found.reason for found in means if np.isnan(found.mean)), "")
        tables = [over_folds(table) for table in tables]
    same, noted = _same_bytes(pair)
    if reason or same:
        found = comparisons.untested(np.nan if reason else 0.0, reason or SAME_BYTES, rules.unit)
        found |= {"n_seeds": means[0].n_seeds, "n_seeds_against": means[1].n_seeds}
        found |= {} if reason else {"n_subjects": means[0].n_subjects}
    else:
        found = _tested(*tables, pair, rules, same_runs, names)
        noted = [*noted, *([SAME_WEIGHTS] if same_runs else [])]
    note = "; ".join([*filter(None, [found["note"]]), *noted, *notes])
    errors_of_both = dict(zip(("error", "error_against"), (found.mean for found in means), strict=True))
    return {**errors_of_both, "error_unit": ERROR_UNIT[target], **found, "note": note}


def _both(pair: Pair) -> tuple[pd.DataFrame, str]:
    """The rows of both sides, told by their column side, and their unit."""
    mine, theirs = (read(each.files) for each in (pair.mine, pair.theirs))
    own, other = (rows["units"].iat[0] for rows in (mine, theirs))
    if own != other:
        raise UserError(f"{mine['path'].iat[0]}: is in {own}, unlike {theirs['path'].iat[0]}; compare one task")
    # The first side's come first: its gaze is what others are checked by.
    return pd.concat([theirs.assign(side=THEIRS), mine.assign(side=MINE)], ignore_index=True, join="inner"), own


def _on_the_same(rows: pd.DataFrame, pair: Pair, shared: bool) -> tuple[pd.DataFrame, str, list[str]]:
    """The rows to compare, why they cannot be compared, and what was left out of them."""
    known = ["subject"] if pair.mine.foreign or pair.theirs.foreign else ["fold", "subject"]
    kept = rows[rows.groupby(known)["side"].transform("nunique") == 2] if shared else rows
    if kept.empty:
        return rows, f"no {' and '.join(known)} in common", []
    inside, reason = same_samples(kept)
    if not reason:
        return kept, "", _left_out(rows, kept, pair)
    if shared and inside.any():
        return kept[inside], "", _left_out(rows, kept[inside], pair)
    return kept, f"{reason}; test the same ones{'' if shared else ', or compare what both have by --shared'}", []


def _left_out(rows: pd.DataFrame, kept: pd.DataFrame, pair: Pair) -> list[str]:
    if len(rows) == len(kept):
        return []
    counts = [
        "{} of {} subjects and {} of {} predictions of {}".format(
            *(each["subject"][each["side"] == side].nunique() for each in (kept, rows)),
            *((each["side"] == side).sum() for each in (kept, rows)),
            letter,
        )
        for side, letter in ((THEIRS, pair.first.letter), (MINE, pair.side.letter))
    ]
    return [f"only what both have: {', '.join(counts)}"]


def _tested(
    mine: pd.DataFrame, theirs: pd.DataFrame, pair: Pair, rules: Rules, same_runs: bool, names: tuple[str, str]
) -> dict[str, Any]:
    if same_runs or rules.trainings == "same":
        return comparisons.same_runs(mine, theirs, rules.unit, rules.statistics, names=names)
    fixed = bool({pair.mine.model, pair.theirs.model} & CONTROLS.keys())
    if fixed:
        # No seed changes what is predicted without a network.
        mine, theirs = _with_seeds_of(mine, pair.mine, theirs), _with_seeds_of(theirs, pair.theirs, mine)
    paired = fixed or rules.trainings == "paired"
    return comparisons.pair(mine, theirs, rules.unit, rules.statistics, paired_seeds=paired, names=names)


def _with_seeds_of(table: pd.DataFrame, predictions: Predictions, other: pd.DataFrame) -> pd.DataFrame:
    if predictions.model not in CONTROLS:
        return table
    return pd.concat([table.assign(seed=seed) for seed in other["seed"].unique()], ignore_index=True)


def _same_bytes(pair: Pair) -> tuple[bool, list[str]]:
    """Whether both sides have the same files to the byte, and what to note of files that are there several times."""
    mine, theirs = (digests(each.files) for each in (pair.mine, pair.theirs))
    if sorted(mine) == sorted(theirs):
        return True, []
    twice, noted = sum(digest in theirs for digest in mine), []
    if twice:
        noted.append(f"{twice} of {len(mine)} files of {pair.side.letter} are also of {pair.first.letter}, to the byte")
    for sums, side in ((theirs, pair.first), (mine, pair.side)):
        again = len(sums) - len(set(sums))
        if again:
            noted.append(f"{again} of {len(sums)} files of {side.letter} repeat another to the byte: no other training")
    return False, noted
