import re
from itertools import product

import numpy as np
import pandas as pd
import pytest

from gazepipe.evaluation import inference
from gazepipe.evaluation.sentences import AS_LONG, MOST, NOTHING_FOUND, NOTHING_TESTED, named, sentences
from gazepipe.evaluation.settings import Statistics

STATISTICS = Statistics(margin=0.5, margin_percent=12)
DIFFERENT = {"difference": -0.48, "low": -0.76, "high": -0.2, "p_holm": 0.004, "finding": "different"}
WORSE = {"difference": 0.3, "low": 0.1, "high": 0.5, "p_holm": 0.0004, "finding": "different, within the margin"}
EQUAL = {"difference": -0.02, "low": -0.1, "high": 0.06, "p_holm": 1.0, "finding": "equivalent"}
NOTHING = {"difference": 0.1, "low": -0.6, "high": 0.8, "p_holm": 1.0, "finding": "nothing found", "detectable": 0.97}
UNTESTED = {"difference": 0.1, "finding": "not tested", "reason": inference.ONE_SEED}


def comparison(found: dict, unit: str = "deg", **names: str) -> dict:
    numbers = {"difference": np.nan, "low": np.nan, "high": np.nan, "detectable": np.nan, **found}
    numbers = {f"{name}_{unit}" if name in ("difference", "low", "high", "detectable") else name: value
               for name, value in numbers.items()}  # fmt: skip
    where = {"train": "lab", "test": "lab", "model": "net", "method": "kd", "baseline": "base"}
    return {"p_holm": np.nan, "reason": "", "note": "", **where, **numbers, **names}


def said(*rows: dict, unit: str = "deg") -> list:
    return sentences(named(pd.DataFrame(rows)), unit, STATISTICS)


def test_a_difference_with_a_control():
    heading, text = said(comparison(DIFFERENT, test="field", role="control"))
    assert heading == "Different (p after Holm over 1 comparison):"
    assert text == (
        "- On lab, tested on field: KD lowers the error of net by 0.48 degrees [0.20, 0.76] (p = 0.004) against the"
        " same training without it (net)."
    )


def test_a_rise_within_the_margin():
    _, text = said(comparison(WORSE, method="kd_prune", baseline="kd", role="parent"))
    assert text == (
        "- On lab: KD + Prune raises the error of net by 0.30 degrees [0.10, 0.50] (p < 0.001) against net + KD, less"
        " than the margin of 0.5 degrees."
    )


def test_places_of_one_pair_are_one_sentence_and_signs_are_not_mixed():
    rows = [
        comparison(DIFFERENT),
        comparison({**DIFFERENT, "p_holm": 0.03}, test="field"),
        comparison(WORSE, train="x"),
    ]
    _, text = said(*rows)
    assert text.splitlines() == [
        "- KD lowers the error of net against net: by 0.48 degrees [0.20, 0.76] (p = 0.004) on lab; by 0.48 degrees"
        " [0.20, 0.76] (p = 0.030) on lab, tested on field.",
        "- On x, tested on lab: KD raises the error of net by 0.30 degrees [0.10, 0.50] (p < 0.001) against net, less"
        " than the margin of 0.5 degrees.",
    ]


def test_the_control_comes_first():
    rows = [
        comparison(DIFFERENT, role="other"),
        comparison(DIFFERENT, method="kd_prune", baseline="kd", role="control"),
    ]
    first, second = said(*rows)[1].splitlines()
    assert first.endswith("against the same training without it (net + KD).")
    assert second.endswith("against net.")


def test_what_was_not_found_is_told_of_controls_and_counted_of_others():
    rows = [
        comparison(NOTHING, role="control"),
        comparison(NOTHING, method="kd_prune", baseline="kd", role="parent"),
        comparison(NOTHING, method="kd_prune", role="other"),
    ]
    first, others = said(*rows)[1].splitlines()
    assert first == (
        "- KD of net against the same training without it (net): +0.10 degrees [-0.60, +0.80] (0.97 degrees) on lab."
    )
    assert others == "- Nor in 2 comparisons with networks that are no control; the table has them."


