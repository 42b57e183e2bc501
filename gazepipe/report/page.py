"""The stage `page`: tables, figures, method cards and provenance as one file that a browser opens from disk."""

import base64
import hashlib
import re
from collections.abc import Iterator
from html import escape
from importlib import resources
from pathlib import Path

from gazepipe.common.files import write_text
from gazepipe.common.markdown import label
from gazepipe.errors import UserError
from gazepipe.report.html import Writer, parts
from gazepipe.report.look import SCRIPT, STYLE
from gazepipe.report.made_of import configuration, provenance
from gazepipe.report.markdown import WHAT_WAS_RUN
from gazepipe.report.method_cards import method_card
from gazepipe.report.settings import PageSettings

PAGE = "index.html"
Section = tuple[str, str]
"""Heading and content, both HTML."""


def page(settings: PageSettings, folder: Path) -> None:
    """Write index.html from the results in `folder`. Raises UserError for a file that is missing or damaged.

    The file needs no other and no network: style, script and pictures of moderate size are in it, and nothing in it
    needs the script to be read.
    """
    written = Writer(folder)
    head, sections = parts(_text(settings.about.file(folder, "tables", "page")))
    was_run = next((body for heading, body in sections if heading == WHAT_WAS_RUN), "")
    title, note = _title(head, settings)
    content = [
        *((written.inline(name), written.html(body, name)) for name, body in sections if name != WHAT_WAS_RUN),
        *_sheets(settings, written),
        ("Files", written.html(_files(settings, folder), "Files", numbered=False)),
        ("Methods", _methods(settings, written)),
        *_bundles(settings, folder, written),
        ("Provenance", _provenance(settings, folder, was_run, written)),
    ]
    write_text(folder / PAGE, _document(title, _summary(settings) + written.html(note), content))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it and run the workflow") from None


def _title(head: str, settings: PageSettings) -> tuple[str, str]:
    """The title of the page, and what stands below it in tables.md."""
    first, _, rest = head.lstrip().partition("\n")
    name = first.lstrip("# ") or "gazepipe"
    return f"{name}: {f'run {settings.about.run}' if settings.about.run else 'default run'}", rest


def _summary(settings: PageSettings) -> str:
    """What run it is, in a few lines."""
    about = settings.about
    rows = {
        "Data sets": [
            f"{name} ({'drawn' if entry.drawn else 'real'}, {entry.subjects} {entry.unit}s)"
            if entry.unit == "subject"
            else f"{name} ({'drawn' if entry.drawn else 'real'}, {entry.subjects} subjects, by {entry.unit})"
            for name, entry in about.datasets.items()
        ],
        "Networks": [label(network.model, network.method) for network in about.networks],
        "Seeds": [str(seed) for seed in about.seeds],
        "Trainings": [str(len(settings.facts(Path())))],
    }
    items = "".join(f"<dt>{name}</dt><dd>{escape(', '.join(values))}</dd>" for name, values in rows.items())
    return f'<dl class="facts">{items}</dl>\n'


def _sheets(settings: PageSettings, written: Writer) -> Iterator[Section]:
    if settings.sheets:
        pictures = [
            f"![Contact sheet of {name}: images with their gaze, and the patches that networks see]({path})"
            for name, path in settings.sheets.items()
        ]
        yield "Data", written.html("\n\n".join(pictures))


def _files(settings: PageSettings, folder: Path) -> str:
    """Links to the files that the tables and figures are in."""
    by_name: dict[str, list[str]] = {}
    for path in settings.files:
        place = Path(path)
        name = place.with_suffix("").as_posix() if len(place.parts) > 1 else path
        by_name.setdefault(name, []).append(path)
    lines = ["| Table or figure | Files |", "|---|---|"]
    for name, paths in by_name.items():
        links = ", ".join(f"[{Path(path).suffix[1:]}]({path})" for path in paths if (folder / path).is_file())
        lines.append(f"| {name} | {links} |")
    return "\n".join(lines)


def _methods(settings: PageSettings, written: Writer) -> str:
    """A card for each method."""
    cards = []
    for name, card in settings.methods.items():
        kinds = ", ".join(card.kinds) or "labels alone"
        shown = written.html(method_card(name, card), f"Settings of the method {name}", numbered=False)
        cards.append(f"<details><summary>{escape(name)} <span>{escape(kinds)}</span></summary>\n{shown}</details>")
    return "\n".join(cards)


def _bundles(settings: PageSettings, folder: Path, written: Writer) -> Iterator[Section]:
    """The model card of each exported network."""
    cards = [
        f"<details><summary>{escape(name)}</summary>\n"
        f"{written.html(_text(folder / path), name, deeper=2, numbered=False)}"
        f'<p><a href="{escape(Path(path).parent.as_posix())}/">the bundle</a></p></details>'
        for name, path in settings.bundles.items()
    ]
    if cards:
        yield "Exported networks", "\n".join(cards)


def _provenance(settings: PageSettings, folder: Path, was_run: str, written: Writer) -> str:
    shown = written.html(was_run) + written.html(provenance(settings, folder), "Provenance")
    configured = f"<details><summary>Configuration of the run</summary>\n{configuration(settings)}</details>"
    return shown + configured


def _document(title: str, top: str, sections: list[Section]) -> str:
    """The whole file."""
    names = _anchors([heading for heading, _ in sections])
    contents = "".join(
        f'<li><a href="#{name}">{heading}</a></li>' for name, (heading, _) in zip(names, sections, strict=True)
    )
    body = "\n".join(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{heading}</h2>\n{text}</section>'
        for name, (heading, text) in zip(names, sections, strict=True)
    )
    library = {end: _library(end) for end in ("js", "css")}
    allowed = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = "default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'"
    policy += f"; script-src 'sha256-{allowed}' blob:"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>{library["css"]}</style>
<style>{STYLE}</style>
</head>
<body>
<div class="page">
<nav aria-label="Contents"><div><ul>{contents}</ul></div></nav>
<main>
<h1>{escape(title)}</h1>
{top}
{body}
</main>
</div>
<script type="text/plain" id="datatables">{library["js"]}</script>
<script type="module">{SCRIPT}</script>
</body>
</html>
"""


def _anchors(headings: list[str]) -> list[str]:
    """A name for each heading, no two alike."""
    found: list[str] = []
    for heading in headings:
        name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"<[^>]*>", "", heading).lower()).strip("-") or "section"
        found.append(name if name not in found else f"{name}-{len(found)}")
    return found


def _library(end: str) -> str:
    """DataTables (MIT licence) as `itables` brings it along, so that it stands in a page: no tag may end in it."""
    text = resources.files("itables").joinpath(f"html/dt_bundle.{end}").read_text(encoding="utf-8")
    return re.sub(r"</(script|style)", r"<\\/\1", text, flags=re.IGNORECASE)
