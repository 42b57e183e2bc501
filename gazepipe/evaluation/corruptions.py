"""Corrupted test images, the same for every network, and the same image as it is seen again when nothing moved.

What is drawn for an image follows from SEED, its row in the store and the kind of corruption alone, so neither the
network nor the batch changes it. The three strengths share their draw: a stronger one is the same corruption, more of
it (the same noise, scaled; a rectangle that holds the smaller one). As in Hendrycks and Dietterich, Benchmarking
Neural Network Robustness to Common Corruptions and Perturbations, 2019, with strengths in physical units.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from gazepipe.evaluation.settings import Corruptions, Jitter

SEED = 20_240_229
CLEAN = "clean"
GAMMA = 2.2
ASPECT = 2.0
"""Largest ratio of a rectangle's sides, relative to those of the image, either way."""
DARKEST, LIGHTEST = 0, 128
"""Grey levels of rectangles."""
LANDMARK_PATCHES = ("face", "eyes", "eye")
"""Kinds of patch that are cut out by landmarks, and so move with them."""

Draws = np.random.Generator


def variants(settings: Corruptions) -> list[tuple[str, int, float]]:
    """Every (kind, strength, level): the clean image, (CLEAN, 0, 0.0), then each kind with the strengths 1 to 3."""
    return [
        (CLEAN, 0, 0.0),
        *(
            (kind, strength, float(level))
            for kind in KINDS
            for strength, level in enumerate(getattr(settings, kind), 1)
        ),
    ]


def corrupted(image: np.ndarray, row: int, settings: Corruptions) -> np.ndarray:
    """An image u8 [V, H, W], that of `row`, as each of the `variants`: u8 [K, V, H, W]."""
    made = [corrupt(image, row, kind, level) for kind, _, level in variants(settings)]
    return np.stack(made)


def corrupt(image: np.ndarray, row: int, kind: str, level: float) -> np.ndarray:
    """An image u8 [V, H, W], that of `row`, under one kind of corruption: CLEAN or one of KINDS, whose unit `level` has
    (UNITS). Every view of the image is corrupted, each by a draw of its own.
    """
    if kind == CLEAN:
        return image
    return KINDS[kind](image, level, np.random.default_rng([SEED, row, list(KINDS).index(kind)]))


def seen_again(image: np.ndarray, row: int, settings: Jitter, patch: dict[str, Any]) -> np.ndarray:
    """An image u8 [V, H, W], that of `row`, seen several times: u8 [R, V, H, W], each with its own shift and noise.

    A shift is the same for all views, cubic between pixels (to 1/32 px), and repeats the edge; images of a `patch` that
    is not cut out by landmarks do not shift.
    """
    draws = np.random.default_rng([SEED, row, len(KINDS)])
    reach = settings.shift * image.shape[-1] if patch["kind"] in LANDMARK_PATCHES else 0.0
    places = reach * draws.standard_normal((settings.repeats, 2))
    shifted = np.stack([_shifted(image, place) if reach else image for place in places])
    return _grey(shifted + settings.noise * draws.standard_normal(shifted.shape, np.float32))


# ---- the kinds: (image u8 [V, H, W], level, draws) -> u8 [V, H, W]


def _noise(image: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    return _grey(image + np.float32(level) * draws.standard_normal(image.shape, np.float32))


def _blur(image: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    sigma = level * image.shape[-1]
    return np.stack([cv2.GaussianBlur(view, (0, 0), sigma) for view in image])


def _darker(image: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    return _exposed(image, -level)


def _brighter(image: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    return _exposed(image, level)


def _jpeg(image: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    return np.stack([_recoded(np.ascontiguousarray(view), int(level)) for view in image])


def _occlusion(image: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    covered = image.copy()
    for view in covered:
        _cover(view, level, draws)
    return covered


KINDS: dict[str, Callable[[np.ndarray, float, Draws], np.ndarray]] = {
    "noise": _noise,
    "blur": _blur,
    "darker": _darker,
    "brighter": _brighter,
    "jpeg": _jpeg,
    "occlusion": _occlusion,
}

UNITS = {
    "noise": (1, "grey levels"),
    "blur": (100, "% of the width"),
    "darker": (1, "stops"),
    "brighter": (1, "stops"),
    "jpeg": (1, "quality"),
    "occlusion": (100, "% of the area"),
}
"""How levels are shown: a factor and the unit's name."""
STRENGTHS = ("mild", "medium", "strong")


def level_text(kind: str, *levels: float) -> str:
    """5, 15, 30 grey levels: levels of a kind with their unit."""
    factor, unit = UNITS[kind]
    numbers = ", ".join(f"{factor * level:g}" for level in levels)
    return f"{unit} {numbers}" if kind == "jpeg" else f"{numbers} {unit.removesuffix('s') if numbers == '1' else unit}"


def _exposed(image: np.ndarray, stops: float) -> np.ndarray:
    """Exposed 2^stops times as long: grey = light^(1 / GAMMA), saturated at white."""
    greys = np.arange(256) * 2 ** (stops / GAMMA)
    return _grey(greys)[image]


def _recoded(view: np.ndarray, quality: int) -> np.ndarray:
    _, code = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)


def _cover(view: np.ndarray, share: float, draws: Draws) -> None:
    """Cover a share of the area by a rectangle; of one draw, a larger share covers what a smaller one does."""
    height, width = view.shape
    x, y, stretch = draws.uniform(size=3)
    grey = draws.integers(DARKEST, LIGHTEST + 1)
    across = min(1.0, max(share, np.sqrt(share * ASPECT ** (2 * stretch - 1))))
    wide, high = round(across * width), round(share / across * height)
    left, top = round(x * (width - wide)), round(y * (height - high))
    view[top : top + high, left : left + wide] = grey


def _shifted(image: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Views moved by `place` (x, y) px, f32 [V, H, W]."""
    matrix = np.array([[1, 0, place[0]], [0, 1, place[1]]])
    size = image.shape[:0:-1]
    warped = [
        cv2.warpAffine(view.astype(np.float32), matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        for view in image
    ]
    return np.stack(warped)


def _grey(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)
