"""Precision in the sense of eye tracking: how far predictions of the same gaze scatter (accuracy is their error).

Both measures of Holmqvist, Nystrom and Mulvey, Eye tracker data quality: what it is and how to measure it, ETRA 2012,
equations 1 and 2; Niehorster et al., Behavior Research Methods 52, 2020: for white noise the second is sqrt(2) times
the first.
"""

import numpy as np

from gazepipe.geometry import angles_to_vector, angular_error_deg


def deviations(predicted: np.ndarray, units: str) -> tuple[np.ndarray, np.ndarray]:
    """Scatter of R >= 2 predictions [n, R, 2] of each of n images: (`std`, `rms_s2s`), both [n].

    In degrees for `rad`, in pixels for `px`. `std` is the root mean square of the deviations from the image's mean
    prediction (the mean gaze vector), with R - 1 in place of R, so that it does not grow with R. `rms_s2s` is that of
    the steps from each prediction to the next.
    """
    places = angles_to_vector(predicted) if units == "rad" else np.asarray(predicted, np.float64)
    from_mean = _distance(places, places.mean(axis=1, keepdims=True), units)
    steps = _distance(places[:, 1:], places[:, :-1], units)
    count = places.shape[1]
    return np.sqrt((from_mean**2).sum(axis=1) / (count - 1)), root_mean_square(steps, axis=1)


def root_mean_square(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Root of the mean of the squares along an axis."""
    return np.sqrt(np.mean(np.square(values), axis=axis))


def _distance(a: np.ndarray, b: np.ndarray, units: str) -> np.ndarray:
    return angular_error_deg(a, b) if units == "rad" else np.linalg.norm(a - b, axis=-1)
