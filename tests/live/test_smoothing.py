"""The One-Euro filter against the paper's algorithm, and jitter against known turns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazepipe.geometry import angles_to_vector
from gazepipe.live.smoothing import OneEuro, jitter_deg


def one_euro_of_the_paper(values, rate, min_cutoff, beta):
    """Algorithms 1 and 2 of Casiez 2012 for one number, as they are printed there (derivative cutoff 1 Hz)."""

    def alpha(cutoff):
        tau, period = 1 / (2 * np.pi * cutoff), 1 / rate
        return 1 / (1 + tau / period)

    filtered, last, last_dx = [], None, None
    for value in values:
        dx = 0.0 if last is None else (value - last) * rate
        last_dx = dx if last_dx is None else alpha(1.0) * dx + (1 - alpha(1.0)) * last_dx
        share = alpha(min_cutoff + beta * abs(last_dx))
        last = value if last is None else share * value + (1 - share) * last
        filtered.append(last)
    return filtered


def smoothed(values, rate=25.0, **parameters):
    one = OneEuro(**parameters)
    return np.array([one(value, index / rate) for index, value in enumerate(values)])


numbers = st.lists(st.floats(-10, 10), min_size=1, max_size=30)


@given(numbers, st.floats(5, 120), st.floats(0.1, 5), st.floats(0, 5))
def test_it_is_the_paper_s_filter(values, rate, min_cutoff, beta):
    expected = one_euro_of_the_paper(values, rate, min_cutoff, beta)
    assert smoothed(values, rate, min_cutoff=min_cutoff, beta=beta) == pytest.approx(expected, abs=1e-9)


@given(numbers, st.floats(0, 5))
def test_it_never_leaves_the_range_of_what_it_saw(values, beta):
    result = smoothed(values, beta=beta)
    assert min(values) - 1e-9 <= result.min()
    assert result.max() <= max(values) + 1e-9


def test_all_directions_are_filtered_alike():
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    values = rng.normal(size=(40, 3))
    assert smoothed(values @ turn.T) == pytest.approx(smoothed(values) @ turn.T)


def test_noise_is_damped_and_a_jump_is_followed():
    noise = np.random.default_rng(0).normal(0, 0.01, 200)
    still = smoothed(noise)
    assert np.abs(np.diff(still)).mean() < 0.5 * np.abs(np.diff(noise)).mean()
    jump = np.repeat([0.0, 0.5], 25)
    slow, quick = (smoothed(jump, beta=beta) for beta in (0.0, 1.5))
    assert quick[29] > slow[29]
    assert quick[-1] == pytest.approx(0.5, abs=0.02)


def test_a_gap_in_time_lets_go_of_the_past():
    one = OneEuro(beta=0.0)
    one(0.0, 0.0)
    assert one(1.0, 100.0) == pytest.approx(1.0, abs=0.01)


def test_a_time_that_stands_still_changes_nothing():
    one = OneEuro()
    one(0.0, 1.0)
    before = one(1.0, 1.1)
    assert one(5.0, 1.1) == before
    assert one(5.0, 1.0) == before


def turning(angles_deg):
    yaw = np.radians(angles_deg)
    return angles_to_vector(np.column_stack([np.zeros_like(yaw), yaw]))


def test_jitter_is_the_angle_between_frames():
    assert jitter_deg([turning([0, 2, 4, 6])]) == pytest.approx((2, 2))
    assert jitter_deg([turning([0, 1, -2])]) == pytest.approx((2, np.sqrt(5)))
    assert jitter_deg([turning([10, 10, 10])]) == pytest.approx((0, 0))


def test_faces_do_not_mix_in_the_jitter():
    assert jitter_deg([turning([0, 1]), turning([40, 43]), turning([5])]) == pytest.approx((2, np.sqrt(5)))


def test_no_two_frames_no_jitter():
    assert np.isnan(jitter_deg([])).all()
    assert np.isnan(jitter_deg([turning([5])])).all()
