"""Cost against closed forms, and what throughput rows hold."""

import json
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gazepipe.errors import UserError
from gazepipe.models.registry import build
from gazepipe.models.weights import save_weights
from gazepipe.profiling.cost import count
from gazepipe.profiling.settings import ProfileSettings
from gazepipe.profiling.stage import profile
from gazepipe.profiling.throughput import measure, measure_interleaved


def test_convolutions_and_linears_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 8x8 outputs of 3*9 products
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    macs = 8 * 8 * 8 * 27 + 8 * 8 * 8 * (2 * 9) + 8 * 2
    params = (8 * 27 + 8) + 16 + 8 * 2 * 9 + (8 * 2 + 2)
    assert count(model, (3, 16, 16)) == {"params": params, "macs": macs}


class Unused(nn.Module):
    """Half of its layers are built and never run, one is run and thrown away, one is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(16, 2)
        self.never_run = nn.Linear(16, 999)
        self.thrown_away = nn.Linear(16, 99)
        self.used.weight.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        self.thrown_away(x)
        return self.used(x)


def test_only_parameters_that_take_part_count():
    model = Unused()
    assert count(model, (1, 4, 4))["params"] == 16 * 2 + 2
    assert not model.used.weight.requires_grad, "the model is left as it was"
    assert all(parameter.grad is None for parameter in model.parameters())


class Attention(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.out = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.reshape(len(x), 3, 10, 8)
        if self.fused:
            mixed = F.scaled_dot_product_attention(tokens, tokens, tokens)
        else:
            mixed = (tokens @ tokens.transpose(-1, -2)).softmax(-1) @ tokens
        return self.out(mixed.mean(dim=(1, 2)))


@pytest.mark.parametrize("fused", [False, True])
def test_attention_products_count(fused):
    assert count(Attention(fused), (3, 10, 8))["macs"] == 2 * 3 * 10 * 10 * 8 + 8 * 2


def test_simvits_central_attention_counts():
    """By hand for one 3x3 attention: qkv and output projections, and 9 + 9 products per channel and position."""
    model = build({"arch": "simvit", "input": [1, 32, 32]})
    attention = model.stage1.blocks[0].attention
    assert attention.uncounted_macs(torch.zeros(1, 8, 8, 32)) == 18 * 64 * 32
    whole = count(model, (1, 32, 32))["macs"]
    for module in model.modules():
        if type(module) is type(attention):
            module.uncounted_macs = lambda x: 0
    # two blocks at 8x8x32, three at 4x4x64, three at 2x2x160
    assert whole - count(model, (1, 32, 32))["macs"] == 18 * (2 * 64 * 32 + 3 * 16 * 64 + 3 * 4 * 160)


def test_padding_same_is_refused_not_left_out():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding="same"), nn.Flatten(), nn.Linear(256, 2))
    with pytest.raises(UserError, match="_convolution_mode"):
        count(model, (1, 8, 8))


def test_an_uncountable_recurrent_layer_is_refused():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x[:, 0])[0]

    with pytest.raises(UserError, match="lstm"):
        count(Recurrent(), (1, 8, 8))


def test_rows_of_a_throughput_measurement():
    threads = torch.get_num_threads()
    model = build({"arch": "resnet18", "width": 0.125, "input": [1, 32, 32]}).train()
    rows = measure(model, (1, 32, 32), batches=(1, 4), seconds=0.05, threads=1)
    assert [row["batch"] for row in rows] == [1, 4]
    for row in rows:
        assert row["runtime"] == "eager"
        assert row["repeats"] >= 5
        assert 0 < row["latency_ms_p25"] <= row["latency_ms"] <= row["latency_ms_p75"] <= row["latency_ms_p95"]
        assert row["images_per_second"] == pytest.approx(1000 * row["batch"] / row["latency_ms"], rel=0.02)
        assert all(type(value) in (str, int, float) for value in row.values())
    assert torch.get_num_threads() == threads
    assert model.training, "the mode is left as it was"


def test_models_take_turns_and_known_latencies_come_back():
    calls = []

    def sleeper(name: str, seconds: float):
        def run(images: torch.Tensor) -> None:
            calls.append((name, tuple(images.shape)))
            time.sleep(seconds)

        return run

    models = {"slow": sleeper("slow", 0.02), "fast": sleeper("fast", 0.005)}
    rows = measure_interleaved(models, (1, 4, 6), batches=(2,), seconds=0.1, runtime="sleep")
    slow, fast = rows["slow"][0], rows["fast"][0]
    assert 20 <= slow["latency_ms"] < 40
    assert slow["latency_ms"] > 2 * fast["latency_ms"]
    assert fast["repeats"] > slow["repeats"] >= 5
    assert fast["runtime"] == "sleep"
    assert {shape for _, shape in calls} == {(2, 1, 4, 6)}
    turns = [name for index, (name, _) in enumerate(calls) if index == 0 or calls[index - 1][0] != name]
    assert turns == ["slow", "fast"] * 6, "one warm-up and five rounds"


def test_each_model_may_have_a_size_of_its_own():
    seen = {}
    models = {name: lambda images, name=name: seen.setdefault(name, tuple(images.shape)) for name in ("wide", "tall")}
    measure_interleaved(models, {"wide": (1, 4, 6), "tall": (4, 8, 2)}, batches=(3,), seconds=0.01)
    assert seen == {"wide": (3, 1, 4, 6), "tall": (3, 4, 8, 2)}


SPEC = {"arch": "resnet18", "width": 0.125, "input": [1, 32, 32], "options": {}}


@pytest.fixture
def settings() -> ProfileSettings:
    sizes = {"run": SPEC, "paper": {**SPEC, "input": [1, 64, 64]}}
    return ProfileSettings(sizes=sizes, batches=[1, 2], seconds=0.01, threads=1)


def test_a_profile_holds_cost_and_speed_of_each_size(settings, tmp_path):
    profile(settings, tmp_path / "profile.json")
    found = json.loads((tmp_path / "profile.json").read_text())
    assert set(found) == {"sizes", "threads", "machine", "versions"}
    assert found["threads"] == 1
    for name, spec in settings.sizes.items():
        size = found["sizes"][name]
        assert size["model"] == spec
        assert {"params": size["params"], "macs": size["macs"]} == count(build(spec), tuple(spec["input"]))
        assert [row["batch"] for row in size["rows"]] == [1, 2]
        assert "first_fc_params" not in size


def test_the_shape_of_given_weights_is_profiled(settings, tmp_path):
    """The first layer by hand: a weight for each feature of the towers, and a bias, for each of 6 dimensions."""
    spec = {"arch": "itracker4", "width": 0.125, "input": [4, 131, 147], "options": {"dimensions": 6}}
    model = build(spec)
    save_weights(tmp_path / "model.safetensors", model, spec)
    profile(settings, tmp_path / "profile.json", tmp_path / "model.safetensors")
    sizes = json.loads((tmp_path / "profile.json").read_text())["sizes"]
    assert list(sizes) == ["run"]
    features = sum(part.shape[1] for part in model.eval().tower_features(torch.zeros(1, *spec["input"])))
    assert sizes["run"]["first_fc_params"] == 6 * features + 6
    assert sizes["run"]["model"]["options"]["dimensions"] == 6
