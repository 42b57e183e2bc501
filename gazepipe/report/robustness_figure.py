"""The figure of robustness: error against the strength of each corruption, and jitter."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from gazepipe.common.markdown import label
from gazepipe.common.plotting import DPI, PALE, Look, network_looks, styled
from gazepipe.evaluation.corruptions import CLEAN, KINDS, STRENGTHS, level_text
from gazepipe.evaluation.results import Results

WORDS = {"deg": "degrees", "px": "px"}
SPREAD = 0.32
"""How far apart the networks' points of one strength lie, in steps of strength."""
PALER = 0.45
"""Opacity of intervals."""
MARGIN, LEAST_RANGE = 0.15, 0.2
"""Above and below the means, as a share of their range, which is taken to be at least so much of the largest."""

Looks = dict[tuple[str, str], Look]


def draw(results: Results, frame: pd.DataFrame) -> dict[str, Figure]:
    """The figure of each data set in the table `robustness`."""
    looks = network_looks(results.settings.models, results.settings.methods)
    return {f"robustness/{dataset}": curves(rows, looks) for dataset, rows in frame.groupby("dataset", sort=False)}


@styled
def curves(rows: pd.DataFrame, looks: Looks) -> Figure:
    """A panel for each corruption, with a line for each network and its 95 % intervals; one for jitter.

    `rows` are those of one data set in the table `robustness`. All panels of corruptions have one scale, made for the
    means: very wide intervals run out of it.
    """
    figure = Figure(figsize=(13, 7), dpi=DPI, layout="constrained")
    panels = figure.subplots(2, 4)
    unit = WORDS[rows["unit"].iloc[0]]
    errors = rows.loc[rows["strength"].notna(), "mean"]
    margin = MARGIN * max(np.ptp(errors), LEAST_RANGE * errors.max())
    for axes, kind in zip(panels[:, :3].flat, KINDS, strict=True):
        _panel(axes, rows[rows["measure"].isin([CLEAN, kind])], looks)
        levels = rows[rows["measure"] == kind].drop_duplicates("strength")["level"]
        axes.set_title(kind)
        axes.set_xlabel(level_text(kind, *levels), fontsize=9)
        axes.set_ylim(max(0, errors.min() - margin), errors.max() + margin)
        axes.tick_params(labelleft=axes in panels[:, 0])
    for axes in panels[:, 0]:
        axes.set_ylabel(f"error, {unit}")
    _jitter(panels[0, 3], rows[rows["measure"] == "std"], looks)
    panels[0, 3].set(title="jitter", ylabel=f"scatter of one image, {unit}")
    panels[1, 3].set_axis_off()
    panels[1, 3].legend(*panels[0, 0].get_legend_handles_labels(), loc="upper left", fontsize=9.5)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, looks: Looks) -> None:
    """Error against strength, networks a little beside one another."""
    networks = list(rows.groupby(["model", "method"], sort=False))
    offsets = np.linspace(-SPREAD, SPREAD, len(networks)) if len(networks) > 1 else [0.0]
    for (network, own), offset in zip(networks, offsets, strict=True):
        axes.errorbar(
            own["strength"] + offset, own["mean"], _bars(own), label=label(*network), **_options(looks[network])
        )
    axes.set_xticks(range(len(STRENGTHS) + 1), [CLEAN, *STRENGTHS])
    axes.grid(axis="y", color=PALE, lw=0.6)


def _jitter(axes: Axes, rows: pd.DataFrame, looks: Looks) -> None:
    """The scatter of each network, in the order of the legend."""
    for place, (network, own) in enumerate(rows.groupby(["model", "method"], sort=False)):
        axes.errorbar([place], own["mean"], _bars(own), **_options(looks[network]))
    axes.set_xticks([])
    axes.margins(x=0.1)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=PALE, lw=0.6)


def _bars(rows: pd.DataFrame) -> np.ndarray:
    """Lengths of the intervals below and above the means, [2, n]; NaN, for none, where there is no interval."""
    return np.stack([rows["mean"] - rows["low"], rows["high"] - rows["mean"]])


def _options(look: Look) -> dict:
    return {
        **look.of_marker,
        "ecolor": to_rgba(look.colour, PALER),
        "linestyle": look.line,
        "markersize": 4.5,
        "linewidth": 1.2,
        "elinewidth": 1.0,
    }
