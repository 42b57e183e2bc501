from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gazepipe.common.markdown import table
from gazepipe.errors import UserError
from gazepipe.evaluation import inference
from gazepipe.evaluation.comparisons import (
    NO_PERCENT,
    PERCENT,
    THESE_FILES,
    baseline_pairs,
    columns,
    compare,
    comparison_table,
    legend,
    pair,
    role,
    same_runs,
    shared,
    without_control,
)
from gazepipe.evaluation.settings import Statistics

STATISTICS = Statistics(margin=0.5, margin_percent=12)
SUBJECTS = [f"s{n}" for n in range(8)]
NAMES = ("a", "b")


def method(**links: str) -> SimpleNamespace:
    return SimpleNamespace(
        **{"parent": None, "teacher": None, "shape": None, "control": None, "placebo": False, **links}
    )


METHODS = {
    "base": method(),
    "long": method(),
    "kd": method(teacher="base"),
    "kd_prune": method(parent="kd", teacher="base", control="train_on"),
    "train_on": method(parent="kd"),
    "half": method(parent="base"),
    "half_scratch": method(shape="half"),
    "student": method(teacher="wide/base"),
    "other_student": method(teacher="wide/base"),
}
EPOCHS = {"base": 6, "kd": 6, "kd_prune": 10, "train_on": 10}
NETWORKS = [SimpleNamespace(model="net", method=name, total_epochs={"lab": n}) for name, n in EPOCHS.items()]
SETTINGS = SimpleNamespace(methods=METHODS, statistics=STATISTICS, networks=NETWORKS)


def errors_of(seeds: int = 3, chance: float = 0.05, **offsets: float) -> pd.DataFrame:
    """Methods on eight subjects: the offset, 0.1 more for each subject, and chance of this standard deviation."""
    rng = np.random.default_rng(5)
    rows = [
        ("lab", "field", "net", name, 0, seed, subject, offset + 0.1 * n + rng.normal(0, chance))
        for name, offset in offsets.items()
        for n, subject in enumerate(SUBJECTS)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["train", "test", "model", "method", "fold", "seed", "subject", "error"])


def of(errors: pd.DataFrame, name: str) -> pd.DataFrame:
    return errors[errors.method == name]


@pytest.mark.parametrize(
    ("a", "b", "linked"),
    [
        (("net", "kd"), ("net", "base"), True),  # its teacher
        (("net", "base"), ("net", "kd_prune"), True),  # the parent's teacher, either way round
        (("net", "kd"), ("net", "half_scratch"), True),  # both go back to base
        (("net", "long"), ("net", "base"), False),
        (("net", "kd"), ("wide", "base"), False),  # another network's base
        (("net", "student"), ("wide", "base"), True),
        (("net", "student"), ("net", "base"), False),
        (("net", "student"), ("net", "other_student"), True),
        (("net", "gone"), ("net", "base"), False),
    ],
)
def test_which_trainings_are_paired_by_seed(a, b, linked):
    assert shared(METHODS, a, b) is linked


def test_a_pair_is_what_the_inference_says_in_its_own_unit_and_in_percent():
    errors = errors_of(base=5.0, kd=4.6)
    mine, theirs = of(errors, "kd"), of(errors, "base")
    found = inference.compare(mine, theirs, paired_seeds=True, margin=0.5)
    plain = pair(mine, theirs, "deg", STATISTICS, paired_seeds=True, names=NAMES)
    percent = pair(mine, theirs, PERCENT, STATISTICS, paired_seeds=True, names=NAMES)
    assert plain["difference_deg"] == found.difference
    assert (plain["p"], plain["p_equivalence"], plain["d_z"]) == (found.p, found.p_equivalence, found.effect_size)
    for name in ("difference", "low", "high", "detectable"):
        assert percent[f"{name}_percent"] == pytest.approx(100 / theirs.error.mean() * plain[f"{name}_deg"])
    assert percent["p"] == pytest.approx(found.p)
    assert percent["p_equivalence"] < plain["p_equivalence"], "12 % of 5.35 degrees are more than 0.5 degrees"


