"""The figures of `explain` that show images: heat maps over the four eye images, and the sanity check."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gazepipe.common.plotting import DPI, FAINT, INK, PALE, save, styled
from gazepipe.near_eye.explain.figures import COLOURS, LABELS
from gazepipe.near_eye.explain.heatmaps import METHODS, SANITY_LIMIT, VIEWS

THUMB = 1.62
SMOOTH = 2.5
ACROSS = 2


@styled
def heatmap_figure(
    images: np.ndarray, maps: dict[str, np.ndarray], names: list[str], errors: list[str], out: Path
) -> None:
    """A block per sample: its four images, and each method's map over them with the view's share of it.

    `images` u8 [n, V, H, W], `maps` {method: [n, V, H, W]}, `names` and `errors` say what a sample is and how far off
    the prediction lies.
    """
    count, views, height, width = images.shape
    across, rows = min(ACROSS, count), 1 + len(METHODS)
    down = -(-count // across)
    tall = THUMB * height / width
    block = (views * THUMB + 0.25, rows * tall + 0.6)
    size = (across * block[0] + 0.95, down * block[1] + 0.5)
    figure = Figure(figsize=size, dpi=DPI)
    figure.text(
        0.12 / size[0], 1 - 0.2 / size[1], "Where the gaze point comes from", size=14, weight="bold", va="center"
    )
    for sample in range(count):
        left = 0.95 + (sample % across) * block[0]
        bottom = size[1] - 0.5 - (sample // across) * block[1] - 0.44 - rows * tall
        place = (left / size[0], bottom / size[1], views * THUMB / size[0], rows * tall / size[1])
        axes = figure.add_axes(place, frameon=False, xlim=(0, views), ylim=(rows, 0))
        axes.tick_params(length=0)
        axes.set_yticks([])
        axes.xaxis.tick_top()
        axes.set_xticks(np.arange(views) + 0.5, VIEWS[:views], size=8.5)
        axes.set_title(f"{names[sample]}   {errors[sample]}", size=10.5)
        if sample % across == 0:
            words = ["image", *(LABELS[method].replace(" ", "\n") for method in METHODS)]
            axes.set_yticks(np.arange(rows) + 0.5, words, size=9)
        _show_rows(axes, images[sample], {method: maps[method][sample] for method in METHODS})
    save(figure, out)


def _show_rows(axes: Axes, images: np.ndarray, maps: dict[str, np.ndarray]) -> None:
    """A row of images [V, H, W] and one of each map over them, as one picture, with each view's share."""
    grey = np.repeat(images[..., None], 3, axis=3)
    picture = [_row(shown) for shown in (grey, *(overlay(images, seen) for seen in maps.values()))]
    limits = (*axes.get_xlim(), *axes.get_ylim())
    axes.imshow(np.concatenate(picture), extent=limits, aspect="auto", interpolation="antialiased")
    for row, seen in enumerate(maps.values(), start=1):
        for view, share in enumerate(seen.sum(axis=(1, 2)) / max(seen.sum(), 1e-300)):
            axes.text(view + 0.03, row + 0.93, f"{share:.0%}", color="white", size=8.5, weight="bold")


def _row(shown: np.ndarray) -> np.ndarray:
    """Images u8 [V, H, W, 3] side by side, a white line around each."""
    gap = max(1, shown.shape[2] // 80)
    framed = np.pad(shown, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(list(framed), axis=1)


def overlay(images: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Maps [V, H, W] in colour over images u8 [V, H, W]: u8 [V, H, W, 3]. Smoothed, and one scale for all views."""
    smooth = np.stack([cv2.GaussianBlur(seen.astype(np.float32), (0, 0), SMOOTH) for seen in maps])
    heat = (smooth / max(float(np.quantile(smooth, 0.998)), 1e-30)).clip(0, 1)[..., None]
    colour = matplotlib.colormaps["inferno"](0.25 + 0.7 * heat[..., 0])[..., :3]
    strength = 0.9 * heat**0.75
    grey = 0.75 * images[..., None] / 255
    return ((grey * (1 - strength) + colour * strength) * 255).round().astype(np.uint8)


@styled
def sanity_figure(rows: list[dict], maps: dict[str, dict[str, np.ndarray]], view: int, out: Path) -> None:
    """How like the trained network's maps are while more and more of it is random; and one `view` of the first
    sample as an example. `rows` and `maps` are those of `heatmaps.sanity`.
    """
    figure = Figure(figsize=(14, 6), dpi=DPI, layout="constrained")
    parts = figure.subfigures(1, 2, width_ratios=(1, 1.35))
    axes = parts[0].subplots(3, 1, sharex=True)
    steps = list(maps)
    panels = {"signed": "Spearman,\nwith sign", "strength": "Spearman,\nwithout sign", "ssim": "SSIM,\nwithout sign"}
    for panel, (column, label) in zip(axes, panels.items(), strict=True):
        for method, colour in zip(METHODS, COLOURS, strict=False):
            values = [1.0] + [row[column] for row in rows if row["method"] == method]
            panel.plot(range(len(steps)), values, "o-", color=colour, lw=1.8, label=LABELS[method])
        panel.axhline(0, color=PALE, lw=0.8, zorder=0)
        panel.set(ylabel=label, ylim=(min(-0.1, panel.get_ylim()[0]), 1.08))
    axes[0].axhline(SANITY_LIMIT, color=FAINT, lw=0.9, ls=":")
    last = len(steps) - 1
    axes[0].text(last, SANITY_LIMIT + 0.04, "limit", ha="right", va="bottom", color=FAINT, size=9)
    axes[0].set_title("Likeness to the trained network's attributions")
    axes[1].legend(loc="lower left", fontsize=9)
    axes[2].set_xticks(range(len(steps)), [step.replace("last 3 ", "last 3\n") for step in steps], size=9)
    axes[2].set_xlabel("newly initialised, from the head down")
    parts[1].suptitle(f"Maps of the first sample, {VIEWS[view]}", size=11.5, weight="bold")
    grid = parts[1].subplots(len(METHODS), len(steps))
    for row, method in enumerate(METHODS):
        for column, step in enumerate(steps):
            seen = maps[step][method][0, view]
            panel = grid[row, column]
            panel.imshow(seen, cmap="inferno", vmin=0, vmax=max(float(np.quantile(seen, 0.995)), 1e-30))
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
            if row == 0:
                panel.set_title(step, size=9, weight="normal", loc="center")
            if column == 0:
                panel.set_ylabel(LABELS[method], color=INK, size=9)
    save(figure, out)
