"""Personal calibration: a few samples of a person, whose gaze is known, correct that person's predictions.

It is computed from predictions alone. k samples of a person are drawn, a correction of (pitch, yaw) is fitted to them,
and the error is the mean angular error of that person's other samples, averaged over DRAWS draws. A draw depends on
the person's name and number of samples and on a seed, so all networks are calibrated on the same samples.

A correction adds offset + predicted @ slopes to the prediction. Its three fits, with r the residual true - predicted:

offset   the mean of r; no slopes.
affine   least squares of r on (1, pitch, yaw); the offset where k < 3 or the k predictions lie on a line.
shrunk   the affine correction shrunk towards none: the posterior mean with normal priors, a ridge regression of r on
         (1, predicted - center), separately for pitch and yaw (Hoerl and Kennard 1970; Lindley and Smith 1972),
         minimises sum r_i^2 / noise + offset^2 / spread_0 + slopes_1^2 / spread_1 + slopes_2^2 / spread_2.

The variances are empirical Bayes estimates (Efron and Morris 1973) from the other subjects, never from the one that is
calibrated. Each of them gives the affine fit to all samples around the mean of the predictions, b, and its squared
standard error, v; then spread = max(0, sum (b^2 - v)) / (m + 2) over m subjects, for slopes at most STEEPEST, and noise
is the variance that their fits leave. Dividing by m + 2 gives the least mean squared error for a normal variance around
a known mean; with few subjects it does not overrate what differs between people. The center is what the mean of the
person's predictions is likely to be: the mean of the k, shrunk in the same way towards the mean of the others. What it
may miss, times the slopes, adds to spread_0.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from gazepipe.common.markdown import MISSING, interval_text
from gazepipe.errors import UserError
from gazepipe.evaluation.inference import mean_interval
from gazepipe.evaluation.metrics import PREDICTED, TRUE, natural_order, read_tests, titled, units_of

SAMPLES = (1, 3, 5, 9, 16)
"""Numbers of samples that a person is calibrated with; one sample more at least must be left to test on."""
DRAWS = 50
NONE = "none"
FITS = ("offset", "affine", "shrunk")
COLUMNS = ["subject", "fit", "k", "error", "reason"]
FEWEST_OTHERS = 2
"""Subjects that the prior of the shrunk fit needs beside the one calibrated."""
NO_OTHERS = "fewer than three subjects with several samples: the prior of the shrunk fit comes from two others at least"

ROUNDING = 1e-12
"""Least variance of the noise, rad^2: predictions are written with six decimals."""
ON_A_LINE = 1e-9
"""Relative determinant of the scatter of predictions below which slopes are unknown."""
STEEPEST = 1.0
"""Largest variance of slopes. Networks that hardly learnt predict almost the same for all samples, and slopes fitted to
that are large and mean nothing."""
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
class _Summary:
    """What all samples of a person say, for the priors of others.

    The number of samples, `count`; the mean prediction, `middle` [2], and the variance around it, `within` [2]; the
    affine fit around it, `fitted` [3, 2] (offset and slopes of either output), its squared standard errors, `errors`
    [3, 2]; the sum of squares that it leaves, `left` [2], of `dof` degrees of freedom. `sloped` says whether there are
    slopes: predictions that are few or on a line give only an offset.
    """

    count: int
    middle: np.ndarray
    within: np.ndarray
    fitted: np.ndarray
    errors: np.ndarray
    left: np.ndarray
    dof: int
    sloped: bool


@dataclass(frozen=True)
class _Prior:
    """Of predictions: the mean over persons, `center` [2], and the variances of the persons' means around it, `between`
    [2], and of predictions around those, `within` [2]. Of corrections, by output, the last axis: the variances of a
    residual around the affine fit, `noise` [2], and of the offset at the person's mean and the slopes, `spread` [3, 2].
    """

    center: np.ndarray
    between: np.ndarray
    within: np.ndarray
    noise: np.ndarray
    spread: np.ndarray


def calibrate(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Error in degrees of each subject without calibration and after each fit: COLUMNS, in natural order.

    `frame` holds predicted angles as `metrics.read_predictions` returns them, of subjects that one network or the
    networks of several folds had not seen. The fit `none` has k = 0 and the error of all samples. Where a subject has
    fewer than k + 1 samples, or too few others give a prior, the error is NaN and `reason` says why. Equal rows in any
    order give equal numbers. Raises UserError for points.
    """
    if units_of(frame) != "rad":
        raise UserError("calibration: is of gaze angles; these predictions are points in pixels")
    people = list(_people(frame, seed))
    priors = _priors(people)
    rows = [row for person, prior in zip(people, priors, strict=True) for row in _rows(person, prior)]
    return pd.DataFrame(rows, columns=COLUMNS)


