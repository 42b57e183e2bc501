"""Prediction files: format, agreement with the network, subjects, and the predict-the-mean row."""

import csv
import math
from itertools import groupby

import numpy as np
import pytest
import torch
from toy_points import PATCH as POINT_PATCH
from toy_points import write_toy_points
from toy_store import HEIGHT, PATCH, WIDTH, write_toy_split, write_toy_store

from gazepipe.datasets.store import open_store, write_store
from gazepipe.errors import UserError
from gazepipe.evaluation import predict as predict_module
from gazepipe.evaluation.control import predict_control
from gazepipe.evaluation.mean import mean_gaze
from gazepipe.evaluation.metrics import read_predictions, read_tests
from gazepipe.evaluation.predict import predict
from gazepipe.evaluation.predictions import COLUMNS
from gazepipe.evaluation.settings import ControlSettings, PredictSettings
from gazepipe.geometry import angles_to_vector, angular_error_deg
from gazepipe.models.registry import build
from gazepipe.models.weights import save_weights

SPEC = {"arch": "resnet18", "width": 0.125, "input": [1, HEIGHT, WIDTH]}
SETTINGS = PredictSettings(model=SPEC, dataset="toy", fold=0, tests=["toy"], device="cpu", threads=1)
EVERYBODY = SETTINGS.model_copy(update={"tests": ["other"]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store, a split, and an untrained network whose predictions differ from sample to sample."""
    folder = tmp_path_factory.mktemp("predict")
    write_toy_store(folder / "toy.h5")
    write_toy_split(folder / "toy.csv")
    torch.manual_seed(0)
    model = build(SPEC)
    model.train()(torch.randn(64, 1, HEIGHT, WIDTH))  # leave the statistics of a fresh network behind
    torch.nn.init.normal_(model.head[-1].weight, std=0.1)
    save_weights(folder / "model.safetensors", model, SPEC, {"mean": 0.4, "std": 0.3, "patch": PATCH})
    return folder


def control(*tests: str) -> ControlSettings:
    return ControlSettings(control="mean", dataset="toy", fold=0, tests=list(tests))


def run(folder, out, settings=SETTINGS):
    predict(settings, folder / "model.safetensors", [folder / "toy.h5"], folder / "toy.csv", out)
    with open(out, newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_the_test_subjects_in_the_order_of_the_store(folder, tmp_path):
    rows = run(folder, tmp_path / "p.csv")
    store = open_store(folder / "toy.h5")
    assert tuple(rows[0]) == COLUMNS["rad"]
    assert [int(row["sample"]) for row in rows] == np.flatnonzero(np.isin(store.subject, ["s0", "s1"])).tolist()
    for row in rows:
        sample = int(row["sample"])
        assert (row["subject"], row["frame"]) == (store.subject[sample], store.frame[sample])
        assert [row["pitch"], row["yaw"]] == [f"{value:.6f}" for value in store.target[sample]]


def test_predictions_are_the_networks_with_the_runs_own_normalisation(folder, tmp_path):
    from gazepipe.models.weights import load_weights

    rows = run(folder, tmp_path / "p.csv")
    model, _ = load_weights(folder / "model.safetensors")
    image = open_store(folder / "toy.h5").image
    with torch.no_grad():
        for row in rows[::17]:
            seen = (torch.from_numpy(image[int(row["sample"])][None].copy()).float() / 255 - 0.4) / 0.3
            expected = model.eval()(seen)[0].numpy()
            np.testing.assert_allclose([float(row["pitch_pred"]), float(row["yaw_pred"])], expected, atol=2e-6)
    assert len({row["yaw_pred"] for row in rows}) > 40


def test_the_head_pose_is_that_of_the_store_and_empty_where_it_is_not_known(folder, tmp_path):
    source = open_store(folder / "toy.h5")
    pose = np.zeros((len(source), 2), np.float32)
    pose[::2] = np.random.default_rng(0).uniform(-0.5, 0.5, (len(source) // 2, 2))
    batch = {"image": source.image, "target": source.target, "head_pose": pose}
    names = {"subject": source.subject.tolist(), "frame": source.frame.tolist()}
    write_store(tmp_path / "posed.h5", [{**batch, **names}], source.attrs)
    predict(SETTINGS, folder / "model.safetensors", [tmp_path / "posed.h5"], folder / "toy.csv", tmp_path / "p.csv")
    rows = list(csv.DictReader((tmp_path / "p.csv").open(newline="")))
    for row in rows:
        sample = int(row["sample"])
        known = [f"{value:.6f}" for value in pose[sample]]
        assert [row["head_pitch"], row["head_yaw"]] == (known if sample % 2 == 0 else ["", ""])
    read = read_predictions(tmp_path / "p.csv")
    assert read["head_yaw"].isna().tolist() == [int(sample) % 2 == 1 for sample in read["sample"]]
    assert read["head_pitch"].dropna().to_numpy() == pytest.approx(pose[read["sample"].astype(int)[::2], 0], abs=1e-6)


def test_the_batch_size_does_not_matter(folder, tmp_path, monkeypatch):
    second = run(folder, tmp_path / "b.csv")
    monkeypatch.setattr(predict_module, "BATCH", 7)
    first = run(folder, tmp_path / "a.csv")
    for a, b in zip(first, second, strict=True):
        assert a["sample"] == b["sample"]
        assert float(a["yaw_pred"]) == pytest.approx(float(b["yaw_pred"]), abs=2e-6)


def test_test_sets_follow_each_other_as_named_and_each_is_as_if_alone(folder, tmp_path):
    """Own subjects are not those of another set, and no batch holds samples of two sets."""
    write_toy_store(tmp_path / "far.h5", per_subject=9)
    settings = SETTINGS.model_copy(update={"tests": ["far", "toy", "near"]})
    stores = {"far": tmp_path / "far.h5", "toy": folder / "toy.h5", "near": tmp_path / "far.h5"}
    rest = folder / "toy.csv", tmp_path / "p.csv"
    predict(settings, folder / "model.safetensors", [*stores.values()], *rest)
    head, *lines = (tmp_path / "p.csv").read_text().splitlines()
    assert [name for name, _ in groupby(lines, lambda line: line.partition(",")[0])] == ["far", "toy", "near"]
    together = []
    for test, store in stores.items():
        alone = settings.model_copy(update={"tests": [test]})
        predict(alone, folder / "model.safetensors", [store], *rest)
        again, *own = (tmp_path / "p.csv").read_text().splitlines()
        assert again == head
        assert len(own) == (80 if test == "toy" else 72)
        together += own
    assert lines == together


def test_controls_predict_every_test_set(folder, tmp_path):
    other = write_toy_store(tmp_path / "far.h5", per_subject=9)
    files = folder / "toy.h5", folder / "toy.csv", [folder / "toy.h5", other], tmp_path / "p.csv"
    predict_control(control("toy", "far"), *files)
    tests = read_tests(tmp_path / "p.csv")
    assert {test: len(rows) for test, rows in tests.items()} == {"toy": 80, "far": 72}
    assert len({tuple(row) for rows in tests.values() for row in rows[["pitch_pred", "yaw_pred"]].to_numpy()}) == 1


def test_names_and_stores_that_do_not_match_are_refused(folder, tmp_path):
    settings = SETTINGS.model_copy(update={"tests": ["toy", "far"]})
    with pytest.raises(UserError, match=r"^tests: 2 names for 1 stores; name the data set of each store$"):
        run(folder, tmp_path / "p.csv", settings)


def test_same_arguments_same_bytes(folder, tmp_path):
    run(folder, tmp_path / "a.csv")
    run(folder, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_of_another_data_set_every_subject_is_predicted(folder, tmp_path):
    rows = run(folder, tmp_path / "p.csv", EVERYBODY)
    assert [int(row["sample"]) for row in rows] == list(range(320))


@pytest.mark.parametrize(
    ("patch", "match"),
    [
        ({"kind": "eyes", "height": 24, "width": 64}, r"holds images of 1x24x64, the network takes 1x24x48"),
        ({"kind": "face", "height": HEIGHT, "width": WIDTH}, r"shows the patch .*face.*, the network was trained on"),
    ],
)
def test_a_store_of_another_patch_is_refused(folder, tmp_path, patch, match):
    other = write_toy_store(tmp_path / "other.h5", 4, patch)
    with pytest.raises(UserError, match=r"other\.h5: " + match):
        predict(EVERYBODY, folder / "model.safetensors", [other], folder / "toy.csv", tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


def test_an_interrupted_prediction_leaves_nothing(folder, tmp_path, monkeypatch):
    from gazepipe.evaluation import predict as module

    monkeypatch.setattr(module, "BATCH", 30)
    normalised, seen = module.normalised, []

    def broken(*given):
        seen.append(given)
        if len(seen) == 3:
            raise RuntimeError("disk gone")
        return normalised(*given)

    monkeypatch.setattr(module, "normalised", broken)
    with pytest.raises(RuntimeError, match="disk gone"):
        run(folder, tmp_path / "p.csv")
    assert list(tmp_path.iterdir()) == []


def test_mean_gaze_counts_subjects_the_same(folder):
    store = open_store(folder / "toy.h5")
    vectors = angles_to_vector(store.target)
    mean = (vectors[store.subject == "s3"].mean(axis=0) + vectors[store.subject == "s4"].mean(axis=0)) / 2
    pitch, yaw = mean_gaze(store, {"s3", "s4"})
    length = np.linalg.norm(mean)
    assert math.sin(pitch) == pytest.approx(-mean[1] / length)
    assert math.tan(yaw) == pytest.approx(mean[0] / mean[2])


@pytest.mark.parametrize(("test", "count"), [("toy", 80), ("other", 320)])
def test_predict_mean(folder, tmp_path, test, count):
    out = tmp_path / "mean.csv"
    predict_control(control(test), folder / "toy.h5", folder / "toy.csv", [folder / "toy.h5"], out)
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count
    store = open_store(folder / "toy.h5")
    expected = mean_gaze(store, {"s3", "s4", "s5", "s6", "s7"})  # neither the test nor the validation subjects
    assert {(row["pitch_pred"], row["yaw_pred"]) for row in rows} == {tuple(f"{value:.6f}" for value in expected)}
    target = np.array([[float(row["pitch"]), float(row["yaw"])] for row in rows])
    assert angular_error_deg(angles_to_vector(target), angles_to_vector(expected)).mean() > 8


# ---- gaze points

POINT_SPEC = {"arch": "resnet18", "width": 0.125, "input": [4, 24, 32]}
POINTS = SETTINGS.model_copy(update={"model": POINT_SPEC})


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    folder = tmp_path_factory.mktemp("points")
    write_toy_points(folder / "toy.h5", 10)
    write_toy_split(folder / "toy.csv")
    torch.manual_seed(0)
    extra = {"mean": 0.4, "std": 0.3, "patch": POINT_PATCH, "units": "px", "target_scale": [640.0, 480.0]}
    save_weights(folder / "model.safetensors", build(POINT_SPEC), POINT_SPEC, extra)
    return folder


def test_points_are_written_in_pixels(points, tmp_path):
    from gazepipe.models.weights import load_weights

    rows = run(points, tmp_path / "p.csv", POINTS)
    store = open_store(points / "toy.h5")
    assert tuple(rows[0]) == COLUMNS["px"]
    model, _ = load_weights(points / "model.safetensors")
    for row in rows[::7]:
        sample = int(row["sample"])
        assert [row["x"], row["y"]] == [f"{value:.3f}" for value in store.target[sample]]
        with torch.no_grad():
            seen = (torch.from_numpy(store.image[sample][None].copy()).float() / 255 - 0.4) / 0.3
            expected = model.eval()(seen)[0].numpy() * [640, 480]
        np.testing.assert_allclose([float(row["x_pred"]), float(row["y_pred"])], expected, atol=2e-3)


def test_weights_of_angles_are_refused_for_points(points, tmp_path):
    angles = tmp_path / "angles.safetensors"
    save_weights(angles, build(POINT_SPEC), POINT_SPEC, {"mean": 0.5, "std": 0.5, "patch": POINT_PATCH})
    with pytest.raises(UserError, match=r"angles\.safetensors: predicts rad, the data set is in px"):
        predict(POINTS, angles, [points / "toy.h5"], points / "toy.csv", tmp_path / "p.csv")


def test_the_network_may_have_other_options_than_the_settings_but_no_other_width(points, tmp_path):
    other = POINTS.model_copy(update={"model": {**POINT_SPEC, "options": {}}})
    assert run(points, tmp_path / "p.csv", other) == run(points, tmp_path / "q.csv", POINTS)
    with pytest.raises(UserError, match="holds the model resnet18 of width"):
        run(points, tmp_path / "r.csv", POINTS.model_copy(update={"model": {**POINT_SPEC, "width": 0.25}}))


def test_the_mean_point_counts_subjects_the_same(points, tmp_path):
    store = open_store(points / "toy.h5")
    means = [store.target[store.subject == name].astype(float).mean(axis=0) for name in ("s3", "s4")]
    np.testing.assert_allclose(mean_gaze(store, {"s3", "s4"}), np.mean(means, axis=0))
    out = tmp_path / "mean.csv"
    predict_control(control("toy"), points / "toy.h5", points / "toy.csv", [points / "toy.h5"], out)
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    expected = mean_gaze(store, {"s3", "s4", "s5", "s6", "s7"})
    assert {(row["x_pred"], row["y_pred"]) for row in rows} == {tuple(f"{value:.3f}" for value in expected)}


def test_a_mean_of_another_unit_is_refused(points, folder, tmp_path):
    with pytest.raises(UserError, match=r"toy\.h5: is in px, .*toy\.h5 in rad; compare data sets of one task"):
        predict_control(
            control("toy", "points"),
            folder / "toy.h5",
            folder / "toy.csv",
            [folder / "toy.h5", points / "toy.h5"],
            tmp_path / "m.csv",
        )
