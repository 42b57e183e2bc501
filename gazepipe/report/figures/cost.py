"""Error against what a network costs, on each data set, with the networks that no other beats."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from gazepipe.common.markdown import count, picture
from gazepipe.common.plotting import INK, PALE
from gazepipe.evaluation.inference import mean_interval
from gazepipe.evaluation.results import Results, is_control
from gazepipe.report.figures.panels import (
    SMALL,
    Network,
    blank,
    grid,
    legend,
    legend_height,
    looks_of,
    network_keys,
)
from gazepipe.report.pareto import frontier

BESIDE = 7
"""Points between networks of one size."""
COSTS = {"macs": "multiply-adds", "params": "parameters"}


def pictures(results: Results) -> list[str]:
    """The figure on the page."""
    text = (
        "Mean error against multiply-adds and parameters at this run's own size, on the data set trained on and on the"
        " others. Ringed, joined by the dashed line: networks that no other beats in both. Bars: 95 % intervals."
    )
    return picture(results.figure("pareto"), "Error against multiply-adds and parameters", text)


def draw(results: Results, frame: pd.DataFrame) -> dict[str, Figure]:
    """The figure of the table `efficiency_run_size`: one row of panels for each pair of data sets."""
    costs = frame.groupby(["model", "method"], sort=False)[list(COSTS)].first()
    points = _points(results, costs)
    pairs = list(dict.fromkeys(zip(points["train"], points["test"], strict=True)))
    pairs.sort(key=lambda pair: pair[0] != pair[1])
    looks = looks_of(results)
    keys = network_keys(looks, zip(points["model"], points["method"], strict=True))
    below = 0.6 + legend_height(len(keys))
    figure, panels = grid(2 * len(pairs), 2, 2.0, left=0.7, bottom=below, gaps=(0.3, 0.68))
    for number, axes in enumerate(panels if pairs else []):
        train, test = pairs[number // 2]
        own = points[(points["train"] == train) & (points["test"] == test)]
        cost = list(COSTS)[number % 2]
        if number % 2 == 0:
            text = f"tested on {test}" + ("" if train == test else f", trained on {train}")
            axes.set_title(text, size=SMALL, pad=5)
        scatter(axes, own, cost, looks)
        axes.set_xlabel(COSTS[cost], size=SMALL, labelpad=2)
        if number % 2 == 0:
            axes.set_ylabel("error, degrees", size=SMALL)
    legend(figure, keys) if keys else blank(panels[0], "no network has a cost and an error")
    return {"pareto": figure}


def _points(results: Results, costs: pd.DataFrame) -> pd.DataFrame:
    """train, test, model, method, error, low, high, macs, params of the networks that were counted."""
    rows = []
    for names, errors in results.errors.groupby(["train", "test", "model", "method"], sort=False):
        network: Network = names[2:]
        if is_control(results.settings, *network) or network not in costs.index:
            continue
        found = mean_interval(errors)
        rows.append((*names, found.mean, found.low, found.high, *costs.loc[network]))
    columns = ["train", "test", "model", "method", "error", "low", "high", *COSTS]
    return pd.DataFrame(rows, columns=columns)


def scatter(axes: Axes, points: pd.DataFrame, cost: str, looks: dict) -> None:
    """The networks of one panel; those without a mean are left out, and named in the corner."""
    known = points[points["error"].notna()]
    if known.empty:
        blank(axes, "no network has an error")
        return
    front = frontier(known[cost].to_numpy(), known["error"].to_numpy())
    edge = known.iloc[front]
    axes.step(edge[cost], edge["error"], where="post", color=INK, lw=1.0, ls=(0, (4, 2)), zorder=1)
    shifts = known.groupby(cost)["error"].cumcount() - (known.groupby(cost)["error"].transform("size") - 1) / 2
    for number, (row, shift) in enumerate(zip(known.to_dict("records"), shifts, strict=True)):
        # Methods that leave a network's size alone would stand on each other.
        beside = axes.transData + ScaledTranslation(shift * BESIDE / 72, 0, axes.figure.dpi_scale_trans)
        look, place = looks[row["model"], row["method"]], row[cost]
        axes.plot([place] * 2, [row["low"], row["high"]], color=look.colour, lw=0.9, transform=beside, zorder=2)
        axes.plot(place, row["error"], ms=6, transform=beside, zorder=3, **look.of_points)
        axes.lines[-1].set_gid(f"network {row['model']} {row['method']}")
        if number in front:
            axes.plot(place, row["error"], "o", ms=13, mfc="none", mec=INK, transform=beside, zorder=2, gid="front")
    lacking = len(points) - len(known)
    if lacking:
        axes.text(0.98, 0.97, f"{lacking} without an error", size=SMALL, ha="right", va="top", transform=axes.transAxes)
    axes.set_xscale("log")
    ends = known[["error", "low", "high"]].to_numpy()
    axes.set_ylim(*_around(np.nanmin(ends), np.nanmax(ends)))
    low, high = known[cost].min(), known[cost].max()
    axes.set_xlim(*np.exp(_around(*np.log([low, high]))))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 5 * low else FixedLocator(_spread(low, high)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value).replace(".00", "")))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=SMALL)
    axes.grid(color=PALE, lw=0.6, zorder=0)


def _around(low: float, high: float) -> tuple[float, float]:
    """A range with room on both sides."""
    room = max(0.15 * (high - low), 0.04)
    return low - room, high + room


def _spread(low: float, high: float) -> list[float]:
    """A few round numbers about a range that is less than a decade wide."""
    wide = max(high - low, 0.2 * low)
    step = 10 ** math.floor(math.log10(wide))
    step *= next(factor for factor in (0.5, 1, 2, 5) if wide / (factor * step) <= 4)
    first, last = math.floor((low - 0.5 * wide) / step), math.ceil((high + 0.5 * wide) / step)
    return [step * number for number in range(max(1, first), last + 1)]
