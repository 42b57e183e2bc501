"""The figure of deployed networks: error against latency and against size, with the Pareto front."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gazepipe.common.plotting import DPI, FAINT, INK, PALE, styled
from gazepipe.evaluation.results import Results

VARIANTS = {
    ("eager", "fp32"): ("PyTorch, eager", "#6b7780", "o"),
    ("onnxruntime", "fp32"): ("ONNX Runtime, fp32", "#8fb8d8", "s"),
    ("onnxruntime", "int8"): ("ONNX Runtime, int8", "#1b6ca8", "s"),
    ("openvino", "fp32"): ("OpenVINO, fp32", "#eeb49e", "D"),
    ("openvino", "int8"): ("OpenVINO, int8", "#c8452d", "D"),
}
"""Legend, colour and marker by runtime and precision."""
UNITS = {"deg": "degrees", "px": "pixels"}
LABEL_POINTS, MARKER_PX, TOGETHER_PX = 8.5, 6, 14
RINGS_PX = (9, 16, 26, 38, 52, 70, 92, 118, 150)
DIRECTIONS = 24
PLAIN_RING_PX = 12
"""Labels further out than this get a line to their point."""

Box = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels."""


def draw(results: Results, frame: pd.DataFrame) -> dict[str, Figure]:
    """The figure of each data set in the table `deployed`."""
    return {f"pareto/{dataset}": pareto(frame[frame.dataset == dataset]) for dataset in results.settings.deployed}


