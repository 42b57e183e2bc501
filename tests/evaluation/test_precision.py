"""Precision of repeated predictions: closed forms, and the ratio of both measures for white noise."""

import numpy as np
import pytest

from gazepipe.evaluation.precision import deviations
from gazepipe.geometry import angles_to_vector, angular_error_deg


def test_white_noise_scatters_by_its_deviation_and_steps_by_root_two_of_it():
    rng = np.random.default_rng(0)
    points = rng.normal((300, 200), 3.0, (4000, 8, 2))
    std, steps = deviations(points, "px")
    assert std.shape == steps.shape == (4000,)
    rms = [np.sqrt((each**2).mean()) for each in (std, steps)]
    # Two axes of 3 px each; R - 1 makes it independent of the number of repeats.
    assert rms[0] == pytest.approx(3 * np.sqrt(2), rel=0.02)
    assert rms[1] == pytest.approx(6.0, rel=0.02)
    pairs, _ = deviations(points[:, :2], "px")
    assert np.sqrt((pairs**2).mean()) == pytest.approx(3 * np.sqrt(2), rel=0.03)


def test_small_angles_scatter_as_points_on_a_plane():
    rng = np.random.default_rng(1)
    angles = rng.normal(0, 1e-3, (50, 8, 2))
    for found, plane in zip(deviations(angles, "rad"), deviations(np.degrees(angles), "px"), strict=True):
        np.testing.assert_allclose(found, plane, rtol=1e-4)


def test_angles_are_those_between_gaze_vectors():
    pair = np.array([[[0.5, 0.2], [0.5, 0.3]]])  # at a pitch of 0.5 a step of yaw is a smaller angle
    between = angular_error_deg(*angles_to_vector(pair[0]))
    std, steps = deviations(pair, "rad")
    assert steps[0] == pytest.approx(between)
    # Both lie half of it from their mean direction: sqrt(2 (b/2)^2 / 1).
    assert std[0] == pytest.approx(between / np.sqrt(2))
    assert between < np.degrees(0.1) * np.cos(0.5) * 1.001


def test_what_does_not_move_has_no_scatter():
    same = np.full((3, 5, 2), 0.25)
    for units in ("rad", "px"):
        for found in deviations(same, units):
            np.testing.assert_allclose(found, 0, atol=1e-6)
