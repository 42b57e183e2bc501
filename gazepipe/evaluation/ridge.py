"""The control that predicts the gaze linearly from the pixels: ridge regression (Hoerl & Kennard 1970)."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from scipy import linalg

from gazepipe.common.units import errors
from gazepipe.datasets.splits import rows_of
from gazepipe.datasets.store import Store
from gazepipe.errors import UserError

PENALTIES = tuple(10.0**power for power in range(-5, 3))
"""What is tried, as a multiple of the mean of the Gram matrix's diagonal."""
MOST_FEATURES = 4096
CHUNK = 512
"""Images in memory at a time, as floats."""


def ridge_of(store: Store, subjects: dict[str, set[str]]) -> Callable[[Store, np.ndarray], np.ndarray]:
    """Predicts linearly from the pixels; see `gazepipe.evaluation.settings.CONTROLS`.

    Learnt from the training subjects, with the penalty of PENALTIES that has the lowest error on the validation
    subjects, as networks choose their epoch: the mean over subjects of each one's mean error. Images of more than
    MOST_FEATURES pixels are averaged over square blocks, the smallest that suffice. The normalisation of all pixels
    alike that networks have makes no difference: features are centred and penalties relative.
    """
    shape = store.image.shape[1:]
    side = block_side(shape)
    train, validation = (rows_of(store, subjects[role]) for role in ("train", "validation"))
    target = store.target[train].astype(np.float64)
    middle, found = ridge(features(store, train, side), target)
    level = target.mean(axis=0)

    def predicted(other: Store, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.concatenate([(part - middle) @ weights + level for part in features(other, rows, side)])

    names, units = store.subject[validation], store.attrs["units"]
    judged = [errors(predicted(store, validation, each), store.target[validation], units) for each in found]
    best = found[int(np.argmin([_mean_over_subjects(each, names) for each in judged]))]

    def predict(other: Store, rows: np.ndarray) -> np.ndarray:
        if other.image.shape[1:] != shape:
            raise UserError(
                f"{other.path}: holds images of {_size(other.image.shape[1:])}, ridge regression learnt from"
                f" {_size(shape)}; prepare both data sets with one patch"
            )
        return predicted(other, rows, best)

    return predict


def ridge(parts: Iterable[np.ndarray], target: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Mean [p] of the features, and the weights [p, d] for each of PENALTIES, of features [n, p], given in `parts`, and
    target [n, d].

    With x and t, both centred, weights minimise |x w - t|^2 + penalty |w|^2: w = x' (x x' + penalty)^-1 t (dual, where
    n < p) = (x' x + penalty)^-1 x' t (primal), by Cholesky decomposition in float64. For whole numbers, as `features`
    gives, the products of x are summed without rounding, so neither threads nor the size of parts change the matrix.
    """
    centred, count = target - target.mean(axis=0), len(target)
    gram, total, cross, done, kept = 0.0, 0.0, 0.0, 0, []
    for part in parts:
        total = total + part.sum(axis=0)
        if count < part.shape[1]:
            kept.append(part)
            continue
        gram = gram + part.T @ part
        cross = cross + part.T @ centred[done : done + len(part)]
        done += len(part)
    middle = total / count
    if not kept:
        return middle, _solutions(gram - np.outer(total, middle), cross)
    x = np.concatenate(kept)
    gram = x @ x.T
    means = gram.mean(axis=0)
    centred_gram = gram - means - means[:, None] + means.mean()
    return middle, [(x - middle).T @ each for each in _solutions(centred_gram, centred)]


def _solutions(gram: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """(gram + penalty)^-1 wanted for each of PENALTIES; 0 where features never differ."""
    scale, unit = np.trace(gram) / len(gram), np.eye(len(gram))
    if scale == 0:
        return [np.zeros_like(wanted) for _ in PENALTIES]
    return [linalg.solve(gram + share * scale * unit, wanted, assume_a="pos") for share in PENALTIES]


def features(store: Store, rows: np.ndarray, side: int) -> Iterator[np.ndarray]:
    """Sum of the pixels in each block of `side` x `side`, whole numbers as float64 [CHUNK, p], for some rows at a time;
    what is left over at the right and at the bottom is cut off.
    """
    for first in range(0, len(rows), CHUNK):
        images = store.image[rows[first : first + CHUNK]]
        count, views, height, width = images.shape
        whole = images[:, :, : height - height % side, : width - width % side].astype(np.float64)
        blocks = whole.reshape(count, views, height // side, side, width // side, side)
        yield blocks.sum(axis=(3, 5)).reshape(count, -1)


def block_side(shape: tuple[int, ...]) -> int:
    """Side of the blocks by which images [V, H, W] come to MOST_FEATURES features at most; 1 for those that have no
    more pixels.
    """
    views, height, width = shape
    side = 1
    while views * (height // side) * (width // side) > MOST_FEATURES:
        side += 1
    return side


def _mean_over_subjects(found: np.ndarray, names: np.ndarray) -> float:
    return float(np.mean([found[names == name].mean() for name in np.unique(names)]))


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
