"""Markdown to HTML for the page: tables that can be sorted by their numbers, figures, and no HTML of others.

Names of subjects and data sets come from files that anybody may have written. Raw HTML in the Markdown is shown as
text, pictures come from the results alone, and links with a scheme that runs code are no links.
"""

import base64
import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
INLINE_BYTES, ALL_INLINE_BYTES = 600_000, 4_500_000
"""Pictures up to this size are written into the page, as long as all of them stay below the second number; others are
read from their files when the page is shown."""
NUMBER = re.compile(r"[<≤>≥≈×+ ]*([−-]?\d[\d,]*(?:\.\d+)?(?:e[+−-]?\d+)?)(?![A-Za-z0-9])(?: ?([kMG])\b)?")
PNG = b"\x89PNG"
VIEW_BOX = re.compile(rb'viewBox="0 0 ([0-9.]+) ([0-9.]+)"')
FACTORS = {None: 1, "k": 1e3, "M": 1e6, "G": 1e9}


def number(text: str) -> float | None:
    """The number that a cell begins with, by which it is sorted: −0.48 for "−0.48 [−0.76, −0.20]", 1.74e9 for "1.74 G",
    0.001 for "< 0.001"; None where it begins with none.
    """
    found = NUMBER.match(text)
    if found is None:
        return None
    return float(found[1].replace("−", "-").replace(",", "")) * FACTORS[found[2]]


def parts(text: str) -> tuple[str, list[tuple[str, str]]]:
    """A page of Markdown in parts: what stands before the first heading of level 2; (heading, what is below it)."""
    lines = text.splitlines()
    tokens = MarkdownIt("commonmark").parse(text)
    starts = [
        token.map[0] for token in tokens if token.type == "heading_open" and token.tag == "h2" and not token.level
    ]
    ends = [*starts[1:], len(lines)]
    before = "\n".join(lines[: starts[0]] if starts else lines)
    found = zip(starts, ends, strict=True)
    return before, [(lines[a].lstrip("# ").rstrip(), "\n".join(lines[a + 1 : b])) for a, b in found]


@dataclass
class Writer:
    """Turns Markdown into HTML; numbers the tables and figures, and finds pictures below `folder`."""

    folder: Path
    tables: int = 0
    figures: int = 0
    inlined: int = 0
    _parser: MarkdownIt = field(init=False)

    def __post_init__(self) -> None:
        self._parser = MarkdownIt("commonmark", {"html": False}).enable("table")
        # markdown-it binds the function to its renderer.
        self._parser.add_render_rule("image", lambda _, tokens, place, options, env: self._picture(tokens[place]))

    def inline(self, text: str) -> str:
        """One line of Markdown."""
        return self._parser.renderInline(text)

    def html(self, text: str, heading: str = "", deeper: int = 0, numbered: bool = True) -> str:
        """Markdown as HTML. Tables are named by the last heading, at first `heading`; headings go `deeper`.

        Tables that are not `numbered` stay as they are: they neither sort nor filter.
        """
        tokens = self._parser.parse(text)
        written: list[Token] = []
        place = 0
        while place < len(tokens):
            token = tokens[place]
            end = _end(tokens, place)
            if token.type in ("heading_open", "heading_close"):
                token.tag = f"h{min(6, int(token.tag[1]) + deeper)}"
                heading = tokens[place + 1].content if token.type == "heading_open" else heading
                written.append(token)
                place += 1
            elif token.type == "table_open":
                written += self._table(tokens[place : end + 1], heading, numbered)
                place = end + 1
            elif token.type == "paragraph_open" and _pictures(tokens[place + 1]):
                written += [_raw(self._figure(each)) for each in _pictures(tokens[place + 1])]
                place = end + 1
            else:
                written.append(token)
                place += 1
        return self._parser.renderer.render(written, self._parser.options, {})

    # ---- tables

    def _table(self, tokens: list[Token], heading: str, numbered: bool) -> Iterator[Token]:
        if numbered:
            rows = list(_rows(tokens))
            for column in range(len(rows[0])):
                _sortable([row[column] for row in rows])
            self.tables += 1
        name = f"Table {self.tables}. {self.inline(heading)}" if numbered else self.inline(heading)
        tokens[0].attrSet("class", "data sorts" if numbered else "data")
        yield _raw('<div class="box">\n')
        yield tokens[0]
        yield _raw(f"<caption{'' if numbered else ' class=hidden'}>{name}</caption>\n")
        yield from tokens[1:]
        yield _raw("</div>\n")

    # ---- pictures

    def _figure(self, token: Token) -> str:
        picture = self._picture(token)
        if not picture.startswith("<img"):
            return f"<p>{picture}</p>\n"
        self.figures += 1
        name = token.attrs["src"]
        files = [path for path in (Path(name).with_suffix(end) for end in TYPES) if (self.folder / path).is_file()]
        links = " ".join(
            f'<a href="{escape(path.as_posix())}">{path.suffix[1:].upper()}<span class="hidden"> of figure '
            f"{self.figures}</span></a>"
            for path in files
        )
        caption = f"Figure {self.figures}. {self.inline(token.content)} <span class=files>{links}</span>"
        return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>\n"

    def _picture(self, token: Token) -> str:
        """The picture; only its text where it is none of the results' own."""
        name, text = str(token.attrs["src"]), escape(token.content)
        path = self.folder / name
        inside = path.resolve().is_relative_to(self.folder.resolve())
        if ":" in name or not inside or path.suffix not in TYPES or not path.is_file():
            return text
        size = path.stat().st_size
        source = f'{escape(name)}" loading="lazy'
        if size <= INLINE_BYTES and self.inlined + size <= ALL_INLINE_BYTES:
            self.inlined += size
            source = f"data:{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
        return f'<img src="{source}" alt="{text}"{_size(path)}>'


