"""Batches from a store: pixels stay u8 on disk and in memory, and become floats where they are used."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from gazepipe.datasets.store import Store
from gazepipe.errors import UserError


@dataclass(frozen=True)
class Samples:
    """Some rows of a store: `images` u8 [N, V, H, W] of the whole store, the rest of the n chosen `rows`
    only.
    """

    images: np.ndarray
    rows: np.ndarray
    target: np.ndarray
    subject: np.ndarray
    mean: float
    std: float

    def __len__(self) -> int:
        return len(self.rows)


def samples_of(store: Store, subjects: set[str] | None) -> Samples:
    """The samples of `subjects` (None: of all), in the order of the store.

    Raises UserError for a subject that the store does not have, and where nothing is left.
    """
    present = store.subject
    missing = sorted((subjects or set()) - set(present))
    if missing:
        raise UserError(f"{store.path}: has no subject {missing[0]!r} that the split names; make store and split anew")
    rows = np.arange(len(present)) if subjects is None else np.flatnonzero(np.isin(present, sorted(subjects)))
    if len(rows) == 0:
        raise UserError(f"{store.path}: no sample is left to use; give at least one subject")
    return Samples(store.image, rows, store.target[rows], present[rows], store.attrs["mean"], store.attrs["std"])


def batches(
    samples: Samples, batch_size: int, order: np.ndarray | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images u8 [B, V, H, W] and targets f32 [B, 2], in the given order of positions (None: as stored, all of
    them).

    With an `order`, an incomplete last batch is left out, since batch normalisation over a handful of samples
    is noise; a set smaller than one batch is one batch. Rows are read in rising order within a batch, which
    turns a shuffled read of the file into short strides.
    """
    positions = np.arange(len(samples)) if order is None else order
    end = len(positions)
    if order is not None and end >= batch_size:
        end -= end % batch_size
    for start in range(0, end, batch_size):
        chosen = np.sort(positions[start : min(start + batch_size, end)])
        images = np.ascontiguousarray(samples.images[samples.rows[chosen]])
        yield torch.from_numpy(images), torch.from_numpy(samples.target[chosen])


def to_unit(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """u8 [B, V, H, W] to floats in [0, 1] on `device`; only the bytes travel."""
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
