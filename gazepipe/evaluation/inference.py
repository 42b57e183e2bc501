"""Intervals and tests of mean errors, from two crossed sources of chance: subjects tested and the trainings (seeds).

Errors come as a long table, one row per run and subject: the columns seed, subject and error (degrees or pixels), and
fold where there are several. A subject is tested either by the network of one fold (its own data set) or by those of
all folds (another data set), whose errors are averaged. The networks that one seed made in all folds together are one
training: their chance is the seed's. The folds themselves are fixed: every statement is of these splits.

Model of the cells: y[seed, subject] = mean + seed + subject + rest, all random. The variance of the grand mean is
v_subject / N + v_seed / S + v_rest / (N S). It is estimated by the variance over subjects of their means, divided by N
(N - 1 degrees of freedom; it holds the rest already), plus v_seed / S (S - 1) by the analysis of variance of the
two-way layout, 0 where that is negative; the degrees of freedom of the sum are Satterthwaite's (1946). Two methods of
separate trainings have a v_seed / S each.

With few subjects or seeds that alone is too narrow. So an interval is never narrower than the t interval over subjects
alone nor than that over seeds alone, and a p-value is the largest of the three. Its coverage is measured in
docs/results/inference.md, beside the two-way bootstrap (Owen 2007) and others.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats

from gazepipe.errors import UserError

ALPHA = 0.05  # intervals are of level 1 - ALPHA
POWER = 0.8
ROUNDING = 1e-12  # relative: a smaller spread is the rounding of equal numbers
ONE_SUBJECT = "one subject: nothing is known of others"
ONE_TRAINING = "one training: this interval holds for it only, not for the method"
ONE_SEED = "one seed: chance of training is unknown; train at least two seeds of each method"
NO_SPREAD = "no spread: the difference is the same for all subjects and seeds"


@dataclass(frozen=True)
class Interval:
    """Mean error of one method and its interval; NaN where `reason` says why there is none.

    With one seed there is an interval, and `reason` says what it does not hold for.
    """

    mean: float
    low: float
    high: float
    df: float
    n_subjects: int
    n_seeds: int
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two methods: `difference` is the mean error of a minus that of b, negative where a is better.

    low, high       its interval
    p               of no difference, two-sided, not corrected for the number of comparisons (`holm`)
    p_equivalence   of a difference of at least the margin, either way (two one-sided tests, Schuirmann 1987); NaN
                    without a margin
    df              degrees of freedom of the t interval that is the widest of the three, which counts
    smallest_detectable  the difference that is found with 80 % power at alpha 0.05, given the estimated variances
    effect_size     Cohen's d_z (Cohen 1988, Lakens 2013): the difference over the standard deviation over subjects of
                    the subjects' mean differences
    reason          why numbers are NaN; empty where a p-value is given
    note            what was left out
    """

    difference: float
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan
    df: float = np.nan
    p_equivalence: float = np.nan
    smallest_detectable: float = np.nan
    effect_size: float = np.nan
    n_subjects: int = 0
    n_seeds_a: int = 0
    n_seeds_b: int = 0
    reason: str = ""
    note: str = ""


def mean_interval(errors: pd.DataFrame, *, name: str = "errors") -> Interval:
    """Mean over subjects of the error of one method, and its interval over subjects and seeds.

    `errors` is a long table as the module says. With one seed it is the t interval over the subjects' means, which is
    of this training only. `name` stands in reasons and messages. Raises UserError as `compare` does.
    """
    cells = _cells(errors, name)
    seeds, subjects = cells.index.unique("seed"), cells.index.unique("subject")
    counts = {"n_subjects": len(subjects), "n_seeds": len(seeds)}
    if reason := _unbalanced(cells, name):
        return Interval(np.nan, np.nan, np.nan, np.nan, **counts, reason=reason)
    errors_by_cell = _matrix(cells)
    mean = float(errors_by_cell.mean())
    if len(subjects) < 2:
        return Interval(mean, np.nan, np.nan, np.nan, **counts, reason=ONE_SUBJECT)
    variances, dfs = variances_of_mean([errors_by_cell])
    halves = half_widths(variances, dfs)
    half, df = float(halves.max()), float(dfs[halves.argmax()])
    return Interval(mean, mean - half, mean + half, df, **counts, reason=ONE_TRAINING if len(seeds) < 2 else "")


