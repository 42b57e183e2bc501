"""Put a run's tables and figures into its page: python benchmarks/publish.py RESULTS docs/results/PAGE.md [SECTION ...]

What stands above the mark in the page is kept; below it comes tables.md of the results folder, without links to files
that are not published and without the sections that are named. Figures go to a folder with the page's name, as PNG.
"""

import re
import shutil
import sys
from pathlib import Path

from PIL import Image

MARK = "<!-- below: made by benchmarks/publish.py -->"
LINK = re.compile(r"\]\(([^):#]+\.(?:svg|png))\)")


def main(results: Path, page: Path, left_out: list[str]) -> None:
    """Rewrite `page`; ends with a line where it has no mark, or a named section is not there."""
    above, mark, _ = page.read_text().partition(MARK)
    if not mark:
        sys.exit(f"{page}: has no line {MARK!r}; put it where the tables are to begin")
    figures = page.with_suffix("")
    shutil.rmtree(figures, ignore_errors=True)
    text = without(results.joinpath("tables.md").read_text(), left_out)
    text = LINK.sub(lambda link: f"]({published(results / link[1], figures, page)})", text)
    page.write_text(f"{above}{mark}\n\n{text.strip()}\n")


def without(text: str, left_out: list[str]) -> str:
    """The text without its title, the lists of files, and the sections whose headings are named."""
    text = re.sub(r"\A# .*\n", "", text)
    text = re.sub(r"^Files: .*\n\n?", "", text, flags=re.MULTILINE)
    for heading in left_out:
        level = "###" if f"\n### {heading}\n" in text else "##"
        section = rf"^{level} {re.escape(heading)}\n.*?(?=^#{{2,{len(level)}}} |\Z)"
        text, found = re.subn(section, "", text, flags=re.MULTILINE | re.DOTALL)
        if not found:
            sys.exit(f"{heading}: no section of this run's tables")
    return text


def published(figure: Path, folder: Path, page: Path) -> str:
    """Copy a figure, as PNG of 256 colours, into the page's folder; its path from the page."""
    figure = figure.with_suffix(".png")
    parts = figure.parts
    below = parts[parts.index("figures") + 1 :] if "figures" in parts else parts[-1:]
    target = folder / "-".join(below)
    folder.mkdir(exist_ok=True)
    Image.open(figure).convert("RGB").quantize(256).save(target, optimize=True)
    return str(target.relative_to(page.parent))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
