"""Networks: their published sizes, the contract of stages, the registry, and weights files."""

import importlib
import json
import struct

import pytest
import torch
from torch import nn

from gazepipe.errors import UserError
from gazepipe.models.registry import build, forward_features, model_module, stage_channels, stage_shapes
from gazepipe.models.settings import NETWORKS
from gazepipe.models.simvit import CentralSelfAttention
from gazepipe.models.weights import load_weights, read_metadata, save_weights
from gazepipe.profiling.cost import count

SMALL = {"arch": "resnet18", "width": 0.125, "input": [1, 32, 48], "options": {}}
FACE_NETWORKS = ["resnet10_wide", "resnet18", "simvit", "mobile_gaze"]


def network(arch: str, shape: list[int], width: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    return build({"arch": arch, "width": width, "input": shape})


# -- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "params", "giga_macs"),
    [("resnet18", 11_171_266, 1.74), ("resnet10_wide", 1_656_690, 2.15), ("simvit", 3_075_170, 0.643)],
)
def test_size_at_the_papers_input(arch, params, giga_macs):
    cost = count(network(arch, [1, 224, 224]), (1, 224, 224))
    assert cost["params"] == params
    assert cost["macs"] / 1e9 == pytest.approx(giga_macs, rel=0.004)


def test_simvit_micro_has_the_papers_size_with_the_papers_head():
    """Li et al., table 1: 3.3 M parameters with 1000 classes, about 0.65 G multiply-adds with three channels."""
    cost = count(network("simvit", [3, 224, 224]), (3, 224, 224))
    head_of_1000, head_of_2 = 256 * 1000 + 1000, 256 * 2 + 2
    assert (cost["params"] - head_of_2 + head_of_1000) / 1e6 == pytest.approx(3.3, abs=0.05)
    assert cost["macs"] / 1e9 == pytest.approx(0.65, abs=0.005)


def test_resnet10_head_pools_the_14x14_map_to_7_by_4_places():
    head = network("resnet10_wide", [1, 224, 224]).head
    assert [layer.in_features for layer in head if isinstance(layer, nn.Linear)] == [7168, 16]


@pytest.mark.parametrize("arch", FACE_NETWORKS)
def test_half_width_costs_about_a_quarter(arch):
    full = count(network(arch, [1, 96, 96]), (1, 96, 96))["macs"]
    half = count(network(arch, [1, 96, 96], 0.5), (1, 96, 96))["macs"]
    assert 0.24 < half / full < 0.32


# -- shapes and stages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", FACE_NETWORKS)
@pytest.mark.parametrize("shape", [[1, 224, 224], [1, 36, 112], [1, 33, 47], [1, 32, 32], [1, 96, 96], [4, 64, 64]])
def test_any_input_size(arch, shape):
    model = network(arch, shape, 0.25)
    images = torch.randn(2, *shape)
    prediction, features = forward_features(model.eval(), images)
    assert prediction.shape == (2, 2)
    assert torch.equal(prediction, model(images))
    assert [tuple(feature.shape[1:]) for feature in features] == stage_shapes(model)
    assert len(features) == len(model.stages) == 4
    heights = [feature.shape[2] for feature in features]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("arch", FACE_NETWORKS)
@pytest.mark.parametrize("width", [0.1, 0.25, 0.3, 1.5])
def test_width_scales_channels_in_eights(arch, width):
    channels = stage_channels(network(arch, [1, 32, 32], width))
    full = stage_channels(network(arch, [1, 32, 32]))
    assert all(number % 8 == 0 for number in channels)
    for number, whole in zip(channels, full, strict=True):
        heads = {32: 1, 64: 2, 160: 5, 256: 8}[whole] if arch == "simvit" else 1
        assert abs(number - whole * width) <= max(4 * heads, 8 * heads - whole * width)


@pytest.mark.parametrize("arch", FACE_NETWORKS)
def test_stages_are_submodules_whose_outputs_are_the_features(arch):
    model = network(arch, [1, 36, 112], 0.25).eval()
    seen = []
    for name in model.stages:
        model.get_submodule(name).register_forward_hook(lambda module, inputs, output: seen.append(output))
    _, features = forward_features(model, torch.randn(1, 1, 36, 112))
    assert all(torch.equal(a, b) for a, b in zip(seen, features, strict=True))


@pytest.mark.parametrize("arch", FACE_NETWORKS)
def test_untrained_output_is_small_and_depends_on_the_image(arch):
    model = network(arch, [1, 36, 112], 0.5).eval()
    output = model(torch.randn(8, 1, 36, 112))
    assert output.std(dim=0).min() > 0
    assert output.abs().max() < 0.5


