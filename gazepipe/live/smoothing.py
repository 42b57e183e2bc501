"""Steadier gaze: the One-Euro filter, and how much a sequence jitters."""

from collections.abc import Sequence

import numpy as np

from gazepipe.geometry import angular_error_deg

MIN_CUTOFF_HZ = 1.0
BETA = 1.5
"""Hz of cutoff per radian a second: a saccade of 200 degrees a second opens the filter to 6 Hz."""
DERIVATIVE_CUTOFF_HZ = 1.0


class OneEuro:
    """The filter of Casiez, Roussel, Vogel ("1 Euro Filter", CHI 2012), algorithms 1 and 2, for vectors.

    A low-pass whose cutoff, in Hz, is `min_cutoff + beta * speed`: slow motion is smoothed more, fast motion less.
    `speed` is the length of the low-passed derivative, so that all directions are filtered alike; of one number
    it is the paper's filter.
    """

    def __init__(self, min_cutoff: float = MIN_CUTOFF_HZ, beta: float = BETA):
        self.min_cutoff, self.beta = min_cutoff, beta
        self._value: np.ndarray | None = None
        self._time = 0.0

    def __call__(self, value: np.ndarray, time_s: float) -> np.ndarray:
        """The filtered `value` [...] at `time_s`; a time that does not grow gives the value before once more."""
        value = np.asarray(value, np.float64)
        if self._value is None:
            self._value, self._time, self._speed = value, time_s, np.zeros_like(value)
            return value
        step = time_s - self._time
        if step > 0:
            speed = (value - self._value) / step
            self._speed = self._speed + _share(DERIVATIVE_CUTOFF_HZ, step) * (speed - self._speed)
            cutoff = self.min_cutoff + self.beta * float(np.linalg.norm(self._speed))
            self._value = self._value + _share(cutoff, step) * (value - self._value)
            self._time = time_s
        return self._value


def _share(cutoff_hz: float, step_s: float) -> float:
    """Weight of the newest value in a first-order low-pass."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * step_s))


def jitter_deg(sequences: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean and root mean square, in degrees, of the angles between gaze vectors of successive frames.

    `sequences` hold vectors [n, 3], one face and no gap each; the root mean square is the RMS-S2S of eye-tracking
    (Holmqvist 2011, section 11.4). It holds the eyes' real movements, too. NaN where no frame follows another.
    """
    steps = [angular_error_deg(vectors[1:], vectors[:-1]) for vectors in sequences if len(vectors) > 1]
    if not steps:
        return float("nan"), float("nan")
    angles = np.concatenate(steps)
    return float(angles.mean()), float(np.sqrt(np.mean(angles**2)))
