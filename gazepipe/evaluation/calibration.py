"""Personal calibration: a few samples of a person, whose gaze is known, correct that person's predictions.

It is computed from predictions alone. k samples of a person are drawn, a correction of (pitch, yaw) is fitted to them,
and the error is the mean angular error of that person's other samples, averaged over DRAWS draws. A draw depends on
the person's name and number of samples and on a seed, so all networks are calibrated on the same samples.

A correction adds offset + predicted @ slopes to the prediction. Its three fits, with r the residual true - predicted:

offset   the mean of r; no slopes.
affine   least squares of r on (1, pitch, yaw); the offset where k < 3 or the k predictions lie on a line.
shrunk   ridge regression of r on (1, pitch, yaw), separately for pitch and yaw: minimises
         sum r_i^2 / noise + offset^2 / spread_0 + slopes_1^2 / spread_1 + slopes_2^2 / spread_2,
         the posterior mean of a correction around none with normal priors (Hoerl and Kennard 1970; Lindley and Smith
         1972). The variances are empirical Bayes estimates (Efron and Morris 1973) by the method of moments from the
         other subjects, never from the one calibrated: of each the affine fit to all samples, b, and its squared
         standard error, v; then spread = max(0, sum (b^2 - v)) / (m + 2) over m subjects, and noise is what their fits
         leave, pooled. Dividing by m + 2 gives the least mean squared error of a normal variance around a known mean,
         and does not overrate the spread of few subjects.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gazepipe.errors import UserError
from gazepipe.evaluation.metrics import PREDICTED, TRUE, natural_order, units_of

SAMPLES = (1, 3, 5, 9, 16)
"""Numbers of samples that a person is calibrated with; one sample more at least must be left to test on."""
DRAWS = 50
NONE = "none"
FITS = ("offset", "affine", "shrunk")
COLUMNS = ["subject", "fit", "k", "error", "reason"]
NO_OTHERS = "one subject: the prior of the shrunk fit comes from others"

ROUNDING = 1e-12
"""Least variance of the noise, rad^2: predictions are written with six decimals."""
ON_A_LINE = 1e-9
"""Relative determinant of the scatter of predictions below which slopes are unknown."""
BLOCK = 1 << 15
"""Angles corrected at once: they stay in the processor's cache."""


@dataclass(frozen=True)
class _Person:
    """`true` and `predicted` (pitch, yaw) [n, 2] rad, in an order that the file's does not change; `draws`
    [DRAWS, up to 16] are rows, of which the first k are a draw of k samples.
    """

    name: str
    true: np.ndarray
    predicted: np.ndarray
    draws: np.ndarray


@dataclass(frozen=True)
class _Prior:
    """Variances by output (pitch, yaw): `noise` [2] of a residual, rad^2; `spread` [3, 2] of offset and slopes."""

    noise: np.ndarray
    spread: np.ndarray


