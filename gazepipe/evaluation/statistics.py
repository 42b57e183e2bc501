"""Intervals and tests over subjects: the subject, not the image, is the unit of replication."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

RESAMPLES = 10_000
LEVEL = 0.95


def subject_means(errors: pd.DataFrame) -> pd.Series:
    """Error per subject: the mean over seeds and folds within each subject.

    `errors` has one row per subject and run with the columns subject and error (degrees or pixels).
    """
    return errors.groupby("subject")["error"].mean()


def seed_spread(errors: pd.DataFrame) -> float:
    """Standard deviation over seeds of the error, each seed's being the mean over its subjects.

    `errors` as in `subject_means` with a column seed. NaN for a single seed.
    """
    per_seed = errors.groupby(["seed", "subject"])["error"].mean().groupby("seed").mean()
    return float(per_seed.std(ddof=1))


def bootstrap_mean(
    values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over subjects (Efron 1979): (low, high).

    `values` holds one number per subject. NaN with fewer than two subjects, which say nothing of the spread.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("bootstrap of values that are not finite")
    if len(values) < 2:
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(0, len(values), size=(resamples, len(values)))
    means = values[picks].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_comparison(
    a: pd.Series, b: pd.Series, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> dict:
    """Compare two methods on the same subjects; `a` and `b` hold errors, indexed by subject.

    Returns n_subjects, difference (mean of a - b; negative where a is better), low and high (its bootstrap
    interval over subjects), p_wilcoxon (signed-rank, two-sided) and p_t (paired t). p is 1 where no subject
    differs and NaN with fewer than two subjects. Raises ValueError if the subjects differ.
    """
    if not a.index.is_unique or set(a.index) != set(b.index) or len(a) != len(b):
        raise ValueError("a paired comparison needs one error per subject for the same subjects")
    differences = (a - b.reindex(a.index)).to_numpy(np.float64)
    low, high = bootstrap_mean(differences, seed=seed, resamples=resamples, level=level)
    p_wilcoxon, p_t = _paired_p_values(differences)
    return {
        "n_subjects": len(differences),
        "difference": float(differences.mean()),
        "low": low,
        "high": high,
        "p_wilcoxon": p_wilcoxon,
        "p_t": p_t,
    }


def _paired_p_values(differences: np.ndarray) -> tuple[float, float]:
    if len(differences) < 2:
        return float("nan"), float("nan")
    if not differences.any():
        return 1.0, 1.0
    p_wilcoxon = float(stats.wilcoxon(differences).pvalue)
    if np.ptp(differences) == 0:
        return p_wilcoxon, 0.0
    return p_wilcoxon, float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for their number (Holm 1979), in the given order; NaN stays NaN, uncounted."""
    p_values = np.asarray(p_values, np.float64)
    adjusted = np.full(p_values.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return adjusted
