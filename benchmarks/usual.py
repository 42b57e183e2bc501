"""A training as people write it, for benchmarks: a plain script, each of whose habits can be left out.

What it trains is what gazepipe trains: the same network, samples, augmentation, loss, clipping and moving average.
"""

import copy
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from gazepipe.training.augment import BLUR_SIGMA, CROP_AREA, CROP_ASPECT, MIXUP_AREA, OPERATIONS, SHARPNESS, augment
from gazepipe.training.losses import Loss
from gazepipe.training.samples import Samples, batches, normalised, to_unit
from gazepipe.training.settings import Augmentation, Training

HABITS = {
    "transforms": "images are augmented one by one",
    "loader": "a DataLoader reads and collates them",
    "float32": "no mixed precision",
    "contiguous": "activations are not channels last",
    "teacher_gradients": "the teacher's forward pass keeps what gradients need",
}
"""Each habit, and what it is; without one, gazepipe's way takes its place."""


def usual(
    model: nn.Module,
    teacher: nn.Module | None,
    loss: Loss,
    train: Samples,
    training: Training,
    augmentation: Augmentation,
    habits: frozenset[str] = frozenset(HABITS),
) -> Callable[[int], None]:
    """A function that carries out so many steps of the training of a copy of `model`, on the CPU; with a `teacher`
    its output is a second target, as in `kd: {response: 1.0}`.
    """
    layout = torch.contiguous_format if "contiguous" in habits else torch.channels_last
    model = copy.deepcopy(model).to(memory_format=layout).train()
    average = copy.deepcopy(model).requires_grad_(False)
    teacher = teacher if teacher is None else copy.deepcopy(teacher).to(memory_format=layout).eval()
    optimizer = torch.optim.AdamW(model.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    read = _endless(lambda: _batches(train, training.batch_size, augmentation, habits))

    def step(images: torch.Tensor, target: torch.Tensor) -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled="float32" not in habits):
            predicted = model(images).float()
            total = loss(predicted, target).mean()
            if teacher is not None:
                with torch.set_grad_enabled("teacher_gradients" in habits):
                    taught = teacher(images).float().detach()
                total = total + loss(predicted, taught).mean()
        total.backward()
        if training.clip_norm > 0:
            nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
        if training.ema > 0:
            for mean, value in zip(average.parameters(), model.parameters(), strict=True):
                mean.mul_(training.ema).add_(value.detach(), alpha=1 - training.ema)
        return total.item()

    def steps(count: int) -> None:
        for _ in range(count):
            images, target = next(read)
            step(images.contiguous(memory_format=layout), target)

    return steps


class _Rows(Dataset):
    """Images, as u8 or transformed and normalised, and targets, one by one."""

    def __init__(self, samples: Samples, augmentation: Augmentation | None) -> None:
        self.samples, self.augmentation = samples, augmentation

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        samples = self.samples
        image = torch.from_numpy(np.array(samples.images[samples.rows[place]]))
        target = torch.from_numpy(samples.target[place] / np.asarray(samples.scale, np.float32))
        return (image, target) if self.augmentation is None else _seen(image, target, samples, self.augmentation)


