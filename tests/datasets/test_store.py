"""The store gives back what was written, the same bytes for the same samples, and refuses what it cannot trust."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazepipe.datasets.store import open_store, write_store
from gazepipe.errors import UserError

ATTRS = {"dataset": "drawn", "patch": {"kind": "eyes", "height": 5, "width": 7}, "source": "0123"}

name = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
angle = st.floats(-1.5, 1.5, width=32)


def samples(count, seed=0, views=1, size=(5, 7)):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, views, *size), np.uint8),
        "target": rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        "head_pose": rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        "subject": [f"p{i % 3:02d}" for i in range(count)],
        "frame": [f"{i:04d}" for i in range(count)],
    }


def batches(table, size):
    for start in range(0, len(table["image"]), size):
        yield {key: column[start : start + size] for key, column in table.items()}


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "store.h5"
    write_store(path, [samples(6)], ATTRS)
    return path


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_store_gives_back_what_was_written(tmp_path_factory, data):
    count = data.draw(st.integers(1, 9))
    views, height, width = (data.draw(st.integers(1, 6)) for _ in range(3))
    table = samples(count, data.draw(st.integers(0, 99)), views, (height, width))
    table["subject"] = data.draw(st.lists(name, min_size=count, max_size=count))
    table["frame"] = data.draw(st.lists(name, min_size=count, max_size=count))
    for column in ("target", "head_pose"):
        rows = data.draw(st.lists(st.tuples(angle, angle), min_size=count, max_size=count))
        table[column] = np.array(rows, np.float32)
    folder = tmp_path_factory.mktemp("store")
    write_store(folder / "a.h5", batches(table, data.draw(st.integers(1, 9))), ATTRS)
    write_store(folder / "b.h5", [table], ATTRS)
    assert (folder / "a.h5").read_bytes() == (folder / "b.h5").read_bytes()

    store = open_store(folder / "a.h5")
    assert len(store) == count
    for column in ("image", "target", "head_pose"):
        read = getattr(store, column)
        assert read.dtype == table[column].dtype
        assert np.array_equal(read, table[column])
    assert store.subject.tolist() == table["subject"]
    assert store.frame.tolist() == table["frame"]


def test_images_are_mapped_and_not_loaded(stored):
    image = open_store(stored).image
    assert isinstance(image, np.memmap)
    assert not image.flags.writeable
    with h5py.File(stored) as file:
        assert np.array_equal(file["image"][()], image)
        assert file["image"].chunks is None


def test_attributes_have_defaults_and_come_back_typed(stored):
    attrs = open_store(stored).attrs
    assert attrs["patch"] == ATTRS["patch"]
    assert (attrs["mean"], attrs["std"], attrs["units"]) == (0.5, 0.5, "rad")
    assert attrs["dataset"] == "drawn"


def test_one_subject_may_name_a_whole_batch(tmp_path):
    write_store(tmp_path / "s.h5", [{**samples(2), "subject": "p07"}, {**samples(3), "subject": "p1"}], ATTRS)
    assert open_store(tmp_path / "s.h5").subject.tolist() == ["p07", "p07", "p1", "p1", "p1"]


def attribute(key, value):
    def change(file):
        file.attrs[key] = value

    return change


def value(column, row, new):
    def change(file):
        file[column][row] = new

    return change


def replace(column, new):
    def change(file):
        del file[column]
        if new is not None:
            file[column] = new

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (attribute("schema_version", 7), "schema version is 7, this gazepipe reads 2; delete it"),
        (attribute("std", 0.0), "std 0"),
        (attribute("mean", np.nan), "mean nan"),
        (attribute("units", "deg"), "units are 'deg'"),
        (attribute("patch", "{"), "attribute patch"),
        (value("target", (2, 1), np.nan), "target of p02/0002 is nan"),
        (value("target", (3, 0), -9.5), r"target of p00/0003 is -9\.5"),
        (value("head_pose", (0, 0), np.inf), "head_pose of p00/0000 is inf"),
        (value("subject", 1, b""), "row 1 has an empty subject"),
        (replace("frame", None), "no column 'frame'"),
        (replace("target", np.zeros((5, 2), np.float32)), "column 'target' is float32"),
        (replace("image", np.zeros((6, 5, 7), np.uint8)), "column 'image' is uint8"),
        (replace("image", np.zeros((6, 1, 5, 7), np.float32)), "column 'image' is float32"),
    ],
)
def test_a_store_that_cannot_be_trusted_is_refused(stored, change, message):
    with h5py.File(stored, "r+") as file:
        change(file)
    with pytest.raises(UserError, match=message) as caught:
        open_store(stored)
    assert str(stored) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_truncated_store_is_refused(stored, keep):
    content = stored.read_bytes()
    stored.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError, match=r"store\.h5: is (damaged|cut short)"):
        open_store(stored)


def test_a_missing_store_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.h5: is missing; run the prepare stage"):
        open_store(tmp_path / "none.h5")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"image": np.zeros((6, 1, 5, 7))}, "float64"),
        ({"target": np.full((6, 2), np.nan)}, "is nan"),
        ({"target": np.full((6, 2), 30.0)}, "is 30"),
        ({"frame": [""] * 6}, "empty frame"),
    ],
)
def test_nothing_is_left_of_a_store_that_could_not_be_written(tmp_path, table, message):
    with pytest.raises(UserError, match=message):
        write_store(tmp_path / "s.h5", [{**samples(6), **table}], ATTRS)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_and_mixed_sizes_are_refused(tmp_path):
    with pytest.raises(UserError, match="no samples"):
        write_store(tmp_path / "s.h5", [], ATTRS)
    with pytest.raises(UserError, match="of one size"):
        write_store(tmp_path / "s.h5", [samples(2), samples(2, size=(4, 7))], ATTRS)
    assert list(tmp_path.iterdir()) == []
