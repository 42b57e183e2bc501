"""Heat maps: complete, in the right place, and others when the weights are others."""

import numpy as np
import pytest
import torch

from gazepipe.models.registry import build
from gazepipe.near_eye.explain import heatmaps
from gazepipe.near_eye.explain.heatmaps import METHODS, Tapped, attributions, describe, sanity, ssim, verdict

SIZE = (192, 200)
SPEC = {"arch": "itracker4", "width": 0.25, "input": [4, *SIZE], "options": {"output": "none"}}
SCALE = torch.tensor([100.0, 50.0])


def _network(options: dict | None = None, seed: int = 0) -> Tapped:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build({**SPEC, "options": {**SPEC["options"], **(options or {})}})
        torch.nn.init.normal_(model.head[2].weight, std=0.3)
    return Tapped(model.eval().requires_grad_(False), SCALE)


def _images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 4, *SIZE, generator=torch.Generator().manual_seed(1))


def _maps(network: Tapped, x: torch.Tensor) -> dict[str, np.ndarray]:
    return {method: heatmaps.strength(attributions(network, x, method, steps=2)) for method in METHODS}


@pytest.mark.parametrize("options", [{}, {"shared": True}, {"pool": False}, {"rank": 4, "embedding": "tanh"}])
def test_the_tapped_network_is_the_network_in_pixels(options):
    network, x = _network(options), _images()
    torch.testing.assert_close(network(x), network.model(x) * SCALE)
    for method, maps in _maps(network, x[:1]).items():
        assert maps.shape == (1, 4, *SIZE), method
        assert np.isfinite(maps).all()
        assert (maps >= 0).all()


def test_gradient_is_the_slope_in_pixels():
    network, x = _network(), _images(1)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    slopes = (attributions(network, x, "gradient") * direction[:, None]).sum(dim=(2, 3, 4))
    step = 1e-4
    expected = (network(x + step * direction) - network(x - step * direction)) / (2 * step)
    torch.testing.assert_close(slopes, expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))


def test_integrated_gradients_sum_to_the_way_the_point_moves():
    network, x = _network(), _images(1) * 0.5
    coarse, fine = (attributions(network, x, "integrated_gradients", steps) for steps in (1, 24))
    moved = float(torch.linalg.vector_norm(network(x) - network(torch.zeros_like(x))))
    assert heatmaps.completeness_px(network, x, fine) < 0.03 * moved
    assert heatmaps.completeness_px(network, x, coarse) > heatmaps.completeness_px(network, x, fine)


@pytest.mark.parametrize("view", range(4))
def test_all_methods_point_at_the_one_view_that_the_network_reads(view):
    network = _network()
    for other in set(range(4)) - {view}:
        torch.nn.init.zeros_(network.model.first.terms[other].weight)
    for method, maps in _maps(network, _images(1)).items():
        shares = [row["share"] for row in describe(maps)]
        assert shares[view] == pytest.approx(1, abs=1e-5), method


def test_grad_cam_in_closed_form_on_the_last_map():
    """With a linear head d y / d A is constant: the map is sum over channels of mean gradient times A."""
    network, x = _network(), _images(1)
    tapped = network.model.tower_maps(x)[1].detach().requires_grad_(True)
    maps = [seen if view != 1 else tapped for view, seen in enumerate(network.model.tower_maps(x))]
    out = network.model.head(network.model.first([seen.flatten(1) for seen in maps])) * SCALE
    gradient = torch.autograd.grad(out[0, 0], tapped)[0]
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * tapped).sum(dim=1, keepdim=True).detach()
    expected = torch.nn.functional.interpolate(expected, SIZE, mode="bilinear")[:, 0]
    torch.testing.assert_close(attributions(network, x, "grad_cam")[:, 0, 1], expected, atol=1e-5, rtol=1e-3)


def test_description_of_a_known_map():
    maps = np.zeros((1, 2, 20, 10))
    maps[0, 0, 4, 6], maps[0, 0, 8, 6], maps[0, 1] = 3.0, 3.0, 0.01
    first, second = describe(maps)
    assert first["share"] == pytest.approx(6 / 8)
    assert (first["center_x"], first["center_y"], first["spread"]) == pytest.approx((6, 6, 2))
    assert first["peak"] == pytest.approx(1)
    assert (second["center_x"], second["center_y"]) == pytest.approx((4.5, 9.5))
    assert second["peak"] == pytest.approx(0.05)


def test_ssim_of_equal_and_of_unrelated_images():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=(2, 40, 40))
    assert ssim(a, a) == pytest.approx(1)
    assert abs(ssim(a, b)) < 0.2
    assert ssim(a, b) == pytest.approx(ssim(b, a))


def test_sanity_sees_random_weights_and_leaves_the_network_as_it_was(monkeypatch):
    monkeypatch.setattr(heatmaps, "SANITY_STEPS", 2)
    network, x = _network(), _images(1)
    before = network(x)
    rows, maps = sanity(network, SPEC, x, seed=5)
    torch.testing.assert_close(network(x), before, atol=0, rtol=0)
    assert list(maps) == ["trained", *heatmaps.GROUPS]
    assert len(rows) == len(METHODS) * len(heatmaps.GROUPS)
    assert verdict(rows) == dict.fromkeys(METHODS, True)


def test_sanity_fails_where_nothing_changes(monkeypatch):
    network = _network()
    same = {name: value.clone() for name, value in network.model.state_dict().items()}
    monkeypatch.setattr(heatmaps, "_fresh_weights", lambda spec, seed: same)
    monkeypatch.setattr(heatmaps, "SANITY_STEPS", 1)
    rows, _ = sanity(network, SPEC, _images(1), seed=0)
    assert not any(verdict(rows).values())
    assert all(row[column] == pytest.approx(1) for row in rows for column in ("signed", "strength", "ssim"))


def test_every_weight_is_randomised_in_the_end():
    marks = [mark for group in heatmaps.GROUPS.values() for mark in group]
    assert all(any(mark in name for mark in marks) for name in build(SPEC).state_dict())
