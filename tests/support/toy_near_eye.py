"""A small near-eye store: four images of a dark pupil with a glint that move with the gaze point."""

from pathlib import Path

import numpy as np

from gazepipe.datasets.store import write_store

SCENE = (1280, 720)
ROLES = {"train": 4, "val": 2, "test": 3}
ROLE_OF = {"train": "train", "val": "validation", "test": "test"}


def write_near_eye(
    path: Path, height: int, width: int, per_subject: int = 20, roles: dict = ROLES, seed: int = 0
) -> Path:
    """Write the store, subjects `train-01`..., each with its own pupil, light, and slip of the headset."""
    rng = np.random.default_rng(seed)
    names = [f"{role}-{number:02d}" for role, count in roles.items() for number in range(1, count + 1)]
    attrs = {
        "dataset": "toy",
        "patch": {"kind": "near-eye", "height": height, "width": width},
        "source": "drawn",
        "task": "gaze point",
        "units": "px",
        "target_scale": [float(SCENE[0]), float(SCENE[0])],
    }
    write_store(path, (_subject(rng, name, height, width, per_subject) for name in names), attrs)
    return path


def write_near_eye_split(path: Path, roles: dict = ROLES) -> Path:
    """The one fold that the subjects' names give."""
    rows = [f"0,{role}-{n:02d},{ROLE_OF[role]}" for role, count in roles.items() for n in range(1, count + 1)]
    path.write_text("fold,subject,role\n" + "\n".join(rows) + "\n")
    return path


def _subject(rng: np.random.Generator, name: str, height: int, width: int, count: int) -> dict:
    target = rng.uniform(0.1, 0.9, (count, 2)) * SCENE
    gaze = target / SCENE - 0.5
    slip, radius, skin = rng.normal(0, 0.02, 2), rng.uniform(0.09, 0.13), rng.uniform(120, 170)
    views = [_view(rng, gaze, slip, radius, skin, side, height, width) for side in (-1, -0.4, 0.4, 1)]
    return {
        "image": np.stack(views, axis=1),
        "target": target,
        "head_pose": np.zeros((count, 2)),
        "subject": name,
        "frame": [f"{number:04d}" for number in range(1, count + 1)],
    }


def _view(rng, gaze, slip, radius, skin, side, height, width) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    middle = np.array([width / height / 2 + 0.08 * side, 0.5]) + slip
    center = middle + gaze * [0.45 * (1 - 0.2 * side), 0.4]
    glint = middle + gaze * [0.2, 0.2] + [0.02, -0.05]
    pixels = np.full((len(gaze), height, width), skin, np.float32) - 60 * np.abs(y - 0.5)
    pixels += 50 / (1 + np.exp(60 * (np.hypot(x - middle[0], 1.6 * (y - middle[1])) - 0.36)))
    for spot, size, level in ((center, radius * 2, 90), (center, radius, 15), (glint, 0.025, 250)):
        distance = np.hypot(x - spot[:, :1, None], y - spot[:, 1:, None])
        inside = 1 / (1 + np.exp(120 * (distance - size).clip(-0.5, 0.5)))
        pixels += inside * (level - pixels)
    return (pixels + rng.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)
