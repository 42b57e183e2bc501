"""Provenance on the page: the source, machines and packages of a run, its configuration, checksums and times."""

import json
from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from gazepipe.common.files import read_json, sha256
from gazepipe.common.git import commit
from gazepipe.common.machine import versions
from gazepipe.common.markdown import plain, table
from gazepipe.errors import UserError
from gazepipe.report.settings import PageSettings

REPORT = "report.html"
TIMES = "benchmarks"
"""Folder of Snakemake's records of time and memory, which are no results and may be missing."""


def provenance(settings: PageSettings, folder: Path) -> str:
    """Source, machines, packages, checksums and times, in Markdown."""
    facts = [read_json(path) for path in settings.facts(folder)]
    sections = [
        _source(),
        _machines(facts),
        _checksums(settings, folder),
        _times(folder),
        _commands(settings, folder),
    ]
    return "\n\n".join(section for section in sections if section)


def configuration(settings: PageSettings) -> str:
    """The configuration of the run as YAML, in HTML."""
    text = yaml.safe_dump(settings.configuration, sort_keys=False, allow_unicode=True, width=100)
    return f'<pre tabindex="0">{escape(text)}</pre>'


def _source() -> str:
    found = commit()
    known = f"git commit `{found}`" if found else "git commit not known (no checkout)"
    return f"This page was made by gazepipe {versions(())['gazepipe']}, {known}."


def _machines(facts: list[dict[str, Any]]) -> str:
    """How many trainings each machine and each set of packages did, by what the trainings noted."""
    machines = Counter(_machine(run) for run in facts)
    packages = Counter(json.dumps(run.get("packages", run.get("versions", {})), sort_keys=True) for run in facts)
    rows = [(*machine, str(count)) for machine, count in machines.items()]
    frame = pd.DataFrame(rows, columns=["Processor", "Cores", "System", "Device", "Precision", "Trainings"])
    lines = [
        f"- {'all' if len(packages) == 1 else count} trainings: "
        + plain(", ".join(f"{name} {version}" for name, version in json.loads(each).items()))
        for each, count in packages.items()
    ]
    return "\n\n".join(["### Machines of the trainings", table(frame), "### Packages", "\n".join(lines)])


def _machine(run: dict[str, Any]) -> tuple[str, ...]:
    here = run.get("machine", {})
    values = (here.get("cpu"), here.get("cores"), here.get("system"), run.get("device"), run.get("precision"))
    return tuple(plain(str(value)) if value is not None else "" for value in values)


def _checksums(settings: PageSettings, folder: Path) -> str:
    path = settings.about.file(folder, "tables", "checksums")
    files = read_json(path).get("files")
    if not isinstance(files, dict):
        raise UserError(f"{path}: lists no files; delete it and run the workflow")
    size = sum(entry["bytes"] for entry in files.values())
    return (
        "### Checksums\n\n"
        f"[{path.name}]({path.relative_to(folder).as_posix()}) lists {len(files)} results ({size / 1e6:.1f} MB); its"
        f" own SHA-256 is `{sha256(path)}`. `gazepipe check {settings.root}` compares every file with it. This page is"
        " made after it, from what it lists."
    )


def _times(folder: Path) -> str:
    """How long the jobs of each stage took when they ran last; of a copy without these records nothing."""
    found = pd.DataFrame(_records(folder / TIMES), columns=["Stage", "seconds", "mb"])
    if found.empty:
        return ""
    stages = found.groupby("Stage", sort=False)
    frame = pd.DataFrame(
        {
            "Jobs": stages.size(),
            "Wall time, sum (s)": stages.seconds.sum(),
            "Longest (s)": stages.seconds.max(),
            "Memory, at most (MB)": stages.mb.max(),
        }
    ).sort_values("Wall time, sum (s)", ascending=False)
    texts = {
        "Jobs": "{:.0f}",
        "Wall time, sum (s)": "{:.1f}",
        "Longest (s)": "{:.1f}",
        "Memory, at most (MB)": "{:.0f}",
    }
    shown = pd.DataFrame({name: frame[name].map(form.format) for name, form in texts.items()})
    shown.insert(0, "Stage", frame.index)
    total = found.seconds.sum()
    return (
        "### Times\n\n"
        f"{len(found)} jobs, {total / 60:.1f} minutes of wall time one after the other; each as it ran last. Jobs that"
        f" wait for a core slot count that time, too.\n\n{table(shown)}"
    )


def _records(folder: Path) -> Iterator[tuple[str, float, float]]:
    """(stage, seconds, peak memory in MB) of every job that left a record."""
    for path in sorted(folder.glob("*.tsv")):
        try:
            row = pd.read_csv(path, sep="\t", na_values=["NA", "-"]).iloc[-1]
            yield path.stem.partition("-")[0], float(row["s"]), float(row["max_rss"])
        except (KeyError, ValueError, IndexError):
            continue


def _commands(settings: PageSettings, folder: Path) -> str:
    there = (folder / REPORT).is_file()
    report = f"[{REPORT}]({REPORT})" if there else f"`{REPORT}` (not there when this page was made)"
    return (
        "### More\n\n"
        f"- Snakemake's own report, with the graph of the workflow and the time of every job: {report}. `make report`"
        " makes it and then this page again.\n"
        f"- `gazepipe why {settings.root}/tables.md` says what a result depends on, and what would run again now.\n"
        "- `gazepipe diff RUN_A RUN_B` compares two trainings by the facts beside their weights."
    )
