"""Tables in Markdown, and how numbers and names of networks are written in them."""

import pandas as pd
from tabulate import tabulate

METHOD_LABELS = {"base": "", "none": "", "kd": " + KD", "kd_prune": " + KD + Prune"}
TEXT_COLUMNS = {
    "Model",
    "Runtime",
    "Trained on",
    "Tested on",
    "Against",
    "Run",
    "Effective dimension by",
    "Importance by",
}


def label(model: str, method: str) -> str:
    """A row's name: `resnet18 + KD`; a method without a label of its own appears by its name."""
    return model + METHOD_LABELS.get(method, f" + {method}")


def table(frame: pd.DataFrame) -> str:
    """Markdown with numbers to the right; cells are text already, so that 14.80 keeps its zero."""
    cells = frame.map(lambda value: f"{value:.2f}" if isinstance(value, float) else str(value))
    align = ["left" if column in TEXT_COLUMNS else "right" for column in frame]
    return tabulate(cells, headers="keys", tablefmt="github", showindex=False, disable_numparse=True, colalign=align)


def interval_text(low: float, high: float, form: str) -> str:
    """[low, high]; nothing with a single subject, which has no interval."""
    return "" if pd.isna(low) else f" [{low:{form}}, {high:{form}}]"


def percent_text(row: pd.Series, prefix: str = "") -> str:
    """+1.2 [-0.3, +2.8]: a row's change_percent with low_percent and high_percent, whose names have the prefix."""
    change, low, high = (row[f"{prefix}{name}_percent"] for name in ("change", "low", "high"))
    return f"{change:+.1f}{interval_text(low, high, '+.1f')}"


def count(value: float) -> str:
    """A number with its unit: 1.74 G, 11.18 M, 85.56 k."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return str(int(value))


def row_name(model: str, method: str) -> str:
    """`label`, and what stands in its place for the mean of the training targets."""
    return "*predict the mean*" if model == "mean" else label(model, method)


def error_text(error: float, spread: float, low: float, high: float) -> str:
    """4.20 ± 0.31 [3.90, 4.51]: an error, its spread (left out where it is NaN) and its interval."""
    between = "" if pd.isna(spread) else f" ± {spread:.2f}"
    return f"{error:.2f}{between}{interval_text(low, high, '.2f')}"
