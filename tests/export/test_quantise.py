"""int8: calibration, ranges and weights against closed forms, which layers stay in fp32, fine-tuning, the tolerance."""

from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import numpy_helper
from openvino import opset13
from torch import nn
from toy_network import lively_network

from gazepipe.datasets.store import open_store
from gazepipe.export.fine_tuning import FakeQuantised, RoundedWeights, fine_tune, layer_ranges
from gazepipe.export.int8 import calibration_samples, quantise_within
from gazepipe.export.onnx import open_engine, predict, save_ir, to_onnx, torch_engine
from gazepipe.export.quantise import (
    ENDS_KEPT,
    EVERYTHING,
    HEAD_KEPT,
    LAYERS_ONLY,
    end_layers,
    ir_graph,
    onnx_graph,
    quantise_onnx,
    quantise_openvino,
    widen_scalars,
)
from gazepipe.export.settings import FineTuning
from gazepipe.export.trained import Trained, open_trained
from gazepipe.training.state import State
from tests.export.conftest import SPEC


@pytest.fixture(scope="module")
def trained(settings, run) -> Trained:
    return open_trained(settings, run["weights"], run["store"], run["split"])


@pytest.fixture(scope="module")
def calibration(trained):
    return calibration_samples(trained.samples["train"], 32, seed=0)


@pytest.fixture(scope="module")
def model(trained, tmp_path_factory) -> Path:
    return to_onnx(trained.model, tmp_path_factory.mktemp("model") / "model.onnx")


def test_calibration_samples_are_seeded_training_samples(trained):
    train = trained.samples["train"]
    drawn = calibration_samples(train, 32, seed=0)
    assert len(set(drawn.rows)) == 32
    assert set(drawn.rows) <= set(train.rows)
    assert set(drawn.subject) <= {"s3", "s4", "s5", "s6", "s7"}
    assert (np.diff(drawn.rows) > 0).all()
    store = open_store(Path(train.images.filename))
    np.testing.assert_array_equal(store.target[drawn.rows], drawn.target)
    np.testing.assert_array_equal(store.subject[drawn.rows], drawn.subject)
    assert (calibration_samples(train, 32, seed=0).rows == drawn.rows).all()
    assert (calibration_samples(train, 32, seed=1).rows != drawn.rows).any()
    assert len(calibration_samples(train, 9999, seed=0)) == len(train)


def dequantised(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """int8 weights of an ONNX file, their scales and what they stand for, by name."""
    graph = onnx.load(path).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors and tensors[node.input[0]].dtype == np.int8:
            quantised, scale, zero = (tensors[name] for name in node.input)
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            assert not zero.any()
            shape = [1] * quantised.ndim
            shape[axis] = -1
            found[node.input[0]] = (quantised, scale, quantised * scale.reshape(shape))
    return found


def test_weights_are_int8_per_output_channel(model, calibration, tmp_path):
    """Each is the nearest multiple of its channel's largest weight / 127, computed here from the fp32 file."""
    found = dequantised(quantise_onnx(model, calibration, tmp_path / "int8.onnx"))
    exact = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer}
    assert len(found) == 3  # two convolutions, one linear layer
    for name, (quantised, scale, weights) in found.items():
        original = exact[name.removesuffix("_quantized")]
        assert scale.shape == (len(original),)
        largest = np.abs(original).reshape(len(original), -1).max(axis=1)
        np.testing.assert_allclose(scale, largest / 127, rtol=0.01)
        half = scale.reshape(-1, *[1] * (original.ndim - 1)) / 2
        assert (np.abs(weights - original) <= half * 1.001).all()
        assert np.abs(quantised).max() >= 126


def test_activations_are_u8_over_the_range_seen(trained, model, calibration, tmp_path):
    graph = onnx.load(quantise_onnx(model, calibration, tmp_path / "int8.onnx")).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "image")
    scale, zero = tensors[first.input[1]], tensors[first.input[2]]
    seen = (trained.samples["train"].images[calibration.rows] / 255 - 0.4) / 0.3
    assert zero.dtype == np.uint8
    assert scale == pytest.approx((seen.max() - seen.min()) / 255, rel=1e-4)
    assert zero == pytest.approx(-seen.min() / scale, abs=0.51)


