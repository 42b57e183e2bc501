"""Structural pruning: exact where the removed channels are silent, at the cost asked for, saved with its shape."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gazepipe.errors import UserError
from gazepipe.methods.structural.criteria import distance_sum, distinctness, scores
from gazepipe.methods.structural.graph import Group, channel_groups, without
from gazepipe.methods.structural.prune import _in_order, _Weigher, prune, schedule
from gazepipe.models.channels import narrow, sizes
from gazepipe.models.registry import build, checked_spec, stage_channels
from gazepipe.models.weights import load_weights, save_weights
from gazepipe.profiling.cost import count

SHAPE = [1, 36, 60]
FACE_NETWORKS = ["mobile_gaze", "resnet10_wide", "resnet18", "simvit"]
NEAR_EYE = {
    "itracker4": ([4, 147, 163], {}),
    "itracker4, shared towers": ([4, 147, 163], {"shared": True}),
    "itracker4, no pooling": ([4, 147, 163], {"pool": False, "embedding": "tanh"}),
    "itracker4, no pooling, shared, rank 3": ([4, 131, 163], {"pool": False, "shared": True, "rank": 3}),
    "itracker4, 256x256": ([4, 256, 256], {"shared": True}),
    "itracker4, 288x360": ([4, 288, 360], {}),
}
IN_GROUPS = [*NEAR_EYE, "resnext"]
PARALLEL = (nn.BatchNorm2d, nn.Conv2d, nn.Linear)


def spec_of(arch: str, width: float = 0.5, shape: list[int] = SHAPE) -> dict:
    return {"arch": arch, "width": width, "input": list(shape)}


class ResNeXt(nn.Module):
    """Residual blocks of 24 channels around convolutions in 2 and 4 groups, as ResNeXt has them (Xie et al. 2017), and
    one more in 2 groups that reads the sum itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 24, 3, stride=2)
        self.blocks = nn.ModuleList(_block(groups) for groups in (2, 4))
        self.meet = nn.Conv2d(24, 16, 3, stride=2, groups=2)
        self.last = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = F.relu(x + block(x))
        return self.last(F.relu(self.meet(x)).mean(dim=(2, 3)))


def _block(groups: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(24, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1, groups=groups), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 24, 1, bias=False), nn.BatchNorm2d(24)),
    )


def resnext(width: float, input_shape: tuple[int, int, int]) -> nn.Module:
    return ResNeXt()


def spec_in_groups(name: str) -> dict:
    if name == "resnext":
        return spec_of(f"{__name__}:resnext", 1.0)
    shape, options = NEAR_EYE[name]
    return {**spec_of("itracker4", 0.5, shape), "options": {"dimensions": 12, "output": "none", **options}}


def lively(spec: dict) -> nn.Module:
    """A network in eval mode whose every part does something: no bias, gain or statistic is at its initial value, and
    what is normalised by its neighbours is loud enough for them to matter."""
    torch.manual_seed(0)
    model = build(spec).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.1)
    nn.init.normal_([layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1].weight, std=0.02)
    with torch.no_grad():
        for tower in getattr(model, "towers", []):
            tower.conv1.weight.mul_(30)
            tower.conv4.bias.add_(3)
            tower.conv5.weight.abs_()
    return model


def loss(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (model(images) - labels).square().mean()


def samples(count: int = 16, shape: list[int] = SHAPE) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *shape, generator=generator), torch.randn(count, 2, generator=generator)


def pruned(model: nn.Module, spec: dict, ratio: float, **settings) -> tuple[nn.Module, dict]:
    return prune(model, spec, *samples(shape=spec["input"]), loss, ratio=ratio, **settings)


@torch.no_grad()
def silence(model: nn.Module, group, channels: torch.Tensor) -> None:
    """Make these channels of a group zero wherever they are written: weights, biases, gains, running means."""
    for (name, side), index in group.removed(channels).items():
        layer = model.get_submodule(name)
        if side == "out":
            for value in (*layer.parameters(), *([layer.running_mean] if hasattr(layer, "running_mean") else [])):
                value[index] = 0


@pytest.fixture(scope="module")
def grouped():
    """Each network, lively, and its groups: finding those of simvit takes seconds."""
    specs = {arch: spec_of(arch, 0.25) for arch in FACE_NETWORKS} | {name: spec_in_groups(name) for name in IN_GROUPS}
    found = {}
    for name, spec in specs.items():
        model = lively(spec)
        found[name] = model, *channel_groups(model)
    return found


