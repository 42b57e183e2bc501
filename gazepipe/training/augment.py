"""Batched augmentation of gaze images, on whatever device the batch is on.

At most one geometric or sharpness operation (or one pair of them) touches a sample, and most samples get
none: each is worked on as a sub-batch, so the cost follows the share. All draws come from one CPU generator,
which makes a run the same on every device; but a GPU draws the pixel noise itself. Images are floats in [0, 1].
"""

import math

import torch
import torch.nn.functional as F

from gazepipe.training.device import standard_normal
from gazepipe.training.settings import Augmentation
from gazepipe.training.transfer import sent

CROP_AREA = (0.8, 0.95)
CROP_ASPECT = (0.9, 1.1)
BLUR_SIGMA = (0.9, 1.3)
SHARPNESS = (0.8, 4.8)
MIXUP_AREA = (0.95, 0.98)
OPERATIONS = ("crop", "flip", "blur", "sharpness", "mixup")
NONE = -1


def augment(
    images: torch.Tensor, target: torch.Tensor, settings: Augmentation, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augmented copies of images [B, V, H, W] in [0, 1] and of targets (pitch, yaw) [B, 2].

    All views of a sample get the same. Only `flip` changes a label. `shift` is there since the eyes are never found to
    the pixel.
    """
    plan = draw_plan(len(images), settings, generator)
    images, target = images.clone(), target.clone()
    for number, name in enumerate(OPERATIONS):
        chosen = torch.nonzero((plan == number).any(dim=1)).flatten()
        if len(chosen) == 0:
            continue
        rows = sent(chosen, images.device)
        if name == "flip":
            images[rows] = images[rows].flip(-1)
            target[rows, 1] = -target[rows, 1]
        else:
            images[rows] = _APPLY[name](images[rows], generator)
    return photometric(shifted(images, settings.shift, generator), settings, generator), target


def shifted(images: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Images [B, V, H, W] each moved by up to `share` of the width, in whole pixels along both axes; edges repeat."""
    reach = round(share * images.shape[-1])
    if reach == 0:
        return images
    count, views, height, width = images.shape
    moved = sent(torch.randint(-reach, reach + 1, (2, count), generator=generator), images.device)
    rows = (torch.arange(height, device=images.device) + moved[0][:, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + moved[1][:, None]).clamp(0, width - 1)
    places = rows[:, :, None] * width + columns[:, None, :]
    places = places.reshape(count, 1, height * width).expand(-1, views, -1)
    return images.reshape(count, views, -1).gather(2, places).reshape(images.shape)


def draw_plan(count: int, settings: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Which operations each sample gets: [count, 2] of indices into OPERATIONS, NONE where there is none."""
    shares = torch.tensor([getattr(settings, name) for name in OPERATIONS], dtype=torch.float64)
    edges = torch.cat([shares, torch.tensor([settings.pairs], dtype=torch.float64)]).cumsum(0)
    slot = torch.bucketize(torch.rand(count, dtype=torch.float64, generator=generator), edges, right=True)
    # Where a mirror image is no sample (a gaze point in a scene), flip has no share, nor has it one in pairs.
    allowed = [number for number, name in enumerate(OPERATIONS) if name != "flip" or settings.flip > 0]
    first = torch.randint(len(allowed), (count,), generator=generator)
    second = (first + torch.randint(1, len(allowed), (count,), generator=generator)) % len(allowed)
    first, second = torch.tensor(allowed)[first], torch.tensor(allowed)[second]
    single = torch.where(slot < len(OPERATIONS), slot, NONE)
    paired = slot == len(OPERATIONS)
    return torch.stack([torch.where(paired, first, single), torch.where(paired, second, NONE)], dim=1)


def resized_crop(images: torch.Tensor, area: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    """A window of each image with `area` of its area, anywhere inside, bilinearly resized to the full size.

    Its aspect relative to the image's own is log-uniform in 0.9-1.1; a side is at most the image's.
    """
    count = len(images)
    share = _uniform(count, area, generator)
    aspect = _uniform(count, (math.log(CROP_ASPECT[0]), math.log(CROP_ASPECT[1])), generator).exp()
    width, height = (share * aspect).sqrt().clamp(max=1), (share / aspect).sqrt().clamp(max=1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = width, height
    theta[:, 0, 2] = (1 - width) * _uniform(count, (-1, 1), generator)
    theta[:, 1, 2] = (1 - height) * _uniform(count, (-1, 1), generator)
    grid = F.affine_grid(sent(theta, images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def blur(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """5x5 Gaussian blur of images [B, V, H, W] with a standard deviation `sigma` [B] in pixels, edges
    reflected.
    """
    offsets = torch.arange(-2.0, 3.0)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]).square())
    kernel = _like(kernel / kernel.sum(dim=1, keepdim=True), images)
    height, width = images.shape[-2:]
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    rows = sum(kernel[:, k, None, None, None] * padded[..., k : k + height, :] for k in range(5))
    return sum(kernel[:, k, None, None, None] * rows[..., k : k + width] for k in range(5))


def sharpen(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend of images [B, V, H, W] and their smoothed copies by `factor` [B]: 0 smooth, 1 unchanged, above 1
    sharper.

    The smoothing is Pillow's, [1 1 1; 1 5 1; 1 1 1] / 13 with the border left alone; the result stays in [0,
    1].
    """
    height, width = images.shape[-2:]
    kernel = _like(torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]), images)[None, None] / 13
    smooth = images.clone()
    inner = F.conv2d(images.reshape(-1, 1, height, width), kernel)
    smooth[..., 1:-1, 1:-1] = inner.reshape(*images.shape[:2], height - 2, width - 2)
    return torch.lerp(smooth, images, _like(factor, images)[:, None, None, None]).clamp_(0, 1)


def photometric(images: torch.Tensor, settings: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Contrast about each image's mean, brightness, and pixel noise; the result stays in [0, 1]."""
    count = len(images)
    contrast, brightness, noise = settings.contrast, settings.brightness, settings.noise
    if contrast == brightness == noise == 0:
        return images
    gain = _like(_uniform(count, (1 - contrast, 1 + contrast), generator), images)[:, None, None, None]
    light = _like(_uniform(count, (1 - brightness, 1 + brightness), generator), images)[:, None, None, None]
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * (gain * light) + mean * light
    if noise > 0:
        deviation = sent(_uniform(count, (0, noise), generator), images.device)[:, None, None, None]
        images = images + (standard_normal(images.shape, generator, images.device) * deviation).to(images)
    return images.clamp(0, 1)


def _uniform(count: int, limits: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    return torch.rand(count, generator=generator) * (limits[1] - limits[0]) + limits[0]


def _like(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return sent(values, images.device, images.dtype)


def _crop(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return resized_crop(images, CROP_AREA, generator)


def _blur(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return blur(images, _uniform(len(images), BLUR_SIGMA, generator))


def _sharpness(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return sharpen(images, _uniform(len(images), SHARPNESS, generator))


def _mixup(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return (_sharpness(images, generator) + resized_crop(images, MIXUP_AREA, generator)) / 2


_APPLY = {"crop": _crop, "blur": _blur, "sharpness": _sharpness, "mixup": _mixup}
