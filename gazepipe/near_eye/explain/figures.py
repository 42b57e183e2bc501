"""The figures of `explain`, but for the images: one function each, from plain data to a PNG without a date."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gazepipe.common.plotting import DPI, FAINT, INK, PALE, save, styled
from gazepipe.near_eye.explain.importance import SCORES, rank_correlation, ranking

COLOURS = ("#1b6ca8", "#d1603d", "#3b8f5a", "#8e5ea2", "#b8860b", "#4a5a66")
LABELS = {
    "active_subspace": "active subspace",
    "taylor": "Taylor",
    "integrated_gradients": "integrated gradients",
    "random_forest": "random forest",
    "permutation": "permutation",
    "active_subspace_99": "active subspace, 99 %",
    "participation_ratio": "participation ratio",
    "two_nn": "TwoNN",
    "pca_99": "PCA, 99 %",
    "weights_99": "weights of the layer, 99 %",
    "pca": "PCA",
    "weights": "weights of the layer",
    "low_rank": "low rank",
    "dropped": "dropped dimensions",
    "gradient": "gradient",
    "grad_cam": "Grad-CAM",
}
STRONGEST, LONGEST = 8, 24
SCENE_ASPECT = 1.35


@styled
def importance_figure(scores: dict[str, np.ndarray], out: Path) -> None:
    """Shares of the dimensions by each score, ordered by the first; how fast they add up; how they agree."""
    figure = Figure(figsize=(13.5, 8), dpi=DPI, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.75, 1))
    strips = left.subplots(len(SCORES), 1, sharex=True)
    curve, matrix = right.subplots(2, 1, height_ratios=(1.15, 1))
    order = ranking(scores[SCORES[0]])
    place = np.arange(1, len(order) + 1)
    for axes, name, colour in zip(strips, SCORES, COLOURS, strict=False):
        axes.bar(place, 100 * scores[name][order], width=0.85, color=colour)
        axes.set_title(LABELS[name])
        axes.set_xlim(0.3, len(order) + 0.7)
        axes.margins(y=0.12)
        axes.set_ylabel("share, %")
    strips[-1].set_xlabel(f"dimension of the embedding, ordered by {LABELS[SCORES[0]]}")
    for name, colour in zip(SCORES, COLOURS, strict=False):
        curve.plot(place, 100 * np.cumsum(np.sort(scores[name])[::-1]), color=colour, lw=1.8, label=LABELS[name])
    curve.axhline(99, color=FAINT, lw=0.8, ls=":")
    curve.set(xscale="log", xlabel="most important dimensions", ylabel="importance they hold, %", ylim=(0, 103))
    curve.set_title("How many dimensions hold it")
    _plain_ticks(curve, len(order))
    curve.legend(loc="upper left")
    _correlation_matrix(matrix, scores)
    save(figure, out)


def _correlation_matrix(axes: Axes, scores: dict[str, np.ndarray]) -> None:
    table = np.array([[rank_correlation(scores[a], scores[b]) for b in SCORES] for a in SCORES])
    axes.imshow(table, cmap="RdBu", vmin=-1, vmax=1, aspect="auto", alpha=0.75)
    for (row, column), value in np.ndenumerate(table):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", size=9.5)
    short = [LABELS[name].replace(" ", "\n") for name in SCORES]
    axes.set_xticks(range(len(SCORES)), short, size=8.5)
    axes.set_yticks(range(len(SCORES)), [LABELS[name] for name in SCORES], size=9)
    axes.set_title("Spearman correlation of the rankings")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


@styled
def stability_figure(rows: list[dict], top: int, unit: str, out: Path) -> None:
    """Agreement of each importance between pairs of subjects (or of what `unit` names): points and their mean."""
    figure = Figure(figsize=(13, 4.6), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, 2)
    draws = np.random.default_rng(0)
    panels = (("spearman", "Spearman correlation"), ("top_overlap", f"share of the top {top} in common"))
    for panel, (column, label) in zip(axes, panels, strict=True):
        for place, (name, colour) in enumerate(zip(SCORES, COLOURS, strict=False)):
            values = [row[column] for row in rows if row["importance"] == name]
            panel.scatter(
                place + draws.uniform(-0.15, 0.15, len(values)), values, s=20, color=colour, alpha=0.5, linewidths=0
            )
            if not values:
                continue
            panel.plot([place - 0.25, place + 0.25], [np.mean(values)] * 2, color=colour, lw=2.5)
            panel.annotate(f"{np.mean(values):.2f}", (place + 0.28, np.mean(values)), va="center", size=9.5)
        if not rows:
            panel.text(0.5, 0.5, "nothing to compare", transform=panel.transAxes, ha="center", color=FAINT)
        panel.axhline(0, color=PALE, lw=0.8, zorder=0)
        panel.set_xticks(range(len(SCORES)), [LABELS[name].replace(" ", "\n") for name in SCORES])
        panel.set(ylabel=label, xlim=(-0.5, len(SCORES) - 0.2))
        panel.set_ylim(min(-0.05, panel.get_ylim()[0]), 1.04)
    axes[0].set_title(f"Is the ranking the same between {unit}?")
    axes[1].set_title("Are the most important ones the same?")
    save(figure, out)


@styled
def dimension_figure(found: dict, count: int, out: Path) -> None:
    """The effective dimensions beside each other, and the spectra that they come from; `count` is E."""
    figure = Figure(figsize=(12.5, 4.6), dpi=DPI, layout="constrained")
    bars, spectra = figure.subplots(1, 2, width_ratios=(1, 1.15))
    estimates = found["estimates"]
    colours = [COLOURS[0], COLOURS[2], COLOURS[3], COLOURS[2], COLOURS[1]]
    place = np.arange(len(estimates))[::-1]
    numbers = np.nan_to_num(np.array(list(estimates.values()), float))
    bars.barh(place, numbers, color=colours, height=0.62)
    for y, value in zip(place, estimates.values(), strict=True):
        bars.text(np.nan_to_num(value) + count * 0.012, y, f"{value:g}", va="center", weight="bold")
    bars.set_yticks(place, [LABELS[name] for name in estimates])
    bars.set(xlabel=f"effective dimension, of {count}", xlim=(0, count * 1.08))
    bars.set_title("How many dimensions the embedding has")
    for name, colour in (("active_subspace", COLOURS[0]), ("pca", COLOURS[2]), ("weights", COLOURS[1])):
        left = 1 - np.cumsum(found["spectra"][name])
        shown = 100 * np.concatenate([[1.0], left]).clip(min=1e-5)
        spectra.plot(np.arange(len(shown)), shown, color=colour, lw=1.8, label=LABELS[name])
    spectra.axhline(1, color=FAINT, lw=0.8, ls=":")
    spectra.text(count / 2, 1.1, "99 % explained", ha="center", va="bottom", color=FAINT, size=9.5)
    spectra.set(yscale="log", ylim=(1e-2, 150), xlabel="leading directions", ylabel="not explained, %")
    spectra.set_title("What the leading directions leave")
    spectra.legend(loc="upper right")
    save(figure, out)


@styled
def sweep_figure(
    paths: np.ndarray, lengths: np.ndarray, importance: np.ndarray, targets: np.ndarray, unit: str, out: Path
) -> None:
    """Where the gaze point goes when one dimension changes.

    `paths` [E, S, 2] gaze points, `lengths` [E] of the paths, `importance` [E] colours them, `targets` [n, 2]
    the true gaze points, all in `unit`.
    """
    figure = Figure(figsize=(13.5, 6.2), dpi=DPI, layout="constrained")
    scene, bars = figure.subplots(1, 2, width_ratios=(2.3, 1))
    order = ranking(lengths)
    strongest = order[:STRONGEST]
    scale = Normalize(0, max(float(importance.max()), 1e-12))
    colours = matplotlib.colormaps["viridis_r"](scale(importance))
    _locator(scene, paths, targets)
    for dimension in order[::-1]:
        labelled = dimension in strongest
        path = paths[dimension]
        scene.plot(*path.T, color=colours[dimension], lw=2.4 if labelled else 0.9, alpha=1 if labelled else 0.6)
        if labelled:
            scene.plot(*path[-1], "o", color=colours[dimension], ms=5)
            _label(scene, path, str(dimension))
    scene.set_title("Where the gaze point goes when one dimension goes from 5 % to 95 % of its range")
    scene.set(xlabel=f"scene x, {unit}", ylabel=f"scene y, {unit}")
    figure.colorbar(
        matplotlib.cm.ScalarMappable(scale, "viridis_r"),
        ax=scene,
        label="importance (active subspace), share",
        pad=0.01,
    )
    _length_bars(bars, lengths, colours, unit)
    save(figure, out)


def _length_bars(axes: Axes, lengths: np.ndarray, colours: np.ndarray, unit: str) -> None:
    """The longest paths one by one, and the median of the others."""
    order = ranking(lengths)
    longest, others = order[:LONGEST], order[LONGEST:]
    axes.barh(range(len(longest)), lengths[longest], color=colours[longest], height=0.8)
    names = [str(dimension) for dimension in longest]
    if len(others):
        axes.barh([len(longest) + 0.4], [np.median(lengths[others])], color=PALE, height=0.8)
        names.append(f"median of the\nother {len(others)}")
    axes.set_yticks([*range(len(longest)), len(longest) + 0.4][: len(names)], names)
    axes.invert_yaxis()
    axes.set(xlabel=f"length of the path, {unit}")
    axes.set_title("How far it goes, by dimension")


def _label(axes: Axes, path: np.ndarray, text: str) -> None:
    """The name beside the end of a path, on the far side of its start."""
    along = path[-1] - path[0]
    along = along / max(float(np.linalg.norm(along)), 1e-9)
    axes.annotate(
        text,
        path[-1],
        xytext=(11 * along[0], -11 * along[1]),
        textcoords="offset points",
        ha="center",
        va="center",
        size=10,
        weight="bold",
    )


def _locator(axes: Axes, paths: np.ndarray, targets: np.ndarray) -> None:
    """Axes around the paths, y downwards as in the image, and a small map of them among all gaze points."""
    low, high = paths.min(axis=(0, 1)), paths.max(axis=(0, 1))
    middle, half = (low + high) / 2, np.maximum(high - low, 1e-6) * 0.5
    half_height = max(half[0] * 1.15 / SCENE_ASPECT, half[1] * 1.45)
    axes.set_xlim(middle[0] - SCENE_ASPECT * half_height, middle[0] + SCENE_ASPECT * half_height)
    axes.set_ylim(middle[1] + half_height * 1.15, middle[1] - half_height * 0.85)
    axes.set_aspect("equal")
    small = axes.inset_axes((0.015, 0.02, 0.25, 0.2))
    small.scatter(*targets.T, s=2.5, color=FAINT, alpha=0.6, linewidths=0)
    for path in paths:
        small.plot(*path.T, color=COLOURS[1], lw=0.8)
    small.set(xticks=[], yticks=[], aspect="equal")
    small.invert_yaxis()
    small.spines[:].set_visible(True)
    small.set_title("all gaze points, and these paths", size=7.5, weight="normal", color=FAINT, pad=2)


@styled
def width_figure(
    curve: list[dict], full_error: float, tolerance: float, chosen: dict[str, int], unit: str, out: Path
) -> None:
    """Error on the validation subjects against width, as built and recovered, with the chosen widths."""
    figure = Figure(figsize=(11.5, 5), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    limit = (1 + tolerance) * full_error
    errors = [row[column] for row in curve for column in ("before_px", "after_px")] + [full_error]
    low, high = 0.92 * min(errors), 1.15 * max(errors)
    for panel, (kind, width) in zip(axes, chosen.items(), strict=True):
        rows = [row for row in curve if row["kind"] == kind]
        x = [row["width"] for row in rows]
        panel.axhspan(full_error, limit, color=COLOURS[2], alpha=0.22, lw=0)
        named = f"full network, {full_error:.2f} {unit}; shaded: + {tolerance:.0%}"
        panel.axhline(full_error, color=COLOURS[2], lw=1.3, label=named)
        panel.plot(x, [row["before_px"] for row in rows], "o--", color=COLOURS[1], lw=1.4, ms=4.5, label="as built")
        panel.plot(
            x, [row["after_px"] for row in rows], "o-", color=COLOURS[0], lw=2, ms=5, label="after short recovery (KD)"
        )
        error = next(row["after_px"] for row in rows if row["width"] == width)
        panel.plot([width], [error], "o", ms=14, mfc="none", mec=INK, mew=1.6)
        panel.annotate(
            f"chosen: {width}\n{error:.2f} {unit}",
            (width, error),
            xytext=(24, 74 if error < np.sqrt(low * high) else -90),
            textcoords="offset points",
            ha="center",
            weight="bold",
            arrowprops={"arrowstyle": "-", "color": INK, "shrinkB": 8},
        )
        panel.set(xscale="log", yscale="log", xlabel="width r of the first fully connected layer")
        panel.set_title(LABELS[kind].capitalize())
        _plain_ticks(panel, max(x))
        panel.legend(loc="upper right")
    axes[0].set_ylabel(f"error on the validation subjects, {unit}")
    axes[0].set_ylim(low, high)
    _error_ticks(axes[0])
    save(figure, out)


def _plain_ticks(axes: Axes, largest: int) -> None:
    ticks = [tick for tick in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if tick <= largest]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()


def _error_ticks(axes: Axes) -> None:
    """Round numbers on a logarithmic axis, evenly spaced ones where it spans little."""
    low, high = axes.get_ylim()
    ticks = [base * 10.0**power for power in range(-4, 5) for base in (1, 2, 3, 5, 7)]
    if high < 3 * low:
        ticks = MaxNLocator(6).tick_values(low, high)
    inside = [tick for tick in ticks if low <= tick <= high]
    axes.set_yticks(inside, [f"{tick:g}" for tick in inside])
    axes.minorticks_off()


@styled
def runs_figure(spectra: dict[str, dict[str, np.ndarray]], out: Path) -> None:
    """Sorted importances of several runs over each other: {run: {score: shares [E]}}."""
    figure = Figure(figsize=(14, 3.4), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, len(SCORES), sharey=True)
    for panel, name in zip(axes, SCORES, strict=True):
        for colour, (run, scores) in zip(COLOURS * len(spectra), spectra.items(), strict=False):
            held = 100 * np.cumsum(np.sort(scores[name])[::-1])
            panel.plot(np.arange(1, len(held) + 1), held, color=colour, lw=1.6, label=run)
        panel.set(xscale="log", ylim=(0, 103))
        panel.set_title(LABELS[name], fontsize="medium")
        _plain_ticks(panel, len(held))
    figure.supxlabel("most important dimensions", fontsize="medium")
    axes[0].set_ylabel("importance they hold, %")
    axes[-1].legend(loc="lower right")
    save(figure, out)
