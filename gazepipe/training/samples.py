"""Batches from a store: pixels stay u8 on disk and in memory, and become floats where they are used."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from gazepipe.datasets.splits import rows_of
from gazepipe.datasets.store import Store
from gazepipe.errors import UserError

EVALUATION_BATCH, EVALUATION_PIXELS = 256, 1 << 24


@dataclass(frozen=True)
class Samples:
    """Some rows of a store: `images` u8 [N, V, H, W] of the whole store, the rest of the n chosen `rows`
    only.

    `target` [n, 2] is in `units`, "rad" or "px"; networks learn target / `scale`. They see
    (image / 255 - mean) / std.
    """

    images: np.ndarray
    rows: np.ndarray
    target: np.ndarray
    subject: np.ndarray
    mean: float
    std: float
    units: str = "rad"
    scale: tuple[float, float] = (1.0, 1.0)

    def __len__(self) -> int:
        return len(self.rows)


def samples_of(store: Store, subjects: set[str] | None) -> Samples:
    """The samples of the rows that `rows_of` gives."""
    rows = rows_of(store, subjects)
    mean, std, units = (store.attrs[name] for name in ("mean", "std", "units"))
    return Samples(store.image, rows, store.target[rows], store.subject[rows], mean, std, units, target_scale(store))


def target_scale(store: Store) -> tuple[float, float]:
    """What the targets of a store are divided by before a network learns them."""
    x, y = store.attrs.get("target_scale", (1.0, 1.0))
    return float(x), float(y)


def normalised_by(samples: dict[str, Samples], normalise: str) -> dict[str, Samples]:
    """The samples of each role with the image normalisation `normalise`: of the "store", or of the pixels of the role
    "train".
    """
    if normalise == "store":
        return samples
    mean, std = pixel_statistics(samples["train"])
    return {role: replace(some, mean=mean, std=std) for role, some in samples.items()}


def pixel_statistics(samples: Samples) -> tuple[float, float]:
    """Mean and standard deviation of all pixels / 255, all views together; UserError where all pixels are equal.

    Both sums are exact: an image's are integers below 2^53, and they are added as Python integers.
    """
    total, squares = 0, 0
    for row in samples.rows:
        pixels = samples.images[row].ravel().astype(np.float64)
        total += int(pixels.sum())
        squares += int(pixels @ pixels)
    count = len(samples) * int(np.prod(samples.images.shape[1:]))
    spread = count * squares - total * total
    if spread == 0:
        raise UserError(
            f"training.normalise: every training pixel is {total // count}, so the standard deviation is 0; "
            "check the images, or use store"
        )
    return total / (255 * count), math.sqrt(spread) / (255 * count)


def batches(
    samples: Samples, batch_size: int, order: np.ndarray | None = None, start: int = 0, share: slice = slice(None)
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images u8 [B, V, H, W] and what a network learns, target / scale f32 [B, 2], from batch `start` on, in the given
    order of positions (None: as stored, all of them). `share` picks the rows of each batch that are read.

    With an `order`, an incomplete last batch is left out, since batch normalisation over a handful of samples
    is noise; a set smaller than one batch is one batch. Rows are read in rising order within a batch, which
    turns a shuffled read of the file into short strides.
    """
    positions = np.arange(len(samples)) if order is None else order
    end = len(positions)
    if order is not None and end >= batch_size:
        end -= end % batch_size
    scale = np.asarray(samples.scale, np.float32)
    for first in range(start * batch_size, end, batch_size):
        chosen = np.sort(positions[first : min(first + batch_size, end)])[share]
        images = np.ascontiguousarray(samples.images[samples.rows[chosen]])
        yield torch.from_numpy(images), torch.from_numpy(samples.target[chosen] / scale)


def judged(samples: Samples, count: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, as the network sees them, and what it learns of `count` samples, spread evenly over the rows."""
    rows = np.unique(np.linspace(0, len(samples) - 1, count).round().astype(int))
    images, target = next(batches(samples, len(rows), rows))
    return normalised(to_unit(images, device), samples.mean, samples.std), target.to(device)


def evaluation_batch(samples: Samples) -> int:
    """Samples per batch where no gradient is needed: 256, and fewer large ones."""
    return max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // int(np.prod(samples.images.shape[1:]))))


def to_unit(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """u8 [B, V, H, W] to floats in [0, 1] on `device`; they are transferred as u8."""
    return images.to(device, non_blocking=True).float().div_(255)


def normalised(images: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """[0, 1] to what the network sees: (x - mean) / std, channels last."""
    return images.sub(mean).div_(std).contiguous(memory_format=torch.channels_last)


def check_images(store: Store, expected: list[int], patch: dict | None = None) -> None:
    """Refuse, with a UserError, a store whose images are not of the `expected` [V, H, W] or show another
    patch.
    """
    found = list(store.image.shape[1:])
    if found != list(expected):
        raise UserError(
            f"{store.path}: holds images of {size_text(found)}, the network takes {size_text(expected)}; "
            "prepare this data set with the patch that the network is for"
        )
    if patch is not None and patch != store.attrs["patch"]:
        raise UserError(
            f"{store.path}: shows the patch {store.attrs['patch']}, the network was trained on {patch}; "
            "prepare this data set with that patch"
        )


def size_text(shape: list[int]) -> str:
    """1x36x112 for [1, 36, 112]."""
    return "x".join(map(str, shape))
