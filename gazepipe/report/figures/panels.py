"""What the figures of the tables have in common: panels placed in inches, notes in place of data, names of networks."""

from collections.abc import Iterable
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gazepipe.common.markdown import label
from gazepipe.common.plotting import FAINT, INK, Look, network_looks
from gazepipe.evaluation.results import Results

DPI = 160
WIDTH = 7.2
"""Inches: at the width of a phone letters are still 5 points high."""
SMALL, TINY = 9.0, 8.0
"""Sizes of letters in points."""

Network = tuple[str, str]
"""Model and method."""


def looks_of(results: Results) -> dict[Network, Look]:
    """How each network of the run is drawn."""
    return network_looks(results.settings.models, results.settings.methods)


def grid(
    count: int,
    columns: int,
    height: float,
    *,
    left: float = 0.75,
    right: float = 0.12,
    top: float = 0.35,
    bottom: float = 0.6,
    gaps: tuple[float, float] = (0.25, 0.55),
    width: float = WIDTH,
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, at least one, row by row, each `height` high; all lengths in inches.

    Placed by hand: a layout engine takes seconds for so many, and draws twice.
    """
    columns = max(1, min(columns, count))
    rows = max(1, -(-count // columns))
    whole = top + bottom + rows * height + (rows - 1) * gaps[1]
    own = (width - left - right - (columns - 1) * gaps[0]) / columns
    figure = Figure(figsize=(width, whole), dpi=DPI)
    axes = []
    for number in range(max(1, count)):
        row, column = divmod(number, columns)
        x, y = left + column * (own + gaps[0]), whole - top - (row + 1) * height - row * gaps[1]
        axes.append(figure.add_axes((x / width, y / whole, own / width, height / whole)))
    return figure, axes


def note(text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = Figure(figsize=(WIDTH, 1.1), dpi=DPI)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=FAINT, wrap=True)
    return figure


def blank(axes: Axes, text: str) -> None:
    """A panel that says why it holds no data."""
    axes.text(0.5, 0.5, wrapped(text, 30), ha="center", va="center", size=TINY, color=FAINT, transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` letters, broken at blanks."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def titles(panels: Iterable[Axes], texts: Iterable[str]) -> None:
    """The titles of panels, all of one size: smaller where one would not fit its panel."""
    pairs = list(zip(panels, texts, strict=False))
    fitting = [72 * axes.get_position().width * axes.figure.get_figwidth() / (0.68 * len(text)) for axes, text in pairs]
    for axes, text in pairs:
        axes.set_title(text, size=min([SMALL, *fitting]), pad=5)


def legend(figure: Figure, handles: Iterable[Artist], *, columns: int = 4, inches: float = 0.08) -> None:
    """The legend of the whole figure, its lower edge so many inches above that of the figure."""
    handles = list(handles)
    place = (0.5, inches / figure.get_figheight())
    figure.legend(
        handles=handles, loc="lower center", bbox_to_anchor=place, ncols=min(columns, len(handles)), fontsize=SMALL
    )


def legend_height(entries: int, columns: int = 4) -> float:
    """Inches that the legend takes."""
    return 0.21 * -(-entries // columns) + 0.14


def key(look: Look, text: str, **options: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], label=text, **{**look.of_marker, "linestyle": look.line, **options})


def network_keys(looks: dict[Network, Look], networks: Iterable[Network]) -> list[Line2D]:
    """The legend of points: an entry for each network, or, of many, for each model (how it is filled) and method."""
    networks = list(dict.fromkeys(networks))
    if len({model for model, _ in networks}) == 1 or len(networks) <= 4:
        return [key(looks[network], label(*network), linestyle="none") for network in networks]
    models = {model: looks[model, method].fill for model, method in networks}
    methods = {method: looks[model, method] for model, method in networks}
    plain = {"color": INK, "marker": "o", "markerfacecoloralt": "white", "ls": "none"}
    return [
        *(Line2D([], [], label=model, fillstyle=fill, **plain) for model, fill in models.items()),
        *(key(look, method, linestyle="none", fillstyle="full") for method, look in methods.items()),
    ]