def every(number: int, group: Group, start: int = 0) -> torch.Tensor:
    """Every `number`th channel of each block of a group."""
    return group.blocks[:, start::number].flatten()


# -- exactness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", [*FACE_NETWORKS, *IN_GROUPS])
def test_taking_out_silent_channels_changes_nothing(arch, grouped):
    """Of every group, and of all at once; channels that are not silent do change the output."""
    original, groups, _ = grouped[arch]
    images = samples(3 if arch in NEAR_EYE else 16, original.input_shape)[0].double()
    original = copy.deepcopy(original).double()
    for chosen in [*([group] for group in groups), groups]:
        model = copy.deepcopy(original)
        removed = {group.root: every(3, group) for group in chosen}
        for group in chosen:
            silence(model, group, removed[group.root])
        smaller, channels = without(model, groups, removed)
        with torch.no_grad():
            assert (smaller(images) - model(images)).abs().max() < 1e-6
            assert (smaller(images) - original(images)).abs().max() > 1e-4
        assert all(sizes(smaller.get_submodule(name)) == size for name, size in channels.items())
        assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("arch", ["mobile_gaze", "resnet10_wide", "resnet18", *IN_GROUPS])
def test_silent_channels_are_the_first_to_go(arch, grouped):
    """By l2, cosine and taylor, everywhere: the pruned network is the one with silent channels."""
    original, groups, _ = grouped[arch]
    model = copy.deepcopy(original)
    for group in groups:
        silence(model, group, every(2, group, 1))
    images, labels = samples(8 if arch in NEAR_EYE else 16, original.input_shape)
    for criterion in ("l2", "cosine", "taylor"):
        for group, score in zip(groups, scores(model, groups, criterion, images, labels, loss), strict=True):
            assert score[every(2, group, 1)].max() < 1e-12
            assert score[every(2, group)].max() > 0, (criterion, group.root)


def test_simvit_keeps_attention_and_what_layer_norms_see(grouped):
    _, groups, whole = grouped["simvit"]
    members = {member.layer for group in groups for member in group.members}
    assert members == {
        f"stage{stage}.blocks.{block}.mlp.{layer}"
        for stage, depth in enumerate((2, 3, 3, 2), 1)
        for block in range(depth)
        for layer in ("expand", "depthwise", "reduce")
    }
    assert "followed" in whole["stage1.blocks.0.attention.qkv"]
    assert "LayerNorm" in whole["stage1.embed"]
    assert "output" in whole["head.2"]


@pytest.mark.parametrize(("arch", "whole"), [("resnet18", {"head.2"}), ("resnet10_wide", {"head.5"})])
def test_convolutional_networks_are_pruned_everywhere(arch, whole, grouped):
    model, groups, kept = grouped[arch]
    written = {member.layer for group in groups for member in group.members if member.side == "out"}
    layers = {name for name, layer in model.named_modules() if isinstance(layer, PARALLEL)}
    assert set(kept) == whole
    assert written == layers - whole


