"""The stage `sheet`: a contact sheet of a prepared data set, native images beside what the network sees."""

from pathlib import Path

import numpy as np

from gazepipe.datasets.fetch.receipt import raw_folder
from gazepipe.datasets.layouts.layout import reader
from gazepipe.datasets.settings import SheetSettings
from gazepipe.datasets.sheet import contact_sheet, point_sheet
from gazepipe.datasets.store import open_store

SAMPLES = 18


def draw_sheet(settings: SheetSettings, receipt: Path, store: Path, sheet: Path) -> None:
    """Draw the contact sheet of a data set.

    `receipt` is that of the native folder that `store` was prepared from.
    """
    write_overview(settings, raw_folder(receipt), store, sheet)


def write_overview(settings: SheetSettings, raw: Path, store: Path, out: Path) -> None:
    """Write the sheet of SAMPLES images, of as many subjects as there are, as PNG; `raw` is the native folder."""
    opened = open_store(store)
    rows = spread_rows(np.asarray(opened.subject))
    module, options = reader(settings.layout), settings.options
    people = [name.partition("/")[0] for name in opened.subject[rows]]  # without the day, see `prepare.merge`
    scenes = hasattr(module, "scene_image")
    read = module.scene_image if scenes else module.native_image
    native = [read(raw, person, opened.frame[row], **options) for person, row in zip(people, rows, strict=True)]
    title = f"{settings.dataset}: {len(opened)} images of {len(set(opened.subject))} subjects"
    labels = [f"{opened.subject[row]}" for row in rows]
    write = point_sheet if scenes else contact_sheet
    write(native, opened.image[rows], opened.target[rows], out, title, labels)


def spread_rows(subjects: np.ndarray) -> np.ndarray:
    """SAMPLES row numbers, rising: subjects evenly spread, and another place within each subject in turn."""
    names = np.unique(subjects)
    chosen = names[np.linspace(0, len(names) - 1, min(SAMPLES, len(names))).round().astype(int)]
    rows = []
    for turn in range(SAMPLES):
        own = np.flatnonzero(subjects == chosen[turn % len(chosen)])
        # The golden ratio's multiples fall evenly into [0, 1) however many there are.
        rows.append(own[int(len(own) * (turn * 0.618034 % 1.0))])
    return np.unique(rows)
