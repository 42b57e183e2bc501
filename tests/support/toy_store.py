"""A small drawn store that a network learns in seconds: a bright spot that moves with the gaze, on eight subjects."""

from pathlib import Path

import numpy as np

from gazepipe.datasets.store import write_store

HEIGHT, WIDTH = 24, 48
PATCH = {"kind": "eyes", "height": HEIGHT, "width": WIDTH}
SUBJECTS = [f"s{number}" for number in range(8)]
ROLES = {"s0": "test", "s1": "test", "s2": "validation"}


def write_toy_store(path: Path, per_subject: int = 40, patch: dict = PATCH, seed: int = 0) -> Path:
    """Write the store; each subject has its own brightness and offset, so that validation is not training again."""
    rng = np.random.default_rng(seed)
    attrs = {"dataset": "toy", "patch": patch, "source": "drawn"}
    write_store(path, (_subject(rng, name, per_subject, patch) for name in SUBJECTS), attrs)
    return path


def write_toy_split(path: Path) -> Path:
    """Two folds; in fold 0 s0 and s1 are tested and s2 validates, in fold 1 s3, s4 and s5."""
    shifted = {f"s{int(name[1]) + 3}": role for name, role in ROLES.items()}
    lines = [
        f"{fold},{name},{roles.get(name, 'train')}" for fold, roles in enumerate((ROLES, shifted)) for name in SUBJECTS
    ]
    path.write_text("fold,subject,role\n" + "\n".join(lines) + "\n")
    return path


def _subject(rng: np.random.Generator, name: str, count: int, patch: dict) -> dict:
    height, width = patch["height"], patch["width"]
    target = rng.uniform(-0.35, 0.35, (count, 2)) * [0.6, 1.0]
    y, x = np.mgrid[:height, :width]
    center_x = width / 2 + rng.normal(0, 0.5) - target[:, 1] * 55
    center_y = height / 2 + rng.normal(0, 0.5) - target[:, 0] * 40
    distance = (x - center_x[:, None, None]) ** 2 + (y - center_y[:, None, None]) ** 2
    pixels = rng.uniform(140, 200) * np.exp(-distance / 18) + rng.normal(30, 5, (count, height, width))
    return {
        "image": pixels.clip(0, 255).astype(np.uint8)[:, None],
        "target": target,
        "head_pose": np.zeros((count, 2)),
        "subject": name,
        "frame": [f"{name}_{number:03d}" for number in range(count)],
    }
