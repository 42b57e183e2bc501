"""Images with the true and the predicted gaze: the samples that a network gets best, those in the middle, the worst."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from gazepipe.common.markdown import label, picture
from gazepipe.common.plotting import INK
from gazepipe.evaluation.metrics import sample_errors
from gazepipe.evaluation.results import Results, Store, is_control
from gazepipe.geometry import angles_to_vector
from gazepipe.report.figures.panels import SMALL, TINY, WIDTH, Network, grid, legend, note

ACROSS = 3
ROWS = ("best", "median", "worst")
SHORTEST = 0.05
"""Length of an arrow in widths of the image, below which there is room for a point only."""
GAIN = 0.6
"""Length of an arrow for a gaze at a right angle to the camera's axis, in widths of the image, where all fit in."""
TRUE, PREDICTED, EDGE = "#ffffff", "#e8590c", "#101418"
ANGLES = {TRUE: ["pitch", "yaw"], PREDICTED: ["pitch_pred", "yaw_pred"]}


def section(results: Results, frame: None) -> list[str]:
    """One figure per data set."""
    found = ["### What the networks see"]
    for dataset, summary in results.settings.datasets.items():
        network = best_network(results, dataset)
        if network is None:
            continue
        what = "arrows" if summary.task == "angles" else "points in the scene image"
        text = (
            f"{dataset}, {label(*network)} (the network of the lowest validation error): true and predicted gaze as"
            f" {what}, of the test samples with the smallest, middle and largest errors, of different subjects where"
            " there are enough. An arrow too short to be drawn is a point. Below: subject and error."
        )
        found += picture(results.figure(f"gaze-{dataset}"), f"True and predicted gaze on {dataset}", text)
    return found


def draw(results: Results, frame: None) -> dict[str, Figure]:
    """The figure of each data set."""
    return {f"gaze-{dataset}": gaze(results, dataset) for dataset in results.settings.datasets}


def best_network(results: Results, dataset: str) -> Network | None:
    """The network of the lowest validation error on a data set, mean over folds and seeds; None without any."""
    history = results.history[results.history["train"] == dataset]
    networks = zip(history["model"], history["method"], strict=True)
    history = history[[not is_control(results.settings, *network) for network in networks]]
    if history.empty:
        return None
    runs = history.groupby(["model", "method", "fold", "seed"], sort=False)["validation_error"].min()
    return runs.groupby(["model", "method"], sort=False).mean().idxmin()


def gaze(results: Results, dataset: str) -> Figure:
    """Three rows of samples of the best network's first seed, all folds, tested on the data set's own subjects."""
    network = best_network(results, dataset)
    if network is None:
        return note("Nothing was trained.")
    rows = results.own_predictions(dataset, *network, results.settings.seeds[0])
    if "sample" not in rows:
        return note("The predictions do not name their samples.")
    chosen = pick(rows.assign(error=sample_errors(rows)), ACROSS)
    store = results.store(dataset)
    height, width = store.image.shape[2:]
    point = results.settings.datasets[dataset].task == "point"
    cell = (WIDTH - 0.62 - 0.1 - (ACROSS - 1) * 0.1) / ACROSS
    high = cell / store_aspect(store) if point else cell * height / width
    gain = 0.0 if point else arrow_gain(pd.concat(chosen), height / width)
    figure, panels = grid(
        len(ROWS) * ACROSS, ACROSS, high, left=0.62, right=0.1, top=0.12, bottom=0.68, gaps=(0.1, 0.36)
    )
    for number, axes in enumerate(panels):
        row, place = divmod(number, ACROSS)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        if place == 0:
            axes.set_ylabel(ROWS[row], size=SMALL)
        if place < len(chosen[row]):
            sample = chosen[row].iloc[place]
            _scene(axes, sample, store) if point else _face(axes, sample, store, gain)
            unit = f"{sample.error:.0f} px" if point else f"{sample.error:.2f}°"
            axes.set_xlabel(f"{sample.subject}: {unit}", size=TINY, labelpad=3)
    legend(figure, _keys(point))
    return figure


def pick(samples: pd.DataFrame, number: int) -> list[pd.DataFrame]:
    """The best, the median and the worst samples, `number` of each, by rising error (sample, subject, error); those of
    other subjects first.
    """
    ordered = samples.sort_values(["error", "subject", "sample"], kind="stable", ignore_index=True)
    middle = np.abs(np.arange(len(ordered)) - (len(ordered) - 1) / 2)
    orders = [np.arange(len(ordered)), np.argsort(middle, kind="stable"), np.arange(len(ordered))[::-1]]
    return [ordered.iloc[sorted(_of_many_subjects(ordered, order, number))] for order in orders]


