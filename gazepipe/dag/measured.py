"""What jobs took: each leaves its processor time and memory in `results/.costs/`; of older results, Snakemake's
benchmark files.

Snakemake's files say less: the time of a job that waited for a core slot holds the wait, and processor time and memory
are those of the last look, which is every half second for 15 s and every 30 s after that.
"""

from __future__ import annotations

import csv
import math
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gazepipe.common.files import read_json, write_json
from gazepipe.errors import UserError

LOOKS, OFTEN, SELDOM = 31, 0.5, 30.0
"""Snakemake looks so often every `OFTEN` seconds, then every `SELDOM` seconds."""
MOST_MISSED = 0.6
"""Processor time that may have passed after the last look, as a share of what was seen; files that may miss more are
not used."""

WAITING_MB = 40.0
"""A process below it has imported nothing yet: it was seen only while it waited for a core slot."""


@dataclass(frozen=True)
class Measured:
    """Processor time of a job with its children (s), wall time since it had its core slots (s; None: not known),
    largest resident size of one of its processes (MB of 10^6 bytes), digest of its settings (empty: not known)."""

    seconds: float
    memory_mb: float
    wall: float | None = None
    settings: str = ""


def cost_path(root: str, name: str) -> Path:
    """Where a job leaves what it took, by the results folder and the job's name ("train columbia-drawn ...")."""
    return Path(root, ".costs", f"{'/'.join(name.split())}.json")


def note(root: str, name: str, settings: str, began: float) -> None:
    """Write what this process, which does one job, has taken; it had its core slots at `began` of time.monotonic()."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1 if sys.platform == "darwin" else 1024
    took = {
        "processor_seconds": round(sum(each.ru_utime + each.ru_stime for each in used), 3),
        "wall_seconds": round(time.monotonic() - began, 3),
        "memory_mb": round(max(each.ru_maxrss for each in used) * unit / 1e6, 1),
        "settings": settings,
    }
    write_json(cost_path(root, name), took)


def noted(root: str) -> dict[str, Measured]:
    """What the jobs below a results folder took, by name; files that cannot be read are left out."""
    folder = os.path.join(root, ".costs")
    found = {}
    for path in sorted(Path(folder).rglob("*.json")):
        took = _read(path)
        if took is not None:
            found[" ".join(path.relative_to(folder).as_posix().removesuffix(".json").split("/"))] = took
    return found


def _read(path: Path) -> Measured | None:
    try:
        took = read_json(path)
        numbers = [float(took[name]) for name in ("processor_seconds", "memory_mb", "wall_seconds")]
        settings = str(took["settings"])
    except (UserError, KeyError, TypeError, ValueError):
        return None
    return Measured(*numbers, settings) if all(math.isfinite(each) and each > 0 for each in numbers) else None


def benchmark(path: str | Path) -> Measured | None:
    """The last row of one of Snakemake's benchmark files; None where it says too little (see `MOST_MISSED`).

    Raises UserError for a file that cannot be read, or holds what is no finite number.
    """
    mend = "delete it, or run the job again"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            *_, row = csv.DictReader(file, delimiter="\t")
        texts = [row[name] for name in ("s", "cpu_time", "max_rss")]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {mend}") from None
    except (ValueError, KeyError, csv.Error):
        raise UserError(f"{path}: is no benchmark file of Snakemake; {mend}") from None
    if "NA" in texts:
        return None
    try:
        wall, seen, memory = map(float, texts)
    except (TypeError, ValueError):
        raise UserError(f"{path}: {texts} are no numbers; {mend}") from None
    if not all(math.isfinite(each) and each >= 0 for each in (wall, seen, memory)):
        raise UserError(f"{path}: {texts} are no times and sizes; {mend}")
    last = last_look(wall)
    missed = wall - last
    if seen == 0 or missed > MOST_MISSED * seen or memory < WAITING_MB:
        return None
    return Measured(seen + missed * min(1.0, seen / last), memory * 2**20 / 1e6)


def last_look(wall: float) -> float:
    """Seconds after its start at which Snakemake last looked at a job of so many seconds."""
    often = (LOOKS - 1) * OFTEN
    if wall <= often + SELDOM:
        return min(often, OFTEN * (wall // OFTEN))
    return often + SELDOM * ((wall - often) // SELDOM)
