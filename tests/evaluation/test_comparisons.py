import numpy as np
import pandas as pd
import pytest

from gazepipe.evaluation.comparisons import PERCENT, compare, comparison_table, paired
from gazepipe.evaluation.settings import Statistics

STATISTICS = Statistics(resamples=2000, seed=3)
SUBJECTS = [f"s{n}" for n in range(8)]


def errors_of(**offsets: float) -> pd.DataFrame:
    """Methods on eight subjects and two seeds: the offset, and 0.1 more for each subject; seeds cancel."""
    rows = [
        ("lab", "field", "net", method, subject, offset + 0.1 * n + seed)
        for method, offset in offsets.items()
        for n, subject in enumerate(SUBJECTS)
        for seed in (-1, 1)
    ]
    return pd.DataFrame(rows, columns=["train", "test", "model", "method", "subject", "error"])


def test_a_pair_in_its_own_unit_and_in_percent():
    theirs = pd.Series(np.linspace(4, 6, 8), SUBJECTS)
    mine = theirs + np.array([-0.6, -0.4] * 4)
    plain, percent = (paired(mine, theirs, unit, STATISTICS) for unit in ("deg", PERCENT))
    assert plain["difference_deg"] == pytest.approx(-0.5)
    assert -0.6 <= plain["low_deg"] < -0.5 < plain["high_deg"] <= -0.4
    for name in ("difference", "low", "high"):
        assert percent[f"{name}_percent"] == pytest.approx(20 * plain[f"{name}_deg"])  # their mean is 5
    assert percent["p_wilcoxon"] == plain["p_wilcoxon"] == pytest.approx(2 / 2**8)
    assert percent["n_subjects"] == 8


def test_every_pair_of_a_group_and_holm_over_the_table():
    errors = errors_of(base=4.0, kd=3.5, small=4.2)
    frame = compare(errors, ["train", "test"], [("kd", "base"), ("small", "base"), ("kd", "gone")], "deg", STATISTICS)
    assert list(frame) == [
        "train", "test", "model", "method", "baseline", "difference_deg", "low_deg", "high_deg", "p_wilcoxon", "p_holm",
        "n_subjects",
    ]  # fmt: skip
    assert list(zip(frame.method, frame.baseline, strict=True)) == [("kd", "base"), ("small", "base")]
    assert frame.difference_deg.to_numpy() == pytest.approx([-0.5, 0.2])
    assert frame.p_holm.to_numpy() == pytest.approx(2 * frame.p_wilcoxon.to_numpy())


def test_no_pair_is_an_empty_table():
    frame = compare(errors_of(base=4.0), ["train", "test"], [("kd", "base")], "deg", STATISTICS)
    assert frame.empty
    assert "p_holm" in frame


def test_what_is_shown_of_a_comparison():
    pairs = [("kd", "base")]
    errors = errors_of(base=5.0 - 0.35, kd=4.5 - 0.35)  # means over subjects of 5 and 4.5
    degrees = comparison_table(compare(errors, ["train", "test"], pairs, "deg", STATISTICS), "deg").splitlines()
    assert cells(degrees[0]) == [
        "Trained on", "Tested on", "Model", "Against", "Difference (degrees)", "p (Holm)", "Subjects",
    ]  # fmt: skip
    assert cells(degrees[2]) == ["lab", "field", "net + KD", "net", "-0.50 [-0.50, -0.50]", "0.008", "8"]
    percent = comparison_table(compare(errors, ["test"], pairs, PERCENT, STATISTICS), PERCENT).splitlines()
    assert cells(percent[2]) == ["field", "net + KD", "net", "-10.0 [-10.0, -10.0]", "0.008", "8"]


def test_a_single_subject_has_neither_interval_nor_p():
    errors = errors_of(base=4.0, kd=3.5)
    frame = compare(errors[errors.subject == "s0"], ["test"], [("kd", "base")], "deg", STATISTICS)
    assert cells(comparison_table(frame, "deg").splitlines()[2])[-3:] == ["-0.50", "", "1"]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]