def format_calibration(path: str | Path) -> str:
    """A table of the mean error over subjects after calibration, from a prediction CSV: a row for each fit, a column
    for each number of samples, with 95 % t intervals over subjects. Of several test sets each has a table, headed by
    its name. Raises UserError for points, and as `read_predictions` does.
    """
    return titled({test: _format(path, rows) for test, rows in read_tests(path).items()})


def _format(path: str | Path, frame: pd.DataFrame) -> str:
    """The table of one test set."""
    if units_of(frame) != "rad":
        raise UserError(f"{path}: holds points in pixels; personal calibration is of angles, so give pitch and yaw")
    for name in ("seed", "fold"):
        if name in frame.columns and frame.groupby("subject")[name].nunique().max() > 1:
            raise UserError(f"{path}: column {name}: tells several trainings of one subject; give the rows of one")
    found = calibrate(frame)
    cells, notes = {}, {}
    for (fit, k), rows in found.groupby(["fit", "k"], sort=False):
        known = rows[rows["error"].notna()]
        short = len(rows) - len(known)
        if short:
            reason = rows["reason"][rows["error"].isna()].iloc[0]
            notes[f"{short} of {len(rows)} subjects left out: {reason}"] = None
        cells[fit, k] = _cell(known, notes) if len(known) else MISSING
    rows = [[fit, *(cells.get((fit, k), "") for k in (0, *SAMPLES))] for fit in (NONE, *FITS)]
    headings = ["fit", *(f"k = {k}" for k in (0, *SAMPLES))]
    table = tabulate(rows, headings, "simple", disable_numparse=True, colalign=["left", *["right"] * len(headings[1:])])
    below = [
        f"Mean angular error in degrees over {frame['subject'].nunique()} subjects after k samples of a person [95 %"
        f" interval; for these predictions only], on the other samples, over {DRAWS} draws.",
        *notes,
    ]
    return "\n".join([table, "", *below])


def _cell(known: pd.DataFrame, notes: dict[str, None]) -> str:
    interval = mean_interval(known.assign(seed=0))
    if np.isnan(interval.low):
        notes[f"no interval: {interval.reason}"] = None
    return f"{interval.mean:.2f}{interval_text(interval.low, interval.high, '.2f')}"


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
    """The prior of each person from the others; None where fewer than FEWEST_OTHERS of them have two samples."""
    found = [_summary(person) for person in people]
    return [_prior([summary for place, summary in enumerate(found) if place != own]) for own in range(len(found))]


def _prior(others: list[_Summary]) -> _Prior | None:
    others = [summary for summary in others if summary.dof > 0]
    if len(others) < FEWEST_OTHERS:
        return None
    count, middle, within, fitted, errors, left, dof, sloped = (
        np.stack([getattr(summary, field.name) for summary in others]) for field in fields(_Summary)
    )
    known = np.stack([np.ones(len(others)), sloped, sloped], axis=1)[:, :, None]
    gains = (known * (fitted**2 - errors)).sum(axis=0)
    noise = np.maximum(left.sum(axis=0) / dof.sum(), ROUNDING)
    apart = middle.var(axis=0, ddof=1) - (within / count[:, None]).mean(axis=0)
    spread = np.maximum(gains, 0) / (known.sum(axis=0) + 2)
    spread[1:] = np.minimum(spread[1:], STEEPEST)
    return _Prior(
        center=middle.mean(axis=0),
        between=np.maximum(apart, ROUNDING),
        within=within.mean(axis=0),
        noise=noise,
        spread=spread,
    )