def _batches(
    samples: Samples, size: int, augmentation: Augmentation, habits: frozenset[str]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of an epoch as the network sees them."""
    one_by_one = augmentation if "transforms" in habits else None
    if "loader" in habits:
        read = DataLoader(_Rows(samples, one_by_one), size, shuffle=True, drop_last=True)
    else:
        read = batches(samples, size, np.random.default_rng(0).permutation(len(samples)))
    for images, target in read:
        if one_by_one is None:
            seen, target = augment(to_unit(images, torch.device("cpu")), target, augmentation, torch.default_generator)
            yield normalised(seen, samples.mean, samples.std), target
        elif "loader" in habits:
            yield images, target
        else:
            rows = [_seen(*row, samples, augmentation) for row in zip(images, target, strict=True)]
            yield torch.stack([image for image, _ in rows]), torch.stack([aim for _, aim in rows])


def _endless(epoch: Callable[[], Iterator]) -> Iterator:
    while True:
        yield from epoch()


def _seen(
    image: torch.Tensor, target: torch.Tensor, samples: Samples, augmentation: Augmentation
) -> tuple[torch.Tensor, torch.Tensor]:
    image, target = _transformed(image.float() / 255, target, augmentation)
    return (image - samples.mean) / samples.std, target


def _transformed(
    image: torch.Tensor, target: torch.Tensor, settings: Augmentation
) -> tuple[torch.Tensor, torch.Tensor]:
    """One image [V, H, W] in [0, 1] and its target [2], augmented as `augment` does a batch."""
    for name in _chosen(settings):
        if name == "flip":
            image, target = image.flip(-1), target * torch.tensor([1.0, -1.0])
        elif name == "crop":
            image = _cropped(image, CROP_AREA)
        elif name == "blur":
            image = _blurred(image)
        elif name == "sharpness":
            image = _sharpened(image)
        else:
            image = (_sharpened(image) + _cropped(image, MIXUP_AREA)) / 2
    image = _moved(image, round(settings.shift * image.shape[-1]))
    gain, light = (
        _within(1 - settings.contrast, 1 + settings.contrast),
        _within(1 - settings.brightness, 1 + settings.brightness),
    )
    mean = image.mean()
    image = ((image - mean) * gain + mean) * light
    if settings.noise > 0:
        image = image + torch.randn_like(image) * _within(0, settings.noise)
    return image.clamp(0, 1), target


def _chosen(settings: Augmentation) -> list[str]:
    shares = [getattr(settings, name) for name in OPERATIONS]
    slot = int(torch.searchsorted(torch.tensor([*shares, settings.pairs]).cumsum(0), torch.rand(1), right=True))
    if slot < len(OPERATIONS):
        return [OPERATIONS[slot]]
    if slot > len(OPERATIONS):
        return []
    allowed = [name for name in OPERATIONS if name != "flip" or settings.flip > 0]
    return [allowed[place] for place in torch.randperm(len(allowed))[:2]]


def _within(low: float, high: float) -> float:
    return torch.empty(()).uniform_(low, high).item()


def _cropped(image: torch.Tensor, area: tuple[float, float]) -> torch.Tensor:
    share, aspect = _within(*area), math.exp(_within(math.log(CROP_ASPECT[0]), math.log(CROP_ASPECT[1])))
    height, width = image.shape[-2:]
    rows = min(height, round(height * math.sqrt(share / aspect)))
    columns = min(width, round(width * math.sqrt(share * aspect)))
    top, left = int(_within(0, height - rows + 1)), int(_within(0, width - columns + 1))
    window = image[None, :, top : top + rows, left : left + columns]
    return F.interpolate(window, (height, width), mode="bilinear")[0]


def _blurred(image: torch.Tensor) -> torch.Tensor:
    line = torch.exp(-0.5 * (torch.arange(-2.0, 3.0) / _within(*BLUR_SIGMA)) ** 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    padded = F.pad(image[:, None], (2, 2, 2, 2), mode="reflect")
    return F.conv2d(padded, kernel[None, None])[:, 0]


def _sharpened(image: torch.Tensor) -> torch.Tensor:
    kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    smooth = image.clone()
    smooth[:, 1:-1, 1:-1] = F.conv2d(image[:, None], kernel[None, None])[:, 0]
    return torch.lerp(smooth, image, _within(*SHARPNESS)).clamp(0, 1)


def _moved(image: torch.Tensor, reach: int) -> torch.Tensor:
    if reach == 0:
        return image
    height, width = image.shape[-2:]
    x, y = int(_within(0, 2 * reach + 1)), int(_within(0, 2 * reach + 1))
    padded = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    return padded[..., y : y + height, x : x + width]
