import itertools
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from gazepipe.errors import UserError
from gazepipe.evaluation.inference import (
    compare,
    finding,
    half_widths,
    holm,
    mean_interval,
    variances_of_mean,
)

NUMBERS = ("difference", "low", "high", "p", "df", "p_equivalence", "smallest_detectable", "effect_size")


def table(matrix: np.ndarray, fold: int = 0) -> pd.DataFrame:
    """A long table of errors [seeds, subjects]."""
    rows = [
        {"fold": fold, "seed": seed, "subject": f"p{subject:02}", "error": error}
        for (seed, subject), error in np.ndenumerate(matrix)
    ]
    return pd.DataFrame(rows)


def errors(seed: int, n_seeds: int = 4, n_subjects: int = 6, *, seed_sd: float = 0.5, subject_sd: float = 1.0):
    """Errors [seeds, subjects] with effects of both and a rest."""
    rng = np.random.default_rng(seed)
    by_seed, by_subject = rng.normal(0, seed_sd, (n_seeds, 1)), rng.normal(0, subject_sd, (1, n_subjects))
    return 5 + by_seed + by_subject + rng.normal(0, 0.3, (n_seeds, n_subjects))


def balanced_rest(n_seeds: int, n_subjects: int) -> np.ndarray:
    """A rest [seeds, subjects] whose every row and column sums to 0."""
    rest = np.random.default_rng(3).normal(0, 0.3, (n_seeds, n_subjects))
    return rest - rest.mean(axis=0) - rest.mean(axis=1, keepdims=True) + rest.mean()


def mean_squares(matrix: np.ndarray) -> tuple[float, float, float]:
    """Mean squares of seeds, subjects and rest, by statsmodels."""
    fit = smf.ols("error ~ C(seed) + C(subject)", data=table(matrix)).fit()
    squares = anova_lm(fit)
    return tuple(squares["sum_sq"] / squares["df"])


def no_numbers_but(result, *kept: str) -> bool:
    return all(math.isnan(getattr(result, name)) != (name in kept) for name in NUMBERS)


def test_paired_interval_is_that_of_the_two_way_analysis_of_variance():
    a, b = errors(0), errors(1)
    of_seed, of_subject, rest = mean_squares(a - b)
    assert min(of_seed, of_subject) > rest
    variance = (of_seed + of_subject - rest) / 24
    parts = np.array([of_subject, of_seed - rest]) / 24
    df = variance**2 / (parts**2 / [5, 3]).sum()
    halves = [
        stats.t.ppf(0.975, df) * variance**0.5,
        stats.t.ppf(0.975, 5) * (of_subject / 24) ** 0.5,
        stats.t.ppf(0.975, 3) * (of_seed / 24) ** 0.5,
    ]
    result = compare(table(a), table(b), paired_seeds=True)
    assert result.difference == pytest.approx((a - b).mean())
    assert result.high - result.difference == pytest.approx(max(halves))
    assert result.difference - result.low == pytest.approx(max(halves))
    assert result.df == pytest.approx([df, 5, 3][np.argmax(halves)])
    assert (result.n_subjects, result.n_seeds_a, result.n_seeds_b, result.reason) == (6, 4, 4, "")


def test_interval_of_one_method_is_wide_as_the_mixed_model_of_statsmodels_says():
    matrix = errors(5, n_seeds=6, n_subjects=8, seed_sd=1.0)
    data = table(matrix).assign(all=1)
    effects = {"seed": "0 + C(seed)", "subject": "0 + C(subject)"}
    fit = smf.mixedlm("error ~ 1", data, groups="all", re_formula="0", vc_formula=effects).fit(reml=True)
    result = mean_interval(table(matrix))
    half = stats.t.ppf(0.975, result.df) * fit.bse["Intercept"]
    assert result.df not in (5, 7)  # neither source alone
    assert result.mean == pytest.approx(fit.params["Intercept"], rel=1e-6)
    assert result.high - result.mean == pytest.approx(half, rel=1e-3)