@pytest.mark.parametrize(("recipe", "weights"), [(LAYERS_ONLY, 3), (HEAD_KEPT, 2), (ENDS_KEPT, 1)])
def test_what_a_recipe_keeps_in_fp32(model, calibration, tmp_path, recipe, weights):
    assert len(dequantised(quantise_onnx(model, calibration, tmp_path / "int8.onnx", recipe))) == weights
    ir = openvino.Core().read_model(quantise_openvino(model, calibration, tmp_path / "int8.xml", recipe))
    kinds = [node.get_element_type().to_string() for node in ir.get_ops() if node.get_type_name() == "Constant"]
    assert kinds.count("i8") == weights


def test_int8_files_predict_nearly_the_same(trained, model, calibration, tmp_path):
    exact = predict(torch_engine(trained.model), trained.samples["test"], "torch")
    spread = exact.std(axis=0)
    for recipe in (EVERYTHING, LAYERS_ONLY):
        for path in (
            quantise_onnx(model, calibration, tmp_path / "int8.onnx", recipe),
            quantise_openvino(model, calibration, tmp_path / "int8.xml", recipe),
        ):
            found = predict(open_engine(path, 1), trained.samples["test"], path.name)
            rms = np.sqrt(((found - exact) ** 2).mean(axis=0))
            assert (rms > 0).all(), (path.name, recipe.name)
            assert (rms < 0.7 * spread).all(), (path.name, recipe.name)


GRAPH = {
    "left": (True, []),
    "right": (True, []),
    "mix": (False, ["left", "right"]),
    "middle": (True, ["mix"]),
    "a": (True, ["middle"]),
    "b": (True, ["middle", "mix"]),
    "sum": (False, ["a", "b"]),
}


@pytest.mark.parametrize(
    ("kept", "names"),
    [
        ((), []),
        (("first",), ["left", "right"]),
        (("head",), ["a", "b"]),
        (("first", "head"), ["left", "right", "a", "b"]),
    ],
)
def test_ends_of_a_graph(kept, names):
    assert end_layers(GRAPH, kept) == names


def test_both_formats_name_the_same_ends(model):
    for graph in (onnx_graph(onnx.load(model)), ir_graph(openvino.Core().read_model(model))):
        first, head = end_layers(graph, ("first",)), end_layers(graph, ("head",))
        assert len(first) == len(head) == 1
        assert "stem" in first[0]
        assert "head" in head[0]


def test_a_scalar_that_is_added_to_a_convolution_becomes_a_bias(tmp_path):
    image = opset13.parameter([1, 2, 4, 4], np.float32, name="image")
    convolution = opset13.convolution(image, np.ones((3, 2, 1, 1), np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
    model = openvino.Model([opset13.add(np.float32(5), convolution)], [image])
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)
    before = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]
    widen_scalars(model)
    shapes = [list(node.shape) for node in model.get_ops() if node.get_type_name() == "Constant"]
    assert [1, 3, 1, 1] in shapes
    assert [] not in shapes
    save_ir(model, tmp_path / "model.xml")
    np.testing.assert_allclose(open_engine(tmp_path / "model.xml", 1)(x), before, atol=1e-5)


def judged(errors: dict[str, float], tolerance: float, fp32: float = 2.0):
    made = []

    def write(name: str) -> Path:
        made.append(name)
        return Path(name)

    recipes = [(name, lambda name=name: write(name)) for name in errors]
    kept, tried = quantise_within(tolerance, fp32, recipes, lambda path: errors[str(path)])
    assert [one.recipe for one in tried] == made
    return kept, made


def test_the_first_recipe_within_the_tolerance_is_kept():
    kept, made = judged({"a": 2.1, "b": 2.01, "c": 1.0}, tolerance=0.01)
    assert (kept.recipe, made) == ("b", ["a", "b"])
    assert kept.loss == pytest.approx(0.005)


