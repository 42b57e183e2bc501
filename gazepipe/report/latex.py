"""The LaTeX file of a table: every table that its section shows, with what the page says above and below it."""

from itertools import takewhile

from gazepipe.common import latex
from gazepipe.common.markdown import Block

HEADING, ITEM, IMAGE = "#", "- ", "!["
"""How paragraphs of Markdown begin that are no sentences."""


def document(name: str, section: list[Block], heading: str = "") -> str:
    """The tables of a section as LaTeX, a `table` environment each; a comment alone where it shows none.

    A caption is the heading above the table (`heading`, of the section before, where this one has none yet) and the
    paragraphs between them, or since the last table; the list below a table is its footnotes. Labels are tab:<name>,
    tab:<name>-2, ...
    """
    tables, said = [], []
    for place, block in enumerate(section):
        if not isinstance(block, str):
            label = f"tab:{name}" + (f"-{len(tables) + 1}" if tables else "")
            notes = _footnotes(section[place + 1 :])
            tables.append(latex.table(block, heading or name.replace("_", " "), " ".join(said), label, notes))
            said = []
        elif block.startswith(HEADING):
            heading, said = block.lstrip("# "), []
        elif not block.startswith((ITEM, IMAGE)):
            said.append(block)
    return "% Needs \\usepackage{booktabs}.\n" + ("\n".join(tables) or "% Nothing to show in this run.\n")


def heading_of(blocks: list[Block]) -> str:
    """The text of the last heading of a page so far."""
    headings = [block.lstrip("# ") for block in blocks if isinstance(block, str) and block.startswith(HEADING)]
    return headings[-1] if headings else ""


def _footnotes(following: list[Block]) -> list[str]:
    """The lines of the lists right below a table, without their bullets."""
    lists = takewhile(lambda block: isinstance(block, str) and block.startswith(ITEM), following)
    return [line.removeprefix(ITEM) for block in lists for line in block.splitlines()]
