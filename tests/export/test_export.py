"""Bundles: what is in the files, agreement with torch and with independent computations, same bytes, bad input."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn
from toy_near_eye import write_near_eye, write_near_eye_split
from toy_network import lively_network
from toy_store import HEIGHT, PATCH, WIDTH

import gazepipe
from gazepipe.dag.stages import BUNDLE
from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.evaluation.metrics import mean_error, per_subject_errors, read_tests
from gazepipe.export import stage
from gazepipe.export.onnx import check, largest_difference, open_engine, to_onnx
from gazepipe.export.settings import FineTuning
from gazepipe.live.bundle import load_bundle
from gazepipe.live.runtime import load_network
from gazepipe.models.registry import build
from gazepipe.models.weights import save_weights
from tests.export.conftest import SPEC

MODEL_FILES = ("model.onnx", "model.int8.onnx", "model.xml", "model.bin", "model.int8.xml", "model.int8.bin")


@pytest.fixture(scope="module")
def bundle(settings, run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    stage.export(settings, **run, folder=folder)
    return folder


def table_of(folder: Path) -> dict[tuple[str, str], dict]:
    with open(folder / "deploy.csv", newline="") as file:
        return {(row["runtime"], row["precision"]): row for row in csv.DictReader(file)}


def description_of(folder: Path) -> dict:
    return json.loads((folder / "preprocess.json").read_text())


def test_the_description_lists_every_model_file_with_its_checksum(bundle):
    content = description_of(bundle)
    assert set(content["files"]) == set(MODEL_FILES)
    for name, entry in content["files"].items():
        data = (bundle / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    beside = {"preprocess.json", "card.md", "deploy.csv", "subjects.csv"}
    assert {path.name for path in bundle.iterdir()} == {*MODEL_FILES, *beside} == set(BUNDLE.values())
    assert (content["mean"], content["std"], content["patch"]) == (0.4, 0.3, PATCH)
    assert (content["input"], content["target_scale"]) == ([1, HEIGHT, WIDTH], [1.0, 1.0])


def test_calibration_is_of_training_subjects_only(bundle):
    calibration = description_of(bundle)["calibration"]
    assert calibration["samples"] == 48
    assert set(calibration["subjects"]) <= {"s3", "s4", "s5", "s6", "s7"}


def test_fp32_files_predict_what_torch_does(bundle):
    table = table_of(bundle)
    for runtime in ("onnxruntime", "openvino"):
        assert float(table[runtime, "fp32"]["max_difference"]) < 1e-4
        assert 1e-4 < float(table[runtime, "int8"]["max_difference"]) < 10
        assert table[runtime, "int8"]["recipe"] == "all operators"
    assert list(table) == [
        ("eager", "fp32"),
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
        ("openvino", "fp32"),
        ("openvino", "int8"),
    ]


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx", "model.xml", "model.int8.xml"])
def test_errors_are_those_of_the_files_themselves(run, bundle, name):
    """Recomputed with the runtimes alone: images by hand, all in one batch, angle by the dot product."""
    store = open_store(run["store"])
    rows = np.isin(store.subject, ["s0", "s1"])
    seen = ((store.image[rows].astype(np.float32) / 255 - 0.4) / 0.3).astype(np.float32)
    if name.endswith(".onnx"):
        session = onnxruntime.InferenceSession(bundle / name, providers=["CPUExecutionProvider"])
        assert [entry.name for entry in (*session.get_inputs(), *session.get_outputs())] == ["image", "gaze"]
        gaze = session.run(["gaze"], {"image": seen})[0]
    else:
        model = openvino.Core().compile_model(bundle / name, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        gaze = model(seen)[0]
    (pitch, yaw), (pitch_pred, yaw_pred) = store.target[rows].T.astype(float), gaze.T.astype(float)
    cosine = np.sin(pitch) * np.sin(pitch_pred) + np.cos(pitch) * np.cos(pitch_pred) * np.cos(yaw - yaw_pred)
    errors = np.degrees(np.arccos(cosine))
    expected = np.mean([errors[store.subject[rows] == subject].mean() for subject in ("s0", "s1")])
    runtime = "onnxruntime" if name.endswith(".onnx") else "openvino"
    row = table_of(bundle)[runtime, "int8" if "int8" in name else "fp32"]
    assert float(row["error"]) == pytest.approx(expected, rel=1e-4)
    beside = bundle / name.replace(".xml", ".bin")
    sizes = [path.stat().st_size for path in {bundle / name, beside}]
    assert int(row["bytes"]) == sum(sizes)


def test_the_eager_row_is_the_runs_own_error(settings, run, bundle):
    dataset = settings.about.dataset
    row = table_of(bundle)["eager", "fp32"]
    predictions = read_tests(run["predictions"])[dataset]
    assert float(row["error"]) == pytest.approx(mean_error(predictions), rel=1e-4)
    found = per_subject_errors(predictions)
    interval = stats.t.interval(0.95, len(found) - 1, found.mean(), stats.sem(found))
    assert [float(row["low"]), float(row["high"])] == pytest.approx(interval, rel=1e-3)
    assert float(row["change_percent"]) == 0


def test_the_runtime_takes_the_bundle(run, bundle):
    store = open_store(run["store"])
    network = load_network(load_bundle(bundle), "onnxruntime")
    expected = lively_network(SPEC)((torch.from_numpy(store.image[:3].copy()).float() / 255 - 0.4) / 0.3)
    np.testing.assert_allclose(network(store.image[:3, 0]), expected.detach().numpy(), atol=2e-6)


def test_the_card_says_what_a_reader_must_know(bundle):
    card, table = (bundle / "card.md").read_text(), table_of(bundle)
    for row in table.values():
        assert f"| {float(row['error']):.3f} |" in card
    for text in ("drawn images", "made up, free", "2 test subjects", "gazepipe video", "48 samples", "(kept)"):
        assert text in card
    assert "Intervals are t intervals over subjects, **for this training only**" in " ".join(card.split())


def test_same_arguments_same_bytes(settings, run, bundle, tmp_path):
    stage.export(settings, **run, folder=tmp_path / "again")
    for path in bundle.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_errors_alone_are_those_of_the_bundle(settings, run, bundle, tmp_path):
    stage.export_errors(settings, **run, errors=tmp_path / "errors.csv")
    assert (tmp_path / "errors.csv").read_bytes() == (bundle / "subjects.csv").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["errors.csv"]


def test_no_file_names_a_folder_of_this_machine(run, bundle):
    for path in bundle.iterdir():
        for folder in (run["store"].parent, bundle, Path(gazepipe.__file__).parent, Path(torch.__file__).parent):
            assert str(folder).encode() not in path.read_bytes(), path.name


def test_too_great_a_loss_tries_every_recipe_and_fine_tunes(settings, run, bundle, tmp_path):
    # No file gains so much that its loss is below -1.
    changes = {"tolerance": -1.0, "fine_tuning": FineTuning(epochs=2, learning_rate=1e-3)}
    tuned = tmp_path / "tuned"
    stage.export(settings.model_copy(update=changes), **run, folder=tuned)
    content = description_of(tuned)
    assert [row["epoch"] for row in content["fine_tuning"]] == [1, 2]
    for tried in content["quantisation"].values():
        recipes = [one["recipe"] for one in tried]
        assert len(recipes) == 6
        assert recipes[0] == "all operators"
        assert recipes[-1] == "fine-tuned, layers only, first layer and head in fp32"
        kept = [one for one in tried if one["kept"]]
        assert [one["loss"] for one in kept] == [min(one["loss"] for one in tried)]
    assert "The best that was found loses more." in (tuned / "card.md").read_text()
    # What is in fp32 is the network as it was trained.
    same = ("model.onnx", "model.xml", "model.bin")
    assert all((tuned / name).read_bytes() == (bundle / name).read_bytes() for name in same)


def test_gaze_points_in_pixels(settings, predicted, tmp_path):
    height, width = 131, 147
    spec = {"arch": "itracker4", "width": 0.125, "input": [4, height, width]}
    write_near_eye(tmp_path / "toy.h5", height, width, per_subject=3)
    write_near_eye_split(tmp_path / "toy.csv")
    extra = {"mean": 0.5, "std": 0.25, "patch": {"kind": "near-eye", "height": height, "width": width}}
    extra |= {"units": "px", "target_scale": [1280.0, 1280.0]}
    torch.manual_seed(0)
    save_weights(tmp_path / "model.safetensors", build(spec), spec, extra)
    changed = settings.model_copy(update={"model": spec, "calibration": 8})
    stage.export(changed, **predicted(tmp_path, spec), folder=tmp_path / "bundle")
    content, table = description_of(tmp_path / "bundle"), table_of(tmp_path / "bundle")
    assert (content["units"], content["target_scale"]) == ("px", [1280.0, 1280.0])
    assert {row["units"] for row in table.values()} == {"px"}
    assert all(float(table[runtime, "fp32"]["max_difference"]) < 0.01 for runtime in ("onnxruntime", "openvino"))
    expected = mean_error(read_tests(tmp_path / "predicted.csv")[settings.about.dataset])
    assert float(table["openvino", "fp32"]["error"]) == pytest.approx(expected, rel=1e-4)
    assert "pixels" in (tmp_path / "bundle" / "card.md").read_text()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda frame: frame[:-1], "is not about the test subjects"),
        (lambda frame: frame.assign(yaw_pred=1.5), "from what these weights"),
        (lambda frame: frame[frame.test == "all"], "has the test sets all, not .*; name the run's own predictions"),
    ],
)
def test_predictions_of_another_network_are_refused(settings, run, tmp_path, change, match):
    change(pd.read_csv(run["predictions"])).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(UserError, match=match):
        stage.export(settings, **{**run, "predictions": tmp_path / "other.csv"}, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_was_cut_off_has_no_description(settings, run, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "preprocess.json").write_text("of an earlier export")

    def broken(*_):
        raise RuntimeError("disk gone")

    monkeypatch.setattr(stage, "card", broken)
    with pytest.raises(RuntimeError, match="disk gone"):
        stage.export(settings, **run, folder=tmp_path / "out")
    with pytest.raises(UserError, match=r"preprocess\.json: cannot be read"):
        load_bundle(tmp_path / "out")
    assert not list(tmp_path.rglob(".partial*"))


class Untraceable(nn.Module):
    """Leaves torch in the middle of its forward."""

    input_shape = (1, 8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(x[:, 0]).real[:, :2]


class Branching(nn.Module):
    """Takes another way for bright images than for dark ones."""

    input_shape = (1, 8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(dim=(2, 3)).repeat(1, 2)
        return mean if float(x.mean()) <= 0 else -mean


def test_a_network_without_onnx_operators_is_refused(tmp_path):
    with pytest.raises(UserError, match="Untraceable: cannot be exported to ONNX") as caught:
        to_onnx(Untraceable(), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_a_network_that_branches_in_python_is_found_out(tmp_path):
    engine = open_engine(to_onnx(Branching(), tmp_path / "model.onnx"), 1)
    bright = np.full((1, 1, 8, 8), 0.2, np.float32)
    difference = largest_difference(engine(bright), Branching()(torch.from_numpy(bright)).numpy(), "rad")
    with pytest.raises(UserError, match=r"model\.onnx: differs by up to .* deg from the network"):
        check("model.onnx", difference, "rad")
    check("model.onnx", 1e-5, "rad")


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_size_runs(bundle, batch):
    images = np.random.default_rng(0).standard_normal((batch, 1, HEIGHT, WIDTH)).astype(np.float32)
    whole = open_engine(bundle / "model.xml", 1)(images)
    assert whole.shape == (batch, 2)
    alone = [open_engine(bundle / "model.onnx", 1)(image[None])[0] for image in images]
    np.testing.assert_allclose(whole, alone, atol=1e-5)