def test_a_note_that_holds_for_all_places_is_said_once():
    rows = [comparison(NOTHING, role="control", note="not as long", test=test) for test in ("lab", "field")]
    _, text = said(*rows)
    assert text.startswith("- KD of net against its control (net) (not as long): +0.10")
    assert text.count("not as long") == 1


def test_a_control_that_was_not_trained_as_long_is_not_called_the_same_training():
    note = "net + KD is trained for 6 epochs in all, its control for 4: not as long"
    _, text = said(comparison(DIFFERENT, role="control", note=note))
    assert text.endswith(f"(p = 0.004) ({note}) against its control (net).")
    assert AS_LONG not in text


def test_equivalent_nothing_found_and_not_tested_are_told_apart():
    other = {"reason": inference.ONE_SUBJECT, "finding": "not tested"}
    rows = [comparison(EQUAL), comparison(NOTHING, test="field"), comparison(UNTESTED), comparison(other)]
    assert said(*rows) == [
        "Equivalent, shown to lie within ±0.5 degrees:",
        "- KD of net against net: -0.02 degrees [-0.10, +0.06] on lab.",
        NOTHING_FOUND,
        "- KD of net against net: +0.10 degrees [-0.60, +0.80] (0.97 degrees) on lab, tested on field.",
        "Not tested:",
        f"- 1 comparison: {inference.ONE_SEED}.\n- 1 comparison: {inference.ONE_SUBJECT}.",
    ]


def test_with_one_seed_nothing_was_tested_and_why():
    assert said(comparison(UNTESTED), comparison(UNTESTED, test="field")) == [
        NOTHING_TESTED,
        f"- 2 comparisons: {inference.ONE_SEED}.",
    ]


def test_percent_of_pruned_networks():
    row = comparison(DIFFERENT, unit="percent", dataset="lab", method="half", against="base", role="full")
    del row["train"], row["test"], row["baseline"]
    _, text = said(row, unit="percent")
    assert text == (
        "- On lab: half lowers the error of net by 0.5 % [0.2, 0.8] (p = 0.004) against the full network (net)."
    )


def test_networks_of_their_own_names():
    names = {"who": "b", "of": "", "place": "", "against": "a", "over": "a", "role": ""}
    frame = pd.DataFrame([{**comparison(DIFFERENT), **names}])
    assert sentences(frame, "deg", STATISTICS)[1] == (
        "- b has a lower error than a by 0.48 degrees [0.20, 0.76] (p = 0.004)."
    )
    frame = pd.DataFrame([{**comparison(NOTHING), **names}])
    assert sentences(frame, "deg", STATISTICS)[1] == "- b against a: +0.10 degrees [-0.60, +0.80] (0.97 degrees)."


@pytest.mark.parametrize("found", [DIFFERENT, EQUAL, NOTHING])
def test_dozens_are_grouped_over_models(found):
    rows = [
        comparison({**found, "difference": found["difference"] * (1 + n)}, model=f"net{n}", test=test, role="control")
        for n, test in product([0, *range(2, MOST + 1)], ("lab", "field"))
    ]
    few, many = said(*rows[:4])[1], said(*rows)[1]
    assert len(few.splitlines()) == 2
    assert len(many.splitlines()) == MOST
    rows += [comparison(found, model="net1", test=test, role="control") for test in ("lab", "field")]
    (line,) = said(*rows)[1].splitlines()
    assert "in 26 comparisons" in line
    assert "the same training without it" in line
    assert "of net12 on lab and on lab, tested on field" in line
    sizes = [abs(row["difference_deg"]) for row in rows]
    assert f"{min(sizes):.2f}" in line
    assert f"{max(sizes):.2f}" in line


def test_every_number_is_in_the_table():
    rows = [comparison(DIFFERENT), comparison(WORSE, test="field"), comparison(EQUAL, model="b"), comparison(NOTHING)]
    numbers = {float(text) for block in said(*rows) for text in re.findall(r"\d+\.\d+", block)}
    known = {abs(value) for row in rows for value in row.values() if isinstance(value, float) and not np.isnan(value)}
    assert numbers - {0.001, STATISTICS.margin} <= known