def test_without_chance_of_training_it_is_the_paired_t_over_subjects():
    difference = np.array([0.3, -0.1, 0.5, 0.2, 0.9, 0.4]) + balanced_rest(4, 6)
    b = errors(2)
    result = compare(table(b + difference), table(b), paired_seeds=True)
    expected = stats.ttest_1samp(difference.mean(axis=0), 0)
    assert result.p == pytest.approx(expected.pvalue)
    assert (result.low, result.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert result.df == 5
    assert result.effect_size == pytest.approx(expected.statistic / 6**0.5)


def test_without_chance_of_subjects_it_is_the_paired_t_over_seeds():
    difference = np.array([[0.3], [-0.1], [0.5], [0.2]]) + np.zeros((4, 6))
    b = errors(2)
    result = compare(table(b + difference), table(b), paired_seeds=True)
    assert result.p == pytest.approx(stats.ttest_1samp(difference[:, 0], 0).pvalue)
    assert result.df == pytest.approx(3)
    assert math.isnan(result.effect_size)


def test_separate_trainings_without_chance_of_subjects_are_compared_by_the_t_of_welch():
    subjects = np.linspace(4, 8, 7)
    a, b = np.array([[0.1], [0.5], [0.2]]) + subjects, np.array([[1.3], [0.4], [0.9], [1.6]]) + subjects
    result = compare(table(a), table(b), paired_seeds=False)
    expected = stats.ttest_ind(a[:, 0], b[:, 0], equal_var=False)
    assert result.p == pytest.approx(expected.pvalue)
    assert result.df == pytest.approx(expected.df)
    assert (result.low, result.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert (result.n_seeds_a, result.n_seeds_b) == (3, 4)


def test_variances_of_separate_trainings_add_up():
    a, b = errors(0, 3, 9), errors(1, 5, 9)
    (seed_a, _, rest_a), (seed_b, _, rest_b) = mean_squares(a), mean_squares(b)
    assert seed_a > rest_a
    assert seed_b > rest_b
    parts = np.array(
        [(a.mean(axis=0) - b.mean(axis=0)).var(ddof=1) / 9, (seed_a - rest_a) / (3 * 9), (seed_b - rest_b) / (5 * 9)]
    )
    df = parts.sum() ** 2 / (parts**2 / [8, 2, 4]).sum()
    result = compare(table(a), table(b), paired_seeds=False)
    assert result.df == pytest.approx(df)
    assert result.high - result.difference == pytest.approx(stats.t.ppf(0.975, df) * parts.sum() ** 0.5)


def test_equivalence_is_two_one_sided_tests():
    difference = np.array([0.05, -0.1, 0.12, 0.02, 0.09, -0.04]) + balanced_rest(4, 6)
    b = errors(2)
    a = b + difference
    expected = ttost_paired(a.mean(axis=0), b.mean(axis=0), -0.2, 0.2)[0]
    result = compare(table(a), table(b), margin=0.2, paired_seeds=True)
    assert result.p_equivalence == pytest.approx(expected)
    narrow = compare(table(a), table(b), margin=0.01, paired_seeds=True)
    assert narrow.p_equivalence > 0.5
    assert narrow.p == result.p
    assert math.isnan(compare(table(a), table(b), paired_seeds=True).p_equivalence)


def test_smallest_detectable_difference_has_80_percent_power():
    difference = np.array([0.3, -0.1, 0.5, 0.2, 0.9, 0.4]) + balanced_rest(4, 6)
    b = errors(2)
    result = compare(table(b + difference), table(b), paired_seeds=True)
    size = result.smallest_detectable / difference.mean(axis=0).std(ddof=1)
    assert TTestPower().power(size, nobs=6, alpha=0.05) == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize("paired", [True, False])
def test_p_is_below_5_percent_where_the_interval_leaves_out_0(paired):
    found = []
    for seed in range(60):
        shift = np.random.default_rng(seed).uniform(0, 1.5)
        result = compare(table(errors(seed) + shift), table(errors(seed + 100)), paired_seeds=paired)
        found.append(result.p < 0.05)
        assert found[-1] == (result.low > 0 or result.high < 0)
    assert 0 < sum(found) < 60


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50), paired=st.booleans())
def test_errors_shifted_alike_give_the_same_comparison(seed, shift, paired):
    a, b = errors(seed), errors(seed + 1)
    first = compare(table(a), table(b), margin=0.5, paired_seeds=paired)
    second = compare(table(a + shift), table(b + shift), margin=0.5, paired_seeds=paired)
    for name in NUMBERS:
        assert getattr(second, name) == pytest.approx(getattr(first, name), rel=1e-6, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), paired=st.booleans())
