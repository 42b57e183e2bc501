"""`gazepipe diff`: two runs by the run.json beside their weights."""

import filecmp
from pathlib import Path

from gazepipe.common.files import read_json, sha256
from gazepipe.dag.stages import STAGES
from gazepipe.provenance import changes, records

SECTIONS = {
    "configuration": ("settings",),
    "source": (),
    "data": ("samples", "subjects", "unit"),
    "versions": ("packages", "versions"),
    "machine": ("machine", "device", "precision"),
    "results": ("best_epoch", "epochs", "validation_error", "validation_errors"),
    "effort": ("resumes", "training_seconds", "wall_seconds", "peak_memory_mb"),
}
FILES = [Path(STAGES["train"].outputs[name]).name for name in ("weights", "history")]
FACTS = Path(STAGES["train"].outputs["facts"]).name


def compare(run_a: Path, run_b: Path) -> str:
    """What differs between the run folders, a section at a time; UserError where one holds no run.json."""
    found = differences(run_a, run_b)
    sections = [
        "\n".join([f"{title}:", *(f"  {line}" for line in changes.shortened(lines, 20))])
        for title, lines in found.items()
        if lines
    ]
    same = [title for title, lines in found.items() if not lines]
    return "\n".join([f"a: {run_a}", f"b: {run_b}", *sections, *([f"the same: {', '.join(same)}"] if same else [])])


def differences(run_a: Path, run_b: Path) -> dict[str, list[str]]:
    """The lines of each of SECTIONS; UserError where a folder holds no run.json."""
    found = causes(run_a, run_b)
    found["results"] += [f"{name}: differs" for name in FILES if _checksum(run_a / name) != _checksum(run_b / name)]
    return found


def causes(run_a: Path, run_b: Path) -> dict[str, list[str]]:
    """The same from the facts alone, no file of results read."""
    a, b = (read_json(run / FACTS) for run in (run_a, run_b))
    found = {
        title: list(changes.of_values(*({name: run[name] for name in names if name in run} for run in (a, b))))
        for title, names in SECTIONS.items()
    }
    found["source"] = _source(run_a, run_b, a.get("source", ""), b.get("source", ""))
    return found


def has_facts(run: Path) -> bool:
    """Whether the folder of a run tells what it was made of."""
    return (run / FACTS).is_file()


def same_weights(run_a: Path, run_b: Path) -> bool:
    """Whether both folders hold the same weights, to the byte."""
    a, b = (run / FILES[0] for run in (run_a, run_b))
    return a.is_file() and b.is_file() and filecmp.cmp(a, b, shallow=False)


def _source(run_a: Path, run_b: Path, a: str, b: str) -> list[str]:
    if a == b:
        return []
    sources = [_recorded(run, fingerprint) for run, fingerprint in ((run_a, a), (run_b, b))]
    if None in sources:
        return [f"source: {a} -> {b}"]
    return list(changes.of_sources(*sources))


def _recorded(run: Path, fingerprint: str) -> changes.Source | None:
    """The source of a run, kept in the results folder that the run lies in."""
    for root in run.resolve().parents:
        if Path(records.source_path(str(root), fingerprint)).is_file():
            return records.source(str(root), fingerprint)
    return None


def _checksum(path: Path) -> str:
    return sha256(path) if path.is_file() else "missing"