def _summary(person: _Person) -> _Summary:
    count, residual = len(person.true), person.true - person.predicted
    middle = person.predicted.mean(axis=0)
    design = _design(person.predicted - middle)
    sloped = count > 3 and bool(_regular(design[:, 1:].T @ design[:, 1:], _gram(person.predicted)))
    used = design if sloped else design[:, :1]
    inverse, dof = np.linalg.inv(used.T @ used), count - used.shape[1]
    fitted, errors = np.zeros((3, 2)), np.zeros((3, 2))
    fitted[: len(inverse)] = inverse @ (used.T @ residual)
    left = ((residual - design @ fitted) ** 2).sum(axis=0)
    errors[: len(inverse)] = np.outer(np.diag(inverse), left / max(dof, 1))
    within = person.predicted.var(axis=0, ddof=min(1, count - 1))
    return _Summary(count, middle, within, fitted, errors, left, dof, sloped)


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


def _gram(predicted: np.ndarray) -> np.ndarray:
    design = _design(predicted)
    return design.T @ design


def _offset(gram: np.ndarray, moment: np.ndarray, prior: _Prior | None) -> np.ndarray:
    """Coefficients [..., 3, 2] from X'X [..., 3, 3] and X'r [..., 3, 2] of the design X = (1, pitch, yaw)."""
    fitted = np.zeros_like(moment)
    fitted[..., 0, :] = moment[..., 0, :] / gram[..., 0, :1]
    return fitted


def _affine(gram: np.ndarray, moment: np.ndarray, prior: _Prior | None) -> np.ndarray:
    """As `_offset`."""
    count, mean, mean_residual, scatter, together = _centred(gram, moment)
    sloped = ((count >= 3) & _regular(scatter, gram))[..., None, None]
    slopes = np.linalg.solve(np.where(sloped, scatter, np.eye(2)), np.where(sloped, together, 0))
    return _correction(mean_residual, mean, slopes)


def _shrunk(gram: np.ndarray, moment: np.ndarray, prior: _Prior) -> np.ndarray:
    """As `_offset`. Solved for the coefficients over their spread, so that a spread of 0 is a coefficient of 0."""
    count = gram[..., 0, 0]
    share = prior.between / (prior.between + prior.within / count[..., None])
    center = prior.center + share * (gram[..., 0, 1:] / count[..., None] - prior.center)
    # How far the middle may lie from there, times the slopes, is an offset.
    offset = prior.spread[0] + ((1 - share) * prior.between) @ prior.spread[1:]
    spread = np.concatenate(
        [offset[..., None, :], np.broadcast_to(prior.spread[1:], (*offset.shape[:-1], 2, 2))], axis=-2
    )
    moved = np.broadcast_to(np.eye(3), gram.shape).copy()
    moved[..., 0, 1:] = -center
    scale = np.sqrt(spread / prior.noise).mT
    centred = (moved.mT @ gram @ moved)[..., None, :, :]
    system = scale[..., :, None] * centred * scale[..., None, :] + np.eye(3)
    solved = np.linalg.solve(system, (scale * (moved.mT @ moment).mT)[..., None])[..., 0]
    return moved @ (scale * solved).mT


def _centred(gram: np.ndarray, moment: np.ndarray) -> tuple[np.ndarray, ...]:
    """The number of samples, mean prediction [..., 2], mean residual [..., 2], and the sums [..., 2, 2] around them."""
    count = gram[..., 0, 0]
    mean, mean_residual = gram[..., 0, 1:] / count[..., None], moment[..., 0, :] / count[..., None]
    scatter = gram[..., 1:, 1:] - count[..., None, None] * mean[..., :, None] * mean[..., None, :]
    together = moment[..., 1:, :] - count[..., None, None] * mean[..., :, None] * mean_residual[..., None, :]
    return count, mean, mean_residual, scatter, together


def _correction(at_mean: np.ndarray, mean: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Coefficients [..., 3, 2] of the correction that is at_mean [..., 2] at the prediction `mean` [..., 2]."""
    return np.concatenate([at_mean[..., None, :] - mean[..., None, :] @ slopes, slopes], axis=-2)


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
    pitch = person.true[:, 0].astype(np.float32)
    design = _design(person.predicted).astype(np.float32)
    # The correction of the residual, not of the prediction: small numbers keep their digits.
    missing = (person.predicted - person.true).astype(np.float32).T
    off_pitch, off_yaw = (missing[axis] + fitted[:, :, axis].astype(np.float32) @ design.T for axis in (0, 1))
    haversine = np.sin(off_pitch / 2) ** 2 + np.cos(pitch) * np.cos(pitch + off_pitch) * np.sin(off_yaw / 2) ** 2
    return np.float32(np.degrees(2)) * np.arcsin(np.sqrt(np.clip(haversine, 0, 1)))