def calibrate(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Error in degrees of each subject without calibration and after each fit: COLUMNS, in natural order.

    `frame` holds predicted angles as `metrics.read_predictions` returns them, of subjects that one network or the
    networks of several folds had not seen. The fit `none` has k = 0 and the error of all samples. Where a subject has
    fewer than k + 1 samples, or no other subject gives a prior, the error is NaN and `reason` says why. Equal rows in
    any order give equal numbers. Raises UserError for points.
    """
    if units_of(frame) != "rad":
        raise UserError("calibration: is of gaze angles; these predictions are points, in pixels")
    people = list(_people(frame, seed))
    priors = _priors(people)
    rows = [row for person, prior in zip(people, priors, strict=True) for row in _rows(person, prior)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _people(frame: pd.DataFrame, seed: int) -> Iterator[_Person]:
    angles = frame[TRUE["rad"] + PREDICTED["rad"]].to_numpy(np.float64)
    keys = [*angles.T[::-1], _sample_numbers(frame)]
    order = np.lexsort(keys)
    angles, names = angles[order], frame["subject"].to_numpy(str)[order]
    rows_of = pd.Series(names).groupby(names).indices
    for name in sorted(rows_of, key=natural_order):
        own = angles[np.sort(rows_of[name])]
        random = np.random.default_rng([seed, zlib.crc32(name.encode()), len(own)])
        draws = random.permuted(np.tile(np.arange(len(own)), (DRAWS, 1)), axis=1)[:, : max(SAMPLES)]
        yield _Person(name, own[:, :2], own[:, 2:], draws)


def _sample_numbers(frame: pd.DataFrame) -> np.ndarray:
    """What the samples [N] are ordered by first: their numbers, or the places of their names in alphabetical order."""
    if "sample" not in frame.columns:
        return np.zeros(len(frame))
    numbers = pd.to_numeric(frame["sample"], errors="coerce")
    return numbers.to_numpy() if numbers.notna().all() else np.unique(frame["sample"], return_inverse=True)[1]


def _priors(people: list[_Person]) -> list[_Prior | None]:
    """The prior of each person from the others; None where no other has two samples."""
    squares, squared_errors, known, left, dof = (np.stack(part) for part in zip(*map(_summary, people), strict=True))
    gains = np.where(known, squares - squared_errors, 0)
    priors = []
    for gain, count, rest, freedom in zip(*map(_others, (gains, known, left, dof)), strict=True):
        noise = np.maximum(rest / max(freedom, 1), ROUNDING)
        priors.append(_Prior(noise, np.maximum(gain, 0) / (count + 2)) if freedom > 0 else None)
    return priors


def _others(values: np.ndarray) -> np.ndarray:
    """Sum over the other people, of values [people, ...]; by itself, as a difference of sums would leave rounding."""
    return np.tensordot(1 - np.eye(len(values)), values, axes=1)


def _summary(person: _Person) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Of the affine fit to all samples of a person: its squared coefficients [3, 2], their squared standard errors
    [3, 2], which of them are known [3, 2], the sum of squares that is left [2] and its degrees of freedom.

    Without slopes, which need four samples that lie on no line, the fit is the offset.
    """
    design, residual = _design(person.predicted), person.true - person.predicted
    sloped = len(design) > 3 and bool(_spread_out(person.predicted))
    used = design if sloped else design[:, :1]
    gram = np.linalg.inv(used.T @ used)
    fitted = gram @ (used.T @ residual)
    left = ((residual - used @ fitted) ** 2).sum(axis=0)
    dof = float(len(design) - used.shape[1])
    coefficients, errors, known = (np.zeros((3, 2)) for _ in range(3))
    if dof > 0:
        coefficients[: len(fitted)], known[: len(fitted)] = fitted, 1
        errors[: len(fitted)] = np.outer(np.diag(gram), left / dof)
    return coefficients**2, errors, known, left, dof


def _rows(person: _Person, prior: _Prior | None) -> Iterator[tuple[str, str, int, float, str]]:
    count = len(person.true)
    yield person.name, NONE, 0, float(_errors_deg(person, np.zeros((1, 3, 2))).mean()), ""
    feasible = [k for k in SAMPLES if k < count]
    fits = [fit for fit in FITS if fit != "shrunk" or prior is not None] if feasible else []
    found = _calibrated_errors(person, prior, feasible, fits) if feasible else {}
    for fit in FITS:
        for k in SAMPLES:
            short = "" if k < count else f"subject {person.name} has {count} samples; {k + 1} are needed"
            reason = short or ("" if fit in fits else NO_OTHERS)
            yield person.name, fit, k, found.get((fit, k), np.nan), reason


def _calibrated_errors(
    person: _Person, prior: _Prior | None, ks: list[int], fits: list[str]
) -> dict[tuple[str, int], float]:
    """Mean error in degrees over draws and samples not drawn, by fit and k."""
    taken = np.arange(person.draws.shape[1]) < np.array(ks)[:, None]
    predicted = person.predicted[person.draws] * taken[:, None, :, None]
    residual = (person.true - person.predicted)[person.draws] * taken[:, None, :, None]
    design = np.concatenate([np.broadcast_to(taken[:, None, :, None], (*predicted.shape[:3], 1)), predicted], axis=-1)
    gram, moment = design.mT @ design, design.mT @ residual
    made = {"offset": _offset, "affine": _affine, "shrunk": _shrunk}
    fitted = np.stack([made[fit](gram, moment, prior) for fit in fits])
    means = _test_errors(person, fitted.reshape(-1, 3, 2), np.tile(np.repeat(ks, DRAWS), len(fits)))
    means = means.reshape(len(fits), len(ks), DRAWS).mean(axis=-1)
    return {(fit, k): float(means[row, column]) for row, fit in enumerate(fits) for column, k in enumerate(ks)}


def _design(predicted: np.ndarray) -> np.ndarray:
    """(1, pitch, yaw) [n, 3]."""
    return np.column_stack([np.ones(len(predicted)), predicted])


def _offset(gram: np.ndarray, moment: np.ndarray, prior: _Prior | None) -> np.ndarray:
    """Coefficients [..., 3, 2] from X'X [..., 3, 3] and X'r [..., 3, 2] of the design X = (1, pitch, yaw)."""
    fitted = np.zeros_like(moment)
    fitted[..., 0, :] = moment[..., 0, :] / gram[..., 0, :1]
    return fitted


def _affine(gram: np.ndarray, moment: np.ndarray, prior: _Prior | None) -> np.ndarray:
    """As `_offset`. Slopes come from centred sums, then the offset: better conditioned than the three at once."""
    count = gram[..., 0, 0]
    mean, mean_residual = gram[..., 0, 1:] / count[..., None], moment[..., 0, :] / count[..., None]
    scatter = gram[..., 1:, 1:] - count[..., None, None] * mean[..., :, None] * mean[..., None, :]
    together = moment[..., 1:, :] - count[..., None, None] * mean[..., :, None] * mean_residual[..., None, :]
    sloped = (count >= 3) & _regular(scatter, gram)
    slopes = np.linalg.solve(np.where(sloped[..., None, None], scatter, np.eye(2)), together)
    slopes = np.where(sloped[..., None, None], slopes, 0)
    offset = mean_residual[..., None, :] - mean[..., None, :] @ slopes
    return np.concatenate([offset, slopes], axis=-2)


def _shrunk(gram: np.ndarray, moment: np.ndarray, prior: _Prior) -> np.ndarray:
    """As `_offset`. Solved for the coefficients over their spread, so that a spread of 0 is a coefficient of 0."""
    scale = np.sqrt(prior.spread / prior.noise).T
    system = scale[:, :, None] * gram[..., None, :, :] * scale[:, None, :] + np.eye(3)
    right = scale * moment.mT
    return (scale * np.linalg.solve(system, right[..., None])[..., 0]).mT


def _spread_out(predicted: np.ndarray) -> np.bool_:
    """Whether predictions [n, 2] lie on no line."""
    centred = predicted - predicted.mean(axis=0)
    design = _design(predicted)
    return _regular(centred.T @ centred, design.T @ design)


def _regular(scatter: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Whether the centred sums of squares [..., 2, 2] have an inverse, beyond the rounding of the sums `gram`."""
    size = np.trace(scatter, axis1=-2, axis2=-1) / 2
    above_rounding = size > ROUNDING * np.trace(gram, axis1=-2, axis2=-1)
    return above_rounding & (np.linalg.det(scatter) > ON_A_LINE * size**2)


def _test_errors(person: _Person, fitted: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean error [R] in degrees of the samples that corrections [R, 3, 2] were not fitted to: correction i was fitted
    to the first counts[i] samples of draw i modulo DRAWS.
    """
    size = max(1, BLOCK // len(person.true))
    drawn = np.arange(person.draws.shape[1])
    means = np.empty(len(fitted))
    for start in range(0, len(fitted), size):
        part = slice(start, start + size)
        errors = _errors_deg(person, fitted[part])
        rows = person.draws[np.arange(start, start + len(errors)) % DRAWS]
        seen = np.take_along_axis(errors, rows, axis=1) * (drawn < counts[part, None])
        total = errors.sum(axis=1, dtype=np.float64) - seen.sum(axis=1, dtype=np.float64)
        means[part] = total / (errors.shape[1] - counts[part])
    return means


def _errors_deg(person: _Person, fitted: np.ndarray) -> np.ndarray:
    """Angle [R, n] in degrees, f32, between the true gaze and that corrected by coefficients [R, 3, 2].

    The angle between the unit vectors by the haversine formula, which takes half the time of building them; in f32 it
    is exact to 1e-5 degrees. Corrected angles may have any size.
    """
    pitch, yaw = person.true.astype(np.float32).T
    design = _design(person.predicted).astype(np.float32)
    # The correction of the residual, not of the prediction: small numbers keep their digits.
    missing = (person.predicted - person.true).astype(np.float32).T
    off_pitch, off_yaw = (missing[axis] + fitted[:, :, axis].astype(np.float32) @ design.T for axis in (0, 1))
    haversine = np.sin(off_pitch / 2) ** 2 + np.cos(pitch) * np.cos(pitch + off_pitch) * np.sin(off_yaw / 2) ** 2
    return np.float32(np.degrees(2)) * np.arcsin(np.sqrt(np.clip(haversine, 0, 1)))