def test_exchanged_methods_change_only_the_sign(seed, paired):
    a, b = table(errors(seed)), table(errors(seed + 1))
    one, other = compare(a, b, margin=0.5, paired_seeds=paired), compare(b, a, margin=0.5, paired_seeds=paired)
    assert (other.difference, other.low, other.high) == pytest.approx((-one.difference, -one.high, -one.low))
    assert other.effect_size == pytest.approx(-one.effect_size)
    for name in ("p", "df", "p_equivalence", "smallest_detectable"):
        assert getattr(other, name) == pytest.approx(getattr(one, name))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), paired=st.booleans(), data=st.data())
def test_the_order_of_seeds_subjects_and_rows_does_not_matter(seed, paired, data):
    a, b = errors(seed), errors(seed + 1)
    seeds = data.draw(st.permutations(range(a.shape[0])))
    subjects = data.draw(st.permutations(range(a.shape[1])))
    moved_a, moved_b = a[np.ix_(seeds, subjects)], b[np.ix_(seeds, subjects)]
    one = compare(table(a), table(b), margin=0.5, paired_seeds=paired)
    other = compare(table(moved_a).sample(frac=1, random_state=0), table(moved_b), margin=0.5, paired_seeds=paired)
    for name in NUMBERS:
        assert getattr(other, name) == pytest.approx(getattr(one, name))


def test_equal_seeds_mean_nothing_to_separate_trainings():
    a, b = table(errors(0)), table(errors(1))
    renamed = b.assign(seed=3 - b["seed"])
    one, other = compare(a, b, paired_seeds=False), compare(a, renamed, paired_seeds=False)
    assert other.p == pytest.approx(one.p)
    assert compare(a, renamed, paired_seeds=True).p != pytest.approx(compare(a, b, paired_seeds=True).p)


def test_errors_of_all_folds_are_averaged_within_a_seed():
    folds = [(errors(0), errors(1)), (errors(2), errors(3))]
    a, b = (pd.concat([table(pair[i], fold) for fold, pair in enumerate(folds)]) for i in (0, 1))
    means = [(folds[0][i] + folds[1][i]) / 2 for i in (0, 1)]
    found, expected = compare(a, b, paired_seeds=True), compare(*map(table, means), paired_seeds=True)
    for name in ("difference", "low", "high", "p", "df"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name))


def test_subjects_of_own_folds_stand_side_by_side():
    both = errors(0)
    own = table(both)
    own["fold"] = own["subject"].isin(["p00", "p01", "p02"]).astype(int)
    assert mean_interval(own) == mean_interval(table(both))


def test_one_seed_allows_a_difference_and_no_more():
    a, b = errors(0), errors(1)
    for seeds_a, seeds_b in ((1, 1), (1, 4), (4, 1)):
        result = compare(table(a[:seeds_a]), table(b[:seeds_b]), margin=0.5, paired_seeds=False)
        assert no_numbers_but(result, "difference")
        assert result.difference == pytest.approx(a[:seeds_a].mean() - b[:seeds_b].mean())
        assert result.reason.startswith("one seed")
        assert finding(result.p, result.p_equivalence) == "not tested"


def test_interval_of_one_training_is_the_t_over_its_subjects():
    one = errors(0, n_seeds=1)
    result = mean_interval(table(one))
    expected = stats.ttest_1samp(one[0], 0).confidence_interval()
    assert (result.low, result.high) == pytest.approx(tuple(expected))
    assert result.reason.startswith("one training")


def test_one_subject_allows_no_interval():
    a, b = errors(0, n_subjects=1), errors(1, n_subjects=1)
    result = compare(table(a), table(b), margin=0.5, paired_seeds=True)
    assert no_numbers_but(result, "difference")
    assert result.reason.startswith("one subject")
    interval = mean_interval(table(a))
    assert interval.mean == pytest.approx(a.mean())
    assert math.isnan(interval.low)
    assert interval.reason.startswith("one subject")


