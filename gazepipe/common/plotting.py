"""How every figure looks, and how it is written."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from gazepipe.common.files import atomic

INK, FAINT, PALE = "#1c2833", "#6b7780", "#d5dadd"
DPI = 110
STYLE = {
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "text.color": INK,
    "legend.frameon": False,
}


COLOURS = ("#222222", "#cc5500", "#2166ac", "#e0a92e", "#8e2a6b", "#62b6e8", "#0b7a5c", "#a6a6a6")
"""For eyes of every kind: at least 12 apart (CIELAB) under simulated protanopia, deuteranopia and tritanopia."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
LINES = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.6, 1.2, 1.6)), (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2)))
"""Line styles. Their number and that of the colours and that of the markers have no common divisor, so that no two of
the first hundreds look alike."""

FILLS = ("full", "none", "left", "bottom", "right", "top")
"""How markers are filled."""


@dataclass(frozen=True)
class Look:
    """How one thing is drawn in every figure: the colour, and what tells it in grey."""

    colour: str
    marker: str
    line: str | tuple
    fill: str = "full"

    @property
    def of_line(self) -> dict[str, Any]:
        """The options of a line without markers."""
        return {"color": self.colour, "linestyle": self.line}

    @property
    def of_points(self) -> dict[str, Any]:
        """The options of points without a line."""
        return {"linestyle": "none", **self.of_marker}

    @property
    def of_marker(self) -> dict[str, Any]:
        """The options of markers, with or without a line."""
        half = {"fillstyle": self.fill, "markerfacecoloralt": "white"}
        return {"color": self.colour, "marker": self.marker, **half}


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name, by its place among them."""
    return {
        name: Look(COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)], LINES[n % len(LINES)])
        for n, name in enumerate(names)
    }


def network_looks(models: Iterable[str], methods: Iterable[str]) -> dict[tuple[str, str], Look]:
    """A look for each network, (model, method): the method gives colour, marker and line, the model how the marker is
    filled. Hand those of the whole run, in the order of the configuration: a network looks the same in all figures.
    """
    of_method = looks(methods)
    return {
        (model, method): replace(look, fill=FILLS[number % len(FILLS)])
        for number, model in enumerate(models)
        for method, look in of_method.items()
    }


def save(figure: Figure, out: Path) -> None:
    """Write the figure as a PNG or SVG, by the name's ending, atomically; equal figures give equal bytes.

    The letters of an SVG are outlines: it looks the same wherever it is shown.
    """
    with atomic(out) as partial:
        if out.suffix == ".svg":
            with matplotlib.rc_context({"svg.hashsalt": "gazepipe", "svg.fonttype": "path"}):
                dpi = figure.dpi
                FigureCanvasSVG(figure).print_svg(partial, metadata={"Date": None, "Creator": None})
                figure.dpi = dpi  # which matplotlib leaves at 72
        else:
            FigureCanvasAgg(figure).print_png(partial, metadata={"Software": None})


def styled(draw):
    """Run a drawing function under STYLE, without touching matplotlib's global settings."""

    def wrapper(*args, **kwargs):
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
            return draw(*args, **kwargs)

    wrapper.__doc__, wrapper.__name__ = draw.__doc__, draw.__name__
    return wrapper
