"""One infrared image of an eye by a headset's camera: skin, lids, eyeball, lashes, glints, then the sensor."""

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from gazepipe.drawn.face.style import Photometry, add_noise
from gazepipe.drawn.face.subject import Subject, build_subject
from gazepipe.drawn.face.view import Box, View, normalised
from gazepipe.drawn.near_eye.ball import GLINT_LIGHT, GLINT_SIGMA_MM, Tissue, draw_ball, draw_glint, glints
from gazepipe.drawn.near_eye.lids import (
    LOWER,
    UPPER,
    Lashes,
    Lids,
    build_lashes,
    draw_lashes,
    edge,
    opening,
    paint_lids,
    place_lids,
)
from gazepipe.drawn.near_eye.rig import CAMERAS, EYE_FOCAL, LEFT, RIGHT, Sample
from gazepipe.drawn.near_eye.skin import Skin, build_skin, draw_skin

KAPPA_MEAN = np.radians([5.0, 1.5])  # nasal, up
KAPPA_SHARE = 0.75  # of the spread among the faces that `build_subject` draws: about 1 degree
GAMMA = 1.5
LEVELS = 4096


@dataclass(frozen=True)
class Wearer:
    """A person as the headset sees one: skin and lashes by eye (`RIGHT`, `LEFT`)."""

    subject: Subject
    tissue: Tissue
    skin: tuple[Skin, Skin]
    lashes: tuple[Lashes, Lashes]


@dataclass(frozen=True)
class Moment:
    """What changes from frame to frame: pupil radius in mm, openness of the lids (1: relaxed), exposure, and the
    sensor's blur (px at full size) and noise (grey levels)."""

    pupil_radius: float
    openness: float
    exposure: float
    blur: float
    noise: float


def build_wearer(rng: np.random.Generator) -> Wearer:
    """Draw a person; about 0.15 s."""
    subject = build_subject(rng, glasses=False)
    eyes = subject.eyes
    kappa = KAPPA_MEAN + KAPPA_SHARE * (eyes.kappa - KAPPA_MEAN)
    subject = replace(subject, eyes=replace(eyes, kappa=kappa))
    skin = rng.uniform(0.36, 0.56)
    tissue = Tissue(iris=rng.uniform(0.17, 0.36), sclera=rng.uniform(0.46, 0.6), flesh=0.85 * skin)
    return Wearer(
        subject,
        tissue,
        skin=tuple(build_skin(subject, eye, skin, rng) for eye in (RIGHT, LEFT)),
        lashes=tuple(build_lashes(eyes, rng) for _ in (RIGHT, LEFT)),
    )


def draw_image(wearer: Wearer, sample: Sample, camera: int, moment: Moment, rng: np.random.Generator) -> np.ndarray:
    """Image u8 [h, w] of the camera numbered `camera` (see `CAMERAS`); `rng` makes the sensor's noise."""
    linear = draw_light(wearer, sample, camera, moment)
    view = sample.views[list(CAMERAS).index(camera)]
    scale = view.matrix[0, 0] / EYE_FOCAL
    linear = cv2.GaussianBlur(linear, (0, 0), max(0.35, moment.blur * scale))
    linear *= _vignette(view.width, view.height) * np.float32(moment.exposure * (LEVELS - 1))
    np.clip(linear, 0, LEVELS - 1, out=linear)
    image = np.take(_tone_curve(), linear.astype(np.uint16))
    return add_noise(image, Photometry(blur=0, gain=np.ones(3), noise=moment.noise, jpeg=None), rng)


def draw_light(wearer: Wearer, sample: Sample, camera: int, moment: Moment) -> np.ndarray:
    """Linear light f32 [h, w] that falls on the sensor of a camera, before any blur."""
    eye, _ = CAMERAS[camera]
    view, lamps, axis = sample.views[list(CAMERAS).index(camera)], sample.lamps[eye], sample.axes[eye]
    eyes = wearer.subject.eyes
    centre = eyes.centres[eye]
    lids = place_lids(eyes, eye, axis, moment.openness)
    image = draw_skin(wearer.skin[eye], view, lamps)
    box = _around(lids, centre, view)
    rays = normalised(view.rays(box, box.width, box.height))
    origin = view.origin - centre
    field = opening(lids, origin, rays)
    part = image[box.slices]
    part[...] = paint_lids(part, field)
    ball = draw_ball(eyes, wearer.tissue, axis, moment.pupil_radius, origin, rays, field, lamps - centre)
    ball += _mirrored(wearer, axis, origin, lamps - centre, centre, box, view)
    part += (ball - part) * field.open
    draw_lashes(image, wearer.lashes[eye], lids, centre, view)
    return image


def _mirrored(
    wearer: Wearer,
    axis: np.ndarray,
    origin: np.ndarray,
    lamps: np.ndarray,
    centre: np.ndarray,
    box: Box,
    view: View,
) -> np.ndarray:
    layer = np.zeros((box.height, box.width), np.float32)
    for point, surface in glints(wearer.subject.eyes, axis, origin, lamps):
        x, y = view.project(point + centre)
        depth = float(np.linalg.norm(origin - point))
        sigma = GLINT_SIGMA_MM * view.matrix[0, 0] / depth * (1.0 if surface == "cornea" else 1.8)
        draw_glint(layer, x - box.x0, y - box.y0, sigma, GLINT_LIGHT[surface])
    return layer


def _around(lids: Lids, centre: np.ndarray, view: View) -> Box:
    """Pixels of the opening, the fold above it and the rim below it."""
    u = np.linspace(-1, 1, 9)
    points = np.concatenate([edge(lids, UPPER, u), edge(lids, LOWER, u)])
    above, below = [0, lids.upper - lids.crease - 3.0, 0], [0, 3.0, 0]
    return view.bounds(np.concatenate([points + above, points + below]) + centre, margin=2)


@lru_cache(maxsize=2)
def _vignette(width: int, height: int) -> np.ndarray:
    x, y = (np.linspace(-1, 1, size, dtype=np.float32) ** 2 for size in (width, height))
    return (1 - 0.36 * x[None] - 0.24 * y[:, None]).astype(np.float32)


@lru_cache(maxsize=1)
def _tone_curve() -> np.ndarray:
    """u8 [LEVELS] of linear light 0 .. 1."""
    return np.round(255 * (np.arange(LEVELS) / (LEVELS - 1)) ** (1 / GAMMA)).astype(np.uint8)
