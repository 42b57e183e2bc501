"""A strict reader of the LaTeX that gazepipe writes: what a compiler would refuse, it refuses."""

import re

SPECIALS = re.compile(r"(?<!\\)[&#%_^~<>|]")


def tables(text: str) -> list[list[list[str]]]:
    """The rows of cells of every tabular, the head first, in one line; AssertionError where the file would not compile.

    Checked: groups and environments are balanced, formulas are closed, each row has the columns that are declared, no
    character stands bare that LaTeX reads otherwise, and all is ASCII or a letter.
    """
    assert all(letter.isascii() or letter.isalpha() for letter in text), "a character that first fonts lack"
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    for line in lines:
        _check(re.sub(r"^\\label\{\w+:[\w-]+\}$", "", line))
    found, columns = [], 0
    for line in lines:
        if start := re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", line):
            columns = len(start[1])
            found.append([])
        elif line.endswith(r" \\"):
            cells = re.split(r"(?<!\\) & ", line.removesuffix(r" \\"))
            assert len(cells) == columns, line
            found[-1].append([_in_one_line(cell) for cell in cells])
    return found


def _in_one_line(cell: str) -> str:
    stacked = re.fullmatch(r"\\shortstack\[[lr]\]\{(.*)\}", cell)
    return stacked[1].replace(r"\\", " ") if stacked else cell


def _check(line: str) -> None:
    """Groups and formulas of one line are closed, and no special character stands bare."""
    plain = line.replace(r"\\", "")
    depth = 0
    for letter in re.findall(r"(?<!\\)[{}]", plain):
        depth += 1 if letter == "{" else -1
        assert depth >= 0, line
    assert depth == 0, line
    formulas = re.split(r"(?<!\\)\$", plain)
    assert len(formulas) % 2 == 1, line
    text = "".join(formulas[::2]).replace(" & ", "")
    assert not SPECIALS.search(text), line