def test_a_run_that_lacks_a_subject_gives_no_numbers_and_is_named():
    a, b = table(errors(0)), table(errors(1))
    lacking = a[(a["seed"] != 2) | (a["subject"] != "p03")]
    for result in (compare(lacking, b, paired_seeds=True), compare(b, lacking, paired_seeds=False)):
        assert no_numbers_but(result)
        assert "seed 2 has no error of fold 0, subject p03" in result.reason
    assert "seed 2" in mean_interval(lacking).reason
    assert math.isnan(mean_interval(lacking).mean)


def test_a_seed_of_which_one_fold_is_missing_gives_no_numbers():
    a = pd.concat([table(errors(0), fold=0), table(errors(1)[:3], fold=1)])
    assert "seed 3 has no error of fold 1" in mean_interval(a).reason


def test_subjects_of_unequal_numbers_of_folds_give_no_numbers():
    a = pd.concat([table(errors(0), fold=0), table(errors(1)[:, :3], fold=1)])
    assert mean_interval(a).reason == "errors: subject p03 was tested in 1 folds, subject p00 in 2"


def test_subjects_or_folds_that_differ_give_no_numbers():
    a, b = table(errors(0)), table(errors(1))
    fewer = compare(a, b[b["subject"] != "p05"], paired_seeds=False)
    assert no_numbers_but(fewer)
    assert "only a has fold 0, subject p05" in fewer.reason
    assert (
        "fold 1"
        in compare(a, b.assign(fold=1), paired_seeds=False).reason
        + compare(b.assign(fold=1), a, paired_seeds=False).reason
    )


def test_pairs_are_the_seeds_that_both_have():
    a, b = errors(0), errors(1, n_seeds=6)
    result = compare(table(a), table(b), paired_seeds=True)
    assert result.note == "seeds without a partner left out: 4, 5 of b"
    assert result.n_seeds_b == 4
    assert result.p == compare(table(a), table(b[:4]), paired_seeds=True).p
    apart = compare(table(a), table(b).assign(seed=lambda rows: rows["seed"] + 10), paired_seeds=True)
    assert no_numbers_but(apart)
    assert "no seed in common" in apart.reason


def test_equal_errors_have_no_spread_and_no_p():
    a = errors(0)
    for shift in (0.0, 0.7):
        result = compare(table(a + shift), table(a), margin=0.5, paired_seeds=True)
        assert result.difference == pytest.approx(shift)
        assert no_numbers_but(result, "difference")
        assert result.reason.startswith("no spread")


@pytest.mark.parametrize("value", [np.nan, np.inf, "much", None])
def test_an_error_that_is_no_finite_number_is_refused(value):
    a, b = table(errors(0)).astype({"error": object}), table(errors(1))
    a.loc[8, "error"] = value
    with pytest.raises(UserError, match=r"^a: the error of fold 0, seed 1, subject p02 is .*; give finite numbers$"):
        compare(a, b, paired_seeds=False)
    with pytest.raises(UserError, match=r"^errors: the error of fold 0"):
        mean_interval(a)


def test_two_errors_of_one_run_and_subject_are_refused():
    a, b = table(errors(0)), table(errors(1))
    with pytest.raises(UserError, match=r"^b: fold 0, seed 0, subject p00 has several errors; "):
        compare(a, pd.concat([b, b[:1]]), paired_seeds=True)


def test_tables_without_rows_columns_or_names_are_refused():
    a = table(errors(0))
    with pytest.raises(UserError, match=r"^errors: holds no rows; "):
        mean_interval(a[:0])
    with pytest.raises(UserError, match=r"^errors: no column seed, error; found fold, subject$"):
        mean_interval(a[["fold", "subject"]])
    with pytest.raises(UserError, match=r"^errors: a fold, seed or subject is empty; "):
        mean_interval(a.assign(subject=[None, *a["subject"][1:]]))


