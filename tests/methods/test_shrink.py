"""Shrinking itracker4: each step leaves the output as it was wherever it claims to."""

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toy_near_eye import write_near_eye

from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.methods.settings import Shrink
from gazepipe.methods.shrink.first_layer import drop_dimensions, low_rank
from gazepipe.methods.shrink.rebuild import first_fc_parameters, parameter_counts
from gazepipe.methods.shrink.shrink import shrink
from gazepipe.methods.structural.criteria import scores
from gazepipe.methods.structural.graph import channel_groups
from gazepipe.methods.structural.prune import prune
from gazepipe.models.registry import build, checked_spec
from gazepipe.models.weights import load_weights, save_weights
from gazepipe.profiling.cost import count
from gazepipe.training.samples import samples_of

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


def loss(model: nn.Module, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (model(pixels) - labels).square().mean()


def pruned(model: nn.Module, model_spec: dict, share: float, pixels: torch.Tensor | None = None, **how):
    """`model` with a share of its towers' channels, the same of each layer."""
    pixels = images(8) if pixels is None else pixels
    labels = torch.rand(len(pixels), 2, generator=torch.Generator().manual_seed(3))
    how = {"target": "channels", "scope": "local", "round_to": 1, **how}
    return prune(model, model_spec, pixels, labels, loss, ratio=share, **how)


def channels_of(model: nn.Module) -> list[list[int]]:
    return [[layer.out_channels for layer in tower.convolutions()] for tower in model.towers]


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
    weight = torch.cat([term.weight for term in model.first.terms], dim=1)
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
        for weights in [model.first.mix.weight] if rank else [term.weight for term in model.first.terms]:
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


def test_pruned_full_size_towers_and_a_round_trip_through_a_file(tmp_path):
    model_spec = {"arch": "itracker4", "width": 1.0, "input": [4, 150, 170]}
    model = network(model_spec)
    pixels = torch.randn(4, 4, 150, 170)
    narrow, pruned_spec = pruned(model, model_spec, 0.5, pixels, round_to=4)
    assert channels_of(narrow) == [[16, 32, 16, 8, 4]] * 4
    tower = 16 * 122 + 32 * (8 * 25 + 1) + 16 * (32 * 25 + 1) + 8 * (16 * 9 + 1) + 4 * 9
    assert parameter_counts(pruned_spec) == {
        "towers": 4 * tower,
        "first_fc": 128 * sum(term.in_features for term in narrow.first.terms) + 128,
        "head": 128 * 64 + 64 + 130,
        "total": sum(parameter.numel() for parameter in narrow.parameters()),
    }
    smaller, smaller_spec = low_rank(narrow, pruned_spec, narrow.tower_features(pixels), 3)
    smallest, smallest_spec = drop_dimensions(smaller, smaller_spec, list(range(0, 128, 3)), torch.zeros(128))
    save_weights(tmp_path / "small.safetensors", smallest, smallest_spec)
    loaded, metadata = load_weights(tmp_path / "small.safetensors")
    assert metadata["model"] == smallest_spec == checked_spec(smallest_spec)
    assert torch.equal(loaded.eval()(pixels), smallest(pixels))
    assert count(loaded, (4, 150, 170))["params"] == parameter_counts(smallest_spec)["total"]
    assert count(loaded, (4, 150, 170))["macs"] < 0.4 * count(model, (4, 150, 170))["macs"]


@pytest.mark.parametrize("criterion", ["taylor", "l2", "cosine"])
@pytest.mark.parametrize("scope", ["global", "local"])
def test_silent_channels_go_first(criterion, scope):
    model_spec = spec()
    model = network(model_spec)
    kept = [[[0, 2, 5, 7], [1, 2, 3, 7, 8, 11, 12, 13], [0, 2, 4, 7], [1, 3], [1]] for _ in range(4)]
    silence(model, kept)
    smaller, smaller_spec = pruned(model, model_spec, 0.5, criterion=criterion, scope=scope)
    torch.testing.assert_close(*outputs(smaller, model), rtol=1e-9, atol=1e-9)
    for number, tower in enumerate(smaller.towers):
        assert [tower.norm1.positions, tower.norm2.positions] == kept[number][:2]
        assert smaller_spec["channels"][f"towers.{number}.norm2"] == kept[number][1]
        for layer, whole, channels in zip(
            tower.convolutions(), model.towers[number].convolutions(), kept[number], strict=True
        ):
            assert torch.equal(layer.bias, whole.bias[channels])


def test_neighbours_stay_those_of_the_whole_layer():
    """What is normalised by its neighbours changes where these positions are forgotten."""
    model = network(spec())
    with torch.no_grad():
        model.towers[0].conv1.weight.mul_(300)
    smaller, smaller_spec = pruned(model, spec(), 0.6, criterion="l2")
    closed_up = {name: size for name, size in smaller_spec["channels"].items() if ".norm" not in name}
    for number, tower in enumerate(smaller.towers):
        for name in ("norm1", "norm2"):
            closed_up[f"towers.{number}.{name}"] = list(range(len(getattr(tower, name).positions)))
    other = build({**smaller_spec, "channels": closed_up}).eval()
    other.load_state_dict(smaller.state_dict())
    found, without_gaps = outputs(smaller, other)
    assert (found - without_gaps).abs().max() > 1e-4


def test_scores_of_filters_are_those_of_their_group():
    model = network(spec())
    group = next(group for group in channel_groups(model)[0] if group.root == "towers.2.conv2")
    l2, cosine = (scores(model, [group], name, images(), torch.zeros(3, 2), loss)[0] for name in ("l2", "cosine"))
    filters = model.towers[2].conv2.weight.detach().flatten(1).double()
    torch.testing.assert_close(l2, filters.norm(dim=1) / filters.norm(dim=1).mean())
    similar = []
    for half in filters.chunk(2):
        unit = half / half.norm(dim=1, keepdim=True)
        similar.append((unit @ unit.T).abs().fill_diagonal_(0).sum(dim=1) / 7)
    distinct = 1 - torch.cat(similar)
    torch.testing.assert_close(cosine, distinct / distinct.mean())


@few
@given(
    st.floats(0.2, 0.99),
    st.sampled_from(["global", "local"]),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_share_can_be_built(share, scope, round_to, shared, seed):
    """Of 8, 16, 8, 4 and 2 channels; those of the first two layers go in pairs, one of each half."""
    model_spec = spec(shared=shared)
    model = network(model_spec, seed)
    full = sum(map(sum, channels_of(model)))
    least = [[max(round_to, 2), max(round_to, 2), round_to, round_to, min(round_to, 2)]] * len(model.towers)
    if sum(map(sum, least)) > 1.02 * share * full:
        with pytest.raises(UserError, match="out of reach"):
            pruned(model, model_spec, share, criterion="l2", scope=scope, round_to=round_to)
        return
    smaller, smaller_spec = pruned(model, model_spec, share, criterion="l2", scope=scope, round_to=round_to)
    assert build(smaller_spec).load_state_dict(smaller.state_dict())
    for tower in channels_of(smaller):
        assert all(size % round_to == 0 or size == 2 for size in tower)
        assert all(a >= b for a, b in zip(tower, least[0], strict=True))
    for tower in smaller.towers:
        for norm, half in ((tower.norm1, 4), (tower.norm2, 8)):
            assert 2 * sum(position < half for position in norm.positions) == len(norm.positions)
    assert abs(sum(map(sum, channels_of(smaller))) - share * full) <= max(round_to, 2)


def test_the_same_share_of_each_layer():
    smaller, _ = pruned(network(spec()), spec(), 0.5, criterion="l2")
    assert channels_of(smaller) == [[4, 8, 4, 2, 1]] * 4


def test_dead_networks_can_be_pruned_too():
    model = network(spec())
    silence(model, [[[]] * 5] * 4)
    for criterion in ("taylor", "l2", "cosine"):
        assert channels_of(pruned(model, spec(), 0.5, criterion=criterion)[0]) == [[4, 8, 4, 2, 1]] * 4


@pytest.mark.parametrize("options", [{"rank": 5}, {"rank": 5, "shared": True}, {}])
def test_the_first_layer_of_a_pruned_network_is_narrowed_all_the_same(options):
    """Pruning may have narrowed the factors and the head, whose sizes the options `rank` and `dimensions` decide."""
    narrow, narrow_spec = pruned(network(spec(**options)), spec(**options), 0.4, target="params", round_to=2)
    assert narrow_spec["channels"]["head.0"] == [narrow.head[0].out_features, 12]
    factored, factored_spec = low_rank(narrow, narrow_spec, narrow.tower_features(images(20, seed=1)), 12)
    torch.testing.assert_close(factored(images()), narrow(images()), **EXACT)
    for model, model_spec in ((narrow, narrow_spec), (factored, factored_spec)):
        keep = list(range(1, 12, 2))
        small, small_spec = drop_dimensions(model, model_spec, keep, model.embed(images(5)).mean(dim=0))
        torch.testing.assert_close(small.embed(images()), model.embed(images())[:, keep], **EXACT)
        rebuilt = build(small_spec).eval()
        rebuilt.load_state_dict(small.state_dict())
        assert torch.equal(rebuilt(images()), small(images()))


# -- the stage's step -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "options"), [("low_rank", {"rank": 3}), ("dropped", {"dimensions": 3}), (None, {})])
def test_towers_first_then_the_first_layer(kind, options, tmp_path):
    samples = samples_of(open_store(write_near_eye(tmp_path / "store.h5", *SHAPE[1:], per_subject=4)), None)
    width = tmp_path / "width.json"
    width.write_text(json.dumps({"low_rank": 3, "dropped": 3, "order": [7, 0, 11, *range(1, 7), 8, 9, 10]}))
    half = Shrink(first_layer=kind, width="auto", towers=0.5, criterion="taylor")
    model = network(spec())
    first, again = (shrink(half, model, spec(), samples, width, torch.device("cpu")) for _ in range(2))
    assert channels_of(first[0]) == [[4, 8, 4, 2, 1]] * 4
    assert first[1] == again[1]
    assert same_state(first[0], again[0].state_dict())
    found = {name: value for name, value in first[1]["options"].items() if spec()["options"].get(name) != value}
    assert {name: value for name, value in found.items() if value is not None} == options
    whole = shrink(half.model_copy(update={"towers": 1.0}), model, spec(), samples, width, torch.device("cpu"))[1]
    assert "channels" not in whole


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda model: low_rank(model, spec(), [], 0), "rank is 0; use 1 to 12"),
        (lambda model: low_rank(model, spec(), [], 13), "rank is 13"),
        (lambda model: drop_dimensions(model, spec(), [], torch.zeros(12)), r"keep are \[\]"),
        (lambda model: drop_dimensions(model, spec(), [3, 1], torch.zeros(12)), r"\[3, 1\]; list some of 0 to 11"),
        (lambda model: drop_dimensions(model, spec(), [1, 12], torch.zeros(12)), r"\[1, 12\]"),
        (lambda model: drop_dimensions(model, spec(), [-1], torch.zeros(12)), r"\[-1\]"),
        (lambda model: pruned(model, spec(), 0.0), r"ratio is 0.0; use the share that is left"),
        (lambda model: pruned(model, spec(), 1.1), "ratio is 1.1"),
        (lambda model: pruned(model, spec(), 0.5, criterion="l3"), "criterion is 'l3'; use one of cosine, l2, taylor"),
        (lambda model: pruned(model, spec(), 0.5, scope="tower"), "scope is 'tower'; use one of local, global"),
        (lambda model: pruned(model, spec(), 0.1), r"ratio 0.1 is out of reach, itracker4 keeps 0.\d+ of its channels"),
    ],
)
def test_bad_choices(bad, message):
    with pytest.raises(UserError, match=message) as error:
        bad(network(spec()))
    assert "\n" not in str(error.value)