def test_the_model_is_left_as_it_is(grouped):
    original, _, _ = grouped["resnet18"]
    model = copy.deepcopy(original).train().requires_grad_(False)
    random = torch.get_rng_state()
    smaller, _ = pruned(model, spec_of("resnet18", 0.25), 0.6)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert smaller.training
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert all(torch.equal(value, original.state_dict()[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in [*model.modules(), *smaller.modules()])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_any_choice_that_keeps_equally_many_of_each_block_is_exact(data):
    """Twice over: the second time, what was pruned is pruned again; and the spec alone rebuilds what is left."""
    spec = spec_in_groups(data.draw(st.sampled_from(["resnext", *list(NEAR_EYE)[:4]])))
    model = lively(spec).double()
    images = samples(2, model.input_shape)[0].double()
    channels = {}
    for _ in range(2):
        groups, removed = channel_groups(model)[0], {}
        for group in groups:
            number = data.draw(st.integers(0, group.blocks.shape[1] - 1))
            draws = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
            chosen = [block[torch.randperm(len(block), generator=draws)[:number]] for block in group.blocks]
            removed[group.root] = torch.cat(chosen)
            silence(model, group, removed[group.root])
        smaller, sizes_left = without(model, groups, removed)
        with torch.no_grad():
            torch.testing.assert_close(smaller(images), model(images), rtol=1e-9, atol=1e-9)
        model, channels = smaller, {**channels, **sizes_left}
    rebuilt = build({**spec, "channels": channels}).double().eval()
    rebuilt.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(rebuilt(images), model(images), rtol=1e-9, atol=1e-9)


def test_groups_of_a_convolution_lose_equally_many(grouped):
    model, groups, _ = grouped["resnext"]
    by_root = {group.root: group for group in groups}
    assert {root: len(group.blocks) for root, group in by_root.items()} == {
        "stem": 2,
        "blocks.0.0": 2,
        "blocks.0.3": 2,
        "blocks.1.0": 4,
        "blocks.1.3": 4,
        "meet": 2,
    }
    assert by_root["blocks.1.0"].blocks.tolist() == torch.arange(16).reshape(4, 4).flip(0).tolist()
    with pytest.raises(ValueError, match=r"groups would keep \[10, 12\] channels"):
        without(model, groups, {"stem": torch.tensor([1, 2])})


# -- cost ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["macs", "params"])
@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("arch", ["mobile_gaze", "resnet10_wide", "resnet18"])
def test_the_ratio_is_reached(arch, scope, target):
    spec = spec_of(arch, 1.0 if arch == "mobile_gaze" else 0.5)
    model = lively(spec)
    full = count(model, SHAPE)[target]
    for criterion, ratio in (("taylor", 0.5), ("cosine", 0.3)):
        smaller, _ = pruned(model, spec, ratio, target=target, scope=scope, criterion=criterion)
        assert count(smaller, SHAPE)[target] / full == pytest.approx(ratio, rel=0.06)


def test_simvit_shrinks_as_far_as_its_attention_lets_it(grouped, monkeypatch):
    model, groups, whole = grouped["simvit"]
    monkeypatch.setattr("gazepipe.methods.structural.prune.channel_groups", lambda model: (groups, whole))
    smaller, smaller_spec = pruned(model, spec_of("simvit", 0.25), 0.6)
    assert count(smaller, SHAPE)["macs"] / count(model, SHAPE)["macs"] == pytest.approx(0.6, rel=0.04)
    assert set(smaller_spec["channels"]) <= {name for name, _ in smaller.named_modules() if ".mlp." in name}
    rebuilt = build(smaller_spec).eval()
    rebuilt.load_state_dict(smaller.state_dict())
    assert torch.equal(rebuilt(samples()[0]), smaller(samples()[0]))
    with pytest.raises(UserError, match=r"ratio 0\.05 is out of reach, simvit keeps 0\.\d+ of its macs.*stays whole"):
        pruned(model, spec_of("simvit", 0.25), 0.05)


@pytest.mark.parametrize("arch", [*FACE_NETWORKS, *IN_GROUPS])
def test_the_cost_told_from_shapes_is_the_cost_counted(arch, grouped):
    model, groups, _ = grouped[arch]
    removed = {group.root: every(3, group, number % 3) for number, group in enumerate(groups)}
    shape = model.input_shape
    before, after = count(model, shape), count(without(model, groups, removed)[0], shape)
    for target in ("macs", "params"):
        assert _Weigher(model, groups, target).saved(removed) == before[target] - after[target]


def test_every_layer_keeps_a_multiple_of_round_to():
    spec = spec_of("resnet18", 1.0, [1, 32, 32])
    model = lively(spec)
    smaller, _ = pruned(model, spec, 0.3, round_to=16, scope="local")
    assert all(channels % 16 == 0 for channels in stage_channels(smaller))
    local = [a / b for a, b in zip(stage_channels(smaller), stage_channels(model), strict=True)]
    assert max(local) - min(local) < 0.2


def test_global_takes_channels_where_they_matter_least():
    spec = spec_of("resnet18", 0.5)
    model = lively(spec)
    silent = next(group for group in channel_groups(model)[0] if "stage4.1.body.3" in {m.layer for m in group.members})
    silence(model, silent, torch.arange(silent.size // 2))
    smaller, _ = pruned(model, spec, 0.9, scope="global", criterion="cosine")
    assert stage_channels(smaller)[:3] == stage_channels(model)[:3]
    assert stage_channels(smaller)[3] < stage_channels(model)[3]


def test_what_buys_nothing_stays(grouped):
    """The 16 outputs of the first layer of resnet10_wide's head are 1 % of its parameters and none of its macs."""
    spec = spec_of("resnet10_wide", 1.0)
    smaller, _ = pruned(lively(spec), spec, 0.3)
    assert smaller.get_submodule("head.3").out_features == 16


def test_steps_lead_where_one_pruning_leads():
    assert schedule(0.25, 2) == pytest.approx([0.5, 0.25])
    assert schedule(0.3, 1) == [0.3]
    spec = spec_of("resnet18", 0.5)
    model, step = lively(spec), spec
    full = count(model, SHAPE)["macs"]
    for ratio in schedule(0.25, 3):
        model, step = pruned(model, step, ratio)
        assert count(model, SHAPE)["macs"] / full == pytest.approx(ratio, rel=0.04)
    assert count(build(step), SHAPE) == count(model, SHAPE)
    again, same = pruned(model, step, 0.5)
    assert again is model
    assert same == checked_spec(step)


# -- criteria --------------------------------------------------------------------------------------------------------


def test_distances_and_cosines_by_hand():
    filters = torch.tensor([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0], [-4.0, 3.0]]).double()
    a, b = 50**0.5, (10**2 + 5**2) ** 0.5
    assert distance_sum(filters).tolist() == pytest.approx([5 + 5 + a, 5 + 10 + 5, 5 + 10 + b, a + 5 + b])
    assert distinctness(filters).tolist() == pytest.approx([2 / 3, 0, 2 / 3, 1])


def test_scores_have_mean_one_in_each_group(grouped):
    model, groups, _ = grouped["mobile_gaze"]
    for criterion in ("l2", "cosine", "geometric_median", "taylor"):
        for group, score in zip(groups, scores(model, groups, criterion, *samples(), loss), strict=True):
            assert score.shape == (group.size,)
            assert score.min() >= 0
            assert score.mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("arch", "root", "reader"),
    [("resnet18", "stage3.1.body.0", "stage3.1.body.3"), ("resnext", "blocks.1.0", "blocks.1.3")],
)
def test_taylor_is_the_first_order_change_of_the_objective(arch, root, reader, grouped):
    """Against a gate on the channels themselves: d loss / d gate at 1, squared and averaged over parts of 8 images."""
    original, groups, _ = grouped[arch]
    model = copy.deepcopy(original).double()
    images, labels = (value.double() for value in samples())
    group = next(group for group in groups if group.root == root)
    found = scores(model, [group], "taylor", images, labels, loss)[0]
    gate = torch.ones(group.size, dtype=torch.float64, requires_grad=True)
    model.get_submodule(reader).register_forward_pre_hook(lambda module, inputs: inputs[0] * gate[:, None, None])
    expected = sum(
        torch.autograd.grad(loss(model, some, theirs), gate)[0].square()
        for some, theirs in zip(images.split(8), labels.split(8), strict=True)
    )
    torch.testing.assert_close(found, expected / expected.mean())


def test_same_arguments_same_network():
    spec = spec_of("resnet18", 0.25)
    for criterion in ("taylor", "geometric_median"):
        (first, one), (second, two) = (pruned(lively(spec), spec, 0.5, criterion=criterion) for _ in range(2))
        assert one == two
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


# -- the spec --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["mobile_gaze", "resnet10_wide", "resnet18"])
def test_a_pruned_network_is_saved_with_its_shape(arch, tmp_path):
    spec = spec_of(arch, 1.0)
    model = lively(spec)
    smaller, smaller_spec = pruned(model, spec, 0.4)
    save_weights(tmp_path / "a.safetensors", smaller, smaller_spec, {"seed": 1})
    loaded, metadata = load_weights(tmp_path / "a.safetensors", smaller_spec)
    assert metadata["model"] == smaller_spec
    assert smaller_spec["channels"]
    images = samples()[0]
    assert torch.equal(loaded.eval()(images), smaller(images))
    assert stage_channels(loaded) == stage_channels(smaller)
    with pytest.raises(UserError, match=r"with \d+ narrowed layers, expected .* of width 1 for 1x36x60"):
        load_weights(tmp_path / "a.safetensors", spec)


def test_a_network_built_narrow_starts_as_widely_spread_as_the_full_one():
    spec = spec_of("resnet10_wide", 1.0)
    _, smaller_spec = pruned(lively(spec), spec, 0.25)
    torch.manual_seed(0)
    full = build(spec)
    torch.manual_seed(0)
    narrowed = build(smaller_spec)
    for name in smaller_spec["channels"]:
        a, b = full.get_submodule(name), narrowed.get_submodule(name)
        if isinstance(a, nn.Conv2d):
            spread = [layer.weight.square().sum((1, 2, 3)).mean().sqrt().item() for layer in (a, b)]
            assert spread[1] == pytest.approx(spread[0], rel=0.1)
    model = narrowed.train()
    model(samples()[0]).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_what_goes_first_by_hand():
    """Four channels in two blocks: 1 and 3 are the worst of theirs, then 0 and 2."""
    paired = Group("a", 4, (), torch.tensor([[0, 1], [2, 3]]))
    free = Group("b", 3, (), torch.tensor([[0, 1, 2]]))
    scored = [torch.tensor([4.0, 1.0, 2.0, 1.0]), torch.tensor([0.5, 2.0, 2.5])]
    found = _in_order([paired, free], scored, "global", 1)
    assert [(score, root, channels.tolist()) for score, root, channels in found] == [
        (0.5, "b", [0]),
        (1.0, "a", [1, 3]),
        (2.0, "b", [1]),
    ]
    found = _in_order([paired, free], scored, "local", 1)
    assert [(root, channels.tolist()) for _, root, channels in found] == [("b", [0]), ("a", [1, 3]), ("b", [1])]
    assert [key for key, _, _ in found] == pytest.approx([1 / 6, 1 / 4, 1 / 2])
    assert [root for _, root, _ in _in_order([paired, free], scored, "global", 2)] == ["b", "a"]
    assert _in_order([paired, free], scored, "global", 3) == []  # a multiple of 3 and of 2 is 6


def test_the_spec_of_a_whole_network_names_no_channels():
    assert "channels" not in checked_spec({**spec_of("resnet18"), "channels": {}})


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"stage5.0": [8, 8, 1]}, "'stage5.0' cannot be narrowed, there is none"),
        ({"stage1": [8, 8, 1]}, "it is a Sequential"),
        ({"stem.0": [64, 1, 1]}, r"at most \[32, 1, 1\]"),
        ({"stem.0": [0, 1, 1]}, "whole numbers above 0"),
        ({"stem.0": [8, 1]}, r"\[8, 1\]"),
        ({"stem.0": "few"}, "few"),
        ({"stem.0": [8, 1, 1]}, "do not fit each other"),
        ({"stem.0": [8, 1, 1], "stem.1": [8.0]}, r"\[8.0\]"),
        ([["stem.0", [8, 1, 1]]], "mapping"),
        ({"stem.0": {1}}, "JSON"),
    ],
)
def test_channels_that_do_not_fit(channels, message):
    with pytest.raises(UserError, match=message) as error:
        build({**spec_of("resnet18"), "channels": channels})
    assert "\n" not in str(error.value)


