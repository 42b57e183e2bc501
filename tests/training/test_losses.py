"""Losses against NumPy references and closed forms; gradients where square roots and arccosines break."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from gazepipe.errors import UserError
from gazepipe.geometry import angles_to_vector, angular_error_deg
from gazepipe.training.losses import LOSSES, angular, dense_3x3, l1, loss_of, mse, pearson, smooth_l1, supervised


def angles(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1.2, 1.2, (count, 2)))


def test_mse_is_in_square_degrees():
    prediction = torch.tensor([[math.radians(3), math.radians(-4)]])
    assert mse(prediction, torch.zeros(1, 2)).item() == pytest.approx((9 + 16) / 2)


def test_smooth_l1_bends_at_one_degree():
    prediction = torch.deg2rad(torch.tensor([[0.5, 0.0], [3.0, 0.0], [1.0, 1.0]], dtype=torch.float64))
    expected = [0.5 * 0.5**2 / 2, (3 - 0.5) / 2, 0.5]
    np.testing.assert_allclose(smooth_l1(prediction, torch.zeros(3, 2)).numpy(), expected, rtol=1e-6)


def test_l1_is_in_degrees():
    prediction = torch.deg2rad(torch.tensor([[3.0, -4.0]], dtype=torch.float64))
    assert l1(prediction, torch.zeros(1, 2)).item() == pytest.approx(3.5)


def test_losses_of_points_are_in_percent_of_the_scale():
    prediction = torch.tensor([[0.503, 0.25]], dtype=torch.float64)
    target = torch.tensor([[0.5, 0.21]], dtype=torch.float64)
    assert loss_of("l1", "px")(prediction, target).item() == pytest.approx((0.3 + 4) / 2)
    assert loss_of("l2", "px")(prediction, target).item() == pytest.approx((0.09 + 16) / 2)
    assert loss_of("smooth_l1", "px")(prediction, target).item() == pytest.approx((0.045 + 3.5) / 2)


def test_l2_is_mse_and_units_of_angles_are_degrees():
    a, b = angles(9, 6), angles(9, 7)
    for name, loss in (("l2", mse), ("mse", mse), ("l1", l1), ("smooth_l1", smooth_l1), ("angular", angular)):
        assert torch.equal(loss_of(name, "rad")(a, b), loss(a, b))


def test_angular_needs_angles():
    with pytest.raises(UserError, match=r"training\.loss: angular compares gaze angles, this set is in px; use l1"):
        loss_of("angular", "px")


def test_angular_agrees_with_geometry():
    a, b = angles(200, 0), angles(200, 1)
    expected = angular_error_deg(angles_to_vector(a.numpy()), angles_to_vector(b.numpy()))
    np.testing.assert_allclose(angular(a, b).numpy(), expected, atol=1e-10)


def test_angular_is_not_the_product_of_cosines():
    """The prior system's error, acos(cos dyaw cos dpitch), differs away from the axis."""
    a, b = torch.tensor([[0.6, 0.0]]).double(), torch.tensor([[0.6, 0.5]]).double()
    wrong = math.degrees(math.acos(math.cos(0.5)))
    assert angular(a, b).item() < wrong - 4


def test_angular_gradient_is_finite_at_zero_and_has_unit_length_nearby():
    same = angles(5, 2).requires_grad_()
    angular(same, same.detach()).sum().backward()
    assert torch.equal(same.grad, torch.zeros_like(same))
    near = torch.tensor([[1e-6, 0.0]], dtype=torch.float64, requires_grad=True)
    angular(near, torch.zeros(1, 2, dtype=torch.float64)).sum().backward()
    np.testing.assert_allclose(near.grad.numpy(), [[math.degrees(1), 0]], atol=1e-6)


def test_angular_in_float32_near_zero():
    prediction = torch.tensor([[1e-4, 0.0]])
    assert angular(prediction, torch.zeros(1, 2)).item() == pytest.approx(math.degrees(1e-4), rel=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_one_number_per_sample_and_zero_at_the_target(name):
    a = angles(7, 3)
    assert LOSSES[name](a, angles(7, 4)).shape == (7,)
    assert torch.count_nonzero(LOSSES[name](a, a)) == 0


def test_supervised_is_the_mean_over_the_batch():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    images, target = torch.randn(6, 1, 2, 2), angles(6, 5).float()
    expected = angular(model(images), target).mean()
    assert torch.equal(supervised(angular)(model, images, target), expected)


def test_pearson_against_numpy():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Conv2d(5, 4, 3), nn.Conv2d(4, 9, 3), nn.Conv2d(9, 3, 1))
    expected = []
    for layer in model[:2]:  # the third has more than 5 filters, the fourth is 1x1
        correlation = np.corrcoef(layer.weight.detach().flatten(1).double().numpy())
        off_diagonal = correlation[~np.eye(len(correlation), dtype=bool)]
        expected.append((off_diagonal**2).mean())
    assert pearson(model, max_filters=5).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_pearson_falls_when_it_is_minimised():
    torch.manual_seed(0)
    model = nn.Conv2d(1, 6, 3)
    before = pearson(model, 128)
    before.backward()
    with torch.no_grad():
        model.weight -= 0.05 * model.weight.grad / model.weight.grad.norm()
    assert pearson(model, 128) < before


def test_pearson_without_a_layer_is_zero():
    assert pearson(nn.Conv2d(1, 4, 5), 128).item() == 0


def test_dense_3x3_leaves_out_grouped_and_other_sizes():
    model = nn.ModuleList([nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, (1, 3)), nn.Conv2d(4, 8, 3)])
    assert dense_3x3(model) == [model[2]]
