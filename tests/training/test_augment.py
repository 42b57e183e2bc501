"""Augmentation: what it does to labels and pixels, how often, and that off means off."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy_training import OFF

from gazepipe.training import augment as augmentation
from gazepipe.training.augment import NONE, OPERATIONS, augment, blur, draw_plan, resized_crop, sharpen
from gazepipe.training.settings import Augmentation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(**shares: float) -> Augmentation:
    """These, which may be 1, and nothing else."""
    return OFF.model_copy(update=shares)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draws = generator(1)
    return torch.rand(64, 1, 12, 20, generator=draws), torch.rand(64, 2, generator=draws) - 0.5


def test_off_is_the_identity(batch):
    images, target = augment(*batch, OFF, generator())
    assert torch.equal(images, batch[0])
    assert torch.equal(target, batch[1])


def test_arguments_are_left_alone(batch):
    before = [tensor.clone() for tensor in batch]
    augment(*batch, only(flip=0.5, crop=0.5, noise=0.1), generator())
    assert all(torch.equal(a, b) for a, b in zip(before, batch, strict=True))


def test_flip_mirrors_the_image_and_negates_yaw_only(batch):
    images, target = augment(*batch, only(flip=1.0), generator())
    assert torch.equal(images, batch[0].flip(-1))
    assert torch.equal(target, batch[1] * torch.tensor([1.0, -1.0]))


def test_flip_twice_is_the_identity(batch):
    twice = augment(*augment(*batch, only(flip=1.0), generator()), only(flip=1.0), generator())
    assert torch.equal(twice[0], batch[0])
    assert torch.equal(twice[1], batch[1])


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "flip"])
def test_other_operations_change_pixels_and_no_label(batch, name):
    images, target = augment(*batch, only(**{name: 1.0}), generator())
    assert torch.equal(target, batch[1])
    changed = (images - batch[0]).abs().flatten(1).amax(dim=1)
    assert (changed > 1e-3).all()
    assert images.min() >= 0
    assert images.max() <= 1


def test_a_sample_that_no_operation_chose_is_untouched(batch):
    config = only(crop=0.1, flip=0.1, blur=0.1, pairs=0.1)
    plan = draw_plan(64, config, generator())
    images, target = augment(*batch, config, generator())
    untouched = (plan == NONE).all(dim=1)
    assert 0 < untouched.sum() < 64
    assert torch.equal(images[untouched], batch[0][untouched])
    flipped = (plan == OPERATIONS.index("flip")).any(dim=1)
    assert torch.equal(target[:, 1] == -batch[1][:, 1], flipped)


def test_no_pair_holds_a_flip_where_flip_has_no_share():
    plan = draw_plan(5_000, only(pairs=1.0), generator())
    assert (plan[:, 0] != plan[:, 1]).all()
    assert set(plan.flatten().tolist()) == set(range(len(OPERATIONS))) - {OPERATIONS.index("flip")}


def test_all_views_of_a_sample_get_the_same():
    image = torch.rand(32, 1, 12, 20, generator=generator(1))
    config = only(crop=0.2, blur=0.2, pairs=0.6, shift=0.1, contrast=0.2, brightness=0.2)
    images, _ = augment(image.expand(-1, 4, -1, -1), torch.zeros(32, 2), config, generator())
    assert (images - images[:, :1]).abs().max() < 1e-6
    assert (images - image).abs().flatten(1).amax(dim=1).min() > 1e-3


def test_shares_are_kept_and_pairs_are_of_two_different_operations():
    shares = {"crop": 0.1, "flip": 0.2, "sharpness": 0.05, "pairs": 0.1}
    plan = draw_plan(20_000, only(**shares), generator())
    single = plan[plan[:, 1] == NONE, 0]
    for number, name in enumerate(OPERATIONS):
        assert (single == number).sum().item() / 20_000 == pytest.approx(shares.get(name, 0.0), abs=0.01)
    pairs = plan[plan[:, 1] != NONE]
    assert len(pairs) / 20_000 == pytest.approx(0.1, abs=0.01)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert (single == NONE).sum() / 20_000 == pytest.approx(0.55, abs=0.015)


def test_same_seed_same_images_other_seed_others(batch):
    config = only(crop=0.3, blur=0.2, mixup=0.2, brightness=0.2, contrast=0.2, noise=0.05)
    first, again, other = (augment(*batch, config, generator(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_crop_shows_a_window_inside_the_image():
    """On a coordinate ramp a crop is again a ramp, whose ends tell window, area and aspect."""
    height, width, count = 40, 60, 300
    x = ((torch.arange(width) + 0.5) / width).expand(count, 1, height, width).contiguous()
    y = ((torch.arange(height) + 0.5) / height)[:, None].expand(count, 1, height, width).contiguous()
    inside_x = resized_crop(x, (0.8, 0.95), generator())[:, 0, 20, 5:-5]
    inside_y = resized_crop(y, (0.8, 0.95), generator())[:, 0, 5:-5, 30]
    shown_x = (inside_x[:, -1] - inside_x[:, 0]) * width / (width - 11)
    shown_y = (inside_y[:, -1] - inside_y[:, 0]) * height / (height - 11)
    area, aspect = shown_x * shown_y, shown_x / shown_y
    full = (shown_x > 0.995) | (shown_y > 0.995)  # a side was cut at the image's own
    assert 0.79 <= area.min() <= 0.82
    assert 0.93 <= area.max() <= 0.96
    assert aspect[~full].min() >= 0.89
    assert aspect[~full].max() <= 1.12
    left = inside_x[:, 0] - 5.5 / width * shown_x
    assert left.min() > -0.005
    assert (left + shown_x).max() < 1.005
    assert left.std() > 0.01


def test_blur_against_a_dense_kernel():
    images = torch.rand(3, 2, 9, 11, generator=generator())
    sigma = torch.tensor([0.9, 1.1, 1.3])
    result = blur(images, sigma)
    for image, width, blurred in zip(images, sigma, result, strict=True):
        line = torch.tensor([math.exp(-0.5 * (k / width.item()) ** 2) for k in range(-2, 3)])
        kernel = torch.outer(line, line)
        kernel = (kernel / kernel.sum())[None, None]
        padded = F.pad(image[:, None], (2, 2, 2, 2), mode="reflect")
        torch.testing.assert_close(blurred, F.conv2d(padded, kernel)[:, 0])


def test_blur_keeps_a_constant():
    flat = torch.full((2, 1, 8, 8), 0.3)
    torch.testing.assert_close(blur(flat, torch.tensor([0.9, 1.3])), flat)


def test_sharpen_against_pillows_kernel():
    image = torch.rand(1, 1, 5, 6, generator=generator())
    smooth = sharpen(image, torch.tensor([0.0]))
    window = image[0, 0, 1:4, 2:5]
    assert smooth[0, 0, 2, 3].item() == pytest.approx((window.sum() + 4 * window[1, 1]).item() / 13, rel=1e-5)
    assert torch.equal(smooth[..., 0, :], image[..., 0, :])
    torch.testing.assert_close(sharpen(image, torch.tensor([1.0])), image)
    expected = (smooth + 2.5 * (image - smooth)).clamp(0, 1)
    torch.testing.assert_close(sharpen(image, torch.tensor([2.5])), expected)


def test_drawn_factors_stay_in_the_prior_ranges(batch, monkeypatch):
    seen = {}
    monkeypatch.setattr(augmentation, "blur", lambda images, sigma: seen.update(blur=sigma) or images)
    monkeypatch.setattr(augmentation, "sharpen", lambda images, factor: seen.update(sharpen=factor) or images)
    augment(*batch, only(blur=1.0), generator())
    augment(*batch, only(sharpness=1.0), generator())
    for name, low, high in (("blur", 0.9, 1.3), ("sharpen", 0.8, 4.8)):
        assert low <= seen[name].min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < seen[name].max() <= high


def test_brightness_contrast_and_noise(batch):
    images = batch[0] * 0.2 + 0.4
    bright, _ = augment(images, batch[1], only(brightness=0.2), generator())
    ratio = (bright / images).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert 0.8 <= ratio.min() < 0.84
    assert 1.16 < ratio.max() <= 1.2

    contrast, _ = augment(images, batch[1], only(contrast=0.2), generator())
    torch.testing.assert_close(contrast.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)))
    spread = (contrast.flatten(1).std(dim=1) / images.flatten(1).std(dim=1)).numpy()
    assert 0.8 <= spread.min() < 0.84
    assert 1.16 < spread.max() <= 1.2001

    noisy, _ = augment(images, batch[1], only(noise=0.05), generator())
    deviation = (noisy - images).flatten(1).std(dim=1)
    assert np.ptp(deviation.numpy()) > 0.03
    assert deviation.max() < 0.06


def test_shift_moves_whole_images_and_repeats_their_edges():
    image = torch.arange(6 * 10, dtype=torch.float32).reshape(1, 1, 6, 10).repeat(200, 1, 1, 1)
    moved = augmentation.shifted(image, 0.2, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(image[:1], (2, 2, 2, 2), mode="replicate")[0, 0]
    windows = {tuple(padded[y : y + 6, x : x + 10].flatten().tolist()): (y, x) for y in range(5) for x in range(5)}
    found = [windows[tuple(one.flatten().tolist())] for one in moved]
    assert len(set(found)) == 25
    assert torch.equal(augmentation.shifted(image, 0.0, torch.Generator()), image)