@pytest.mark.parametrize("arch", FACE_NETWORKS)
def test_every_parameter_gets_a_gradient(arch):
    model = network(arch, [1, 36, 112], 0.25).train()
    model(torch.randn(8, 1, 36, 112)).square().sum().backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []


@pytest.mark.parametrize("arch", FACE_NETWORKS)
def test_same_seed_same_network_and_channels_last_same_numbers(arch):
    model, twin = network(arch, [1, 36, 112], 0.25).eval(), network(arch, [1, 36, 112], 0.25).eval()
    images = torch.randn(2, 1, 36, 112)
    expected = model(images)
    assert torch.equal(expected, twin(images))
    twin = twin.to(memory_format=torch.channels_last)
    torch.testing.assert_close(twin(images.to(memory_format=torch.channels_last)), expected, atol=1e-5, rtol=1e-4)


def test_stage_shapes_leave_mode_and_statistics_alone():
    model = network("resnet18", [1, 32, 32], 0.125).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stage_shapes(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# -- SimViT's attention ----------------------------------------------------------------------------------------------


def test_central_attention_agrees_with_a_loop_over_positions():
    """Each query against the keys of its own 3x3 neighbourhood; keys and values outside the map are zero."""
    torch.manual_seed(1)
    attention = CentralSelfAttention(channels=16, heads=2)
    x = torch.randn(2, 3, 5, 16)
    query, key, value = attention.qkv(x).reshape(2, 3, 5, 3, 2, 8).unbind(dim=3)
    expected = torch.zeros(2, 3, 5, 2, 8)
    zero = torch.zeros(8)
    for b, row, column, head in torch.cartesian_prod(*map(torch.arange, (2, 3, 5, 2))).tolist():
        places = [(r, c) for r in (row - 1, row, row + 1) for c in (column - 1, column, column + 1)]
        inside = [0 <= r < 3 and 0 <= c < 5 for r, c in places]
        keys = torch.stack([key[b, r, c, head] if ok else zero for (r, c), ok in zip(places, inside, strict=True)])
        values = torch.stack([value[b, r, c, head] if ok else zero for (r, c), ok in zip(places, inside, strict=True)])
        weights = torch.softmax(keys @ query[b, row, column, head] / 8**0.5, dim=0)
        expected[b, row, column, head] = weights @ values
    torch.testing.assert_close(attention(x), attention.out(expected.flatten(3)))


def test_stochastic_depth_acts_in_training_only_and_keeps_the_mean():
    block = network("simvit", [1, 32, 32], 0.25).stage4.blocks[-1]
    assert block.drop_path.rate == pytest.approx(0.2)
    ones = torch.ones(20_000, 1, 1, 1)
    dropped = block.train().drop_path(ones)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1.25])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(block.eval().drop_path(ones), ones)


# -- registry --------------------------------------------------------------------------------------------------------


