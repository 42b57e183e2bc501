"""What jobs took and when they ran, as each leaves it in `results/.costs/`; for older results, Snakemake's
benchmark files.

Snakemake's files say less: the time of a job that waited for a core slot holds the wait, and processor time and memory
are those of the last look, which is every half second for 15 s and every 30 s after that.
"""

from __future__ import annotations

import csv
import math
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

RUN_FILE = ".run.json"
"""Beside the notes of jobs: when the last run began."""
MOST_CORES = 10_000
"""A note of more is damaged."""

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


def note(
    root: str,
    name: str,
    settings: str,
    began: float,
    ended: float | None = None,
    cores: int = 1,
    continues: bool = False,
) -> None:
    """Write what this process, which does one job, has taken; it had its core slots, so many, from `began` to `ended`
    (unless given, now) of time.monotonic().

    A job that was killed and `continues` takes less than the whole: what it took before, if that is known, stays.
    """
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1 if sys.platform == "darwin" else 1024
    now, clock, path = time.monotonic(), time.time() - time.monotonic(), cost_path(root, name)
    processor = round(sum(each.ru_utime + each.ru_stime for each in used), 3)
    took = {
        "processor_seconds": processor,
        "wall_seconds": round(now - began, 3),
        "memory_mb": round(max(each.ru_maxrss for each in used) * unit / 1e6, 1),
        "settings": settings,
    }
    times = {"began": round(clock + began, 3), "ended": round(clock + (now if ended is None else ended), 3)}
    when = {**times, "cores": cores, "processor_seconds": processor}
    write_json(path, {**(_content(path) if continues else took), "last": when})


def noted(root: str) -> dict[str, Measured]:
    """What the jobs below a results folder took, by name; files that cannot be read are left out."""
    return {name: took for name, path in _files(root) if (took := _read(path)) is not None}


def _files(root: str) -> list[tuple[str, Path]]:
    """The notes of jobs, by the jobs' names."""
    folder = Path(root, ".costs")
    paths = [path for path in sorted(folder.rglob("*.json")) if path != folder / RUN_FILE]
    return [(" ".join(path.relative_to(folder).with_suffix("").parts), path) for path in paths]


def _content(path: Path) -> dict:
    try:
        return read_json(path)
    except UserError:
        return {}


def _read(path: Path) -> Measured | None:
    try:
        took = read_json(path)
        numbers = [float(took[name]) for name in ("processor_seconds", "memory_mb", "wall_seconds")]
        settings = str(took["settings"])
    except (UserError, KeyError, TypeError, ValueError):
        return None
    return Measured(*numbers, settings) if all(math.isfinite(each) and each > 0 for each in numbers) else None


# ---- when jobs ran


@dataclass(frozen=True)
class Ran:
    """When a job last had its cores, in seconds since 1970, and what it took of the processor (s), with its start."""

    name: str
    began: float
    ended: float
    cores: int
    processor_seconds: float

    @property
    def stage(self) -> str:
        """The first word of the name."""
        return self.name.partition(" ")[0]

    @property
    def seconds(self) -> float:
        """How long it had its cores."""
        return self.ended - self.began


@dataclass(frozen=True)
class Started:
    """When the last run of a folder of results began, and the cores that its jobs shared; 0: not known."""

    began: float
    cores: int


def start(root: str, cores: int) -> None:
    """Write that a run begins whose jobs share so many cores; 0: each has its own."""
    write_json(Path(root, ".costs", RUN_FILE), {"began": round(time.time(), 3), "cores": cores})


def started(root: str) -> Started | None:
    """The last run of a folder of results, where it says when it began."""
    try:
        run = read_json(Path(root, ".costs", RUN_FILE))
        found = Started(float(run["began"]), int(run["cores"]))
    except (UserError, KeyError, TypeError, ValueError):
        return None
    return found if math.isfinite(found.began) else None


def ran(root: str) -> list[Ran]:
    """When the jobs below a results folder last ran; files that do not say it are left out."""
    found = []
    for name, path in _files(root):
        try:
            last = read_json(path)["last"]
            times = [float(last[each]) for each in ("began", "ended", "processor_seconds")]
            job = Ran(name, times[0], times[1], int(last["cores"]), times[2])
        except (UserError, KeyError, TypeError, ValueError):
            continue
        if all(map(math.isfinite, times)) and job.began < job.ended and 0 <= job.cores < MOST_CORES:
            found.append(job)
    return found


# ---- Snakemake's files


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
