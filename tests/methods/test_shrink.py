"""Shrinking itracker4: each step leaves the output as it was wherever it claims to."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gazepipe.errors import UserError
from gazepipe.methods.shrink.first_layer import drop_dimensions, low_rank
from gazepipe.methods.shrink.rebuild import first_fc_parameters, parameter_counts
from gazepipe.methods.shrink.towers import IMPORTANCES, channel_scores, kept_channels, prune_towers, remove_channels
from gazepipe.models.registry import build, checked_spec
from gazepipe.models.weights import load_weights, save_weights
from gazepipe.profiling.cost import count

SHAPE = [4, 147, 163]
EXACT = {"rtol": 1e-5, "atol": 2e-6}
few = settings(max_examples=10, deadline=None, derandomize=True)


def spec(**options) -> dict:
    return {
        "arch": "itracker4",
        "width": 0.25,
        "input": SHAPE,
        "options": {"dimensions": 12, "output": "none", **options},
    }


def network(model_spec: dict, seed: int = 0) -> nn.Module:
    """A network with biases, outputs of about 1 and no dead ReLU, so that whatever is lost on the way shows."""
    torch.manual_seed(seed)
    model = build(model_spec).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.uniform_(0, 0.3)
        model.head[2].weight.normal_(std=0.1)
        for tower in model.towers:
            tower.conv4.bias.add_(3)
            tower.conv5.weight.abs_()
    return model


def images(number: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, *SHAPE, generator=torch.Generator().manual_seed(seed))


def same_state(model: nn.Module, before: dict) -> bool:
    state = model.state_dict()
    return state.keys() == before.keys() and all(torch.equal(state[name], before[name]) for name in before)


def outputs(*models: nn.Module) -> list[torch.Tensor]:
    """Predictions for the same images in float64, in which a sum in another order is the same to 1e-9."""
    with torch.no_grad():
        return [copy.deepcopy(model).double()(images().double()) for model in models]


def everything(model: nn.Module) -> list[list[list[int]]]:
    return [[list(range(layer.out_channels)) for layer in tower.convolutions()] for tower in model.towers]


# -- low rank -------------------------------------------------------------------------------------------------------


@few
@given(st.integers(1, 12), st.sampled_from(["none", "tanh"]), st.integers(0, 99))
def test_low_rank_is_exact_for_data_of_that_rank(rank, embedding, seed):
    model_spec = spec(embedding=embedding)
    model = network(model_spec, seed)
    draws = torch.Generator().manual_seed(seed)
    plane = torch.randn(rank, 4 * 4, generator=draws)
    offset = torch.randn(4 * 4, generator=draws)
    features = list((torch.randn(40, rank, generator=draws) @ plane + offset).split(4, dim=1))
    smaller, smaller_spec = low_rank(model, model_spec, features, rank)
    torch.testing.assert_close(smaller.first(features), model.first(features), rtol=1e-5, atol=1e-5)
    assert smaller_spec["options"]["rank"] == rank


@pytest.mark.parametrize("options", [{}, {"shared": True}, {"embedding": "sigmoid", "rank": 5}])
def test_low_rank_is_exact_at_full_rank(options):
    model_spec = spec(**options)
    model = network(model_spec)
    before = copy.deepcopy(model.state_dict())
    smaller, smaller_spec = low_rank(model, model_spec, model.tower_features(images(5, seed=1)), 12)
    torch.testing.assert_close(smaller(images()), model(images()), **EXACT)
    assert same_state(model, before)
    assert model_spec == spec(**options)
    assert smaller_spec["options"] == {**model_spec["options"], "rank": 12}


def test_low_rank_is_the_best_of_its_rank_for_the_data():
    """What is lost is what the singular values beyond the rank hold, in the output and not in the weights."""
    model_spec = spec()
    model = network(model_spec)
    features = [torch.randn(60, 4) * scale for scale in (5.0, 1.0, 0.2, 0.1)]
    wanted = model.first(features)
    singular = torch.linalg.svdvals(wanted - wanted.mean(dim=0))
    losses = []
    for rank in range(1, 13):
        given_back = low_rank(model, model_spec, features, rank)[0].first(features)
        losses.append((given_back - wanted).square().sum().item())
        assert losses[-1] == pytest.approx(singular[rank:].square().sum().item(), rel=1e-3, abs=1e-6)
    weight = torch.cat([part.weight for part in model.first.parts], dim=1)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    plain = torch.cat(features, dim=1) @ (left[:, :3] * values[:3] @ right[:3]).T + model.first.bias
    assert losses[2] < 0.5 * (plain - wanted).square().sum()


def test_low_rank_needs_fewer_parameters():
    full = {"arch": "itracker4", "width": 1.0, "input": [4, 576, 720]}
    assert first_fc_parameters(full) == 8512 * 128 + 128
    assert first_fc_parameters({**full, "options": {"rank": 16}}) == 8640 * 16 + 128
    assert first_fc_parameters({**full, "options": {"dimensions": 10}}) == 8512 * 10 + 10


# -- dropped dimensions ---------------------------------------------------------------------------------------------


@few
@given(st.data())
def test_dropping_constant_dimensions_is_exact(data):
    rank = data.draw(st.sampled_from([None, 2, 5]))
    embedding = data.draw(st.sampled_from(["none", "tanh", "sigmoid"]))
    keep = sorted(data.draw(st.sets(st.integers(0, 11), min_size=1)))
    model_spec = spec(rank=rank, embedding=embedding, shared=data.draw(st.booleans()))
    model = network(model_spec, data.draw(st.integers(0, 99)))
    dropped = sorted(set(range(12)) - set(keep))
    with torch.no_grad():
        for weights in [model.first.mix.weight] if rank else [part.weight for part in model.first.parts]:
            weights[dropped] = 0
        before = copy.deepcopy(model.state_dict())
        smaller, smaller_spec = drop_dimensions(model, model_spec, keep, model.embed(images(2, seed=1)).mean(dim=0))
        torch.testing.assert_close(smaller(images()), model(images()), **EXACT)
        torch.testing.assert_close(smaller.embed(images()), model.embed(images())[:, keep], **EXACT)
    assert same_state(model, before)
    assert smaller_spec["options"]["dimensions"] == len(keep)
    assert smaller_spec["options"]["rank"] == (rank if rank and rank <= len(keep) else None)


def test_a_dropped_dimension_stays_at_its_mean():
    model = network(spec())
    z = torch.randn(30, 12)
    mean = z.mean(dim=0)
    smaller, _ = drop_dimensions(model, spec(), [0, 3, 7], mean)
    held = mean.repeat(30, 1)
    held[:, [0, 3, 7]] = z[:, [0, 3, 7]]
    torch.testing.assert_close(smaller.head(z[:, [0, 3, 7]]), model.head(held), **EXACT)
    assert not torch.allclose(model.head(held), model.head(z), atol=1e-2)


# -- structural pruning ---------------------------------------------------------------------------------------------


def silence(model: nn.Module, kept: list[list[list[int]]]) -> None:
    with torch.no_grad():
        for tower, keep in zip(model.towers, kept, strict=True):
            for layer, channels in zip(tower.convolutions(), keep, strict=True):
                silent = sorted(set(range(layer.out_channels)) - set(channels))
                layer.weight[silent] = 0
                layer.bias[silent] = 0


@st.composite
def kept_of(draw: st.DrawFn, model: nn.Module) -> list[list[list[int]]]:
    """Any channels to keep of each layer, equally many of each half where the grouped convolution joins them."""
    kept = []
    for tower in model.towers:
        kept.append([])
        for layer, convolution in enumerate(tower.convolutions()):
            groups = 2 if layer < 2 else 1
            half = convolution.out_channels // groups
            number = draw(st.integers(1, half))
            chosen = [draw(st.permutations(range(half)))[:number] for _ in range(groups)]
            kept[-1].append(sorted(group * half + channel for group in range(groups) for channel in chosen[group]))
    return kept


@settings(few, max_examples=20)
@given(st.data())
def test_taking_silent_channels_out_changes_nothing(data):
    options = {name: data.draw(st.booleans()) for name in ("pool", "shared")}
    model_spec = spec(**options, rank=data.draw(st.sampled_from([None, 3])))
    model = network(model_spec, data.draw(st.integers(0, 99)))
    with torch.no_grad():
        model.towers[0].conv1.weight.mul_(30)  # loud enough for the normalisation to matter
    for _ in range(2):  # the second time, what was pruned is pruned again
        kept = data.draw(kept_of(model))
        silence(model, kept)
        before, spec_before = copy.deepcopy(model.state_dict()), copy.deepcopy(model_spec)
        smaller, smaller_spec = remove_channels(model, model_spec, kept)
        torch.testing.assert_close(*outputs(smaller, model), rtol=1e-9, atol=1e-9)
        assert [[layer.out_channels for layer in tower.convolutions()] for tower in smaller.towers] == [
            [len(channels) for channels in tower] for tower in kept
        ]
        assert same_state(model, before)
        assert model_spec == spec_before
        model, model_spec = smaller, smaller_spec


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_silent_channels_of_each_layer_of_each_tower_alone(pool, shared):
    for number in range(2 if shared else 4):
        for layer in range(5):
            model = network(spec(pool=pool, shared=shared))
            kept = everything(model)
            channels = kept[number][layer]
            kept[number][layer] = channels[1:-1] if layer < 2 else channels[1:]
            changed = copy.deepcopy(model)
            silence(changed, kept)
            smaller, _ = remove_channels(changed, spec(pool=pool, shared=shared), kept)
            with torch.no_grad():
                torch.testing.assert_close(smaller(images()), changed(images()), **EXACT)
                assert not torch.allclose(smaller(images()), model(images()), rtol=1e-4, atol=1e-4)


def test_pruned_full_size_towers_and_a_round_trip_through_a_file(tmp_path):
    model_spec = {"arch": "itracker4", "width": 1.0, "input": [4, 150, 170]}
    model = network(model_spec)
    pixels = torch.randn(4, 4, 150, 170)
    pruned, pruned_spec = prune_towers(model, model_spec, pixels, 0.5, "taylor", "layer", 4)
    sizes = [[16, 32, 16, 8, 4]] * 4
    assert [[layer.out_channels for layer in tower.convolutions()] for tower in pruned.towers] == sizes
    tower = 16 * 122 + 32 * (8 * 25 + 1) + 16 * (32 * 25 + 1) + 8 * (16 * 9 + 1) + 4 * 9
    assert parameter_counts(pruned_spec) == {
        "towers": 4 * tower,
        "first_fc": 128 * sum(part.in_features for part in pruned.first.parts) + 128,
        "head": 128 * 64 + 64 + 130,
        "total": sum(parameter.numel() for parameter in pruned.parameters()),
    }
    smaller, smaller_spec = low_rank(pruned, pruned_spec, pruned.tower_features(pixels), 3)
    smallest, smallest_spec = drop_dimensions(smaller, smaller_spec, list(range(0, 128, 3)), torch.zeros(128))
    save_weights(tmp_path / "small.safetensors", smallest, smallest_spec)
    loaded, metadata = load_weights(tmp_path / "small.safetensors")
    assert metadata["model"] == smallest_spec == checked_spec(smallest_spec)
    assert torch.equal(loaded.eval()(pixels), smallest(pixels))
    assert count(loaded, (4, 150, 170))["params"] == parameter_counts(smallest_spec)["total"]
    assert count(loaded, (4, 150, 170))["macs"] < 0.4 * count(model, (4, 150, 170))["macs"]


def test_taylor_is_the_slope_of_the_output_in_each_channels_volume():
    """Against a numerical derivative: every channel's output times (1 + h), once for each coordinate."""
    for options in ({}, {"shared": True, "pool": False}):
        model = network(spec(output="none", **options)).double()
        pixels = images(3).double()
        scores = channel_scores(model, pixels, "taylor")
        assert all(value.grad is None for value in model.parameters())
        step = 1e-6
        for number, layer, channel in ((0, 0, 1), (1, 1, 9), (1, 2, 5), (0, 3, 2), (0, 4, 1)):
            outputs = []
            for factor in (1 + step, 1 - step):
                louder = copy.deepcopy(model)
                convolution = louder.towers[number].convolutions()[layer]
                with torch.no_grad():
                    convolution.weight[channel] *= factor
                    convolution.bias[channel] *= factor
                    outputs.append(louder(pixels))
            slope = (outputs[0] - outputs[1]) / (2 * step)
            expected = slope.abs().sum(dim=1).mean().item()
            assert scores[number][layer][channel].item() == pytest.approx(expected, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("importance", IMPORTANCES)
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_silent_channels_go_first(importance, scope):
    model_spec = spec()
    model = network(model_spec)
    kept = [[[0, 2, 5, 7], [1, 2, 3, 7, 8, 11, 12, 13], [0, 2, 4, 7], [1, 3], [1]] for _ in range(4)]
    silence(model, kept)
    smaller, smaller_spec = prune_towers(model, model_spec, images(), 0.5, importance, scope)
    assert smaller_spec["options"]["towers"] == kept
    torch.testing.assert_close(*outputs(smaller, model), rtol=1e-9, atol=1e-9)


def test_scores_of_filters():
    model = network(spec())
    l2, cosine = channel_scores(model, None, "l2"), channel_scores(model, None, "cosine")
    layer = model.towers[2].conv2
    filters = layer.weight.detach().flatten(1).double()
    expected = (filters.square().sum(dim=1) + layer.bias.detach().double().square()).sqrt()
    torch.testing.assert_close(l2[2][1], expected)
    unit = filters[8:] / filters[8:].norm(dim=1, keepdim=True)
    similar = (unit @ unit.T).abs().fill_diagonal_(0).sum(dim=1) / 7
    torch.testing.assert_close(cosine[2][1][8:], 1 - similar)


def test_choice_of_channels_by_hand():
    """Layers of 4, 4, 2, 2 and 1 channels; the first two in halves of two."""
    tower = [
        torch.tensor([4.0, 1.0, 2.0, 1.0]),  # pairs (0, 2) of mean 3 and (1, 3) of 1: 1.5 and 0.5 of the layer's mean
        torch.tensor([1.0, 9.0, 9.0, 1.0]),  # pairs (1, 2) of 9 and (0, 3) of 1: 1.8 and 0.2
        torch.tensor([1.0, 3.0]),  # 0.5 and 1.5
        torch.tensor([55.0, 45.0]),  # 1.1 and 0.9
        torch.tensor([7.0]),
    ]
    least = [[0, 2], [1, 2], [1], [0], [0]]
    assert kept_channels([tower], 0.01) == [least]
    assert kept_channels([tower], 8 / 13) == [[*least[:3], [0, 1], [0]]]
    assert kept_channels([tower], 10 / 13) == [[[0, 1, 2, 3], [1, 2], [1], [0, 1], [0]]]
    assert kept_channels([tower], 0.5, "layer") == [[*least[:4], [0]]]
    assert kept_channels([tower], 0.01, "layer", multiple=2) == [[*least[:2], [0, 1], [0, 1], [0]]]
    assert (
        kept_channels([tower], 0.01, "layer", multiple=8)
        == kept_channels([tower], 1.0)
        == [[[0, 1, 2, 3], [0, 1, 2, 3], [0, 1], [0, 1], [0]]]
    )


@few
@given(st.floats(0.01, 1), st.sampled_from(["global", "layer"]), st.sampled_from([1, 2, 4, 8]), st.integers(0, 99))
def test_any_choice_can_be_built(share, scope, multiple, seed):
    draws = torch.Generator().manual_seed(seed)
    channels = (8, 16, 8, 4, 2)
    scores = [[torch.rand(number, generator=draws, dtype=torch.float64) for number in channels] for _ in range(4)]
    kept = kept_channels(scores, share, scope, multiple)
    build(spec(towers=kept))
    for tower in kept:
        for chosen, number in zip(tower, channels, strict=True):
            assert len(chosen) == number or len(chosen) % multiple == 0
    if multiple == 1 and scope == "global":
        held = sum(len(chosen) for tower in kept for chosen in tower)
        least = 4 * (2 + 2 + 1 + 1 + 1)
        assert max(least, round(share * 4 * sum(channels)) - 1) <= held <= max(least, round(share * 4 * sum(channels)))


def test_dead_layers_have_scores_too():
    dead = [[torch.zeros(number, dtype=torch.float64) for number in (8, 16, 8, 4, 2)] for _ in range(4)]
    kept = kept_channels(dead, 0.5)
    build(spec(towers=kept))


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shrink", "message"),
    [
        (lambda model: low_rank(model, spec(), [], 0), "rank is 0; use 1 to 12"),
        (lambda model: low_rank(model, spec(), [], 13), "rank is 13"),
        (lambda model: drop_dimensions(model, spec(), [], torch.zeros(12)), r"keep are \[\]"),
        (lambda model: drop_dimensions(model, spec(), [3, 1], torch.zeros(12)), r"\[3, 1\]; list some of 0 to 11"),
        (lambda model: drop_dimensions(model, spec(), [1, 12], torch.zeros(12)), r"\[1, 12\]"),
        (lambda model: drop_dimensions(model, spec(), [-1], torch.zeros(12)), r"\[-1\]"),
        (lambda model: prune_towers(model, spec(), None, 0.0, "l2"), "share of channels to keep is 0.0"),
        (lambda model: prune_towers(model, spec(), None, 1.1, "l2"), "1.1"),
        (lambda model: prune_towers(model, spec(), None, 0.5, "l3"), "importance is 'l3'; use one of taylor, l2"),
        (lambda model: prune_towers(model, spec(), None, 0.5, "l2", "tower"), "scope is 'tower'; use one of global"),
        (lambda model: remove_channels(model, spec(), [[[0, 1], [0, 8], [0], [0], [0]]] * 4), "keeps 2 channels below"),
        (lambda model: remove_channels(model, spec(), [[[0, 4], [0, 8], [], [0], [0]]] * 4), r"towers\[0\]\[2\]"),
    ],
)
def test_bad_choices(shrink, message):
    with pytest.raises(UserError, match=message) as error:
        shrink(network(spec()))
    assert "\n" not in str(error.value)