def test_a_users_own_network_by_dotted_name(tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(
        "from torch import nn\n"
        "def make(width, input_shape):\n"
        "    c, h, w = input_shape\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(c * h * w, 2))\n"
        "def wrong(width, input_shape):\n"
        "    return nn.Flatten()\n"
        "def nothing(width, input_shape):\n"
        "    return 3\n"
        "def deep(width, input_shape, hidden=4):\n"
        "    c, h, w = input_shape\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(c * h * w, hidden), nn.Linear(hidden, 2))\n"
        "def anything(width, input_shape, **options):\n"
        "    return deep(width, input_shape, len(options))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = network("own_network:make", [1, 8, 8])
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 2)
    assert model_module("own_network:make") == "own_network"
    with pytest.raises(UserError, match=r"own_network:wrong.*\(1, 64\)"):
        network("own_network:wrong", [1, 8, 8])
    with pytest.raises(UserError, match=r"own_network:nothing.*int"):
        network("own_network:nothing", [1, 8, 8])
    with pytest.raises(UserError, match="own_network:absent"):
        network("own_network:absent", [1, 8, 8])
    with pytest.raises(UserError, match="no_such_module:make"):
        network("no_such_module:make", [1, 8, 8])
    deep = build({"arch": "own_network:deep", "input": [1, 8, 8], "options": {"hidden": 5}})
    assert deep[1].out_features == 5
    assert build({"arch": "own_network:anything", "input": [1, 8, 8], "options": {"a": 1, "b": 2}})[1].out_features == 2
    with pytest.raises(UserError, match="option 'hiden' is unknown; use one of hidden"):
        build({"arch": "own_network:deep", "input": [1, 8, 8], "options": {"hiden": 5}})
    with pytest.raises(UserError, match="feature KD"):
        forward_features(model, torch.zeros(1, 1, 8, 8))


def test_each_architecture_names_its_own_module():
    assert model_module("simvit") == "gazepipe.models.simvit"
    assert model_module("resnet18") == "gazepipe.models.resnet"


def test_every_registered_network_can_be_imported():
    for arch, target in NETWORKS.items():
        module, _, function = target.partition(":")
        assert model_module(arch) == module
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"arch": "resnet81", "input": [1, 32, 32]}, "did you mean 'resnet18'"),
        ({"arch": "resnet18"}, "missing"),
        ({"arch": "resnet18", "input": [1, 32, 32], "widht": 1}, "widht"),
        ({"arch": "resnet18", "input": [1, 32]}, "channels, height, width"),
        ({"arch": "resnet18", "input": 32}, "channels, height, width"),
        ({"arch": "resnet18", "input": [1, 0, 32]}, "channels, height, width"),
        ({"arch": "resnet18", "input": [1, 32, 32], "width": 0}, "width"),
        ({"arch": "resnet18", "input": [1, 32, 32], "width": "half"}, "half"),
        ({"arch": 18, "input": [1, 32, 32]}, "18"),
        ({"arch": "resnet18", "input": [1, 32, 32], "options": {"depth": 3}}, "option 'depth' is unknown; it has none"),
        ({"arch": "resnet18", "input": [1, 32, 32], "options": {"depth": {3}}}, "JSON"),
        ({"arch": "resnet18", "input": [1, 32, 32], "options": {"depth": float("nan")}}, "JSON"),
        ({"arch": "resnet18", "input": [1, 32, 32], "options": ["depth"]}, "mapping"),
        ({"arch": "resnet10_wide", "input": [1, 12, 32]}, "12x32"),
    ],
)
def test_bad_specs(spec, message):
    with pytest.raises(UserError, match=message) as error:
        build(spec)
    assert "\n" not in str(error.value)


# -- weights files ---------------------------------------------------------------------------------------------------


def test_weights_round_trip_with_metadata_and_equal_bytes(tmp_path):
    model = build(SMALL)
    model(torch.randn(4, 1, 32, 48))  # running statistics move
    save_weights(tmp_path / "a.safetensors", model, SMALL, {"seed": 3, "epochs": [1, 2]})
    images = torch.randn(2, 1, 32, 48)
    expected = model.eval()(images)
    channels_last = model.to(memory_format=torch.channels_last)
    save_weights(tmp_path / "b.safetensors", channels_last, SMALL, {"epochs": [1, 2], "seed": 3})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    state = torch.random.get_rng_state()
    loaded, metadata = load_weights(tmp_path / "a.safetensors", SMALL)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert metadata == {"seed": 3, "epochs": [1, 2], "model": SMALL} == read_metadata(tmp_path / "a.safetensors")
    assert torch.equal(loaded.eval()(images), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_a_checkpoint_of_another_model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, build(SMALL), SMALL)
    for other in ({**SMALL, "width": 0.25}, {**SMALL, "arch": "simvit"}, {**SMALL, "input": [1, 48, 32]}):
        with pytest.raises(UserError, match=r"model\.safetensors: holds the model resnet18 .* expected"):
            load_weights(path, other)
    assert load_weights(path, {**SMALL, "input": (1, 32, 48)})[1]["model"] == SMALL


def test_a_header_that_does_not_fit_its_tensors(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, build(SMALL), {**SMALL, "width": 0.25})
    with pytest.raises(UserError, match=r"model\.safetensors: its tensors do not fit"):
        load_weights(path)


def test_damaged_weights(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, build(SMALL), SMALL)
    whole = path.read_bytes()
    for damaged in (b"", whole[:7], whole[:100], whole[:-1], b"\xff" * 64, b"PK\x03\x04" + whole):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"model\.safetensors: ") as error:
            load_weights(path)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"absent\.safetensors: no such"):
        load_weights(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("metadata", [{}, {"gazepipe": "["}, {"gazepipe": "{}"}, {"gazepipe": "[1]"}, {"other": "x"}])
def test_foreign_safetensors(tmp_path, metadata):
    header = json.dumps({"__metadata__": metadata}).encode()
    (tmp_path / "foreign.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(UserError, match=r"foreign\.safetensors: no gazepipe weights"):
        load_weights(tmp_path / "foreign.safetensors")


def test_a_foreign_file_cannot_choose_what_is_imported(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, build(SMALL), {**SMALL, "arch": "antigravity:make"})
    with pytest.raises(UserError, match="load it with the spec that names it"):
        load_weights(path)