def test_where_none_is_good_enough_the_best_is_kept():
    kept, made = judged({"a": 2.3, "b": 2.1, "c": 2.2}, tolerance=0.01)
    assert (kept.recipe, made) == ("b", ["a", "b", "c"])
    assert kept.loss == pytest.approx(0.05)


def test_rounded_weights_by_hand():
    weight = torch.tensor([[127.0, 0.4, -63.6], [-1.27, 0.014, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    rounded = RoundedWeights()(weight)
    expected = [[127.0, 0.0, -64.0], [-1.27, 0.01, 0.0], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(rounded, torch.tensor(expected))
    rounded.sum().backward()
    torch.testing.assert_close(weight.grad, torch.ones(3, 3))


def test_layer_inputs_are_rounded_to_256_levels_of_the_range_seen(trained, calibration):
    ranges = layer_ranges(trained.model, calibration)
    seen = (trained.samples["train"].images[calibration.rows] / 255 - 0.4) / 0.3
    assert set(ranges) == {"stem.0", "body.0", "head.2"}
    assert ranges["stem.0"] == pytest.approx((seen.min(), seen.max()), abs=1e-5)
    assert ranges["body.0"][0] == 0  # behind a ReLU

    layer = nn.Sequential(nn.Linear(3, 1, bias=False))
    nn.init.ones_(layer[0].weight)
    rounding = FakeQuantised(layer, {"0": (-1.0, 1.55)})  # steps of 0.01
    x = torch.tensor([[0.304, 0.0, 0.0], [9.0, 0.0, 0.0], [-9.0, 0.0, 0.0]])
    torch.testing.assert_close(rounding(x)[:, 0], torch.tensor([0.30, 1.55, -1.0]))


def test_fake_quantisation_comes_off_without_a_trace(trained, calibration):
    network = lively_network(SPEC)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    wrapped = FakeQuantised(network, layer_ranges(network, calibration))
    assert not wrapped.train().training
    assert not any(module.training for module in wrapped.modules())
    x = torch.randn(2, *SPEC["input"])
    rounded = wrapped(x)
    restored = wrapped.restored()
    assert restored.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in restored.state_dict().items())
    assert not torch.equal(restored(x), rounded)
    torch.testing.assert_close(restored(x), rounded, atol=0.1, rtol=0.1)


@pytest.fixture
def tuning(settings, trained, calibration) -> tuple:
    """The arguments of fine-tuning for two epochs."""
    changed = settings.model_copy(update={"fine_tuning": FineTuning(epochs=2, learning_rate=1e-3)})
    return changed, trained.model, calibration, trained.samples["train"], trained.samples["validation"]


def test_fine_tuning_changes_a_copy_and_is_repeatable(trained, tuning):
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    tuned, history = fine_tune(*tuning)
    again, _ = fine_tune(*tuning)
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())
    states = tuned.state_dict(), again.state_dict()
    assert states[0].keys() == before.keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in before)
    assert not torch.equal(states[0]["stem.0.weight"], before["stem.0.weight"])
    assert torch.equal(states[0]["stem.1.running_mean"], before["stem.1.running_mean"])
    assert history[1]["train_loss"] < history[0]["train_loss"]


class Killed(BaseException):
    """Stands for the end of the process."""


def test_killed_fine_tuning_goes_on_where_it_was(tuning, tmp_path, monkeypatch):
    monkeypatch.setenv("GAZEPIPE_SAVE_SECONDS", "0")
    whole, history = fine_tune(*tuning)
    offer, seen = State.offer, set()

    def offer_and_die(self, snapshot) -> None:
        offer(self, snapshot)
        tensors, facts = snapshot()
        place = len(facts["history"]), tensors["epoch/losses"].numel()
        if place not in seen:
            seen.add(place)
            raise Killed

    monkeypatch.setattr(State, "offer", offer_and_die)
    kills = 0
    while True:
        try:
            killed, again = fine_tune(*tuning, State(tmp_path / "state", "key"))
            break
        except Killed:
            kills += 1
    assert kills == len(seen) > 2
    assert again == history
    assert all(torch.equal(killed.state_dict()[name], value) for name, value in whole.state_dict().items())
