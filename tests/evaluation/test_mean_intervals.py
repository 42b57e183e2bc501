"""Intervals of many groups at once are those of each group."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazepipe.errors import UserError
from gazepipe.evaluation.inference import Interval, mean_interval, mean_intervals

FIELDS = [field.name for field in dataclasses.fields(Interval)]


@st.composite
def tables(draw):
    """Groups of any layout: folds, seeds and subjects, and now and then a row that is not there."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for group in range(draw(st.integers(1, 4))):
        folds, seeds, subjects = (draw(st.integers(1, 4)) for _ in range(3))
        own = draw(st.booleans())  # each subject in one fold, or in all
        cells = [
            (f"g{group}", "x", fold, seed, f"p{subject}", random.normal())
            for fold in range(folds)
            for seed in range(seeds)
            for subject in range(subjects)
            if not own or subject % folds == fold
        ]
        missing = draw(st.integers(0, len(cells) * 3))
        rows += [cell for place, cell in enumerate(cells) if place != missing or len(cells) == 1]
    return pd.DataFrame(rows, columns=["a", "b", "fold", "seed", "subject", "error"]).sample(frac=1, random_state=0)


@settings(deadline=None, max_examples=20)
@given(table=tables())
def test_as_one_by_one(table):
    found = mean_intervals(table, ["a", "b"])
    assert list(found) == ["a", "b", *FIELDS]
    assert found.a.tolist() == list(dict.fromkeys(table.a))
    for row in found.itertuples():
        alone = mean_interval(table[table.a == row.a], name=f"{row.a}, x")
        assert (row.n_subjects, row.n_seeds, row.reason) == (alone.n_subjects, alone.n_seeds, alone.reason)
        numbers = ["mean", "low", "high", "df"]
        np.testing.assert_allclose([getattr(row, n) for n in numbers], [getattr(alone, n) for n in numbers], rtol=1e-9)


def test_without_folds():
    table = pd.DataFrame(
        [(s, f"p{n}", s + n**2.0) for s in (0, 1) for n in range(3)], columns=["seed", "subject", "error"]
    )
    found = mean_intervals(table.assign(a="one"), ["a"]).iloc[0]
    assert found.low == pytest.approx(mean_interval(table).low)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"error": [1.0, np.nan, 2.0, 3.0]},
            "one: the error of fold 0, seed 0, subject p1 is nan; give",
        ),
        ({"subject": ["p0", "p0", "p1", "p2"]}, "one: fold 0, seed 0, subject p0 has several errors"),
        ({"error": ["1", "bad", "2", "3"]}, "one: the error of fold 0, seed 0, subject p1 is bad"),
    ],
)
def test_bad_groups_are_named(change, message):
    table = pd.DataFrame({"a": "one", "seed": 0, "subject": ["p0", "p1", "p2", "p3"], "error": [1.0, 2.0, 3.0, 4.0]})
    with pytest.raises(UserError) as error:
        mean_intervals(table.assign(**change), ["a"])
    assert message in str(error.value)