@styled
def pareto(rows: pd.DataFrame) -> Figure:
    """Draw the rows of `speed` of batch size 1 that have an error.

    Each network, runtime and precision is a point with its network's name (points of one network that lie together
    share it); a line joins those that no other beats in both error and cost, and their names are bold.
    """
    timed = rows[rows.batch == 1]
    unit, threads = UNITS[timed.units.iloc[0]], int(timed.threads.iloc[0])
    points = timed[timed.error.notna()]
    figure = Figure(figsize=(10.5, 12.5), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = {
        "latency_ms": (f"median latency of one sample, ms ({threads} thread{'s' * (threads > 1)})", "Speed"),
        "size_mb": ("size of the files, MB", "Size"),
    }
    points = points.assign(size_mb=points.bytes / 1e6)
    every = figure.subplots(len(panels), 1)
    for axes, (column, (label, title)) in zip(every, panels.items(), strict=True):
        _scatter(axes, points, column)
        axes.set(xlabel=label, ylabel=f"error, {unit}")
        axes.set_title(title)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # names must not move what they were fitted into
    for axes, column in zip(every, panels, strict=True) if len(points) else ():
        _name(axes, points, column)
    return figure


def frontier(cost: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Places of the points [n] that no other beats or equals in both numbers, by rising cost."""
    best, kept = math.inf, []
    for place in np.lexsort((error, cost)):
        if error[place] < best:
            best = error[place]
            kept.append(int(place))
    return np.array(kept, int)


def _scatter(axes: Axes, points: pd.DataFrame, column: str) -> None:
    edge = points.iloc[frontier(points[column].to_numpy(), points.error.to_numpy())]
    axes.step(edge[column], edge.error, where="post", color=INK, lw=1.1, ls="--", zorder=1, label="frontier")
    for (runtime, precision), (label, colour, marker) in VARIANTS.items():
        own = points[(points.runtime == runtime) & (points.precision == precision)]
        # Rings: eager files are as large as the other fp32 ones, which must show through.
        face, size, line = ("none", 70, 1.4) if runtime == "eager" else (colour, 38, 0)
        drawn = axes.scatter(own[column], own.error, s=size, marker=marker, label=label, zorder=3, lw=line)
        drawn.set(facecolor=face, edgecolor=colour)
    if points.empty:
        axes.text(0.5, 0.5, "no network has an error", ha="center", va="center", transform=axes.transAxes)
        return
    axes.set_xscale("log")
    axes.margins(x=0.09, y=0.12)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(color=PALE, lw=0.6, zorder=0)


def _name(axes: Axes, points: pd.DataFrame, column: str) -> None:
    """Write the networks' names beside their points so that nothing covers anything.

    By hand: adjustText moves names by forces and ends with some of them on points, on the frontier and on each other.
    """
    places = axes.transData.transform(points[[column, "error"]].to_numpy(float))
    edge = frontier(points[column].to_numpy(), points.error.to_numpy())
    best = set(edge.tolist())
    groups = _groups(points.network.tolist(), places)
    taken = [(x - MARKER_PX, y - MARKER_PX, x + MARKER_PX, y + MARKER_PX) for x, y in places]
    window = axes.get_window_extent()
    inside = (window.x0, window.y0, axes.figure.bbox.x1 - 4, window.y1)
    lines, pixels = _steps(places[edge]), axes.figure.bbox.size
    # The crowded ones first: they have the fewest places to choose from.
    for name, group in sorted(groups, key=lambda entry: -_neighbours(places, entry[1])):
        bold = "bold" if best & set(group) else "normal"
        text = axes.annotate(
            name, (0, 0), xycoords="figure fraction", va="bottom", size=LABEL_POINTS, weight=bold, zorder=4
        )
        extent = text.get_window_extent().padded(1)
        anchor = places[group].mean(axis=0)
        box, ring = _free_place(anchor, (extent.width, extent.height), taken, lines, inside)
        text.xy = text.xyann = np.array(box[:2]) / pixels
        taken.append(box)
        if ring > PLAIN_RING_PX:
            end = np.clip(anchor, box[:2], box[2:])
            lines.append((anchor, end))
            line = {"arrowstyle": "-", "color": FAINT, "lw": 0.6}
            axes.annotate("", anchor / pixels, end / pixels, "figure fraction", "figure fraction", line)


def _steps(corners: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The horizontal and vertical pieces of the frontier through points [n, 2] in pixels."""
    pieces = []
    for start, end in itertools.pairwise(corners):
        turn = np.array([end[0], start[1]])
        pieces += [(start, turn), (turn, end)]
    return pieces


def _groups(names: list[str], places: np.ndarray) -> list[tuple[str, list[int]]]:
    """Points of one network that lie together: its name, and their numbers."""
    groups: list[tuple[str, list[int]]] = []
    for point, name in enumerate(names):
        for other, members in groups:
            if other == name and np.linalg.norm(places[members] - places[point], axis=1).max() < TOGETHER_PX:
                members.append(point)
                break
        else:
            groups.append((name, [point]))
    return groups


def _neighbours(places: np.ndarray, group: list[int]) -> int:
    return int((np.linalg.norm(places - places[group].mean(axis=0), axis=1) < RINGS_PX[5]).sum())


def _free_place(
    anchor: np.ndarray,
    size: tuple[float, float],
    taken: list[Box],
    lines: list[tuple[np.ndarray, np.ndarray]],
    inside: Box,
) -> tuple[Box, float]:
    """The nearest place for a label that covers nothing, or the one that covers least, and its distance in pixels."""
    found, least = None, math.inf
    for box, ring in _candidates(anchor, size):
        end = np.clip(anchor, box[:2], box[2:])
        start = anchor + (end - anchor) * min(1.0, 2 * MARKER_PX / max(np.linalg.norm(end - anchor), 1e-9))
        cost = sum(_overlap(box, other) for other in taken)
        cost += sum(_crosses(start, end, other) for other in taken) * (ring > PLAIN_RING_PX)
        cost += sum(_crosses(*line, box) for line in lines)
        cost += 4 * (box[0] < inside[0] or box[1] < inside[1] or box[2] > inside[2] or box[3] > inside[3])
        if cost == 0:
            return box, ring
        if cost < least:
            found, least = (box, ring), cost
    return found


def _candidates(anchor: np.ndarray, size: tuple[float, float]) -> Iterator[tuple[Box, float]]:
    """Boxes around a point, nearest ring first, to the right before the left."""
    angles = sorted(np.arange(DIRECTIONS) * 2 * math.pi / DIRECTIONS, key=lambda angle: -math.cos(angle))
    for ring in RINGS_PX:
        for angle in angles:
            direction = np.array([math.cos(angle), math.sin(angle)])
            middle = anchor + direction * ring + np.sign(np.round(direction, 6)) * np.array(size) / 2
            left, bottom = middle - np.array(size) / 2
            yield (left, bottom, left + size[0], bottom + size[1]), ring


def _overlap(a: Box, b: Box) -> float:
    """1 and a little for the share covered, 0 for none."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return 1 + width * height / ((a[2] - a[0]) * (a[3] - a[1]))


def _crosses(start: np.ndarray, end: np.ndarray, box: Box) -> bool:
    """Whether a line from `start` to `end` passes through a box."""
    pieces = 2 + int(np.linalg.norm(end - start))
    steps = start + np.linspace(0, 1, pieces)[:, None] * (end - start)
    x, y = steps.T
    return bool(((x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])).any())
