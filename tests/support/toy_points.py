"""A small drawn store of gaze points: four views of a bright spot that moves with the point, on the toy's subjects."""

from pathlib import Path

import numpy as np
from toy_store import SUBJECTS

from gazepipe.datasets.store import write_store

VIEWS, HEIGHT, WIDTH = 4, 24, 32
SCENE = (640, 480)
PATCH = {"kind": "near-eye", "height": HEIGHT, "width": WIDTH}


def write_toy_points(path: Path, per_subject: int = 40, seed: int = 0) -> Path:
    """Write the store; the target is (x, y) in pixels of a scene of 640x480, its scale 640 along both axes."""
    rng = np.random.default_rng(seed)
    attrs = {
        "dataset": "toy-points",
        "patch": PATCH,
        "source": "drawn",
        "units": "px",
        "task": "gaze point",
        "target_scale": [float(SCENE[0]), float(SCENE[0])],
    }
    write_store(path, (_subject(rng, name, per_subject) for name in SUBJECTS), attrs)
    return path


def _subject(rng: np.random.Generator, name: str, count: int) -> dict:
    target = rng.uniform((100, 80), (540, 400), (count, 2))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    slip = rng.normal(0, 0.5, (VIEWS, 2))
    center = target[:, None] / SCENE * (WIDTH, HEIGHT) + slip
    distance = (x - center[..., 0, None, None]) ** 2 + (y - center[..., 1, None, None]) ** 2
    pixels = rng.uniform(140, 200) * np.exp(-distance / 18) + rng.normal(30, 5, (count, VIEWS, HEIGHT, WIDTH))
    return {
        "image": pixels.clip(0, 255).astype(np.uint8),
        "target": target,
        "head_pose": np.zeros((count, 2)),
        "subject": name,
        "frame": [f"{number + 1:04d}" for number in range(count)],
    }