def _size(path: Path) -> str:
    """Attributes with the picture's proportions, so that nothing on the page moves when it appears."""
    with open(path, "rb") as file:
        start = file.read(2000)
    if path.suffix == ".png":
        width, height = struct.unpack(">II", start[16:24]) if start.startswith(PNG) else (0, 0)
    else:
        found = VIEW_BOX.search(start)
        width, height = (round(float(value)) for value in found.groups()) if found else (0, 0)
    return f' width="{width}" height="{height}"' if width and height else ""


def _raw(content: str) -> Token:
    return Token("html_block", "", 0, content=content)


def _end(tokens: list[Token], place: int) -> int:
    """Where the block that opens at `place` closes; `place` for a token that opens none."""
    if tokens[place].nesting != 1:
        return place
    closing = tokens[place].type.replace("_open", "_close")
    level = tokens[place].level
    return next(i for i in range(place, len(tokens)) if tokens[i].type == closing and tokens[i].level == level)


def _pictures(inline: Token) -> list[Token]:
    """The pictures of a paragraph of nothing else; otherwise none."""
    children = [each for each in inline.children or [] if each.type != "softbreak"]
    return children if all(each.type == "image" for each in children) else []


Cell = tuple[Token, str]
"""The token that opens a cell, and the cell's text without markup."""


def _rows(tokens: list[Token]) -> Iterator[list[Cell]]:
    """The cells of each row; the header comes first."""
    cells: list[Cell] = []
    for token, content in itertools.pairwise(tokens):
        if token.type in ("th_open", "td_open"):
            cells.append((token, _text(content)))
        elif token.type == "tr_close":
            yield cells
            cells = []


def _text(inline: Token) -> str:
    return "".join(each.content for each in inline.children or [] if each.type in ("text", "code_inline")).strip()


def _sortable(column: list[Cell]) -> None:
    """Mark a column: what its cells are sorted by, if half of them begin with a number."""
    (head, _), *cells = column
    numbers = [number(text) for _, text in cells]
    there = [text for _, text in cells if text not in ("", "—")]
    numeric = 2 * sum(value is not None for value in numbers) >= max(1, len(there))
    head.attrSet("scope", "col")
    head.attrSet("class", "number" if numeric else "text")
    for (cell, _), value in zip(cells, numbers, strict=True):
        cell.attrSet("class", "number" if numeric else "text")
        if numeric:
            cell.attrSet("data-order", "" if value is None else repr(value))