def mean_intervals(errors: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """`mean_interval` of each group of a long table that has the columns `by`, too: by, then the fields of `Interval`.

    The same numbers, many times faster for many groups. Groups come in the order in which they first appear, and are
    named by their values in reasons and messages. Raises UserError as `mean_interval` does.
    """
    fold = errors["fold"] if "fold" in errors.columns else 0
    table = errors.assign(fold=fold, group=errors.groupby(by, sort=False, dropna=False).ngroup())
    groups = errors[by].drop_duplicates().reset_index(drop=True)
    complete = _complete(table)
    found = {}
    whole = table[table["group"].map(complete)]
    counts = {f"{name}s": whole.groupby("group")[name].transform("nunique") for name in ("seed", "subject")}
    for _, rows in whole.assign(**counts).groupby(["seeds", "subjects"]):
        found |= _intervals(rows)
    for number, rows in table[~table["group"].map(complete)].groupby("group"):
        found[number] = mean_interval(rows, name=", ".join(str(value) for value in groups.loc[number]))
    fields = [found[number] for number in range(len(groups))]
    return groups.join(pd.DataFrame(fields, columns=[field.name for field in dataclasses.fields(Interval)]))


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    paired_seeds: bool,
    margin: float | None = None,
    names: tuple[str, str] = ("a", "b"),
) -> Comparison:
    """Compare the errors of two methods on the same subjects.

    `a` and `b` are long tables as the module says. `margin` (the unit of the errors, above 0) is the largest difference
    that does not matter. `paired_seeds` says that run s of a and run s of b share a network (a teacher, a parent):
    their chance is then that of the differences, over the seeds that both have. Otherwise the chance of both adds up,
    and equal seeds mean nothing. `names` of the methods stand in reasons, notes and messages.

    Subjects or folds that differ, a run that lacks some, one seed and one subject give a result without a p-value, and
    its reason. Raises UserError for a missing column, an empty table, an error that is no finite number, several rows
    of one fold, seed and subject, a margin that is not above 0, and equal names.
    """
    if margin is not None and not (np.isfinite(margin) and margin > 0):
        raise UserError(f"margin: is {margin}; name the largest difference that does not matter, above 0")
    if names[0] == names[1]:
        raise UserError(f"names: both methods are {names[0]}; compare two")
    cells = {name: _cells(errors, name) for name, errors in zip(names, (a, b), strict=True)}
    cells, note = _common_seeds(cells) if paired_seeds else (cells, "")
    seeds = [len(table.index.unique("seed")) for table in cells.values()]
    counts = {"n_seeds_a": seeds[0], "n_seeds_b": seeds[1], "note": note}
    if reason := _not_comparable(cells):
        return Comparison(np.nan, **counts, reason=reason)
    matrices = [_matrix(table) for table in cells.values()]
    counts["n_subjects"] = matrices[0].shape[1]
    difference = float(matrices[0].mean() - matrices[1].mean())
    if reason := _not_testable(*matrices):
        return Comparison(difference, **counts, reason=reason)
    layouts = [matrices[0] - matrices[1]] if paired_seeds else [matrices[0], -matrices[1]]
    variances, dfs = variances_of_mean(layouts)
    if np.sqrt(variances.max()) <= ROUNDING * np.abs(matrices[0]).max():
        return Comparison(difference, **counts, reason=NO_SPREAD)
    halves = half_widths(variances, dfs)
    half = float(halves.max())
    return Comparison(
        difference=difference,
        low=difference - half,
        high=difference + half,
        p=p_value(difference, variances, dfs),
        df=float(dfs[halves.argmax()]),
        p_equivalence=np.nan if margin is None else _p_equivalence(difference, margin, variances, dfs),
        smallest_detectable=smallest_detectable(variances, dfs),
        effect_size=_effect_size(*matrices),
        **counts,
    )


