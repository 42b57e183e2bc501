"""Folds over subjects: the published ones, and hypothesis trying to make a subject appear twice."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazepipe.datasets.columbia import COLUMBIA_FOLDS
from gazepipe.datasets.settings import Split
from gazepipe.datasets.splits import make_split, read_split, write_split
from gazepipe.errors import UserError

COLUMBIA = Split(protocol="columbia")
LEAVE_ONE_OUT = Split(protocol="leave-one-out")
ALL_COLUMBIA = [f"{i:04d}" for i in range(1, 57)]

subjects = st.lists(st.text("0123456789p", min_size=1, max_size=4), min_size=3, max_size=16, unique=True)


def k_fold(folds, validation=0.1, seed=0):
    return Split(protocol="k-fold", folds=folds, validation=validation, seed=seed)


def roles(split, fold):
    rows = split[split["fold"] == fold]
    return {role: set(rows.loc[rows["role"] == role, "subject"]) for role in ("train", "validation", "test")}


def test_columbia_folds_are_the_published_ones_and_use_subject_0056():
    assert sorted(number for fold in COLUMBIA_FOLDS for number in fold) == list(range(56))
    split = make_split(ALL_COLUMBIA, COLUMBIA)
    assert roles(split, 0)["test"] == {f"{n + 1:04d}" for n in (7, 11, 53, 18, 17, 29, 30, 33, 22, 46, 32)}
    assert "0056" in roles(split, 2)["test"]
    assert "0001" in roles(split, 4)["test"]
    assert len(roles(split, 4)["test"]) == 12


def test_columbia_folds_are_restricted_to_the_subjects_present_and_keep_their_numbers():
    split = make_split(ALL_COLUMBIA[:6], COLUMBIA)
    assert sorted(split["fold"].unique()) == [1, 2, 3, 4]  # fold 0 tests none of 0001-0006
    assert roles(split, 1)["test"] == {"0002", "0003"}
    assert roles(split, 4)["test"] == {"0001", "0004"}


def test_leave_one_out_tests_each_subject_in_its_own_fold_in_sorted_order():
    split = make_split(["p02", "p00", "p01", "p03"], LEAVE_ONE_OUT)
    assert [min(roles(split, fold)["test"]) for fold in range(4)] == ["p00", "p01", "p02", "p03"]


def test_validation_is_a_share_of_the_training_subjects():
    split = make_split(ALL_COLUMBIA, COLUMBIA.model_copy(update={"validation": 0.2}))
    assert len(roles(split, 0)["validation"]) == 9  # 0.2 * 45
    assert len(roles(split, 4)["validation"]) == 9  # 0.2 * 44, rounded
    assert roles(split, 0) == roles(
        make_split(reversed(ALL_COLUMBIA), COLUMBIA.model_copy(update={"validation": 0.2})), 0
    )
    other = make_split(ALL_COLUMBIA, COLUMBIA.model_copy(update={"validation": 0.2, "seed": 1}))
    assert roles(split, 0)["validation"] != roles(other, 0)["validation"]


@settings(deadline=None, max_examples=30)
@given(subjects, st.integers(2, 12), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_no_fold_shares_or_loses_a_subject(tmp_path_factory, names, folds, validation, seed):
    path = tmp_path_factory.mktemp("split") / "split.csv"
    drawn = {"validation": validation, "seed": seed}
    for protocol in (k_fold(folds, **drawn), LEAVE_ONE_OUT.model_copy(update=drawn)):
        try:
            split = make_split(names, protocol)
        except UserError:
            # Only too few subjects may stop it.
            assert folds > len(names) or len(names) - -(-len(names) // folds) < 2
            continue
        write_split(split, path)
        tested = []
        for fold in sorted(split["fold"].unique()):
            found = read_split(path, int(fold))
            assert found == roles(split, fold)
            assert all(found.values())
            assert found["train"] | found["validation"] | found["test"] == set(names)
            assert sum(map(len, found.values())) == len(names)
            tested += found["test"]
        assert sorted(tested) == sorted(names)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_tampered_table_is_refused_on_write_and_on_read(tmp_path_factory, data):
    """Any single change of a row breaks disjointness, coverage or the set of roles."""
    split = make_split(ALL_COLUMBIA[:12], k_fold(3))
    row = data.draw(st.integers(0, len(split) - 1))
    change = data.draw(st.sampled_from(["drop", "double", "rename", "other fold", "role"]))
    if change == "drop":
        broken = split.drop(index=row)
    elif change == "double":
        twin = split.iloc[[row]].assign(role=data.draw(st.sampled_from(["train", "validation", "test"])))
        broken = pd.concat([split, twin])
    else:
        broken = split.copy()
        column, value = {
            "rename": ("subject", split["subject"][(row + 1) % len(split)]),
            "other fold": ("fold", (split["fold"][row] + 1) % 3),
            "role": ("role", "bystander"),
        }[change]
        broken.loc[row, column] = value
    path = tmp_path_factory.mktemp("split") / "split.csv"
    with pytest.raises(UserError):
        write_split(broken, path)
    assert not path.exists()
    broken.to_csv(path, index=False)
    with pytest.raises(UserError, match=r"split\.csv"):
        read_split(path, 0)


def test_a_subject_tested_in_two_folds_is_refused(tmp_path):
    split = make_split(["a", "b", "c", "d"], LEAVE_ONE_OUT)
    swap = (split["fold"] == 1) & split["subject"].isin(["a", "b"])
    split.loc[swap, "role"] = ["test", "train"]
    with pytest.raises(UserError, match="a is tested in two folds"):
        write_split(split, tmp_path / "split.csv")


@pytest.mark.parametrize(
    ("names", "protocol", "message"),
    [
        (["0001", "0002", "0057"], COLUMBIA, "0057 is in none of the published"),
        (["0001", "0001", "0002"], COLUMBIA, "0001 is listed twice"),
        (["p00", "p01"], LEAVE_ONE_OUT, "at least 2"),
        (["a", "b", "c"], k_fold(4), "4 folds of 3 subjects"),
        (["a", "b", "c"], k_fold(2), "at least 2"),
        ([], LEAVE_ONE_OUT, "no subjects"),
    ],
)
def test_too_few_or_unknown_subjects_are_named(names, protocol, message):
    with pytest.raises(UserError, match=message):
        make_split(names, protocol)


def test_reading_names_a_missing_file_and_a_missing_fold(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv"):
        read_split(tmp_path / "none.csv", 0)
    path = tmp_path / "split.csv"
    write_split(make_split(["a", "b", "c"], LEAVE_ONE_OUT), path)
    with pytest.raises(UserError, match=r"no fold 3; folds with subjects: 0, 1, 2"):
        read_split(path, 3)
    path.write_text("")
    with pytest.raises(UserError, match=r"split\.csv"):
        read_split(path, 0)


def test_names_that_look_like_numbers_stay_text(tmp_path):
    path = tmp_path / "split.csv"
    write_split(make_split(["0001", "0002", "0003"], LEAVE_ONE_OUT), path)
    assert read_split(path, 1)["test"] == {"0002"}
