"""Drawn data sets: people with exactly known gaze, written in the native layouts of the real ones."""

import importlib
import multiprocessing
import pkgutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType

import cv2

from gazepipe.common.named import module_of
from gazepipe.common.progress import track
from gazepipe.drawn import layouts
from gazepipe.errors import UserError


def writer_module(layout: str) -> str:
    """Name of the module that draws a layout; UserError where none does."""
    names = [module.name.replace("_", "-") for module in pkgutil.iter_modules(layouts.__path__)]
    if layout not in names:
        raise UserError(f"layout: {layout!r} found; take one of {', '.join(names)}")
    return module_of(layouts.__name__, layout)


def writer(layout: str) -> ModuleType:
    """The module that draws a layout; UserError where none does.

    It has DEFAULTS (of the block's keys), subject_name(index) and draw_subject(folder, index, block); where it needs
    them, finish(folder, block), FEWEST_SUBJECTS, SMALLEST_SCALE, SUFFIX of the subjects' files, and OUTER_ENTRIES:
    what the folder holds where its subjects lie deeper.
    """
    return importlib.import_module(writer_module(layout))


def draw(block: dict, folder: Path, workers: int) -> None:
    """Draw a data set into `folder`, each subject atomically; equal blocks give equal bytes, whatever `workers`.

    block: {"layout": see `writer`, "subjects": int (near-eye: at least 3), "seed": int >= 0} and what else the writer
    has DEFAULTS for: "scale", fraction of the real pictures' size; "images" per subject; "size" in px, side of the
    normalised view or width of the camera's picture. A value of None means the default. workers: processes, at least
    1. Raises `UserError` for an unknown key, an impossible value, or a folder that holds anything that the block would
    not draw.
    """
    block = _checked(block)
    module = writer(block["layout"])
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
    module = writer(layout)
    given = {key: value for key, value in block.items() if key != "layout" and value is not None}
    known = {"subjects", *module.DEFAULTS}
    for key in given:
        if key not in known:
            raise UserError(f"{key}: unknown in drawn {layout} data; take one of {', '.join(sorted(known))}")
    filled = {**module.DEFAULTS, **given}
    _require(filled, "subjects", int, getattr(module, "FEWEST_SUBJECTS", 1), 9999)
    _require(filled, "seed", int, 0, 2**63)
    if "scale" in filled:
        _require(filled, "scale", (int, float), module.SMALLEST_SCALE, 1)
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
    module = writer(block["layout"])
    suffix = getattr(module, "SUFFIX", "")
    subjects = {module.subject_name(index) + suffix for index in range(block["subjects"])}
    expected = getattr(module, "OUTER_ENTRIES", subjects)
    for path in sorted(folder.iterdir()):
        if path.name not in expected and not path.name.startswith("."):
            raise UserError(f"{path}: found in the folder to draw into; empty the folder first")