def finding(p: float, p_equivalence: float = np.nan) -> str:
    """What two p-values, corrected or not, say in words: "not tested", "different", "equivalent", "different, within
    the margin" or "nothing found" (which is not the same as equivalent).
    """
    if np.isnan(p):
        return "not tested"
    equivalent = p_equivalence < ALPHA
    if p < ALPHA:
        return "different, within the margin" if equivalent else "different"
    return "equivalent" if equivalent else "nothing found"


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for their number (Holm 1979), in the given order; NaN stays NaN, uncounted.

    Raises ValueError for a value outside 0 to 1.
    """
    p_values = np.asarray(p_values, np.float64)
    if ((p_values < 0) | (p_values > 1)).any():
        raise ValueError("p-values lie between 0 and 1")
    adjusted = np.full(p_values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return adjusted


def variances_of_mean(layouts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Three estimates of the variance of a sum of grand means, and their degrees of freedom, both [..., 3]: by both
    sources of chance, by subjects alone, by seeds alone (only [..., 1], by subjects, where a layout has one seed).

    Each layout is [..., seeds, subjects], the same subjects in the same order, at least two. There is one for errors or
    paired differences, and two, a and -b, for methods of separate trainings.
    """
    n_subjects = layouts[0].shape[-1]
    subject_means = sum(layout.mean(axis=-2) for layout in layouts)
    by_subject = subject_means.var(axis=-1, ddof=1) / n_subjects
    subject_df = float(n_subjects - 1)
    seed_dfs = [layout.shape[-2] - 1.0 for layout in layouts]
    if min(seed_dfs) < 1:
        return by_subject[..., None], np.full((*by_subject.shape, 1), subject_df)
    by_seed = [layout.mean(axis=-1).var(axis=-1, ddof=1) / layout.shape[-2] for layout in layouts]
    of_seed = [np.maximum(part - _rest(layout), 0) for part, layout in zip(by_seed, layouts, strict=True)]
    estimates = [
        _satterthwaite([by_subject, *of_seed], [subject_df, *seed_dfs]),
        _satterthwaite([by_subject], [subject_df]),
        _satterthwaite(by_seed, seed_dfs),
    ]
    variances, dfs = zip(*estimates, strict=True)
    return np.stack(variances, axis=-1), np.stack(dfs, axis=-1)


def _rest(layout: np.ndarray) -> np.ndarray:
    """v_rest / (N S) of [..., seeds, subjects]: from what neither subject nor seed explains."""
    n_seeds, n_subjects = layout.shape[-2:]
    seed_means, subject_means = layout.mean(axis=-1, keepdims=True), layout.mean(axis=-2, keepdims=True)
    rest = layout - seed_means - subject_means + layout.mean(axis=(-2, -1), keepdims=True)
    return (rest**2).sum(axis=(-2, -1)) / ((n_seeds - 1) * (n_subjects - 1) * n_seeds * n_subjects)


