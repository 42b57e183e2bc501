"""How every figure looks, and how it is written."""

from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
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


def save(figure: Figure, out: Path) -> None:
    """Write the figure as a PNG, atomically; equal figures give equal bytes."""
    with atomic(out) as partial:
        FigureCanvasAgg(figure).print_png(partial, metadata={"Software": None})


def styled(draw):
    """Run a drawing function under STYLE, without touching matplotlib's global settings."""

    def wrapper(*args, **kwargs):
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
            return draw(*args, **kwargs)

    wrapper.__doc__, wrapper.__name__ = draw.__doc__, draw.__name__
    return wrapper
