"""Effective dimension on clouds, spectra and heads whose dimension is known."""

import numpy as np
import pytest
import torch

from gazepipe.near_eye.explain.dimension import (
    active_matrix,
    active_spectrum,
    count_for,
    covariance,
    dimensions,
    participation_ratio,
    pca_spectrum,
    two_nn,
    weight_spectrum,
)
from gazepipe.near_eye.explain.importance import head_jacobian


def _rotation(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


@pytest.mark.parametrize(("inner", "tolerance"), [(1, 0.15), (2, 0.25), (3, 0.4), (5, 0.8)])
def test_two_nn_finds_the_dimension_of_a_cube_in_many_dimensions(inner, tolerance):
    rng = np.random.default_rng(inner)
    points = rng.uniform(size=(1500, inner)) @ _rotation(rng, 20)[:inner]
    assert two_nn(points) == pytest.approx(inner, abs=tolerance)


def test_two_nn_follows_a_curved_surface_where_pca_does_not():
    rng = np.random.default_rng(0)
    turn, height = rng.uniform(4, 14, 1500), rng.uniform(0, 20, 1500)
    roll = np.stack([turn * np.cos(turn), height, turn * np.sin(turn)], axis=1)
    assert two_nn(roll) == pytest.approx(2, abs=0.3)
    assert count_for(pca_spectrum(roll)) == 3


def test_two_nn_does_not_trip_over_points_that_stand_twice():
    points = np.random.default_rng(0).uniform(size=(400, 2))
    assert two_nn(np.concatenate([points, points])) == two_nn(points)
    assert two_nn(np.zeros((50, 4))) == 0


def test_participation_ratio_of_known_spectra():
    assert participation_ratio(np.ones(7)) == pytest.approx(7)
    assert participation_ratio(np.array([5.0, 0, 0])) == pytest.approx(1)
    assert participation_ratio(np.array([3.0, 1.0])) == pytest.approx(16 / 10)
    assert participation_ratio(np.zeros(3)) == 0


def test_count_for_is_the_first_sum_that_reaches_the_share():
    assert count_for(np.array([90.0, 9.0, 1.0])) == 2
    assert count_for(np.array([90.0, 8.9, 1.1])) == 3
    assert count_for(np.array([50.0, 50.0]), 0.5) == 1
    assert count_for(np.zeros(4)) == 0


def test_pca_and_weight_spectrum_of_a_diagonal_case():
    z = np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    assert pca_spectrum(z) == pytest.approx([4.5, 0.5])
    assert weight_spectrum(np.diag([2.0, 5.0, 1.0])) == pytest.approx([25, 4, 1])


def test_active_spectrum_of_a_linear_head_is_the_variance_of_its_output():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12))
    head = rng.normal(size=(2, 12))
    spectrum = active_spectrum(z, np.broadcast_to(head, (400, 2, 12)))
    output = np.linalg.eigvalsh(covariance(z @ head.T))[::-1]
    assert spectrum[:2] == pytest.approx(output)
    assert spectrum[2:] == pytest.approx(np.zeros(10), abs=1e-6 * spectrum[0])
    assert np.trace(active_matrix(z, head[None])) == pytest.approx(output.sum())


def test_active_subspace_finds_the_six_factors_among_125_directions():
    """The controlled check: six factors drive the output, nuisance fills the embedding, weights tell nothing."""
    rng = np.random.default_rng(2)
    factors, nuisance = rng.normal(size=(600, 6)), rng.normal(size=(600, 40)) * np.geomspace(2, 0.3, 40)
    basis = _rotation(rng, 128)
    z = np.concatenate([factors, nuisance], axis=1) @ basis[:46]
    towers = torch.tensor(basis[:6], dtype=torch.float32)
    mixing = torch.tensor(_rotation(rng, 64)[:, :6], dtype=torch.float32)
    read = torch.tensor(rng.normal(size=(2, 64)), dtype=torch.float32)

    def head(values):
        return torch.relu(values @ towers.T @ mixing.T) @ read.T

    jacobian = head_jacobian(head, torch.tensor(z, dtype=torch.float32))
    found = dimensions(z, jacobian, rng.normal(size=(128, 2000)))["estimates"]
    assert found["active_subspace_99"] == 6
    assert 20 < found["pca_99"] <= 46
    assert found["weights_99"] > 120


def test_spectra_are_shares_that_fall():
    rng = np.random.default_rng(3)
    found = dimensions(rng.normal(size=(80, 5)), rng.normal(size=(80, 2, 5)), rng.normal(size=(5, 9)))
    for spectrum in found["spectra"].values():
        assert len(spectrum) == 5
        assert sum(spectrum) == pytest.approx(1, abs=1e-4)
        assert spectrum == sorted(spectrum, reverse=True)