def test_no_percentage_of_nothing():
    errors = errors_of(base=5.0, kd=4.6)
    found = pair(
        of(errors, "kd"), of(errors, "base").assign(error=0.0), PERCENT, STATISTICS, paired_seeds=True, names=NAMES
    )
    assert np.isnan(found["difference_percent"])
    assert found["reason"] == NO_PERCENT


def test_every_pair_of_a_group_and_holm_over_the_table():
    errors = errors_of(base=5.0, kd=4.9, long=4.8)
    frame = compare(errors, ["train", "test"], [("kd", "base"), ("long", "base"), ("kd", "gone")], "deg", SETTINGS)
    assert list(frame) == ["train", "test", "model", "method", "baseline", "role", *columns("deg")]
    assert list(zip(frame.method, frame.baseline, strict=True)) == [("kd", "base"), ("long", "base")]
    assert list(frame.paired_seeds) == [True, False]
    for name in ("p", "p_equivalence"):
        assert frame[f"{name}_holm"].to_numpy() == pytest.approx(inference.holm(frame[name].to_numpy()))
    assert frame.p_holm.max() == frame.p.max()
    assert frame.p_holm.min() == pytest.approx(2 * frame.p.min())
    expected = [inference.finding(*both) for both in zip(frame.p_holm, frame.p_equivalence_holm, strict=True)]
    assert list(frame.finding) == expected
    assert set(expected) <= {"equivalent", "different, within the margin"}


def test_each_method_meets_its_control_first_and_none_twice():
    chosen = {name: METHODS[name] for name in ("base", "kd", "kd_prune", "train_on", "student")}
    chosen |= {"shuffled": method(placebo=True)}
    assert baseline_pairs(chosen) == [
        ("kd", "base"),  # its teacher, and the first
        ("kd_prune", "train_on"), ("kd_prune", "kd"), ("kd_prune", "base"),
        ("train_on", "kd"), ("train_on", "base"),
        ("student", "base"),  # its teacher is another network
    ]  # fmt: skip
    del chosen["train_on"], chosen["kd"]
    assert baseline_pairs(chosen) == [("kd_prune", "base"), ("student", "base")]
    assert baseline_pairs({"shuffled": method(placebo=True)}) == []


def test_roles():
    found = {other: role(METHODS, "kd_prune", other) for other in ("train_on", "kd", "base", "long")}
    assert found == {"train_on": "control", "kd": "parent", "base": "teacher", "long": "other"}
    assert role(METHODS, "half", "half_scratch") == "twin"


def test_the_control_is_told_and_whether_it_trains_as_long():
    chosen = [("kd_prune", "train_on"), ("kd_prune", "kd")]
    errors = errors_of(kd=5.0, train_on=4.8, kd_prune=4.9)
    frame = compare(errors, ["train", "test"], chosen, "deg", SETTINGS)
    assert list(frame.role) == ["control", "parent"]
    assert list(frame.note) == ["", ""]
    shown, *rest = comparison_table(frame, "deg")
    assert list(shown["Against"]) == ["net + train_on (control)", "net + KD"]
    assert rest == []
    assert "as long without the idea" in legend(frame, "deg", STATISTICS)
    assert "as long without the idea" not in legend(frame[1:], "deg", STATISTICS)

    short = SimpleNamespace(model="net", method="train_on", total_epochs={"lab": 8})
    other = SimpleNamespace(model="wide", method="train_on", total_epochs={"lab": 10})
    networks = [*(each for each in NETWORKS if each.method != "train_on"), short, other]
    unequal = SimpleNamespace(methods=METHODS, statistics=STATISTICS, networks=networks)
    fewer = errors[(errors.method == "kd_prune") | (errors.seed < 2)]
    frame = compare(fewer, ["train", "test"], chosen, "deg", unequal)
    said = "net + KD + Prune is trained for 10 epochs in all, its control for 8: not as long"
    lacking = "seeds without a partner left out: 2 of net + KD + Prune"
    assert list(frame.note) == [f"{lacking}; {said}", lacking]
    assert f"; {said}" in comparison_table(frame, "deg")[1]


