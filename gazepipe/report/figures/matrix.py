"""The cross-dataset matrix: each network's error by the data set trained on and the data set tested on."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gazepipe.common.markdown import MISSING, label, picture
from gazepipe.common.plotting import INK
from gazepipe.evaluation.inference import mean_interval
from gazepipe.evaluation.results import Results, is_control
from gazepipe.report.figures.panels import SMALL, TINY, WIDTH, grid, titles

COLUMNS = 3
MAP = "Blues"
DARK = 0.55
"""Cells above this share of the range have white numbers."""


def pictures(results: Results) -> list[str]:
    """The figure on the page."""
    text = (
        "Mean error in degrees, by the data set trained on (rows) and tested on (columns). Framed: subjects of the data"
        " set trained on, never trained on themselves. Darker is worse; one scale for all networks."
    )
    return picture(results.figure("cross-dataset"), "Errors by data sets trained and tested on", text)


def draw(results: Results, frame: pd.DataFrame) -> dict[str, Figure]:
    """The figure of the table `cross_dataset`: one matrix per network."""
    names = list(results.settings.datasets)
    means = {
        network: _means(errors, names)
        for network, errors in results.errors.groupby(["model", "method"], sort=False)
        if not is_control(results.settings, *network)
    }
    columns = max(1, min(COLUMNS, 9 // max(2, len(names))))
    side = max(0.95, 0.5 * len(names))
    figure, panels = grid(len(means), columns, side, left=1.15, bottom=0.75, gaps=(0.22, 0.45))
    known = np.concatenate([matrix.ravel() for matrix in means.values()] or [np.zeros(1)])
    known = known[np.isfinite(known)] if np.isfinite(known).any() else np.zeros(1)
    scale = Normalize(0.5 * known.min(), max(known.max(), 1e-6))
    titles(panels, [label(*network) for network in means])
    for axes, matrix in zip(panels, means.values(), strict=False):
        _cells(axes, matrix, scale)
    _name_sides(panels, names, columns)
    return {"cross-dataset": figure}


def _means(errors: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Mean errors [trained on, tested on]; NaN where there is none."""
    matrix = np.full((len(names), len(names)), np.nan)
    for (train, test), own in errors.groupby(["train", "test"], sort=False):
        matrix[names.index(train), names.index(test)] = mean_interval(own).mean
    return matrix


def _cells(axes: Axes, matrix: np.ndarray, scale: Normalize) -> None:
    axes.imshow(np.ma.masked_invalid(matrix), cmap=MAP, norm=scale, aspect="auto")
    for (row, column), value in np.ndenumerate(matrix):
        text = MISSING if np.isnan(value) else f"{value:.2f}"
        colour = "white" if np.isfinite(value) and scale(value) > DARK else INK
        axes.text(column, row, text, ha="center", va="center", size=SMALL, color=colour)
        if row == column:
            axes.add_patch(_frame(row))
    axes.spines[:].set_visible(False)
    axes.set(xlim=(-0.5, len(matrix) - 0.5), ylim=(len(matrix) - 0.5, -0.5))


def _frame(place: int) -> Rectangle:
    return Rectangle((place - 0.46, place - 0.46), 0.92, 0.92, fill=False, edgecolor=INK, lw=1.4)


def _name_sides(panels: list[Axes], names: list[str], columns: int) -> None:
    """The data sets at the left and below the lowest panel of each column."""
    broken = [name.replace("-", "-\n").replace("_", "_\n") for name in names]
    inches = panels[0].get_position().width * WIDTH / len(names)
    longest = max(len(line) for name in broken for line in name.split("\n"))
    turned = {"rotation": 90} if longest * 0.58 * TINY > 72 * inches else {}
    for number, axes in enumerate(panels):
        left, lowest = number % columns == 0, number + columns >= len(panels)
        axes.set_yticks(range(len(names)), broken if left else [""] * len(names), size=TINY)
        axes.set_xticks(range(len(names)), broken if lowest else [""] * len(names), size=TINY, **turned)
        axes.tick_params(length=0)
        if left:
            axes.set_ylabel("trained on", size=SMALL)
        if lowest:
            axes.set_xlabel("tested on", size=SMALL)
