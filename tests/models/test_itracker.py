"""itracker4: its published sizes, its options, and its parts against torch's own."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gazepipe.errors import UserError
from gazepipe.models.itracker import CHANNELS, Tower, TowerSum, flat_size, tower_channels
from gazepipe.models.network import LocalNorm
from gazepipe.models.registry import build, checked_spec, forward_features
from gazepipe.models.weights import load_weights, save_weights
from gazepipe.profiling.cost import count

SMALLEST = [4, 131, 147]


def spec(shape: list[int] = SMALLEST, width: float = 0.25, **options) -> dict:
    return {"arch": "itracker4", "width": width, "input": shape, "options": options}


def tower_of(number: int, first: list[int], second: list[int], third: int, fourth: int, fifth: int) -> dict:
    """The `channels` of a spec for one tower and its term of the first layer, [5, features]; at one place."""
    return {
        f"towers.{number}.conv1": [len(first), 1, 1],
        f"towers.{number}.norm1": first,
        f"towers.{number}.conv2": [len(second), len(first), 2],
        f"towers.{number}.norm2": second,
        f"towers.{number}.conv3": [third, len(second), 1],
        f"towers.{number}.conv4": [fourth, third, 1],
        f"towers.{number}.conv5": [fifth, fourth, 1],
        f"first.terms.{number}": [3, fifth],
    }


def network(*args, **options) -> nn.Module:
    torch.manual_seed(0)
    return build(spec(*args, **options)).eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# -- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize(
    ("shape", "places"), [([4, 576, 720], (14, 19)), ([4, 256, 256], (4, 4)), ([4, 288, 360], (5, 8))]
)
def test_sizes_of_the_prior_system(shape, places, pool):
    model = network(shape, 1.0, pool=pool)
    assert [parameters(tower) for tower in model.towers] == [85_560] * 4
    maps = model.towers[0](torch.zeros(1, 1, *shape[1:]))
    assert maps.shape == (1, 8, *places)
    features = 4 * 8 * places[0] * places[1]
    assert sum(term.weight.numel() for term in model.first.terms) == features * 128
    total = 4 * 85_560 + (features * 128 + 128) + (128 * 64 + 64) + (64 * 2 + 2)
    assert parameters(model) == count(model, tuple(shape))["params"] == total


def test_the_first_layer_of_the_full_size_is_the_part_worth_compressing():
    first = network([4, 576, 720], 1.0).first
    assert sum(term.in_features for term in first.terms) == 8512
    assert parameters(first) == 1_089_536 + 128


def test_multiply_adds_of_a_tower_at_half_size():
    """Places times fan-in times filters of each convolution, and the products with the two band matrices."""
    convolutions = 70 * 88 * 121 * 32 + 34 * 43 * 25 * 16 * 64 + 7 * 10 * 25 * 64 * 32 + 40 * 9 * 32 * 16 + 40 * 16 * 8
    bands = 34 * 43 * 32 * 32 + 16 * 21 * 64 * 64
    head = 1280 * 128 + 128 * 64 + 64 * 2
    assert count(network([4, 288, 360], 1.0), (4, 288, 360))["macs"] == 4 * (convolutions + bands) + head


def test_shared_towers_are_counted_once():
    separate, shared = network([4, 288, 360], 1.0), network([4, 288, 360], 1.0, shared=True)
    assert parameters(separate) - parameters(shared) == 2 * 85_560
    assert count(separate, (4, 288, 360))["macs"] == count(shared, (4, 288, 360))["macs"]


@pytest.mark.parametrize("pool", [True, False])
def test_the_map_of_every_input_size(pool):
    tower = Tower(tower_channels(0.1), pool)
    for height in (*range(131, 152), 200, 333):
        maps = tower(torch.zeros(1, 1, height, 131))
        assert flat_size(tower_channels(0.1)[-1], (4, height, 131)) == maps.numel()


def test_width_scales_the_channels_in_pairs():
    assert [tower_channels(width) for width in (1.0, 0.5, 0.3, 0.01)] == [
        list(CHANNELS),
        [16, 32, 16, 8, 4],
        [10, 20, 10, 4, 2],
        [2, 2, 2, 2, 2],
    ]


# -- parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 4, 32, 64])
def test_norm_is_torchs_local_response_norm(channels):
    torch.manual_seed(channels)
    x = 100 * torch.randn(2, channels, 5, 7, dtype=torch.float64)
    ours, theirs = LocalNorm(list(range(channels))).double(), nn.LocalResponseNorm(5, 1e-4, 0.75, 1)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-7, atol=0)  # the band matrix was rounded to float32
    single = LocalNorm(list(range(channels)))(x.float())
    torch.testing.assert_close(single, theirs(x.float()), rtol=1e-5, atol=1e-5)
    assert (ours(x) / x).min() < 0.9


def test_norm_of_kept_channels_is_that_of_the_whole_layer():
    torch.manual_seed(0)
    kept = [0, 1, 3, 6, 7, 11]
    x = torch.zeros(2, 12, 3, 3)
    x[:, kept] = 100 * torch.randn(2, len(kept), 3, 3)
    expected = nn.LocalResponseNorm(5, 1e-4, 0.75, 1)(x)[:, kept]
    torch.testing.assert_close(LocalNorm(kept)(x[:, kept]), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(LocalNorm(list(range(6)))(x[:, kept]), expected, rtol=1e-3)


@pytest.mark.parametrize("shape", [(131, 147), (140, 133)])
def test_tower_is_the_prior_systems(shape):
    torch.manual_seed(1)
    tower = Tower(tower_channels(), pool=True)
    norm = nn.LocalResponseNorm(5, 1e-4, 0.75, 1)
    x = torch.randn(2, 1, *shape)
    y = norm(F.max_pool2d(F.leaky_relu(tower.conv1(x)), 3, 2))
    y = norm(F.max_pool2d(F.leaky_relu(tower.conv2(y)), 3, 2))
    y = F.relu(tower.conv5(F.relu(tower.conv4(F.leaky_relu(tower.conv3(y))))))
    torch.testing.assert_close(tower(x), y, rtol=1e-5, atol=1e-6)
    assert y.count_nonzero() > 0


def test_without_pooling_the_strided_convolutions_stand_where_the_windows_are_centred():
    """Picking the middle of each window that the pooled tower would take the maximum of gives the same map."""
    torch.manual_seed(2)
    tower = Tower(tower_channels(0.25), pool=False)
    x = torch.randn(2, 1, 151, 160)
    y = F.conv2d(x, tower.conv1.weight, tower.conv1.bias, 4)
    y = tower.norm1(F.leaky_relu(y[..., 1:-1, 1:-1][..., ::2, ::2]))
    y = F.conv2d(y, tower.conv2.weight, tower.conv2.bias, 1, 2, groups=2)
    y = tower.norm2(F.leaky_relu(y[..., 1:-1, 1:-1][..., ::2, ::2]))
    y = F.relu(tower.conv5(F.relu(tower.conv4(F.leaky_relu(tower.conv3(y))))))
    torch.testing.assert_close(tower(x), y, rtol=1e-5, atol=1e-6)


def test_sum_of_towers_is_one_linear_of_their_concatenation():
    torch.manual_seed(3)
    layer = TowerSum([3, 5, 2, 4], 6, None)
    nn.init.normal_(layer.bias)
    features = [torch.randn(7, size) for size in (3, 5, 2, 4)]
    weight = torch.cat([term.weight for term in layer.terms], dim=1)
    torch.testing.assert_close(layer(features), F.linear(torch.cat(features, dim=1), weight, layer.bias))
    factored = TowerSum([3, 5, 2, 4], 6, 2)
    weight = factored.mix.weight @ torch.cat([term.weight for term in factored.terms], dim=1)
    torch.testing.assert_close(factored(features), F.linear(torch.cat(features, dim=1), weight, factored.bias))


# -- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"output": output, "embedding": embedding, "shared": shared, "pool": pool, "rank": rank}
        for output, embedding, (shared, pool, rank) in itertools.product(
            ("sigmoid", "relu", "none"),
            ("none", "tanh", "sigmoid"),
            ((False, True, None), (True, True, 3), (False, False, 2)),
        )
    ],
)
def test_forward_is_head_of_embedding_and_trains(options):
    model = network(**options, dimensions=9)
    images = torch.randn(3, *SMALLEST)
    embedding, prediction = model.embed(images), model(images)
    assert embedding.shape == (3, 9)
    assert torch.equal(prediction, model.head(embedding))
    assert prediction.shape == (3, 2)
    assert ((prediction - 0.5).abs() < 0.3).all()  # starts near the middle of the scene
    low, high = {"none": (-torch.inf, torch.inf), "tanh": (-1, 1), "sigmoid": (0, 1)}[options["embedding"]]
    assert low <= embedding.min()
    assert embedding.max() <= high
    prediction.square().sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize(
    ("output", "lowest", "highest"), [("sigmoid", 0, 1), ("relu", 0, torch.inf), ("none", -torch.inf, torch.inf)]
)
def test_range_of_the_output(output, lowest, highest):
    model = network(output=output)
    z = 1e6 * torch.randn(200, 128)
    prediction = model.head(z)
    assert prediction.min() == lowest or lowest < prediction.min() < -100
    assert prediction.max() == highest or highest > prediction.max() > 100


def test_each_image_has_its_own_tower_and_weights_of_the_first_layer():
    model = network()
    images = torch.randn(1, *SMALLEST)
    features = model.tower_features(images)
    assert all(torch.equal(features[view], model.towers[view](images[:, [view]]).flatten(1)) for view in range(4))
    permuted = model.embed(images[:, [1, 0, 3, 2]])
    assert not torch.allclose(permuted, model.embed(images), atol=1e-3)


def test_shared_towers_see_the_right_eye_mirrored():
    model = network(shared=True)
    left = torch.randn(2, 2, *SMALLEST[1:])
    maps = model.tower_maps(torch.cat((left, left.flip(3)), dim=1))
    torch.testing.assert_close(maps[0], maps[2].flip(3))
    torch.testing.assert_close(maps[1], maps[3].flip(3))
    assert not torch.allclose(maps[0], maps[1], atol=1e-3)


def test_channels_last_and_bf16_give_nearly_the_same_numbers():
    model = network([4, 140, 160], 1.0)
    images = torch.randn(4, 4, 140, 160)
    expected = model.embed(images)
    last = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(last.embed(images.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        rough = last.embed(images)
    assert (rough - expected).std() < 0.02 * expected.std()


def test_it_has_no_stages_for_feature_distillation():
    with pytest.raises(UserError, match="feature KD"):
        forward_features(network(), torch.zeros(1, *SMALLEST))


# -- specs and weights files ----------------------------------------------------------------------------------------


def test_a_shrunk_network_is_rebuilt_from_its_weights_file_alone(tmp_path):
    shrunk = spec(rank=3, dimensions=5, embedding="tanh")
    shrunk["channels"] = tower_of(0, [0, 5], [1, 9], 2, 1, 1)
    for number in range(1, 4):
        shrunk["channels"] |= tower_of(number, [0, 5], [0, 7, 8, 15], 2, 1, 1)
    model = build(shrunk).eval()
    assert model.towers[3].norm2.positions == [0, 7, 8, 15]
    assert model.towers[3].norm2.band.squeeze().count_nonzero().item() == 6  # 7 and 8 are neighbours, 0 and 15 of none
    save_weights(tmp_path / "a.safetensors", model, shrunk)
    save_weights(tmp_path / "b.safetensors", model, {**shrunk, "options": dict(reversed(shrunk["options"].items()))})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded, metadata = load_weights(tmp_path / "a.safetensors")
    assert metadata["model"] == checked_spec(shrunk) == shrunk
    images = torch.randn(2, *SMALLEST)
    assert torch.equal(loaded.eval()(images), model(images))
    with pytest.raises(UserError, match=r"holds the model itracker4 .*rank 3.*, expected itracker4 .*\(rank 2\)"):
        load_weights(tmp_path / "a.safetensors", spec(rank=2))


def test_the_state_holds_parameters_only():
    model = network()
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outptu": "relu"}, "'outptu' is unknown; use one of output, embedding, shared, pool, dimensions, rank"),
        ({"output": "tanh"}, "output is 'tanh'; use one of sigmoid, relu, none"),
        ({"embedding": "relu"}, "embedding is 'relu'"),
        ({"shared": 1}, "shared is 1"),
        ({"pool": "no"}, "pool is 'no'"),
        ({"rank": 0}, "rank is 0"),
        ({"rank": 2.0}, "rank is 2.0"),
        ({"rank": 129}, "rank 129 exceeds the 128 dimensions"),
        ({"dimensions": True}, "dimensions is True"),
        ({"dimensions": None}, "dimensions is None"),
        ({"towers": None}, "option 'towers' is unknown"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message) as error:
        build(spec(**options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"towers.0.norm1": [0, 8]}, r"norm1' is to be \[0, 8\]; list some of \[0, 1, 2, 3, 4, 5, 6, 7\], rising"),
        ({"towers.0.norm1": [5, 0]}, r"\[5, 0\]"),
        ({"towers.0.norm1": [5, 5]}, r"\[5, 5\]"),
        ({"towers.0.norm1": []}, r"is to be \[\]"),
        ({"towers.0.norm1": 3}, "is to be 3"),
        ({"towers.0.norm1": [1, 2, 3]}, "do not fit each other"),
        ({"towers.4.norm1": [0, 5]}, "there is none"),
        ({"towers.0.conv2": [3, 2, 2]}, r"'towers.0.conv2' of \[16, 8, 2\] cannot be \[3, 2, 2\]; leave its groups"),
        ({"towers.0.conv2": [2, 3, 2]}, "equally many channels in each"),
        ({"towers.0.conv2": [2, 2, 1]}, "leave its groups"),
        ({"towers.0.conv5": [0, 1, 1]}, "whole numbers above 0"),
        ({"towers.0.conv5": [3, 1, 1]}, r"at most \[2, 4, 1\]"),
        ({"first.terms.0": [3, 2]}, "do not fit each other"),
    ],
)
def test_channels_that_do_not_fit(changed, message):
    narrowed = spec(rank=3, dimensions=5)
    narrowed["channels"] = tower_of(0, [0, 5], [1, 9], 2, 1, 1)
    build(narrowed)
    narrowed["channels"] |= changed
    with pytest.raises(UserError, match=message) as error:
        build(narrowed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [[1, 288, 360], [3, 288, 360], [4, 130, 360], [4, 288, 130]])
def test_bad_input_sizes(shape):
    with pytest.raises(UserError, match="x".join(map(str, shape))):
        build(spec(shape))
