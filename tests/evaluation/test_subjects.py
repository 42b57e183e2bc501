from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gazepipe.evaluation.settings import CONTROLS
from gazepipe.evaluation.subjects import MOST, subject_errors, subject_tables

SUBJECTS = ["p10", "p2", "p1"]
SETTINGS = SimpleNamespace(
    datasets={"lab": SimpleNamespace(unit="subject"), "field": SimpleNamespace(unit="day")},
    methods={name: SimpleNamespace(placebo=name == "shuffled") for name in ("base", "kd", "shuffled")},
)


def errors_of(
    networks: list[tuple[str, str]], seeds: tuple[int, ...] = (0, 1, 2), dataset: str = "lab"
) -> pd.DataFrame:
    """Error 10 * network + subject's number + seed**2 / 2, each subject in a fold of its own; the mean has one seed."""
    rows = [
        (dataset, model, method, SUBJECTS.index(name), seed, name, 10 * number + int(name[1:]) + seed**2 / 2)
        for number, (model, method) in enumerate(networks)
        for name in SUBJECTS
        for seed in ((0,) if model in CONTROLS else seeds)
    ]
    return pd.DataFrame(rows, columns=["dataset", "model", "method", "fold", "seed", "subject", "error"])


def shown(errors: pd.DataFrame) -> list:
    return subject_tables(subject_errors(errors, "deg"), "deg", SETTINGS)


def test_the_list_is_long_and_in_natural_order():
    errors = errors_of([("mean", "none"), ("net", "base")])
    found = subject_errors(errors.sample(frac=1, random_state=1).sort_values("model"), "deg")
    assert list(found) == ["dataset", "model", "method", "subject", "fold", "seed", "error_deg"]
    assert list(found.subject) == ["p1", "p2", "p10"] + [name for name in ("p1", "p2", "p10") for _ in range(3)]
    line = found[(found.model == "net") & (found.subject == "p10") & (found.seed == 2)]
    assert line.error_deg.item() == 10 + 10 + 2
    assert line.fold.item() == 0


def test_means_over_seeds_and_their_spread():
    said, table = shown(errors_of([("mean", "none"), ("net", "base"), ("net", "kd")]))
    assert said == (
        "Trained and tested on lab: error (degrees) of every test subject, mean over seeds ± standard deviation over"
        " seeds:"
    )
    assert list(table) == ["Subject", "*predict the mean*", "net", "net + KD"]
    assert list(table.Subject) == ["p1", "p2", "p10"]
    mean, spread = np.mean([0, 0.5, 2]), np.std([0, 0.5, 2], ddof=1)
    assert list(table["net + KD"]) == [f"{20 + n + mean:.2f} ± {spread:.2f}" for n in (1, 2, 10)]
    assert list(table["*predict the mean*"]) == ["1.00", "2.00", "10.00"]


def test_controls_are_in_italics_and_those_without_a_network_have_one_seed():
    _, table = shown(errors_of([("mean", "none"), ("ridge", "none"), ("net", "base"), ("net", "shuffled")]))
    assert list(table)[1:] == [
        "*predict the mean*", "*ridge regression on pixels*", "net", "*net, labels shuffled*"
    ]  # fmt: skip
    assert list(table["*ridge regression on pixels*"]) == ["11.00", "12.00", "20.00"]


def test_folds_are_averaged_before_seeds():
    errors = errors_of([("net", "base")])
    twice = pd.concat([errors, errors.assign(fold=9, error=errors.error + 4)])
    assert list(shown(twice)[1].net) == [f"{10 * 0 + n + 2 + 2.5 / 3:.2f} ± 1.04" for n in (1, 2, 10)]


def test_one_seed_has_no_spread():
    said, table = shown(errors_of([("net", "base")], seeds=(4,)))
    assert said.endswith(", one seed:")
    assert list(table.net) == ["9.00", "10.00", "18.00"]


def test_many_networks_are_several_tables():
    networks = [("mean", "none"), *((f"net{n}", "base") for n in range(2 * MOST))]
    blocks = shown(errors_of(networks))
    tables = [block for block in blocks if not isinstance(block, str)]
    assert [len(table.columns) - 1 for table in tables] == [MOST, MOST, 1]
    assert [block.endswith(", further networks:") for block in blocks[::2]] == [False, True, True]
    assert [name for table in tables for name in list(table)[1:]] == [
        "*predict the mean*", *(model for model, _ in networks[1:])
    ]  # fmt: skip


def test_data_sets_have_tables_and_words_of_their_own():
    blocks = shown(pd.concat([errors_of([("net", "base")]), errors_of([("net", "base")], dataset="field")]))
    assert [next(iter(block)) for block in blocks if not isinstance(block, str)] == ["Subject", "Day"]
    assert "of every test day" in blocks[2]


@pytest.mark.parametrize(
    ("left_out", "dashes", "reason"),
    [
        ("seed == 1 and subject == 'p2'", [1], "net + KD: seed 1 has no error of it in fold 1, as other seeds have"),
        ("seed == 1", [0, 1, 2], "net + KD: no run of seed 1, as other networks have"),
        ("subject == 'p10'", [2], "net + KD: not tested on it, as others are"),
    ],
)
def test_what_is_missing_is_a_marked_cell(left_out, dashes, reason):
    errors = errors_of([("mean", "none"), ("net", "base"), ("net", "kd")])
    gone = errors.query(f"method == 'kd' and {left_out}").index
    _, whole = shown(errors)
    _, table, notes = shown(errors.drop(gone))
    for place in range(3):
        expected = "— ¹" if place in dashes else whole["net + KD"][place]
        assert table["net + KD"][place] == expected
    assert notes == f"- ¹ {reason}"
    assert table.drop(columns="net + KD").equals(whole.drop(columns="net + KD"))
