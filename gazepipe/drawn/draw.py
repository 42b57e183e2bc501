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
from gazepipe.drawn.drawing import Drawing
from gazepipe.errors import UserError


def writer_module(layout: str) -> str:
    """Name of the module that draws a layout; UserError where none does."""
    names = [module.name.replace("_", "-") for module in pkgutil.iter_modules(layouts.__path__)]
    if layout not in names:
        raise UserError(f"layout: {layout!r} found; take one of {', '.join(names)}")
    return module_of(layouts.__name__, layout)


def writer(layout: str) -> ModuleType:
    """The module that draws a layout; UserError where none does.

    It has DEFAULTS (of the keys of `draw`), subject_name(index) and draw_subject(folder, index, drawing); where it
    needs them, finish(folder, drawing), FEWEST_SUBJECTS, SMALLEST_SCALE, SUFFIX of the subjects' files, and
    OUTER_ENTRIES: what the folder holds where its subjects lie deeper.
    """
    return importlib.import_module(writer_module(layout))


def draw(asked: dict, folder: Path, workers: int) -> None:
    """Draw a data set into `folder`, each subject atomically; the same for whatever number of `workers`, processes.

    `asked` gives fields of `Drawing`: `layout`, `subjects` and those that the writer has DEFAULTS for, which hold where
    one is left out or None. Raises `UserError` for an unknown key, an impossible value, or a folder that holds anything
    that would not be drawn.
    """
    drawing = checked(asked)
    module = writer(drawing.layout)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_strangers(folder, drawing)
    task = partial(module.draw_subject, folder, drawing=drawing)
    subjects = range(drawing.subjects)
    for _ in track(_run(task, subjects, workers), f"draw {drawing.layout}", len(subjects), "subjects"):
        pass
    if hasattr(module, "finish"):
        module.finish(folder, drawing)


def _run(task: partial, subjects: range, workers: int) -> Iterator[None]:
    if workers <= 1:
        yield from map(task, subjects)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads can deadlock
    with ProcessPoolExecutor(min(workers, len(subjects)), context, cv2.setNumThreads, (1,)) as pool:
        yield from pool.map(task, subjects)


def checked(asked: dict) -> Drawing:
    """What is asked for, with its defaults filled in; `UserError` names a bad key."""
    layout = asked.get("layout")
    module = writer(layout)
    given = {key: value for key, value in asked.items() if key != "layout" and value is not None}
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
    return Drawing(layout, **filled)


def _require(filled: dict, key: str, kind: type | tuple, low: float, high: float) -> None:
    value = filled.get(key)
    if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
        name = "a whole number" if kind is int else "a number"
        raise UserError(f"{key}: {value!r} found; take {name} from {low:g} to {high:g}")


def _refuse_strangers(folder: Path, drawing: Drawing) -> None:
    module = writer(drawing.layout)
    suffix = getattr(module, "SUFFIX", "")
    subjects = {module.subject_name(index) + suffix for index in range(drawing.subjects)}
    expected = getattr(module, "OUTER_ENTRIES", subjects)
    for path in sorted(folder.iterdir()):
        if path.name not in expected and not path.name.startswith("."):
            raise UserError(f"{path}: found in the folder to draw into; empty the folder first")