def _satterthwaite(parts: Sequence[np.ndarray], dfs: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of variances [...] and its degrees of freedom (Satterthwaite 1946); the sum of `dfs` where all are 0."""
    total = sum(parts)
    spread = sum(part**2 / df for part, df in zip(parts, dfs, strict=True))
    return total, np.divide(total**2, spread, out=np.full_like(total, sum(dfs)), where=spread > 0)


def half_widths(variances: np.ndarray, dfs: np.ndarray) -> np.ndarray:
    """Half-widths [..., K] of the 95 % t intervals of `variances_of_mean`; the widest one counts."""
    return stats.t.isf(ALPHA / 2, dfs) * np.sqrt(variances)


def p_value(difference: float, variances: np.ndarray, dfs: np.ndarray) -> float:
    """Largest two-sided p of the t tests of `variances_of_mean` [K], which are not all 0."""
    with np.errstate(divide="ignore"):
        statistics = np.abs(difference) / np.sqrt(variances)
    return float((2 * stats.t.sf(statistics, dfs)).max()) if difference != 0 else 1.0


def smallest_detectable(variances: np.ndarray, dfs: np.ndarray) -> float:
    """The true difference that each of the t tests of `variances_of_mean` [K] finds with 80 % probability
    (noncentral t; Cohen 1988, chapter 2), the estimates taken as true.
    """

    def lacking(shift: float, critical: float, df: float) -> float:
        return float(stats.nct.sf(critical, df, shift)) - POWER

    criticals = stats.t.isf(ALPHA / 2, dfs)
    shifts = [
        optimize.brentq(lacking, 0, 3 * critical + 10, args=(critical, df))
        for critical, df in zip(criticals, dfs, strict=True)
    ]
    return float((np.sqrt(variances) * shifts).max())


def _complete(table: pd.DataFrame) -> pd.Series:
    """Whether the rows of each group, by its number, are finite errors of several subjects, each tested by the same
    number of folds with every seed, and once.
    """
    numeric = pd.api.types.is_numeric_dtype(table["error"])
    sound = (np.isfinite(table["error"]) if numeric else False) & table[["fold", "seed", "subject"]].notna().all(axis=1)
    by = table["group"]
    seeds, subjects = table.groupby(by)["seed"].transform("nunique"), table.groupby(by)["subject"].transform("nunique")
    runs = table.groupby(["group", "fold", "subject"], dropna=False)["seed"]
    every_seed = (runs.transform("size") == seeds) & (runs.transform("nunique") == seeds)
    of_subject = table.groupby(["group", "subject"], dropna=False)["seed"].transform("size")
    alike = of_subject * subjects == table.groupby(by)["seed"].transform("size")
    return (sound & every_seed & alike & (subjects > 1)).groupby(by).all()


def _intervals(rows: pd.DataFrame) -> dict[int, Interval]:
    """The interval of each group of `_complete` ones with the same numbers of seeds and subjects."""
    cells = rows.groupby(["group", "seed", "subject"])["error"].mean()
    numbers = cells.index.unique("group")
    shape = len(numbers), rows["seeds"].iloc[0], rows["subjects"].iloc[0]
    layouts = cells.to_numpy(np.float64).reshape(shape)
    variances, dfs = variances_of_mean([layouts])
    halves = half_widths(variances, np.broadcast_to(dfs, variances.shape))
    widest = halves.argmax(axis=-1)
    reason = ONE_TRAINING if shape[1] < 2 else ""
    counts = {"n_subjects": int(shape[2]), "n_seeds": int(shape[1]), "reason": reason}
    found = {}
    for place, number in enumerate(numbers):
        mean, half = float(layouts[place].mean()), float(halves[place, widest[place]])
        found[number] = Interval(mean, mean - half, mean + half, float(dfs[place, widest[place]]), **counts)
    return found


def _effect_size(a: np.ndarray, b: np.ndarray) -> float:
    """Cohen's d_z of errors [seeds, subjects]; NaN where all subjects have the same mean difference."""
    of_subject = a.mean(axis=0) - b.mean(axis=0)
    spread = float(of_subject.std(ddof=1))
    return float(of_subject.mean()) / spread if spread > ROUNDING * np.abs(a).max() else np.nan


def _p_equivalence(difference: float, margin: float, variances: np.ndarray, dfs: np.ndarray) -> float:
    """The larger p of the two one-sided tests of |true difference| >= margin (Schuirmann 1987)."""
    inside = margin - abs(difference)
    one_sided = p_value(inside, variances, dfs) / 2
    return one_sided if inside > 0 else 1 - one_sided


def _cells(errors: pd.DataFrame, name: str) -> pd.Series:
    """The errors of a checked table, by fold, seed and subject."""
    missing = [column for column in ("seed", "subject", "error") if column not in errors.columns]
    if missing:
        raise UserError(f"{name}: no column {', '.join(missing)}; found {', '.join(map(str, errors.columns))}")
    if errors.empty:
        raise UserError(f"{name}: holds no rows; predict before comparing")
    table = errors.assign(fold=errors["fold"] if "fold" in errors.columns else 0)
    keys = ["fold", "seed", "subject"]
    if table[keys].isna().any(axis=None):
        raise UserError(f"{name}: a fold, seed or subject is empty; name them in every row")
    values = pd.to_numeric(table["error"], errors="coerce").astype(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise UserError(
            f"{name}: the error of {_run(table[bad])} is {table['error'][bad].iloc[0]}; give finite numbers"
        )
    twice = table.duplicated(keys)
    if twice.any():
        raise UserError(f"{name}: {_run(table[twice])} has several errors; give one, the mean over its images")
    return pd.Series(values.to_numpy(), index=pd.MultiIndex.from_frame(table[keys]), name="error").sort_index()


def _run(rows: pd.DataFrame) -> str:
    fold, seed, subject = rows[["fold", "seed", "subject"]].iloc[0]
    return f"fold {fold}, seed {seed}, subject {subject}"


def _matrix(cells: pd.Series) -> np.ndarray:
    """Errors [seeds, subjects], the mean over folds; both in sorted order."""
    return cells.groupby(["seed", "subject"]).mean().unstack("subject").to_numpy(np.float64)


def _tested(cells: pd.Series) -> set[tuple]:
    """Which network tested whom: the pairs of fold and subject."""
    return set(cells.index.droplevel("seed"))


def _unbalanced(cells: pd.Series, name: str) -> str:
    """Why `name` is no complete layout: a run lacks subjects, or subjects met different numbers of folds; else ""."""
    pairs = _tested(cells)
    for seed in cells.index.unique("seed"):
        lacking = sorted(pairs - _tested(cells.xs(seed, level="seed", drop_level=False)), key=str)
        if lacking:
            fold, subject = lacking[0]
            return f"{name}: seed {seed} has no error of fold {fold}, subject {subject}, as other seeds have"
    folds = cells.index.droplevel("seed").unique().to_frame(index=False).groupby("subject")["fold"].count()
    if folds.nunique() > 1:
        few, many = folds.idxmin(), folds.idxmax()
        return f"{name}: subject {few} was tested in {folds[few]} folds, subject {many} in {folds[many]}"
    return ""


def _not_comparable(cells: dict[str, pd.Series]) -> str:
    """Why the cells of two methods, by their names, cannot be set against each other; else ""."""
    tested = {name: _tested(table) for name, table in cells.items()}
    if not all(tested.values()):
        return "no seed in common; pair the same seeds, or compare unpaired"
    for name, table in cells.items():
        if reason := _unbalanced(table, name):
            return reason
    shared = set.intersection(*tested.values())
    for name, pairs in tested.items():
        if pairs - shared:
            fold, subject = min(pairs - shared, key=str)
            return f"only {name} has fold {fold}, subject {subject}; compare on the same subjects and folds"
    return ""


def _not_testable(a: np.ndarray, b: np.ndarray) -> str:
    """Why errors [seeds, subjects] allow a difference and no more; else ""."""
    if a.shape[1] < 2:
        return ONE_SUBJECT
    return ONE_SEED if min(len(a), len(b)) < 2 else ""


def _common_seeds(cells: dict[str, pd.Series]) -> tuple[dict[str, pd.Series], str]:
    """The cells of two methods at the seeds that both have, and a note on what that leaves out."""
    seeds = {name: set(table.index.unique("seed")) for name, table in cells.items()}
    common = set.intersection(*seeds.values())
    kept = {name: table[table.index.get_level_values("seed").isin(list(common))] for name, table in cells.items()}
    alone = {name: sorted(own - common, key=str) for name, own in seeds.items() if own - common}
    listed = "; ".join(f"{', '.join(map(str, found))} of {name}" for name, found in alone.items())
    return kept, f"seeds without a partner left out: {listed}" if alone else ""
