"""The control that predicts the mean of the training targets for every sample."""

from collections.abc import Callable

import numpy as np

from gazepipe.datasets.splits import rows_of
from gazepipe.datasets.store import Store
from gazepipe.geometry import angles_to_vector, vector_to_angles


def mean_of(store: Store, subjects: dict[str, set[str]]) -> Callable[[Store, np.ndarray], np.ndarray]:
    """Predicts `mean_gaze` of the training subjects for every image; see `gazepipe.evaluation.settings.CONTROLS`."""
    mean = mean_gaze(store, subjects["train"])
    return lambda _, rows: np.broadcast_to(mean, (len(rows), 2))


def mean_gaze(store: Store, subjects: set[str]) -> np.ndarray:
    """(pitch, yaw) [2] rad of the mean gaze direction of `subjects`, or (x, y) [2] px of their mean gaze point; each
    of them counts the same.
    """
    rows = rows_of(store, subjects)
    angles, target, names = store.attrs["units"] == "rad", store.target[rows], store.subject[rows]
    values = angles_to_vector(target) if angles else target.astype(np.float64)
    means = [values[names == name].mean(axis=0) for name in np.unique(names)]
    mean = np.mean(means, axis=0)
    return vector_to_angles(mean) if angles else mean
