"""Tables in Markdown, and how numbers and names of networks are written in them."""

import re

import pandas as pd
from tabulate import tabulate

Block = str | pd.DataFrame
"""A paragraph of Markdown, or a table as it is shown, whose cells are text in Markdown."""

METHOD_LABELS = {
    "base": "",
    "none": "",
    "long": " + longer",
    "kd": " + KD",
    "kd_mixed": " + KD on mixed images",
    "kd_pseudo": " + KD by pseudo-labels",
    "kd_prune": " + KD + Prune",
    "kd_train_on": " + KD + longer",
    "shuffled": ", labels shuffled",
    "untrained": ", untrained",
}
WITHOUT_NETWORK = {"mean": "predict the mean", "ridge": "ridge regression on pixels"}
"""What is predicted without a network, by the name that stands for a model."""
TEXT_COLUMNS = {
    "Model",
    "Fit",
    "Angle",
    "Subject",
    "Day",
    "Runtime",
    "Trained on",
    "Tested on",
    "Against",
    "Change",
    "Corruption",
    "Strength",
    "Finding",
    "Run",
    "Effective dimension by",
    "Importance by",
}


MISSING = "—"
"""A cell without a number."""
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


MARKS = re.compile(r"([\\`*\[\]<>|&])")
"""Characters that mean something in Markdown."""


def plain(text: str) -> str:
    """Text that others wrote (names of subjects, of processors), so that Markdown shows it as it is, on one line."""
    return MARKS.sub(r"\\\1", " ".join(text.split()))


class Notes:
    """Footnotes of a table; cells that say the same share one."""

    def __init__(self) -> None:
        self._numbers: dict[str, str] = {}

    def mark(self, *texts: str) -> str:
        """What to write behind a cell: a raised number for each text that is not empty."""
        numbers = [self._numbers.setdefault(text, str(len(self._numbers) + 1)) for text in texts if text]
        return "".join(f" {number.translate(RAISED)}" for number in numbers)

    def paragraphs(self) -> list[str]:
        """What to write below the table, as one paragraph; none without footnotes."""
        lines = [f"- {number.translate(RAISED)} {text}" for text, number in self._numbers.items()]
        return ["\n".join(lines)] if lines else []


def label(model: str, method: str) -> str:
    """A row's name: `resnet18 + KD`; a method without a label of its own appears by its name."""
    return model + METHOD_LABELS.get(method, f" + {method}")


def table(frame: pd.DataFrame) -> str:
    """Markdown with numbers to the right; cells are text already, so that 14.80 keeps its zero. NaN is a dash."""
    cells = frame.map(cell_text)
    align = ["left" if is_text(column) else "right" for column in frame]
    return tabulate(cells, headers="keys", tablefmt="github", showindex=False, disable_numparse=True, colalign=align)


def picture(link: str, alternative: str, caption: str) -> list[str]:
    """A figure with its caption: two paragraphs."""
    return [f"![{alternative}]({link})", f"*Figure.* {caption}"]


def is_text(column: str) -> bool:
    """Whether a column of this heading holds text, which stands to the left; numbers stand to the right."""
    return column in TEXT_COLUMNS


def cell_text(value: object) -> str:
    """A cell as it is shown: text as it is, a number with two decimals, a dash for NaN."""
    if isinstance(value, float):
        return MISSING if pd.isna(value) else f"{value:.2f}"
    return str(value)


def interval_text(low: float, high: float, form: str) -> str:
    """[low, high]; nothing with a single subject, which has no interval."""
    return "" if pd.isna(low) else f" [{low:{form}}, {high:{form}}]"


def count(value: float) -> str:
    """A number with its unit: 1.74 G, 11.18 M, 85.56 k."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return str(int(value))


def row_name(model: str, method: str, control: bool = False) -> str:
    """`label`, in italics for a `control`, or what is predicted without a network, in italics."""
    name = WITHOUT_NETWORK.get(model) or label(model, method)
    return f"*{name}*" if control or model in WITHOUT_NETWORK else name


def error_text(error: float, spread: float, low: float, high: float, bold: bool = False) -> str:
    """4.20 ± 0.31 [3.90, 4.51]: an error, its spread (left out where it is NaN) and its interval."""
    number = f"**{error:.2f}**" if bold else f"{error:.2f}"
    between = "" if pd.isna(spread) else f" ± {spread:.2f}"
    return f"{number}{between}{interval_text(low, high, '.2f')}"
