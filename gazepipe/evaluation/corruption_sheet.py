"""The stage `corruptions`: what the corrupted images of a data set look like. Without torch, as it is quick."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gazepipe.common.plotting import DPI, FAINT, save, styled
from gazepipe.datasets.splits import rows_of
from gazepipe.datasets.store import open_store
from gazepipe.evaluation.corruptions import KINDS, STRENGTHS, corrupt, level_text, seen_again
from gazepipe.evaluation.predictions import tested_subjects
from gazepipe.evaluation.settings import PictureSettings

ACROSS = 2.4
"""Width of an image in inches."""
CAPTION = 0.28
SEAM = 4
"""Pixels between the views of a sample."""


def draw_corruptions(settings: PictureSettings, store: Path, split: Path, picture: Path) -> None:
    """Draw one test image of a data set, clean and under every corruption and strength, as PNG.

    It is the middle one of the fold's test images. Raises UserError for a bad store or split.
    """
    opened = open_store(store)
    rows = rows_of(opened, tested_subjects(split, settings.fold))
    row = int(rows[len(rows) // 2])
    image, patch = opened.image[row], opened.attrs["patch"]
    title = f"{settings.dataset}: subject {opened.subject[row]}, image {opened.frame[row]}"
    save(corruption_figure(image, row, settings, patch, title), picture)


@styled
def corruption_figure(image: np.ndarray, row: int, settings: PictureSettings, patch: dict, title: str) -> Figure:
    """A row for each kind of corruption, from clean to strong, and one for the image seen again, as the network gets
    them. `image` is u8 [V, H, W], that of `row`.
    """
    again = seen_again(image, row, settings.jitter, patch)[:3]
    shown = {
        kind: [(level_text(kind, level), corrupt(image, row, kind, level)) for level in getattr(settings, kind)]
        for kind in KINDS
    }
    shown["jitter"] = [(f"seen again ({number})", seen) for number, seen in enumerate(again, 1)]
    high = ACROSS * beside(image).shape[0] / beside(image).shape[1] + CAPTION
    columns = len(STRENGTHS) + 1
    figure = Figure(figsize=(columns * (ACROSS + 0.1), len(shown) * high + 0.6), dpi=DPI, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, weight="bold")
    axes = figure.subplots(len(shown), columns)
    for line, (kind, images) in zip(axes, shown.items(), strict=True):
        for cell, (text, seen) in zip(line, [("clean", image), *images], strict=False):
            _show(cell, beside(seen), text)
        line[0].set_title(f"{kind}: clean", fontsize=8.5, weight="bold", pad=2)
        for cell in line[len(images) + 1 :]:
            cell.set_axis_off()
    return figure


def beside(image: np.ndarray) -> np.ndarray:
    """The views of an image u8 [V, H, W] in a block, two in a row: u8 [h, w]."""
    if len(image) == 1:
        return image[0]
    padded = np.pad(image, ((0, len(image) % 2), (0, SEAM), (0, SEAM)), constant_values=255)
    pairs = [np.concatenate(list(padded[first : first + 2]), axis=1) for first in range(0, len(padded), 2)]
    return np.concatenate(pairs)[:-SEAM, :-SEAM]


def _show(axes: Axes, image: np.ndarray, text: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(text, fontsize=8.5, weight="normal", pad=2)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=FAINT, linewidth=0.5)
