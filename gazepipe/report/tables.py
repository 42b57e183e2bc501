"""The stage `tables`: from predictions, profiles and explanations to CSV, LaTeX, figures and a page in Markdown."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gazepipe.common.files import atomic, write_text
from gazepipe.common.plotting import save, styled
from gazepipe.evaluation.results import Results
from gazepipe.provenance.checksums import write_checksums
from gazepipe.report.latex import document, heading_of
from gazepipe.report.markdown import page
from gazepipe.report.settings import TOPICS, Table, TablesSettings, chosen


def tables(settings: TablesSettings, folder: Path, elsewhere: bool = False) -> None:
    """Write the page of tables, their CSV and LaTeX files and figures, and the checksums of all results.

    `folder` holds the run's results, of which `settings.files` says where they lie; with `elsewhere` only those that
    tables are made from. Raises UserError for a file that is missing or damaged, before anything is written.
    """
    results = {task: Results(settings.of_task(task), folder) for task in TOPICS.values()}
    made, said, blocks = [], [], []
    for table in chosen(settings.topics):
        own = results[TOPICS[table.topic]]
        frame = _function(table.frame)(own) if table.frame else None
        heading = heading_of(blocks)
        section = _function(table.section)(own, frame)
        blocks += section + ([_links(table, settings)] if section and table.frame else [])
        said += _function(table.sentences)(own, frame) if table.sentences else []
        latex = document(table.name, section, heading)
        made.append((table, frame, _figures(table, own, frame, settings), latex))
    for table, frame, figures, latex in made:
        for name, figure in figures.items():
            for kind in ("svg", "png"):
                save(figure, settings.file(folder, "tables", f"{name}.{kind}"))
        if frame is not None:
            with atomic(settings.file(folder, "tables", table.name)) as partial:
                frame.to_csv(partial, index=False, float_format=_digits)
            write_text(settings.file(folder, "tables", table.latex), latex)
    write_text(settings.file(folder, "tables", "page"), page(settings, said, blocks))
    write_checksums(folder, elsewhere)


def _figures(table: Table, results: Results, frame: pd.DataFrame | None, settings: TablesSettings) -> dict[str, Figure]:
    """A table's figures by name, exactly those that are declared."""
    if not table.draw:
        return {}
    drawn, declared = styled(_function(table.draw))(results, frame), settings.figures(table)
    if sorted(drawn) != sorted(declared):
        raise ValueError(f"{table.draw}: drew {sorted(drawn)}, but {table.name} declares {sorted(declared)}")
    return drawn


def _links(table: Table, settings: TablesSettings) -> str:
    """Where a section's numbers are as files."""
    files = [settings.file(Path(), "tables", name) for name in (table.name, table.latex)]
    return f"Files: {', '.join(f'[{file.name}]({file.as_posix()})' for file in files)}"


def _digits(value: float) -> str:
    """Four decimals; three digits of a small number, so that no p-value is written as 0."""
    return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3g}"


def _function(name: str) -> Callable[..., Any]:
    """The function "module:function"."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
