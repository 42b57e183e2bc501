"""Comparisons of networks as figures: a forest plot of all of them, and each subject's error with both networks."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gazepipe.common.markdown import label
from gazepipe.common.plotting import FAINT, INK, PALE, Look
from gazepipe.evaluation.comparisons import DIFFERENCES, MARGINS, PERCENT, difference_text
from gazepipe.evaluation.inference import ALPHA, mean_interval
from gazepipe.evaluation.results import Results
from gazepipe.report.figures.panels import DPI, SMALL, TINY, WIDTH, blank, grid, legend, looks_of, note, titles

ROW_INCHES = 0.23
LABELS_INCHES, NUMBERS_INCHES = 2.65, 1.55
ERROR = {"angles": "degrees", "point": "pixels"}
"""Unit of errors by the task."""
LETTER = 0.58
"""Width of a letter over its size."""
OPEN = "white"
COLUMNS = (4, 3)
FALLS = {"colors": FAINT, "linewidths": 0.8}
RISES = {"colors": INK, "linewidths": 0.9, "linestyles": [(0, (3, 2))]}


def draw(results: Results, frame: pd.DataFrame) -> dict[str, Figure]:
    """The figures of the table `comparisons`."""
    return {"forest": forest(results, frame, "deg"), **_paired(results, frame)}


def draw_near_eye(results: Results, frame: pd.DataFrame) -> dict[str, Figure]:
    """The figures of the table `near_eye_comparisons`."""
    frame = frame.assign(train=frame["dataset"], test=frame["dataset"])
    return {"forest-near-eye": forest(results, frame, PERCENT), **_paired(results, frame)}


# ---- forest plot


def forest(results: Results, frame: pd.DataFrame, unit: str) -> Figure:
    """One row per comparison of `frame` (train, test, model, method, baseline, `evaluation.comparisons.columns`)."""
    if frame.empty:
        return note("Nothing to compare: a single method.")
    order = list(results.settings.datasets)
    groups = list(frame.groupby(["test", "train"], sort=False))
    groups.sort(key=lambda group: (order.index(group[0][0]), group[0][0] != group[0][1]))
    lines = len(frame) + 1.35 * len(groups)
    untold = _no_intervals(frame, unit)
    above, below = 0.12, 1.25 if untold else 1.0
    height = above + below + ROW_INCHES * lines
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    inside = (WIDTH - LABELS_INCHES - NUMBERS_INCHES) / WIDTH
    axes = figure.add_axes((LABELS_INCHES / WIDTH, below / height, inside, ROW_INCHES * lines / height))
    margin, limit = getattr(results.settings.statistics, MARGINS[unit][0]), _limit(results, frame, unit)
    if margin is not None:
        axes.axvspan(-margin, margin, color=PALE, alpha=0.6, lw=0, zorder=0)
    axes.axvline(0, color=INK, lw=0.9, zorder=1)
    place, looks = 0.0, looks_of(results)
    size = min(SMALL, 72 * (LABELS_INCHES - 0.15) / (LETTER * max(map(len, map(_pair_text, frame.to_dict("records"))))))
    for (test, train), group in groups:
        place += 1.1
        heading = f"{test}" if test == train else f"{test}, trained on {train}"
        _left(axes, place, f"tested on {heading}", size=SMALL, weight="bold")
        for row in group.to_dict("records"):
            place += 1
            _left(axes, place, _pair_text(row), size=size)
            _forest_row(axes, place, row, unit, looks[row["model"], row["method"]], limit)
        place += 0.25
    axes.set(xlim=(-limit, limit), ylim=(lines + 0.4, 0.2), yticks=[], xlabel=DIFFERENCES[unit][0] + untold)
    axes.spines[["left"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
    legend(figure, _forest_keys(margin is not None), columns=4)
    return figure


def _no_intervals(frame: pd.DataFrame, unit: str) -> str:
    """A line that says why no comparison has an interval; nothing where some have."""
    if frame[f"low_{unit}"].notna().any():
        return ""
    return f"\nno intervals: {frame['reason'].iloc[0].partition(':')[0]}"


def _limit(results: Results, frame: pd.DataFrame, unit: str) -> float:
    """How far the axis reaches: to all differences and most intervals, the ends of others are arrows."""
    bounds = np.abs(frame[[f"low_{unit}", f"high_{unit}"]].to_numpy(np.float64)).max(axis=1)
    bounds = bounds[np.isfinite(bounds)]
    differences = np.abs(frame[f"difference_{unit}"].to_numpy(np.float64))
    furthest = np.nanmax(differences) if np.isfinite(differences).any() else 0.0
    most = min(bounds.max(), 3 * np.median(bounds)) if len(bounds) else 0.0
    margin = getattr(results.settings.statistics, MARGINS[unit][0]) or 0.0
    return 1.12 * max(furthest, most, 1.1 * margin, 1e-6)


def _forest_row(axes: Axes, place: float, row: dict[str, Any], unit: str, look: Look, limit: float) -> None:
    difference, low, high = (row[f"{name}_{unit}"] for name in ("difference", "low", "high"))
    if pd.isna(difference):
        axes.text(0, place, "no result", size=TINY, color=FAINT, ha="center", va="center", backgroundcolor=OPEN)
        return
    if not pd.isna(low):
        axes.plot([max(low, -limit), min(high, limit)], [place, place], color=look.colour, lw=1.6, zorder=2)
        for end, outside, arrow in ((-limit, low < -limit, "<"), (limit, high > limit, ">")):
            if outside:
                axes.plot(end, place, marker=arrow, ms=6, color=look.colour, clip_on=False, zorder=3)
    point = axes.plot(
        difference, place, ms=6.5, mew=1.4, zorder=4, marker=look.marker, **_filled(_found(row), look.colour)
    )
    point[0].set_gid(f"difference {row['train']} {row['test']} {row['model']} {row['method']} {row['baseline']}")
    text = difference_text(row, unit)
    size = min(SMALL, 72 * (NUMBERS_INCHES - 0.1) / (LETTER * len(text)))
    axes.text(1.03, place, text, size=size, va="center", transform=axes.get_yaxis_transform())


def _found(row: dict[str, Any]) -> str:
    if row["p_holm"] < ALPHA:
        return "different"
    return "equivalent" if row["p_equivalence_holm"] < ALPHA else "neither"


def _filled(found: str, colour: str) -> dict[str, str]:
    """The marker of a comparison: full, half or open."""
    face = OPEN if found == "neither" else colour
    half = "left" if found == "equivalent" else "full"
    return {"color": colour, "markerfacecolor": face, "markerfacecoloralt": OPEN, "fillstyle": half}


def _pair_text(row: dict[str, Any]) -> str:
    return f"{label(row['model'], row['method'])} vs {row['baseline']}"


def _left(axes: Axes, place: float, text: str, **style: Any) -> None:
    """Text at the left edge of the figure; a heading may reach into the axes, where its row is empty."""
    inches = axes.get_position().width * WIDTH
    axes.text((0.05 - LABELS_INCHES) / inches, place, text, va="center", transform=axes.get_yaxis_transform(), **style)


def _forest_keys(margin: bool) -> list:
    found = {"different": "different", "neither": "neither shown"} | ({"equivalent": "equivalent"} if margin else {})
    keys = [Line2D([], [], marker="o", label=text, **_filled(name, INK)) for name, text in found.items()]
    return keys + ([Patch(color=PALE, label="margin of equivalence")] if margin else [])


# ---- pairs per subject


def _paired(results: Results, frame: pd.DataFrame) -> dict[str, Figure]:
    return {
        f"paired-{dataset}": paired(results, frame[frame["test"] == dataset]) for dataset in results.settings.datasets
    }


def paired(results: Results, frame: pd.DataFrame) -> Figure:
    """One panel per comparison of one data set tested on: the errors of its subjects with both networks."""
    if frame.empty:
        return note("Nothing to compare: a single method.")
    words = ERROR[next(iter(results.settings.datasets.values())).task]
    groups = sorted(frame.groupby(["train", "test"], sort=False), key=lambda group: group[0][0] != group[0][1])
    columns = min(COLUMNS, key=lambda number: (sum(-len(group) % number for _, group in groups), -number))
    columns = min(columns, max(len(group) for _, group in groups))
    count = sum(len(group) + -len(group) % columns for _, group in groups)
    figure, panels = grid(count, columns, 1.95, top=0.5, bottom=0.5, gaps=(0.16, 0.92))
    for names, group in groups:
        own, unused = panels[: len(group)], panels[len(group) : len(group) + -len(group) % columns]
        panels = panels[len(own) + len(unused) :]
        for axes in unused:
            axes.remove()
        titles(own, [label(*network) for network in zip(group["model"], group["method"], strict=True)])
        _heading(own[0], *names)
        _group(own, group, results, f"error, {words}", columns)
    return figure


def _heading(axes: Axes, train: str, test: str) -> None:
    """Over the panels of one group, from the first of them on."""
    text = f"tested on {test}" + ("" if train == test else f", trained on {train}")
    axes.annotate(text, (0, 1), (0, 21), "axes fraction", textcoords="offset points", size=SMALL + 1, color=FAINT)


def _group(panels: list[Axes], frame: pd.DataFrame, results: Results, words: str, columns: int) -> None:
    looks, drawn = looks_of(results), []
    for row, axes in zip(frame.to_dict("records"), panels, strict=True):
        sides = [_of(results, row, method) for method in (row["baseline"], row["method"])]
        if min(map(len, sides)) == 0:
            blank(axes, "no predictions")
            continue
        _pair_panel(axes, sides, row, looks)
        drawn.append(axes)
    _alike(drawn, panels, words, columns)


def _of(results: Results, row: dict[str, Any], method: str) -> pd.DataFrame:
    errors = results.errors
    return errors[
        (errors["train"] == row["train"])
        & (errors["test"] == row["test"])
        & (errors["model"] == row["model"])
        & (errors["method"] == method)
    ]


def _pair_panel(axes: Axes, sides: list[pd.DataFrame], row: dict[str, Any], looks: dict) -> None:
    subjects = [side.groupby("subject")["error"].mean() for side in sides]
    both = pd.concat(subjects, axis=1, keys=["baseline", "method"]).dropna()
    better = (both["method"] < both["baseline"]).to_numpy()
    for chosen, style in ((better, FALLS), (~better, RISES)):
        lines = [[(0, before), (1, after)] for before, after in both.to_numpy()[chosen]]
        axes.add_collection(LineCollection(lines, zorder=1, **style), autolim=False)
    for x, side, method in zip((0, 1), sides, (row["baseline"], row["method"]), strict=True):
        look, values = looks[row["model"], method], side.groupby("subject")["error"].mean()
        axes.plot(np.full(len(values), x), values, ms=3.5, zorder=2, **look.of_points)
        _mean_mark(axes, x - 0.22 if x == 0 else x + 0.22, side)
    unit = next(name for name in (PERCENT, "deg") if f"difference_{name}" in row)
    text = f"better for {better.sum()} of {len(both)}"
    number = difference_text(row, unit) + (" %" if unit == PERCENT else "")
    axes.text(0.5, 0.985, text, size=TINY, ha="center", va="top", transform=axes.transAxes)
    axes.set_xlabel(number if not pd.isna(row[f"low_{unit}"]) else f"{number} (no interval)", size=TINY, labelpad=2)
    axes.set_xticks([0, 1], [_short(row["baseline"]), _short(row["method"])], size=TINY)
    axes.set_xlim(-0.42, 1.42)


def _short(name: str) -> str:
    return name if len(name) <= 13 else name[:12] + "…"


def _mean_mark(axes: Axes, x: float, errors: pd.DataFrame) -> None:
    """The mean and its interval; the mean of what there is, crossed, where runs lack subjects."""
    found = mean_interval(errors)
    if np.isnan(found.mean):
        axes.plot(x, errors.groupby("subject")["error"].mean().mean(), marker="x", ms=7, color=INK, zorder=4)
        return
    if not np.isnan(found.low):
        axes.plot([x, x], [found.low, found.high], color=INK, lw=1.5, zorder=3)
    axes.plot(x, found.mean, marker="D", ms=5.5, color=INK, zorder=4, gid="mean")


def _alike(drawn: list[Axes], panels: list[Axes], text: str, columns: int) -> None:
    """One scale for all panels, with numbers at the left ones."""
    if drawn:
        values = np.concatenate([line.get_ydata() for axes in drawn for line in axes.lines])
        low, high = values.min(), values.max()
        for axes in drawn:
            axes.set_ylim(low - 0.05 * (high - low) - 0.01, high + 0.15 * (high - low) + 0.01)
    for number, axes in enumerate(panels):
        axes.tick_params(labelsize=SMALL)
        if number % columns:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel(text, size=SMALL)
