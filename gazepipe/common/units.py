"""Units of what networks predict: gaze angles in radians, whose error is in degrees, or a gaze point in pixels."""

import numpy as np

from gazepipe.geometry import angles_to_vector, angular_error_deg

ERROR_UNIT = {"rad": "deg", "px": "px"}
"""From the unit of a target to the unit of its error."""


def errors(predicted: np.ndarray, target: np.ndarray, units: str) -> np.ndarray:
    """Error of each sample, [n, 2] and [n, 2] -> [n], in `ERROR_UNIT[units]`.

    For `rad` the angle between the gaze vectors of (pitch, yaw), for `px` the Euclidean distance of the points (x, y).
    """
    if units == "rad":
        return angular_error_deg(angles_to_vector(predicted), angles_to_vector(target))
    return np.linalg.norm(np.asarray(predicted, np.float64) - target, axis=-1)
