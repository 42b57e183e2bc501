"""Tables in LaTeX, from frames whose cells are text in Markdown: for `\\input` where `booktabs` is loaded."""

import re
import textwrap
from collections.abc import Iterable

import pandas as pd

from gazepipe.common.markdown import RAISED, cell_text, is_text

SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "°": r"$^{\circ}$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "Δ": r"$\Delta$",
    "²": "$^{2}$",
    "³": "$^{3}$",
    "—": "---",
    "–": "--",
    "…": r"\dots{}",
    "“": "``",
    "”": "''",
    "\u00a0": "~",
    "\n": " ",
}
"""How characters are written that LaTeX reads otherwise, or that its first fonts lack."""
DIGIT_OF = {chr(raised): chr(digit) for digit, raised in RAISED.items()}
MARKUP = re.compile(
    r"\\(?P<escaped>[\\`*\[\]<>|&])"
    r"|`(?P<code>[^`]+)`"
    r"|!\[[^\]]*\]\([^)]*\)"
    r"|\[(?P<link>[^\]]*)\]\([^)]*\)"
    r"|\*\*(?P<bold>.+?)\*\*"
    r"|\*(?P<italic>(?:\*\*.+?\*\*|[^*])+)\*"
    rf"|(?P<raised>[{''.join(DIGIT_OF)}]+)"
    r"|(?P<minus>(?<![\w-])-(?=\d))",
    re.DOTALL,
)
"""Markdown as the page's cells and paragraphs hold it; images, which have no group, leave nothing."""
SHORT_LINE = 12
"""Characters that a heading may be wide where the cells below are narrower."""
FULL_LINE = 85
"""Characters that fit into a line of \\footnotesize, of a page of one column."""
COMMANDS = {"code": "texttt", "bold": "textbf", "italic": "emph"}


def text(markdown: str) -> str:
    """Markdown within one paragraph as LaTeX: bold, italic, code, links by their text, raised digits, minus signs."""
    parts, end = [], 0
    for found in MARKUP.finditer(markdown):
        parts += [_escaped(markdown[end : found.start()]), _command(found)]
        end = found.end()
    return "".join([*parts, _escaped(markdown[end:])])


def table(frame: pd.DataFrame, title: str, caption: str, label: str, notes: list[str]) -> str:
    """A `table` environment: the cells of `frame`, its caption above, `notes` (lines of Markdown) below.

    `title` is the caption's short form and its bold beginning; `caption` may be empty, `label` is that of `\\ref`.
    """
    columns = "".join("l" if is_text(column) else "r" for column in frame)
    rows = [list(map(cell_text, row)) for row in frame.itertuples(index=False)]
    heads = [_broken(str(column), [row[place] for row in rows]) for place, column in enumerate(frame)]
    stop = "" if title.endswith(("?", "!", ".")) else "."
    said = f"\\textbf{{{text(title)}{stop}}} {text(caption)}".strip()
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption[{{{text(title)}}}]{{{said}}}",
        rf"\label{{{label}}}",
        r"\par\smallskip",
        r"\scriptsize" if _width(heads, rows) > FULL_LINE else r"\footnotesize",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(_head(lines, side) for lines, side in zip(heads, columns, strict=True)),
        r"\midrule",
        *(_row(map(text, row)) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip {text(note)}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _broken(heading: str, cells: list[str]) -> list[str]:
    """The lines of a heading, about as wide as the cells below it; one where markup might be torn."""
    if any(found.lastgroup in (*COMMANDS, "link") for found in MARKUP.finditer(heading)):
        return [heading]
    width = max([SHORT_LINE, *map(len, cells)])
    return textwrap.wrap(heading, width, break_long_words=False, break_on_hyphens=False) or [""]


def _width(heads: list[list[str]], rows: list[list[str]]) -> int:
    """About how many characters wide a table is; gaps between columns are two."""
    columns = [[*head, *cells] for head, *cells in zip(heads, *rows, strict=True)]
    return sum(2 + max(map(len, texts)) for texts in columns)


def _head(lines: list[str], side: str) -> str:
    if len(lines) == 1:
        return text(lines[0])
    stacked = r"\\".join(_guarded(text(line)) for line in lines)
    return rf"\shortstack[{side}]{{{stacked}}}"


def _row(cells: Iterable[str]) -> str:
    return rf"{_guarded(' & '.join(cells))} \\"


def _guarded(line: str) -> str:
    """A line that may follow \\\\ or \\midrule, which would read an opening bracket or a star as their argument."""
    return f"{'{}' if line.startswith(('[', '*')) else ''}{line}"


def _command(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind is None:
        return ""
    content = found[kind]
    match kind:
        case "raised":
            return f"$^{{{''.join(DIGIT_OF[digit] for digit in content)}}}$"
        case "escaped":
            return _escaped(content)
        case "minus":
            return "$-$"
        case "link":
            return text(content)
        case "code":
            return f"\\texttt{{{_escaped(content)}}}"
    return f"\\{COMMANDS[kind]}{{{text(content)}}}"


def _escaped(plain: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in plain)