def test_messages_and_reasons_name_the_methods():
    a, b = table(errors(0)), table(errors(1))
    with pytest.raises(UserError, match=r"^kd: holds no rows; "):
        compare(a[:0], b, names=("kd", "base"), paired_seeds=True)
    with pytest.raises(UserError, match=r"^names: both methods are kd; "):
        compare(a, b, names=("kd", "kd"), paired_seeds=True)
    result = compare(a, b[b["subject"] != "p05"], names=("kd", "base"), paired_seeds=False)
    assert result.reason.startswith("only kd has fold 0, subject p05")
    assert compare(a, b[b["seed"] > 0], names=("kd", "base"), paired_seeds=True).note.endswith(": 0 of kd")
    assert mean_interval(a.drop(index=3), name="kd").reason.startswith("kd: seed 0 has no error")


@pytest.mark.parametrize("margin", [0, -0.5, np.nan, np.inf])
def test_a_margin_that_is_not_above_0_is_refused(margin):
    a = table(errors(0))
    with pytest.raises(UserError, match=r"^margin: is "):
        compare(a, a, margin=margin, paired_seeds=True)


def test_finding_tells_equivalence_from_nothing_found():
    assert finding(0.01, 0.3) == "different"
    assert finding(0.01, 0.01) == "different, within the margin"
    assert finding(0.4, 0.01) == "equivalent"
    assert finding(0.4, 0.3) == finding(0.05) == "nothing found"
    assert finding(np.nan, 0.01) == "not tested"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_agrees_with_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([np.nan, *p_values])[1:] == pytest.approx(holm(p_values))


def test_holm_refuses_what_is_no_p_value():
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.2, 1.5])


@pytest.mark.parametrize("subject_sd", [0.0, 0.5])
@pytest.mark.parametrize("seed_sd", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("separate", [True, False])
def test_false_positives_stay_at_6_percent(separate, seed_sd, subject_sd):
    """benchmarks/coverage.py measures more layouts."""
    rng = np.random.default_rng(0)
    layouts = [
        rng.normal(0, seed_sd, (4000, 3, 1)) + rng.normal(0, 0.3, (4000, 3, 15)) for _ in range(1 + int(separate))
    ]
    layouts[0] += rng.normal(0, subject_sd, (4000, 1, 15))
    means = sum(layout.mean(axis=(1, 2)) for layout in layouts)
    found = np.abs(means) > half_widths(*variances_of_mean(layouts)).max(axis=-1)
    assert found.mean() <= 0.06


def trainings(shared_data) -> pd.DataFrame:
    runs = pd.read_csv(shared_data / "same_recipe_seeds.csv", dtype={"subject": str})
    return runs.rename(columns={"error_deg": "error"})


@pytest.mark.parametrize(("test", "subjects"), [("own", 16), ("cross", 30)])
def test_equal_recipes_are_not_called_different(shared_data, test, subjects):
    runs = trainings(shared_data)
    base = runs[(runs["recipe"] == "base") & (runs["test"] == test)]
    found = []
    for half in itertools.combinations(range(1, 8), 3):
        first = base["seed"].isin([0, *half])
        found.append(compare(base[first], base[~first], paired_seeds=False))
    assert len(found) == 35
    assert {result.n_subjects for result in found} == {subjects}
    assert sum(result.p < 0.05 for result in found) <= 2
    one = compare(base[base["seed"] == 0], base[base["seed"] == 1], paired_seeds=False)
    assert no_numbers_but(one, "difference")


@pytest.mark.parametrize(
    ("recipe", "test", "difference", "half"),
    [
        ("kd", "own", -0.02, 0.32),
        ("kd", "cross", -0.48, 0.28),
        ("long", "own", -1.03, 0.44),
        ("long", "cross", -0.48, 0.9),
    ],
)
def test_differences_of_recipes_are_those_of_the_reference(shared_data, recipe, test, difference, half):
    runs = trainings(shared_data)
    runs = runs[runs["test"] == test]
    result = compare(runs[runs["recipe"] == recipe], runs[runs["recipe"] == "base"], paired_seeds=True)
    assert result.difference == pytest.approx(difference, abs=0.01)
    assert result.high - result.difference == pytest.approx(half, abs=0.03)
    assert result.n_seeds_a == result.n_seeds_b == 6