def _of_many_subjects(ordered: pd.DataFrame, order: np.ndarray, number: int) -> list[int]:
    """The first places of `order`, one of each subject before a second of any."""
    subjects = ordered["subject"].iloc[order]
    turn = subjects.groupby(subjects, sort=False).cumcount().to_numpy()
    return [int(place) for place in order[np.argsort(turn, kind="stable")][:number]]


def arrow_gain(samples: pd.DataFrame, aspect: float) -> float:
    """GAIN, or less, so that no arrow from the middle of an image, `aspect` times as high as wide, leaves it."""
    ends = np.concatenate([np.abs(arrow(samples[names].to_numpy(np.float64))) for names in ANGLES.values()])
    return float(np.min(np.array([0.47, 0.47 * aspect]) / np.maximum(ends, 1e-9), initial=GAIN))


def _face(axes: Axes, sample: pd.Series, store: Store, gain: float) -> None:
    image = store.image[int(sample["sample"])][0]
    height, width = image.shape
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="bilinear", aspect="auto")
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    for colour, names in ANGLES.items():
        end = middle + arrow(sample[names].to_numpy(np.float64)) * width * gain
        _arrow(axes, middle, end, colour, names[0])
    axes.plot(*middle, marker="o", ms=3.5, color="white", mec=EDGE, mew=0.8, zorder=5)


def arrow(angles: np.ndarray) -> np.ndarray:
    """(right, down) [..., 2] of a gaze (pitch, yaw) [..., 2] in the plane of the image, of length at most 1."""
    return angles_to_vector(angles)[..., :2]


def _arrow(axes: Axes, start: np.ndarray, end: np.ndarray, colour: str, name: str) -> None:
    true = colour == TRUE
    if np.hypot(*(end - start)) < SHORTEST * np.ptp(axes.get_xlim()):
        axes.plot(
            *end, marker="o" if true else "x", ms=5 if true else 4, color=colour, mec=EDGE if true else colour, gid=name
        )
        return
    style = {"arrowstyle": "-|>,head_width=0.15,head_length=0.24" if true else "->,head_width=0.15,head_length=0.24"}
    stroke = withStroke(linewidth=4.2 if true else 3, foreground=EDGE)
    style |= {"color": colour, "lw": 2.4 if true else 1.4, "shrinkA": 0, "shrinkB": 0, "path_effects": [stroke]}
    drawn = axes.annotate("", end, start, arrowprops=style, annotation_clip=False)
    drawn.set(gid=name, zorder=3 if true else 4)
    drawn.arrow_patch.set_clip_path(axes.patch)


def store_aspect(store: Store) -> float:
    """Width over height of the scene, as far as its targets tell it."""
    highest = float(np.max(store.target[:, 1]))
    return float(store.attrs["target_scale"][0]) / max(highest * 1.08, 1.0)


def _scene(axes: Axes, sample: pd.Series, store: Store) -> None:
    """The scene as a box, with both points, and one of the images that the network sees in its corner."""
    width = float(store.attrs["target_scale"][0])
    height = width / store_aspect(store)
    image = store.image[int(sample["sample"])][0]
    tall = 0.34 * width * image.shape[0] / image.shape[1]
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(0, 0.34 * width, tall, 0), aspect="auto")
    true, predicted = (sample[list(names)].to_numpy(np.float64) for names in (("x", "y"), ("x_pred", "y_pred")))
    axes.plot(*zip(true, predicted, strict=True), color=INK, lw=1, zorder=2)
    axes.plot(*true, marker="o", ms=8, mfc="white", mec=INK, mew=1.6, ls="none", zorder=3)
    axes.plot(*predicted, marker="X", ms=7, color=PREDICTED, mec=INK, mew=0.6, ls="none", zorder=4)
    axes.set(xlim=(0, width), ylim=(height, 0))


def _keys(point: bool) -> list[Line2D]:
    if point:
        true, predicted = {"marker": "o", "mfc": "white"}, {"marker": "X", "color": PREDICTED}
        return [
            Line2D([], [], ls="none", mec=INK, label=name, **style)
            for name, style in (("true", true), ("predicted", predicted))
        ]
    stroke = [withStroke(linewidth=4, foreground=EDGE)]
    return [
        Line2D([], [], color=colour, lw=2, path_effects=stroke, label=name)
        for name, colour in (("true gaze (filled head)", TRUE), ("predicted gaze (open head)", PREDICTED))
    ]
