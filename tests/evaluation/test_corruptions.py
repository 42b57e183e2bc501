"""Corrupted images: the same for all, of the stated strength, worse with each strength."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazepipe.evaluation import corruptions
from gazepipe.evaluation.corruptions import CLEAN, KINDS, corrupt, corrupted, level_text, seen_again, variants
from gazepipe.evaluation.settings import Corruptions, Jitter

SETTINGS = Corruptions()
EYES, NEAR_EYE = {"kind": "eyes"}, {"kind": "near-eye"}


def picture(views: int = 1, height: int = 36, width: int = 112, seed: int = 0) -> np.ndarray:
    """Smooth blobs of all greys between 40 and 215, with an edge: what a photograph holds."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / rng.uniform(3, 9) + rng.uniform(0, 6)) * np.cos(y / rng.uniform(3, 9)) for _ in range(views)]
    greys = 128 + 60 * np.stack(waves) + 25 * (x > width / 2)
    return greys.clip(40, 215).astype(np.uint8)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(float) - b) ** 2)))


def test_the_clean_image_comes_first_and_every_kind_in_three_strengths():
    found = variants(SETTINGS)
    assert found[0] == (CLEAN, 0, 0.0)
    assert [(kind, strength) for kind, strength, _ in found[1:]] == [(k, s) for k in KINDS for s in (1, 2, 3)]
    images = corrupted(picture(), 5, SETTINGS)
    assert images.shape == (19, 1, 36, 112)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images[0], picture())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(seed=st.integers(0, 50), row=st.integers(0, 10**6), views=st.sampled_from([1, 4]))
def test_each_strength_is_further_from_the_clean_image(kind, seed, row, views):
    image = picture(views, seed=seed)
    seen = [distance(corrupt(image, row, kind, level), image) for level in getattr(SETTINGS, kind)]
    assert 0 < seen[0] < seen[1] < seen[2]


def test_the_draw_of_an_image_follows_from_its_row_and_kind_alone():
    image, other = picture(), picture(seed=1)
    for kind, level in (("noise", 5.0), ("occlusion", 0.3)):
        np.testing.assert_array_equal(corrupt(image, 7, kind, level), corrupt(image.copy(), 7, kind, level))
        assert (corrupt(image, 7, kind, level) != corrupt(image, 8, kind, level)).any()
    added = [corrupt(each, 7, "noise", 5.0).astype(int) - each for each in (image, other)]
    np.testing.assert_array_equal(*added)
    assert distance(corrupt(image, 8, "noise", 5.0), corrupt(image, 7, "noise", 5.0)) > 5


@pytest.mark.parametrize("level", SETTINGS.noise)
def test_noise_has_its_standard_deviation_in_every_view(level):
    grey = np.full((4, 200, 200), 128, np.uint8)
    made = corrupt(grey, 0, "noise", level).astype(float)
    assert made.mean() == pytest.approx(128, abs=0.5)
    # Rounding to grey levels adds 1/12.
    assert made.std(axis=(1, 2)) == pytest.approx(np.full(4, np.hypot(level, 12**-0.5)), rel=0.02)
    assert np.abs(np.corrcoef(made.reshape(4, -1)) - np.eye(4)).max() < 0.02


@pytest.mark.parametrize("width", [112, 360])
def test_blur_is_as_wide_as_its_share_of_the_width(width):
    sigma = 0.02 * width
    edge = np.where(np.arange(width) < width // 2, 0, 255).astype(np.uint8)
    made = corrupt(np.tile(edge, (1, 40, 1)), 0, "blur", 0.02)[0, 20].astype(float)
    slope = np.diff(made) / 255
    place = np.arange(width - 1) + 0.5
    mean = (slope * place).sum()
    assert slope.sum() == pytest.approx(1)
    assert np.sqrt((slope * (place - mean) ** 2).sum()) == pytest.approx(sigma, rel=0.05)


def test_exposure_is_a_gain_of_light_behind_a_gamma():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    light = (image / 255) ** 2.2
    for kind, factor in (("darker", 0.25), ("brighter", 4.0)):
        expected = 255 * (factor * light).clip(0, 1) ** (1 / 2.2)
        assert np.abs(corrupt(image, 0, kind, 2.0) - expected).max() <= 0.5 + 1e-9


@given(row=st.integers(0, 10**6), share=st.floats(0.02, 0.95))
def test_a_rectangle_covers_its_share(row, share):
    white = np.full((1, 120, 160), 255, np.uint8)
    made = corrupt(white, row, "occlusion", share)[0]
    covered = made != 255
    assert covered.mean() == pytest.approx(share, abs=0.012)
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    assert covered.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert len(np.unique(made[covered])) == 1
    assert made[covered].max() <= corruptions.LIGHTEST


@given(row=st.integers(0, 10**6), small=st.floats(0.02, 0.9), more=st.floats(0, 0.9))
def test_a_larger_rectangle_holds_the_smaller(row, small, more):
    white = np.full((1, 36, 112), 255, np.uint8)
    large = min(0.95, small + more)
    a, b = (corrupt(white, row, "occlusion", share)[0] != 255 for share in (small, large))
    assert not (a & ~b).any()


def test_rectangles_lie_anywhere():
    white = np.full((1, 36, 112), 255, np.uint8)
    covered = np.mean([corrupt(white, row, "occlusion", 0.15) != 255 for row in range(400)], axis=0)[0]
    assert covered[3:-3, 9:-9].min() > 0
    assert covered.mean() == pytest.approx(0.15, abs=0.01)


def test_lower_quality_takes_fewer_greys_and_keeps_the_size():
    for views in (1, 4):
        made = corrupt(picture(views), 0, "jpeg", 5)
        assert made.shape == (views, 36, 112)


def test_what_is_seen_again_differs_by_noise_and_shift_alone():
    image = picture(1, 90, 120)
    still = seen_again(image, 3, Jitter(repeats=60, noise=2.0, shift=0.0), EYES)
    assert still.shape == (60, 1, 90, 120)
    assert still.astype(float).std(axis=0).mean() == pytest.approx(2.0, rel=0.03)
    # The middle of a bright spot, by its weights.
    spot = np.zeros((1, 61, 61), np.uint8)
    spot[0, 29:32, 29:32] = 250
    seen = seen_again(spot, 3, Jitter(repeats=400, noise=0.0, shift=0.01), EYES)[:, 0].astype(float)
    x = (seen * np.arange(61)).sum(axis=(1, 2)) / seen.sum(axis=(1, 2))
    assert x.mean() == pytest.approx(30, abs=0.1)
    assert x.std() == pytest.approx(0.61, rel=0.15)


def test_images_that_are_not_cut_out_by_landmarks_stay_where_they_are():
    image = picture(4, 40, 50)
    made = seen_again(image, 1, Jitter(repeats=3, noise=0.0, shift=0.1), NEAR_EYE)
    np.testing.assert_array_equal(made, np.stack([image] * 3))


@pytest.mark.parametrize(
    ("kind", "levels", "text"),
    [
        ("noise", (5.0, 15.0), "5, 15 grey levels"),
        ("blur", (0.005, 0.02), "0.5, 2 % of the width"),
        ("darker", (1.0,), "1 stop"),
        ("jpeg", (50, 10), "quality 50, 10"),
    ],
)
def test_levels_are_written_with_their_unit(kind, levels, text):
    assert level_text(kind, *levels) == text