def test_groups_of_a_convolution_stay():
    network = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, groups=2))
    network.input_shape = (8, 9, 9)
    for channels in ({"0": [4, 4, 1]}, {"0": [4, 8, 8]}, {"1": [4, 4, 1]}, {"1": [5, 8, 2]}, {"1": [8, 7, 2]}):
        with pytest.raises(UserError, match="leave its groups as they are"):
            narrow(network, channels)
    narrow(network, {"0": [8, 8, 8], "1": [6, 8, 2]})
    assert network[1].weight.shape == (6, 4, 3, 3)


# -- networks of one's own -------------------------------------------------------------------------------------------


class Own(nn.Module):
    """Branches that meet by concatenation, a depth-wise layer, PReLU, a split, and a map flattened into a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(1, 24, 3, padding=1)
        self.norm, self.activation = nn.BatchNorm2d(40), nn.PReLU(40)
        self.depthwise = nn.Conv2d(40, 40, 3, padding=1, groups=40)
        self.mix = nn.Conv2d(40, 16, 1)
        self.flat = nn.Linear(16 * 4 * 4, 32)
        self.last = nn.Linear(32, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.norm(torch.cat([self.left(x), self.right(x)], dim=1)))
        x = F.adaptive_avg_pool2d(F.silu(self.mix(F.relu(self.depthwise(x)))), 4)
        return self.last(F.relu(self.flat(x.flatten(1))))


def own(network: nn.Module) -> nn.Module:
    network.input_shape = (1, 16, 16)
    return network.eval()


def test_concatenation_depthwise_prelu_and_flatten():
    torch.manual_seed(0)
    model = own(Own())
    groups, whole = channel_groups(model)
    assert {group.root: group.size for group in groups} == {"left": 16, "right": 24, "mix": 16, "flat": 32}
    assert list(whole) == ["last"]
    removed = {group.root: torch.arange(0, group.size, 4) for group in groups}
    for group in groups:
        silence(model, group, removed[group.root])
    smaller, channels = without(model, groups, removed)
    assert channels["depthwise"] == [30, 30, 30]
    assert channels["flat"] == [24, 12 * 16]
    images = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(smaller(images), model(images), atol=1e-6, rtol=0)


class Refused(nn.Module):
    """One hidden map of 16 channels, and something done to it."""

    def __init__(self, between) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 16, 3), nn.Linear(16, 2)
        self.between = between if isinstance(between, nn.Module) else nn.Identity()
        self.arithmetic = (lambda x: x) if isinstance(between, nn.Module) else between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.arithmetic(self.between(self.first(x))).mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (nn.GroupNorm(4, 16), "first: its channels meet between, a GroupNorm"),
        (nn.LocalResponseNorm(3, alpha=1.0), "first: taking out channels that no layer reads changes the output"),
        (lambda x: x.reshape(len(x), 4, 4, *x.shape[2:]).flip(1).reshape(x.shape), "first: "),
        (lambda x: x.view(-1, 16, 14, 14) * torch.arange(16.0)[:, None, None], "first: "),
        (lambda x: x - x.mean(dim=1, keepdim=True), "first: taking out"),
    ],
)
def test_what_cannot_be_pruned_exactly_is_refused(between, reason):
    torch.manual_seed(0)
    with pytest.raises(UserError, match=f"structural: Refused cannot be pruned, {reason}") as error:
        channel_groups(own(Refused(between)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("channels", "groups"), [(8, 8), (32, 16)])
def test_groups_of_a_single_channel_are_refused(channels, groups):
    between = nn.Sequential(nn.Conv2d(16, channels, 1, groups=groups), nn.Conv2d(channels, 16, 1))
    whole = channel_groups(own(Refused(between)))[1]
    reason = f"its channels meet between.0, a convolution in {groups} groups of a single channel"
    assert (whole["first"], whole["between.0"]) == (reason, reason)


def test_groups_that_two_layers_fill_unequally_are_refused():
    """16 + 8 channels read in two groups: the first group has 12 of the one layer, the second 4 of it and the other."""

    class Lopsided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(1, 16, 3), nn.Conv2d(1, 8, 3)
            self.meet, self.last = nn.Conv2d(24, 8, 3, groups=2), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.meet(torch.cat([self.left(x), self.right(x)], dim=1)).mean(dim=(2, 3)))

    groups, whole = channel_groups(own(Lopsided()))
    assert [group.root for group in groups] == ["meet"]
    assert whole["left"] == "its channels meet meet, a convolution in 2 groups that share them unequally"
    assert "meet" in whole["right"]


def test_several_maps_flattened_into_one_layer_are_exact_or_left_alone():
    """torch-pruning deletes the wrong columns of such a layer."""

    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.towers = nn.ModuleList(nn.Conv2d(1, 16, 3, stride=2) for _ in range(2))
            self.flat, self.last = nn.Linear(2 * 16 * 7 * 7, 32), nn.Linear(32, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.cat([tower(x).flatten(1) for tower in self.towers], dim=1)
            return self.last(F.relu(self.flat(x)))

    torch.manual_seed(0)
    model = own(Towers())
    groups, _ = channel_groups(model)
    removed = {group.root: torch.arange(0, group.size, 2) for group in groups}
    for group in groups:
        silence(model, group, removed[group.root])
    images = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(without(model, groups, removed)[0](images), model(images), atol=1e-6, rtol=0)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 16, 3), nn.Linear(16, 2)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).mean(dim=(2, 3)))


@pytest.mark.parametrize("network", [Untraceable(), nn.Sequential(nn.Flatten(), nn.Linear(256, 2))])
def test_a_network_without_prunable_layers(network):
    with pytest.raises(UserError, match=r"structural: .* cannot be (pruned|traced)"):
        channel_groups(own(network))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "latency"}, "target is 'latency'; use one of macs, params, channels"),
        ({"criterion": "random"}, "criterion is 'random'; use one of cosine, l2, taylor, geometric_median"),
        ({"scope": "everywhere"}, "scope is 'everywhere'"),
        ({"ratio": 1.0}, "ratio is 1.0"),
        ({"ratio": 0}, "ratio is 0"),
        ({"round_to": 0}, "round_to is 0"),
        ({"ratio": 0.001}, r"ratio 0\.001 is out of reach, resnet18 keeps 0\.\d+ of its macs"),
    ],
)
def test_bad_values(settings, message):
    spec = spec_of("resnet18", 0.25)
    with pytest.raises(UserError, match=message) as error:
        pruned(lively(spec), spec, **{"ratio": 0.5, **settings})
    assert "\n" not in str(error.value)
