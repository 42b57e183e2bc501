"""Re-birth: scores against loops, orthogonality as a property, and that nothing but the reborn filters changes."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from gazepipe.errors import UserError
from gazepipe.methods.rebirth import (
    FilterRebirth,
    most_redundant,
    orthogonal_filters,
    reborn,
    redundancy,
    sequential_followers,
)
from gazepipe.methods.settings import Rebirth
from gazepipe.models.registry import build
from gazepipe.training.losses import dense_3x3, mse, pearson, supervised
from gazepipe.training.settings import Training


def network(arch: str = "resnet18", width: float = 0.25) -> nn.Module:
    """A network with batch statistics and affine weights unlike those of a fresh one."""
    torch.manual_seed(0)
    model = build({"arch": arch, "width": width, "input": [1, 32, 48]})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low in (
                (module.running_mean, -0.5),
                (module.running_var, 0.5),
                (module.weight, 0.5),
                (module.bias, -0.5),
            ):
                value.data.uniform_(low, low + 1)
    return model.eval()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = a.double(), b.double()
    return (a @ b.T).abs() / a.norm(dim=1)[:, None] / b.norm(dim=1)


def trained_a_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    images, target = torch.randn(8, 1, 32, 48, generator=generator()), torch.zeros(8, 2)
    mse(model(images), target).mean().backward()
    optimizer.step()


def test_redundancy_against_loops():
    filters = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 12)))
    rows = filters.numpy()
    for i in range(7):
        cosine = [
            abs(rows[i] @ rows[j]) / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j]) for j in range(7) if j != i
        ]
        assert redundancy(filters)[i].item() == pytest.approx(np.mean(cosine), rel=1e-10)


def test_copies_are_the_most_redundant():
    filters = torch.eye(10, 30)
    filters[7] = -3 * filters[2]
    assert most_redundant(filters, 0.2).tolist() == [2, 7]


@pytest.mark.parametrize(("share", "count"), [(0.15, 3), (0.01, 1), (0.5, 10)])
def test_share_is_rounded_and_never_nothing(share, count):
    assert len(most_redundant(torch.randn(20, 30, generator=generator()), share)) == count


def test_one_filter_always_stays_and_a_lone_one_is_left_alone():
    assert len(most_redundant(torch.randn(2, 9, generator=generator()), 0.9)) == 1
    assert len(most_redundant(torch.randn(1, 9), 0.5)) == 0


@settings(max_examples=60, deadline=None)
@given(
    kept=st.integers(1, 60),
    spare=st.integers(0, 40),
    count=st.integers(1, 12),
    seed=st.integers(0, 2**31 - 1),
    scale=st.floats(1e-4, 1e3),
    twins=st.booleans(),
)
def test_reborn_filters_are_orthogonal_to_every_kept_one(kept, spare, count, seed, scale, twins):
    draws = generator(seed)
    filters = scale * torch.randn(kept, kept + count + spare, generator=draws)
    if twins:  # the kept filters may depend on each other, and may differ in size
        filters[-1] = 1e-3 * filters[0]
    fresh = orthogonal_filters(filters, count, draws)
    assert fresh.shape == (count, filters.shape[1])
    assert cosines(fresh, filters).max() <= 1e-7
    assert cosines(fresh.float(), filters).max() <= 1e-7
    torch.testing.assert_close(cosines(fresh, fresh), torch.eye(count, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(fresh.norm(dim=1), filters.double().norm(dim=1).mean().expand(count))


def test_without_a_null_space_they_are_the_least_covered_directions():
    draws = generator()
    kept = torch.randn(50, 9, dtype=torch.float64, generator=draws) * torch.tensor([5.0] * 7 + [0.1, 0.05])
    fresh = orthogonal_filters(kept, 2, draws)
    covered = cosines(fresh, kept).mean()
    others = cosines(torch.randn(200, 9, dtype=torch.float64, generator=draws), kept).mean()
    assert covered < 0.2 * others


def test_followers_of_the_shipped_networks():
    model = network()
    followers = sequential_followers(model)
    body = model.stage2[0].body
    assert followers[body[0]] == (body[1], body[3])
    assert followers[body[3]] == (body[4], None)
    wide = network("resnet10_wide")
    assert followers.keys() >= set(dense_3x3(model))
    assert sequential_followers(wide)[wide.stem[0]] == (wide.stem[2], None)


def test_a_reader_behind_something_that_mixes_channels_is_not_followed():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.PixelShuffle(2), nn.Conv2d(1, 4, 3))
    assert sequential_followers(model)[model[0]] == (None, None)


@pytest.mark.parametrize("arch", ["resnet18", "resnet10_wide"])
def test_kept_filters_stay_and_reborn_ones_are_orthogonal(arch):
    model = network(arch)
    before = copy.deepcopy(model)
    chosen = reborn(model, 0.15, 128, generator())
    assert set(chosen) == {
        name for name, layer in model.named_modules() if layer in dense_3x3(model) and layer.out_channels <= 128
    }
    followers = {reader: layer for layer, (_, reader) in sequential_followers(model).items() if reader is not None}
    names = {module: name for name, module in model.named_modules()}
    for name, filters in chosen.items():
        layer, old = model.get_submodule(name), before.get_submodule(name)
        assert len(filters) == round(0.15 * layer.out_channels) or layer.in_channels == 1
        kept = [i for i in range(layer.out_channels) if i not in filters]
        inputs = list(range(layer.in_channels))
        if layer in followers:  # columns that read a reborn filter are zero, all others as they were
            dead = chosen[names[followers[layer]]]
            inputs = [i for i in inputs if i not in dead]
            assert torch.count_nonzero(layer.weight[kept][:, dead]) == 0
        assert torch.equal(layer.weight[kept][:, inputs], old.weight[kept][:, inputs])
        if layer.in_channels > 1:
            assert cosines(layer.weight[filters].flatten(1), layer.weight[kept].flatten(1)).max() <= 1e-7
        assert layer.bias is None or torch.equal(layer.bias[kept], old.bias[kept])
        norm, reader = sequential_followers(model)[layer]
        old_norm = before.get_submodule(names[norm])
        for value, fresh in (
            ("running_mean", 0),
            ("running_var", 1),
            ("bias", 0),
            ("weight", 0 if reader is None else 1),
        ):
            assert (getattr(norm, value)[filters] == fresh).all()
            assert torch.equal(getattr(norm, value)[kept], getattr(old_norm, value)[kept])


@pytest.mark.parametrize("arch", ["resnet18", "resnet10_wide"])
def test_the_function_changes_only_by_losing_the_old_filters(arch):
    """After re-birth the network computes what it computed before with the chosen channels masked out."""
    model = network(arch)
    masked = copy.deepcopy(model)
    chosen = reborn(model, 0.15, 128, generator())
    followers = sequential_followers(masked)
    for name, filters in chosen.items():
        norm = followers[masked.get_submodule(name)][0]
        mask = torch.ones(norm.num_features, 1, 1)
        mask[filters] = 0
        norm.register_forward_hook(lambda _, __, output, mask=mask: output * mask)
    images = torch.randn(5, 1, 32, 48, generator=generator())
    with torch.no_grad():
        torch.testing.assert_close(model(images), masked(images), rtol=1e-4, atol=1e-6)
        assert not torch.allclose(model(images), network(arch)(images), atol=1e-4)


def test_reborn_filters_learn_again():
    model = network().train()
    chosen = reborn(model, 0.15, 128, generator())
    before = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        trained_a_step(model, optimizer)
    for name, filters in chosen.items():
        assert (model.get_submodule(name).weight[filters] != before.get_submodule(name).weight[filters]).any()


@pytest.mark.parametrize("algorithm", ["adam", "sgd"])
def test_moments_of_reborn_values_are_zero_and_others_stay(algorithm):
    model = network("resnet10_wide").train()
    optimizer = {
        "adam": lambda: torch.optim.AdamW(model.parameters()),
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9),
    }[algorithm]()
    trained_a_step(model, optimizer)
    before = copy.deepcopy(optimizer.state_dict()["state"])
    chosen = reborn(model, 0.15, 128, generator(), optimizer)
    followers = sequential_followers(model)
    parameters = list(model.parameters())
    expected = {}
    for name, filters in chosen.items():
        layer = model.get_submodule(name)
        norm, reader = followers[layer]
        for parameter in (layer.weight, layer.bias, norm.weight, norm.bias):
            expected.setdefault(parameter, torch.zeros(parameter.shape, dtype=torch.bool))[filters] = True
        if reader is not None:
            expected.setdefault(reader.weight, torch.zeros(reader.weight.shape, dtype=torch.bool))[:, filters] = True
    moments = 0
    for index, parameter in enumerate(parameters):
        reset = expected.get(parameter, torch.zeros(parameter.shape, dtype=torch.bool))
        for key, old in before[index].items():
            new = optimizer.state[parameter][key]
            if not torch.is_tensor(new) or new.shape != parameter.shape:
                assert new == old
                continue
            moments += 1
            assert torch.count_nonzero(new[reset]) == 0
            assert torch.equal(new[~reset], old[~reset])
    assert moments >= len(parameters)


def test_same_seed_same_network():
    first, again, other = network(), network(), network()
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        reborn(model, 0.2, 128, generator(seed))
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_large_layers_stay_out():
    model = network()
    assert {model.get_submodule(name).out_channels for name in reborn(model, 0.15, 32, generator())} == {16, 32}


def test_a_network_without_3x3_layers_is_refused():
    with pytest.raises(UserError, match="no dense 3x3 convolution of at most 4 filters"):
        reborn(network(), 0.15, 4, generator())


def kind(seed: int = 0, **changes) -> FilterRebirth:
    return FilterRebirth(Rebirth(**{"share": 0.1, "epochs": 1, **changes}), None, generator(seed))


def test_the_penalty_is_added_if_it_has_a_weight():
    model, (images, target) = network(), (torch.randn(4, 1, 32, 48), torch.zeros(4, 2))
    plain = supervised(mse)
    assert kind().objective(plain, (model, {})) is plain
    objective = kind(pearson=0.5).objective(plain, (model, {}))
    torch.testing.assert_close(
        objective(model, images, target), plain(model, images, target) + 0.5 * pearson(model, 128)
    )


def test_each_generation_is_a_cycle_before_which_filters_are_reborn():
    training, cycles = kind(generations=3).schedule(Training(epochs=7, learning_rate=0.5), 1)
    assert (training, cycles) == (Training(epochs=1, learning_rate=0.5), 3)
    model, rebirth = network(), kind(generations=2)
    optimizer = torch.optim.AdamW(model.parameters())
    before = model.stage1[0].body[0].weight.clone()
    rebirth.before_cycle(0, model, optimizer)
    middle = model.stage1[0].body[0].weight.clone()
    rebirth.before_cycle(1, model, optimizer)
    assert not torch.equal(before, middle)
    assert not torch.equal(middle, model.stage1[0].body[0].weight)


def test_without_a_share_the_schedule_stays_and_nothing_is_reborn():
    model, control = network(), kind(share=0, generations=3, pearson=0.5)
    assert control.schedule(Training(epochs=7), 1) == kind(generations=3).schedule(Training(epochs=7), 1)
    assert control.settings.epochs_of(7) == 3
    optimizer = torch.optim.AdamW(model.parameters())
    trained_a_step(model, optimizer)
    before, moments = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])
    control.before_cycle(0, model, optimizer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for number, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, moments[number][name]) for name, value in state.items())
    images, target = torch.randn(4, 1, 32, 48), torch.zeros(4, 2)
    penalised, same = (each.objective(supervised(mse), (model, {})) for each in (control, kind(pearson=0.5)))
    torch.testing.assert_close(penalised(model, images, target), same(model, images, target))


def test_it_tells_how_alike_filters_are_before_and_after():
    model, rebirth = network(), kind(generations=2)
    optimizer = torch.optim.AdamW(model.parameters())
    layers = [name for name, module in model.named_modules() if module in dense_3x3(model)]
    before = redundancy(model.get_submodule(layers[1]).weight.flatten(1)).mean()
    told = rebirth.before_cycle(0, model, optimizer)["layers"]
    assert [layer["name"] for layer in told] == layers
    assert told[1]["before"]["mean"] == pytest.approx(before.item(), abs=1e-6)
    weight = model.get_submodule(layers[1]).weight.flatten(1)
    assert told[1]["after"]["mean"] == pytest.approx(redundancy(weight).mean().item(), abs=1e-6)
    assert told[1]["reborn"] == max(1, round(0.1 * len(weight)))
    assert all(layer["after"]["mean"] < layer["before"]["mean"] for layer in told)
    cosines = F.normalize(weight.double(), dim=1) @ F.normalize(weight.double(), dim=1).T
    pairs = cosines.abs()[torch.triu(torch.ones_like(cosines), 1) > 0]
    assert told[1]["after"]["0.2"] == pytest.approx((pairs > 0.2).double().mean().item(), abs=1e-6)