def test_controls_that_were_not_run_are_named():
    assert without_control(SETTINGS) == []
    run = [each for each in NETWORKS if each.method != "train_on"]
    assert without_control(SimpleNamespace(methods=METHODS, networks=run)) == [
        "Controls that were not run: net + train_on (of net + KD + Prune)."
    ]


def test_no_pair_is_an_empty_table():
    frame = compare(errors_of(base=4.0), ["train", "test"], [("kd", "base")], "deg", SETTINGS)
    assert frame.empty
    assert "p_holm" in frame


def test_what_is_shown_of_a_comparison():
    frame = compare(
        errors_of(base=5.0, kd=3.5, long=4.99), ["train", "test"], [("kd", "base"), ("long", "base")], "deg", SETTINGS
    )
    (shown,) = comparison_table(frame, "deg")
    head, _, first, second = table(shown).splitlines()
    assert cells(head) == [
        "Trained on", "Tested on", "Model", "Against", "Difference (degrees)", "p (Holm)", "Finding",
        "Detectable (degrees)", "d_z", "Subjects", "Seeds",
    ]  # fmt: skip
    assert cells(first)[:4] == ["lab", "field", "net + KD", "net"]
    assert cells(first)[5:7] == ["<0.001", "different"]
    assert cells(first)[-2:] == ["8", "3 pairs"]
    assert cells(second)[6] == "equivalent"
    assert cells(second)[-1] == "3 and 3"
    said = legend(frame, "deg", STATISTICS)
    assert "±0.5 degrees" in said
    assert "±12 %" in legend(frame, PERCENT, STATISTICS)


def test_footnotes_say_why_nothing_was_tested():
    errors = errors_of(seeds=1, base=5.0, kd=3.5)
    frame = compare(errors, ["test"], [("kd", "base")], "deg", SETTINGS)
    shown, notes = comparison_table(frame, "deg")
    assert cells(table(shown).splitlines()[2])[-4:] == [
        f"{frame.difference_deg[0]:+.2f} ¹",
        "not tested",
        "8",
        "1 pair",
    ]
    assert notes == f"- ¹ {inference.ONE_SEED}"
    assert "footnotes" in legend(frame, "deg", STATISTICS)


def test_seeds_without_a_partner_are_said():
    errors = errors_of(base=5.0, kd=3.5)
    fewer = errors[(errors.method == "base") | (errors.seed < 2)]
    shown, notes = comparison_table(compare(fewer, ["test"], [("kd", "base")], "deg", SETTINGS), "deg")
    assert cells(table(shown).splitlines()[2])[-1] == "2 pairs"
    assert notes == "- ¹ seeds without a partner left out: 2 of net"


def test_the_same_runs_in_two_ways_have_an_interval_with_one_seed_too():
    fp32 = errors_of(seeds=1, chance=2.0, base=9.0)
    change = np.random.default_rng(0).normal(0.2, 0.01, len(fp32))
    found = same_runs(fp32.assign(error=fp32.error + change), fp32, "deg", STATISTICS, names=NAMES)
    half = 2.365 * change.std(ddof=1) / np.sqrt(8)  # t of 7 degrees of freedom
    bounds = [found["difference_deg"], found["low_deg"], found["high_deg"]]
    assert bounds == pytest.approx([change.mean(), change.mean() - half, change.mean() + half], abs=1e-4)
    assert found["reason"] == THESE_FILES
    assert np.isnan(found["p"])
    several = errors_of(seeds=3, chance=2.0, base=9.0)
    change = np.random.default_rng(0).normal(0.2, 0.01, len(several))
    mine = several.assign(error=several.error + change)
    assert same_runs(mine, several, "deg", STATISTICS, names=NAMES)["p"] < 1e-3, "the trainings' own chance cancels"
    apart = pair(mine, several, "deg", STATISTICS, paired_seeds=False, names=NAMES)
    assert apart["p"] > 0.05


def test_several_errors_of_one_subject_are_refused():
    errors = errors_of(base=5.0, kd=3.5)
    with pytest.raises(UserError, match="net: fold 0, seed 0, subject s0 has several errors"):
        compare(pd.concat([errors, of(errors, "base")[:1]]), ["test"], [("kd", "base")], "deg", SETTINGS)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]
