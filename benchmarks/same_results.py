"""Compare two results folders byte by byte, but for what is by nature a time or a state of the machine.

Left out whole: logs, Snakemake's time records and our own, states of trainings that go on, locks, the cache of
checksums, the page (it is made from the rest, and shows times). In part: the seconds, megabytes and resumes of
run.json, the timings of profiles and of the tables that show them, and the checksums of these files in
checksums.json. All else of them is compared.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

LEFT_OUT = ("logs", "benchmarks", ".state", ".stages", ".costs", ".lock", ".checksums.json", ".planned", "index.html")
EFFORT = ("wall_seconds", "training_seconds", "peak_memory_mb", "resumes")
TIMINGS = ("images_per_second", "latency_ms", "repeats")
"""How the names of timed columns begin."""
SPEED_HEADING = "## Inference speed"
TIMED_HEADERS = ("Throughput, batch", "Latency, batch")


def files_of(root: Path) -> dict[str, Path]:
    """Every file that is compared, by its name below `root`."""
    found = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
    return {name.as_posix(): path for name, path in sorted(found.items()) if not set(name.parts) & set(LEFT_OUT)}


def differences(a: Path, b: Path) -> Iterator[str]:
    """One line for each file that only one folder holds, or that differs."""
    ours, theirs = files_of(a), files_of(b)
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            yield f"{name}: only in {b if name in theirs else a}"
        elif comparable(name, ours[name]) != comparable(name, theirs[name]):
            yield f"{name}: differs"


def comparable(name: str, path: Path) -> bytes:
    """The bytes of a file; of one that holds times, what is left of it without them."""
    content = path.read_bytes()
    reduce = _reducer(name)
    return content if reduce is None else reduce(content.decode()).encode()


def is_timed(name: str) -> bool:
    """Whether a file is compared but for its times."""
    return _reducer(name) is not None


def _reducer(name: str) -> Callable[[str], str] | None:
    path = Path(name)
    if path.name == "run.json":
        return _run
    if path.suffix == ".json" and "profiles" in path.parts:
        return _profile
    if path.name.startswith("efficiency") and path.suffix in (".csv", ".tex"):
        return _efficiency if path.suffix == ".csv" else _latex
    return {"tables.md": _page, "checksums.json": _checksums}.get(path.name)


def _run(text: str) -> str:
    record = json.loads(text)
    return json.dumps({name: value for name, value in record.items() if name not in EFFORT})


def _profile(text: str) -> str:
    profile = json.loads(text)
    for size in profile["sizes"].values():
        size["rows"] = [{name: row[name] for name in row if not name.startswith(TIMINGS)} for row in size["rows"]]
    return json.dumps(profile)


def _efficiency(text: str) -> str:
    rows = list(csv.DictReader(io.StringIO(text)))
    return json.dumps([{name: row[name] for name in row if not name.startswith(TIMINGS)} for row in rows])


def _latex(text: str) -> str:
    """The file without the timed columns of its tables."""
    lines, kept = [], None
    for line in text.splitlines():
        if line == r"\toprule":
            kept = None
        elif line.endswith(r"\\"):
            cells = line.removesuffix(r" \\").split(" & ")
            if kept is None:
                heads = [cell.partition("]{")[2].replace(r"\\", " ") or cell for cell in cells]
                kept = [number for number, head in enumerate(heads) if not head.startswith(TIMED_HEADERS)]
            line = " & ".join(cells[number] for number in kept)
        lines.append(line)
    return "\n".join(lines)


def _page(text: str) -> str:
    """The page without the timed columns of its tables of speed, and without how wide columns are there."""
    lines, section, kept = [], "", None
    for line in text.splitlines():
        section = line if line.startswith("## ") else section
        if section != SPEED_HEADING or not line.startswith("|"):
            kept = None
        else:
            cells = [cell.strip().strip("-") for cell in line.strip("|").split("|")]
            if kept is None:
                kept = [number for number, cell in enumerate(cells) if not cell.startswith(TIMED_HEADERS)]
            line = " | ".join(cells[number] for number in kept)
        lines.append(line)
    return "\n".join(lines)


def _checksums(text: str) -> str:
    files = json.loads(text)["files"]
    return json.dumps({name: None if is_timed(name) else entry for name, entry in files.items()})
