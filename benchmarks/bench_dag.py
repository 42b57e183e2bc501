"""Time and memory of the DAG against its number of jobs: python benchmarks/bench_dag.py [JOBS ...]

For each size a configuration of about so many jobs (the default networks and methods with more seeds), in a copy of the
workflow: `snakemake --dry-run` from nothing, the same where every result is there (as in a copy, without Snakemake's
records of the jobs, which only running them writes), and our own part of both, which is to make every key and to look
at every file's time. Writes docs/results/dag.csv and dag.png.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import pandas as pd
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from gazepipe.common.plotting import save, styled
from gazepipe.config import load as configuration
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job
from gazepipe.near_eye.explain.figures import COLOURS

REPOSITORY = Path(__file__).resolve().parents[1]
OUT = REPOSITORY / "docs/results"
SIZES = (200, 2000, 20000)
SOURCE = ("Snakefile", "workflow", "profiles", "gazepipe", "envs", "config.yaml")
OVERLAY = "dag.yaml"
OURS = f"""
from gazepipe.config.load import load_files
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job
from gazepipe.dag.times import settle_times
plan = Plan(load_files(["{OVERLAY}"]))
plan.key(Job.of("page"))
settle_times(plan)
"""
# A small process starts what is measured: a child's peak memory counts its parent's, too.
CLOCK = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.run(sys.argv[1:]).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
facts = {"seconds": time.perf_counter() - start, "cpu_seconds": usage.ru_utime + usage.ru_stime}
print("\\n" + json.dumps({**facts, "memory_mb": usage.ru_maxrss / 1000}), flush=True)
sys.exit(status)
"""
KINDS = {
    "nothing there": "Snakemake, nothing there",
    "all there": "Snakemake, all up to date",
    "our part": "our part of it: keys and times",
}


def overlay(seeds: int) -> dict:
    """Two data sets, two folds each, by two networks and three methods, with so many seeds."""
    chosen = {"datasets": ["columbia-drawn", "mpiifacegaze-drawn"], "models": ["resnet10_wide", "resnet18"]}
    return {"benchmark": {**chosen, "seeds": list(range(seeds))}}


def plan_of(seeds: int) -> Plan:
    """The plan with so many seeds."""
    raw = configuration.read(REPOSITORY / "config.yaml")
    return Plan(configuration.load(configuration.merged(raw, overlay(seeds))))


def jobs_of(plan: Plan) -> list[Job]:
    """Every job that the page stands on, and theirs."""
    found, waiting = {}, [Job.of("page")]
    while waiting:
        job = waiting.pop()
        if job not in found:
            found[job] = None
            waiting += plan.upstream(job)
    return list(found)


def seeds_for(jobs: int) -> int:
    """The number of seeds that gives about so many jobs."""
    one, two = (len(jobs_of(plan_of(seeds))) for seeds in (1, 2))
    return max(1, round(1 + (jobs - one) / (two - one)))


def measured(command: list[str], folder: Path) -> dict:
    """Wall and processor seconds of a command, and its peak memory in MB."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    clock = [sys.executable, "-c", CLOCK, *command]
    done = subprocess.run(clock, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def _median(command: list[str], folder: Path, rounds: int) -> dict:
    found = [measured(command, folder) for _ in range(rounds)]
    return {name: median(each[name] for each in found) for name in found[0]}


def measure(sizes: Iterable[int] = SIZES, rounds: int = 5) -> pd.DataFrame:
    """A row for each size and kind: wall and processor seconds and peak memory, medians over rounds."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows += _of_size(size, Path(folder), rounds)
    return pd.DataFrame(rows)[["jobs", "kind", "seconds", "cpu_seconds", "memory_mb"]]


def _of_size(size: int, folder: Path, rounds: int) -> list[dict]:
    """One row per kind of measurement."""
    for name in SOURCE:
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, folder / name)
    seeds = seeds_for(size)
    (folder / OVERLAY).write_text(yaml.safe_dump(overlay(seeds)))
    plan = plan_of(seeds)
    jobs = jobs_of(plan)
    snakemake = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", OVERLAY]
    dry = [*snakemake, "--dry-run", "--quiet", "all"]
    rows = [{"kind": "nothing there", **_median(dry, folder, rounds)}]
    for job in jobs:
        for path in plan.outputs(job).values():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch()
    rows.append({"kind": "all there", **_median(dry, folder, rounds)})
    if "Nothing to be done" not in subprocess.run(dry[:-2], cwd=folder, capture_output=True, text=True).stdout:
        raise SystemExit("not everything is up to date")
    rows.append({"kind": "our part", **_median([sys.executable, "-c", OURS], folder, rounds)})
    for row in rows:
        row["jobs"] = len(jobs)
        times = f"{row['seconds']:7.1f} s, {row['cpu_seconds']:7.1f} s of a core"
        print(f"{row['jobs']:6} jobs, {row['kind']:13}: {times}, {row['memory_mb']:5.0f} MB", flush=True)
    return rows


@styled
def draw(frame: pd.DataFrame) -> Figure:
    """Processor time, which a busy machine does not change, and memory against jobs."""
    figure = Figure(figsize=(9.5, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    columns = {"cpu_seconds": "processor time (s)", "memory_mb": "peak memory (MB)"}
    for axis, (column, label) in zip(axes, columns.items(), strict=True):
        for colour, above, (kind, title) in zip(COLOURS, (6, -13, -13), KINDS.items(), strict=False):
            rows = frame[frame.kind == kind]
            axis.plot(rows.jobs, rows[column], "o-", color=colour, label=title)
            for x, y in zip(rows.jobs, rows[column], strict=True):
                text = f"{y:.0f}" if y >= 10 else f"{y:.1f}"
                place = {"textcoords": "offset points", "xytext": (0, above), "ha": "center"}
                axis.annotate(text, (x, y), fontsize=8.5, color=colour, **place)
        axis.set(xscale="log", yscale="log", xlabel="jobs of the DAG", ylabel=label)
        axis.set_xticks(sorted(set(frame.jobs)))
        for ticks in (axis.xaxis, axis.yaxis):
            ticks.set_major_formatter(StrMethodFormatter("{x:,g}"))
            ticks.set_minor_formatter(NullFormatter())
        axis.margins(0.15)
        axis.grid(True, which="major", alpha=0.3)
    axes[0].legend(loc="upper left")
    return figure


def main() -> None:
    """Measure, write, draw."""
    frame = measure([*map(int, sys.argv[1:])] or SIZES)
    OUT.mkdir(parents=True, exist_ok=True)
    frame.to_csv(OUT / "dag.csv", index=False, float_format="%.2f")
    save(draw(frame), OUT / "dag.png")


if __name__ == "__main__":
    main()
