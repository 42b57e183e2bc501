"""Ridge regression on pixels: against other ways to compute it, and as a stage on drawn stores."""

import csv

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from toy_points import write_toy_points
from toy_store import SUBJECTS, write_toy_split, write_toy_store

from gazepipe.common.markdown import WITHOUT_NETWORK
from gazepipe.common.units import errors
from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.evaluation import ridge as module
from gazepipe.evaluation.control import predict_control
from gazepipe.evaluation.ridge import MOST_FEATURES, PENALTIES, block_side, features, ridge, ridge_of
from gazepipe.evaluation.settings import CONTROLS, ControlSettings

TRAINED = ["s3", "s4", "s5", "s6", "s7"]


def by_stacked_rows(x: np.ndarray, target: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge regression as ordinary least squares on rows that are added: sqrt(penalty) I with target 0."""
    rows = np.vstack([x, np.sqrt(penalty) * np.eye(x.shape[1])])
    return np.linalg.lstsq(rows, np.vstack([target, np.zeros((x.shape[1], target.shape[1]))]), rcond=None)[0]


def mean_diagonal(x: np.ndarray) -> float:
    """Of the smaller Gram matrix of the centred features: the trace is the same for both."""
    return float(np.square(x - x.mean(axis=0)).sum()) / min(x.shape)


@pytest.mark.parametrize(("count", "pixels"), [(12, 30), (30, 12), (20, 20), (2, 5)])
def test_against_least_squares_on_stacked_rows(count, pixels):
    rng = np.random.default_rng(count)
    x, target = rng.integers(0, 256, (count, pixels)).astype(float), rng.normal(size=(count, 2))
    middle, found = ridge([x[:7], x[7:]] if count > 7 else [x], target)
    np.testing.assert_allclose(middle, x.mean(axis=0))
    scale = mean_diagonal(x)
    for share, weights in zip(PENALTIES, found, strict=True):
        expected = by_stacked_rows(x - x.mean(axis=0), target - target.mean(axis=0), share * scale)
        np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=1e-12)


def rounding(x: np.ndarray, target: np.ndarray, penalty: float) -> float:
    """Bound of what rounding does to the weights [p, 2], as a norm.

    Sums of uncentred products lose eps |x|^2 by rounding, however little images differ; the least eigenvalue of the
    matrix that is solved is `penalty`, and |w| is at most |target| / (2 sqrt(penalty)).
    """
    size = np.linalg.norm(x)
    return 16 * np.finfo(float).eps * np.linalg.norm(target) * size / penalty * (1 + size / np.sqrt(penalty))


NEARLY_ALIKE = np.full((2, 1), 255, np.uint8) - np.eye(2, 12, dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    x=arrays.arrays(np.uint8, st.tuples(st.integers(2, 12), st.integers(1, 12))),
    cuts=st.lists(st.integers(1, 11), max_size=4),
    brighter=st.integers(0, 3),
)
@example(x=NEARLY_ALIKE, cuts=[1], brighter=3)
@example(x=np.full((12, 3), 255, np.uint8) - np.eye(12, 3, dtype=np.uint8), cuts=[5], brighter=1)
@example(x=np.eye(12, 1, dtype=np.uint8), cuts=[5], brighter=3)
def test_parts_and_a_normalisation_of_all_pixels_make_no_difference(x, cuts, brighter):
    x, target = x.astype(float), np.random.default_rng(0).normal(size=(len(x), 2))
    _, whole = ridge([x], target)
    places = sorted({cut for cut in cuts if cut < len(x)})
    _, parted = ridge(np.split(x, places), target)
    _, scaled = ridge([4 * x + brighter], target)
    for share, one, other, brightened in zip(PENALTIES, whole, parted, scaled, strict=True):
        penalty = share * mean_diagonal(x)
        bound = rounding(x + brighter / 4, target, penalty) if penalty else 0
        assert np.linalg.norm(other - one) <= bound
        assert np.linalg.norm(4 * brightened - one) <= bound


def test_images_that_are_all_alike_predict_the_mean():
    target = np.random.default_rng(0).normal(size=(6, 2))
    for pixels in (3, 9):
        _, found = ridge([np.full((6, pixels), 200.0)], target)
        assert all(np.array_equal(weights, np.zeros((pixels, 2))) for weights in found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ridge")
    write_toy_store(folder / "toy.h5")
    write_toy_points(folder / "points.h5", 10)
    write_toy_split(folder / "toy.csv")
    return folder


def rows_of(store, subjects) -> np.ndarray:
    return np.flatnonzero(np.isin(store.subject, subjects))


def predicted(folder, out, name="toy.h5", other=None) -> list[dict[str, str]]:
    """Of its own test subjects, or of another store."""
    settings = ControlSettings(control="ridge", dataset="toy", fold=0, tests=["other" if other else "toy"])
    predict_control(settings, folder / name, folder / "toy.csv", [other or folder / name], out)
    with open(out, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("primal", [False, True])
def test_the_stage_against_a_second_implementation(folder, tmp_path, monkeypatch, primal):
    store = open_store(folder / "toy.h5")
    if primal:  # 200 training images: fewer than pixels, and more than blocks
        monkeypatch.setattr(module, "MOST_FEATURES", 32)
    monkeypatch.setattr(module, "CHUNK", 17)
    rows = predicted(folder, tmp_path / "p.csv")
    height, width = store.image.shape[2:]
    side = 6 if primal else 1
    blocks = store.image.astype(float).reshape(len(store), height // side, side, width // side, side).mean(axis=(2, 4))
    x = blocks.reshape(len(store), -1) / 255 - 0.5
    train, validation, test = (rows_of(store, names) for names in (TRAINED, ["s2"], ["s0", "s1"]))
    middle, level = x[train].mean(axis=0), store.target[train].astype(float).mean(axis=0)
    best, scale = None, mean_diagonal(x[train])
    for share in PENALTIES:
        weights = by_stacked_rows(x[train] - middle, store.target[train] - level, share * scale)
        guess = (x - middle) @ weights + level
        error = errors(guess[validation], store.target[validation], "rad").mean()
        if best is None or error < best[0]:
            best = error, guess
    assert [int(row["sample"]) for row in rows] == test.tolist()
    found = [(float(row["pitch_pred"]), float(row["yaw_pred"])) for row in rows]
    np.testing.assert_allclose(found, best[1][test], atol=2e-6)
    mean = errors(np.broadcast_to(level, (len(test), 2)), store.target[test], "rad").mean()
    assert errors(np.array(found), store.target[test], "rad").mean() < 0.6 * mean


def test_neither_test_nor_validation_subjects_are_learnt_from(folder):
    store = open_store(folder / "toy.h5")
    roles = {"train": set(TRAINED), "validation": {"s2"}, "test": {"s0", "s1"}}
    before = ridge_of(store, roles)(store, np.arange(5))
    others = rows_of(store, ["s0", "s1"])
    changed = type(store)(**{**vars(store), "image": np.array(store.image), "target": np.array(store.target)})
    changed.image[others], changed.target[others] = 0, 0.0
    assert np.array_equal(ridge_of(changed, roles)(store, np.arange(5)), before)
    alike = {**roles, "validation": {"s0"}}  # chooses the penalty, and no more
    assert len(PENALTIES) > 1
    assert ridge_of(store, alike)(store, np.arange(5)).shape == (5, 2)


def test_another_data_set_is_predicted_whole_and_bytes_repeat(folder, tmp_path):
    other = write_toy_store(tmp_path / "other.h5", 5, seed=9)
    rows = predicted(folder, tmp_path / "a.csv", other=other)
    assert [row["subject"] for row in rows] == [name for name in SUBJECTS for _ in range(5)]
    predicted(folder, tmp_path / "b.csv", other=other)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_points_and_several_views(folder, tmp_path):
    rows = predicted(folder, tmp_path / "p.csv", "points.h5")
    x = np.array([[float(row[name]) for name in ("x", "y", "x_pred", "y_pred")] for row in rows])
    found, by_middle = (np.linalg.norm(x[:, :2] - other, axis=1).mean() for other in (x[:, 2:], [320, 240]))
    assert found < 0.6 * by_middle


def test_images_of_another_size_are_refused(folder, tmp_path):
    other = write_toy_store(tmp_path / "other.h5", 4, {"kind": "eyes", "height": 24, "width": 64})
    with pytest.raises(UserError, match=r"other\.h5: holds images of 1x24x64, ridge regression learnt from 1x24x48"):
        predicted(folder, tmp_path / "p.csv", other=other)
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize(
    ("shape", "side"), [((1, 36, 112), 1), ((1, 64, 64), 1), ((1, 65, 64), 2), ((4, 288, 360), 10), ((1, 224, 224), 4)]
)
def test_large_images_become_blocks(shape, side):
    assert block_side(shape) == side
    views, height, width = shape
    assert views * (height // side) * (width // side) <= MOST_FEATURES


def test_features_are_sums_of_whole_blocks(folder):
    store = open_store(folder / "points.h5")
    (found,) = features(store, np.array([3, 1]), 5)
    image = store.image[3].astype(int)
    assert found.shape == (2, 4 * 4 * 6)
    assert found[0, 0] == image[0, :5, :5].sum()
    assert found[0, -1] == image[3, 15:20, 25:30].sum()


def test_every_control_has_a_name_on_the_page():
    assert WITHOUT_NETWORK.keys() == CONTROLS.keys()
