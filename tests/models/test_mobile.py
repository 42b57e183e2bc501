"""mobile_gaze: within its budget, stages as feature distillation needs them, a head that knows places."""

import pytest
import torch
from torch import nn

from gazepipe.errors import UserError
from gazepipe.models.registry import build, forward_features, stage_shapes
from gazepipe.profiling.cost import count


def network(shape: list[int], width: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    return build({"arch": "mobile_gaze", "width": width, "input": shape})


def test_budget_at_112():
    cost = count(network([1, 112, 112]), (1, 112, 112))
    assert cost == {"params": 187_570, "macs": 28_857_536}
    assert cost["params"] <= 300_000
    assert cost["macs"] <= 30_000_000


def test_half_the_width_costs_less_than_a_third():
    assert 0.24 < count(network([1, 112, 112], 0.5), (1, 112, 112))["macs"] / 28_857_536 < 0.34


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ([1, 36, 112], (5, 14)),
        ([1, 36, 60], (5, 8)),
        ([1, 112, 112], (14, 14)),
        ([1, 224, 224], (28, 28)),
        ([4, 33, 47], (5, 6)),
        ([1, 8, 8], (1, 1)),
        ([1, 120, 121], (15, 16)),
    ],
)
@pytest.mark.parametrize("width", [0.25, 1.0])
def test_sizes_and_stages(shape, last, width):
    model = network(shape, width).eval()
    images = torch.randn(2, *shape)
    prediction, features = forward_features(model, images)
    assert prediction.shape == (2, 2)
    assert torch.equal(prediction, model(images))
    assert [tuple(feature.shape[1:]) for feature in features] == stage_shapes(model)
    assert [feature.shape[1] for feature in features] == [max(8, int(c * width)) for c in (16, 32, 64, 64)]
    assert tuple(features[-1].shape[2:]) == last
    assert features[-2].shape == features[-1].shape
    assert next(layer for layer in model.head if isinstance(layer, nn.Linear)).in_features <= 16 * 14 * 14


def test_too_small_an_image():
    with pytest.raises(UserError, match="7x32 is too small; use at least 8x8"):
        network([1, 7, 32])


def test_every_parameter_gets_a_gradient_and_an_untrained_network_looks_ahead():
    model = network([1, 36, 60], 0.5).train()
    output = model(torch.randn(8, 1, 36, 60))
    assert output.abs().max() < 0.5
    output.square().sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_only_relu_between_the_layers():
    """What int8 runs well: convolutions, batch norms that fold into them, ReLU, one pooling, linear layers."""
    kinds = {type(module) for module in network([1, 112, 112]).modules() if not list(module.children())}
    assert kinds == {nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.AvgPool2d, nn.Flatten, nn.Linear}
    inputs = {m.kernel_size for m in network([1, 112, 112]).modules() if isinstance(m, nn.Conv2d) and m.groups > 1}
    assert inputs == {(3, 3), (5, 5)}


def test_the_head_tells_places_apart():
    """A spot that moves by one place of the last map changes the output, averaged over places it would not."""
    model = network([1, 112, 112]).eval()
    maps = torch.zeros(2, 64, 14, 14)
    maps[0, :, 5, 5] = maps[1, :, 5, 6] = 3.0
    here, there = model.head(maps)
    assert (here - there).abs().max() > 1e-3 * here.abs().max()
