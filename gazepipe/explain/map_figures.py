"""The figures of `explain` that show images: heat maps over the four eyes, and what becomes of them at random."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from gazepipe.explain.figures import COLOURS, DPI, FAINT, INK, LABELS, save, styled
from gazepipe.explain.heatmaps import METHODS, SANITY_LIMIT, VIEWS

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
    thumb_height = THUMB * height / width
    block = (views * THUMB + 0.55, rows * thumb_height + 0.62)
    size = (across * block[0] + 0.75, down * block[1] + 0.5)
    figure = Figure(figsize=size, dpi=DPI)
    figure.text(
        0.12 / size[0], 1 - 0.2 / size[1], "Where the gaze point comes from", size=14, weight="bold", va="center"
    )
    for sample in range(count):
        left = 0.95 + (sample % across) * block[0]
        top = size[1] - 0.5 - (sample // across) * block[1]
        title = f"{names[sample]}   {errors[sample]}"
        figure.text(left / size[0], (top - 0.12) / size[1], title, size=10.5, weight="bold", va="center")
        for view in range(views):
            x = (left + (view + 0.5) * THUMB) / size[0]
            figure.text(x, (top - 0.34) / size[1], VIEWS[view], size=8.5, color=FAINT, ha="center", va="center")
        for row, method in enumerate((None, *METHODS)):
            y = top - 0.44 - (row + 1) * thumb_height
            if sample % across == 0:
                label = "image" if method is None else LABELS[method].replace(" ", "\n")
                middle = (y + thumb_height / 2) / size[1]
                figure.text(0.85 / size[0], middle, label, ha="right", va="center", size=9)
            shown = images[sample] if method is None else overlay(images[sample], maps[method][sample])
            for view in range(views):
                place = (
                    (left + view * THUMB) / size[0],
                    y / size[1],
                    THUMB * 0.98 / size[0],
                    thumb_height * 0.98 / size[1],
                )
                axes = figure.add_axes(place)
                axes.imshow(shown[view], cmap="gray", vmin=0, vmax=255, interpolation="antialiased", aspect="auto")
                axes.axis("off")
                if method is not None:
                    share = maps[method][sample, view].sum() / max(maps[method][sample].sum(), 1e-300)
                    axes.text(
                        0.03, 0.05, f"{share:.0%}", transform=axes.transAxes, color="white", size=8.5, weight="bold"
                    )
    save(figure, out)


def overlay(images: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Maps [V, H, W] in colour over images u8 [V, H, W]: u8 [V, H, W, 3]. Smoothed, and one scale for all views."""
    smooth = np.stack([cv2.GaussianBlur(seen.astype(np.float32), (0, 0), SMOOTH) for seen in maps])
    heat = (smooth / max(float(np.quantile(smooth, 0.998)), 1e-30)).clip(0, 1)[..., None]
    colour = matplotlib.colormaps["inferno"](0.25 + 0.7 * heat[..., 0])[..., :3]
    strength = 0.85 * np.sqrt(heat)
    grey = 0.75 * images[..., None] / 255
    return ((grey * (1 - strength) + colour * strength) * 255).round().astype(np.uint8)


@styled
def sanity_figure(rows: list[dict], maps: dict[str, dict[str, np.ndarray]], view: int, out: Path) -> None:
    """How like the trained network's maps are while more and more of it is random; and one `view` of the first
    sample as an example. `rows` and `maps` are those of `heatmaps.sanity`.
    """
    figure = Figure(figsize=(14, 5.2), dpi=DPI, layout="constrained")
    parts = figure.subfigures(1, 2, width_ratios=(1, 1.3))
    axes = parts[0].subplots(2, 1, sharex=True)
    steps = list(maps)
    for panel, column, label in zip(axes, ("spearman", "ssim"), ("Spearman correlation", "SSIM"), strict=True):
        for method, colour in zip(METHODS, COLOURS, strict=False):
            values = [1.0] + [row[column] for row in rows if row["method"] == method]
            panel.plot(range(len(steps)), values, "o-", color=colour, lw=1.8, label=LABELS[method])
        panel.set(ylabel=label, ylim=(min(-0.1, panel.get_ylim()[0]), 1.05))
    axes[0].axhline(SANITY_LIMIT, color=FAINT, lw=0.9, ls=":")
    axes[0].annotate(
        "limit with all weights random", (0, SANITY_LIMIT), xytext=(0, -4), textcoords="offset points", va="top",
        color=FAINT, size=9,
    )  # fmt: skip
    axes[0].set_title("Likeness to the trained network's maps")
    axes[0].legend(loc="lower left", fontsize=9)
    axes[1].set_xticks(range(len(steps)), [step.replace("last 3 ", "last 3\n") for step in steps], size=9)
    axes[1].set_xlabel("newly initialised, from the head down")
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
