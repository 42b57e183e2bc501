"""Intervals and tests over subjects against scipy, statsmodels and closed forms."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gazepipe.evaluation.statistics import bootstrap_mean, holm, paired_comparison, seed_spread, subject_means

RNG = np.random.default_rng(7)
ERRORS = RNG.gamma(9, 0.5, 15)


def series(values: np.ndarray) -> pd.Series:
    return pd.Series(values, index=[f"p{number:02d}" for number in range(len(values))])


def test_bootstrap_agrees_with_scipy():
    reference = stats.bootstrap(
        (ERRORS,), np.mean, n_resamples=40_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    low, high = bootstrap_mean(ERRORS, resamples=40_000)
    assert low == pytest.approx(reference.low, abs=0.02)
    assert high == pytest.approx(reference.high, abs=0.02)
    assert low < ERRORS.mean() < high


def test_bootstrap_width_is_the_standard_error_of_the_mean():
    """For many subjects: +-1.96 sd / sqrt(n)."""
    values = RNG.normal(5, 2, 400)
    low, high = bootstrap_mean(values)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.05)


def test_bootstrap_is_seeded_and_knows_its_limits():
    assert bootstrap_mean(ERRORS, seed=3) == bootstrap_mean(ERRORS, seed=3) != bootstrap_mean(ERRORS, seed=4)
    narrow, wide = bootstrap_mean(ERRORS, level=0.5), bootstrap_mean(ERRORS, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert np.isnan(bootstrap_mean([4.0])).all()
    assert bootstrap_mean([4.0, 4.0]) == (4.0, 4.0)
    with pytest.raises(ValueError, match="finite"):
        bootstrap_mean([1.0, np.nan])


def test_paired_comparison_agrees_with_scipy():
    a, b = series(ERRORS), series(ERRORS + RNG.normal(0.3, 0.4, 15))
    result = paired_comparison(a, b.sample(frac=1, random_state=0))  # aligned by subject, whatever the order
    assert result["n_subjects"] == 15
    assert result["difference"] == pytest.approx((a - b).mean())
    assert result["p_wilcoxon"] == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert result["p_t"] == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert (result["low"], result["high"]) == bootstrap_mean((a - b).to_numpy())
    mirrored = paired_comparison(b, a)
    assert mirrored["difference"] == pytest.approx(-result["difference"])
    assert mirrored["p_wilcoxon"] == pytest.approx(result["p_wilcoxon"])


def test_pairing_finds_what_the_spread_over_subjects_hides():
    """A small steady gain: clear in the differences, invisible between unpaired intervals."""
    a = series(ERRORS)
    b = a + 0.2 + series(RNG.normal(0, 0.02, 15))
    result = paired_comparison(a, b)
    assert result["high"] < -0.18
    assert result["p_wilcoxon"] < 1e-3
    assert bootstrap_mean(a)[1] > bootstrap_mean(b)[0]


def test_paired_comparison_at_the_edges():
    a = series(ERRORS)
    same = paired_comparison(a, a)
    assert (same["difference"], same["p_wilcoxon"], same["p_t"]) == (0, 1, 1)
    single = paired_comparison(a[:1], a[:1] + 1)
    assert single["difference"] == pytest.approx(-1)
    assert np.isnan([single["p_wilcoxon"], single["p_t"], single["low"]]).all()
    shifted = paired_comparison(series(np.arange(6.0)), series(np.arange(6.0) + 2))
    assert shifted["p_t"] == 0
    assert shifted["p_wilcoxon"] == pytest.approx(2 / 2**6)
    for other in (a[:-1], a.rename({"p00": "p99"}), pd.concat([a, a[:1]])):
        with pytest.raises(ValueError, match="same subjects"):
            paired_comparison(a, other)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_statsmodels(p_values):
    from statsmodels.stats.multitest import multipletests  # slow to import, and needed here alone

    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1], atol=1e-12)


def test_holm_by_hand_and_with_gaps():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.5]), [0.04, np.nan, 0.5])
    assert np.isnan(holm([np.nan])).all()
    assert holm([]).size == 0


def test_subjects_are_averaged_over_seeds_and_folds_first():
    errors = pd.DataFrame(
        {
            "subject": ["a", "a", "a", "b"],
            "seed": [0, 1, 1, 0],
            "fold": [0, 0, 1, 0],
            "error": [1.0, 2.0, 6.0, 9.0],
        }
    )
    means = subject_means(errors)
    assert means.to_dict() == {"a": 3.0, "b": 9.0}
    assert means.mean() == 6.0, "not the mean of the rows, 4.5"


def test_seed_spread():
    frame = pd.DataFrame(
        [(seed, subject, base + seed) for seed in (0, 1, 2) for subject, base in (("a", 3.0), ("b", 9.0))],
        columns=["seed", "subject", "error"],
    )
    assert seed_spread(frame) == pytest.approx(1.0)
    assert np.isnan(seed_spread(frame[frame.seed == 0]))
