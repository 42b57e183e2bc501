"""Drawn data sets: people with exactly known gaze, written in the native layouts of the real ones."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2

from gazepipe.common.progress import track
from gazepipe.drawn.layouts import columbia, ethxgaze, manifest, mpiifacegaze, mpiigaze, near_eye
from gazepipe.errors import UserError

LAYOUTS = {
    "columbia": columbia,
    "mpiifacegaze": mpiifacegaze,
    "ethxgaze": ethxgaze,
    "mpiigaze": mpiigaze,
    "manifest": manifest,
    "near-eye": near_eye,
}
DEFAULTS = {
    "columbia": {"seed": 0, "scale": 0.125},
    "mpiifacegaze": {"seed": 0, "images": 80, "size": 256},
    "ethxgaze": {"seed": 0, "images": 80, "size": 224},
    "mpiigaze": {"seed": 0, "images": 80},
    "manifest": {"seed": 0, "images": 80, "size": 640},
    "near-eye": {"seed": 0, "images": 40, "scale": 0.5},
}
OUTER_ENTRIES = {
    "ethxgaze": {"train"},
    "mpiigaze": {"Data", "Evaluation Subset"},
    "manifest": {"images", "labels.csv"},
    "near-eye": set(near_eye.ROLES),
}
"""What a drawn folder holds, in layouts whose subjects lie deeper."""
SMALLEST_SCALES = {"columbia": 0.02, "near-eye": 0.1}  # faces 26 px wide in 104, eyes 50 px wide in 72


def draw(block: dict, folder: Path, workers: int) -> None:
    """Draw a data set into `folder`, each subject atomically; equal blocks give equal bytes, whatever `workers`.

    block: {"layout": one of LAYOUTS, "subjects": int (near-eye: at least 3), "seed": int >= 0 (0)} and, for columbia,
    "scale": fraction of 5184 x 3456 px (0.125), for near-eye of 720 x 576 px (0.5); for all but columbia, "images"
    per subject (80; near-eye: 40) and, where the layout does not fix it, "size" in px: side of the normalised view
    (mpiifacegaze: 256, ethxgaze: 224) or width of the camera's picture (manifest: 640). A value of None means the
    default. workers: processes, at least 1. Raises `UserError` for an unknown key, an impossible value, or a folder
    that holds anything that the block would not draw.
    """
    block = _checked(block)
    module = LAYOUTS[block["layout"]]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_strangers(folder, block)
    task = partial(module.draw_subject, folder, block=block)
    subjects = range(block["subjects"])
    for _ in track(_run(task, subjects, workers), f"draw {block['layout']}", len(subjects), "subjects"):
        pass
    if hasattr(module, "finish"):
        module.finish(folder, block)


def _run(task: partial, subjects: range, workers: int) -> Iterator[None]:
    if workers <= 1:
        yield from map(task, subjects)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads can deadlock
    with ProcessPoolExecutor(min(workers, len(subjects)), context, cv2.setNumThreads, (1,)) as pool:
        yield from pool.map(task, subjects)


def _checked(block: dict) -> dict:
    """The block with its defaults filled in; `UserError` names a bad key."""
    layout = block.get("layout")
    if layout not in LAYOUTS:
        raise UserError(f"layout: {layout!r} found; take one of {', '.join(LAYOUTS)}")
    given = {key: value for key, value in block.items() if key != "layout" and value is not None}
    known = {"subjects", *DEFAULTS[layout]}
    for key in given:
        if key not in known:
            raise UserError(f"{key}: unknown in drawn {layout} data; take one of {', '.join(sorted(known))}")
    filled = {**DEFAULTS[layout], **given}
    _require(filled, "subjects", int, getattr(LAYOUTS[layout], "FEWEST_SUBJECTS", 1), 9999)
    _require(filled, "seed", int, 0, 2**63)
    if "scale" in filled:
        _require(filled, "scale", (int, float), SMALLEST_SCALES[layout], 1)
    if "images" in filled:
        _require(filled, "images", int, 1, 100_000)
    if "size" in filled:
        _require(filled, "size", int, 32, 2048)
    return {"layout": layout, **filled}


def _require(block: dict, key: str, kind: type | tuple, low: float, high: float) -> None:
    value = block.get(key)
    if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
        name = "a whole number" if kind is int else "a number"
        raise UserError(f"{key}: {value!r} found; take {name} from {low:g} to {high:g}")


def _refuse_strangers(folder: Path, block: dict) -> None:
    module = LAYOUTS[block["layout"]]
    suffix = ".mat" if block["layout"] == "mpiifacegaze" else ""
    subjects = {module.subject_name(index) + suffix for index in range(block["subjects"])}
    expected = OUTER_ENTRIES.get(block["layout"], subjects)
    for path in sorted(folder.iterdir()):
        if path.name not in expected and not path.name.startswith("."):
            raise UserError(f"{path}: found in the folder to draw into; empty the folder first")
