"""Processor time that jobs cost before they compute: python benchmarks/bench_startup.py [REPEATS]

Help of each command, small stages on a tiny drawn data set, the import of the large stages, and Snakemake: a dry run of
the smoke workflow and what one more job costs. Medians of user and system time, which other jobs on the machine stretch
less than the clock's. Writes docs/results/start-up.md.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from by_hand import files, words

from gazepipe.common.machine import machine
from gazepipe.config import load as configuration
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job

REPOSITORY = Path(__file__).resolve().parents[1]
OUT = REPOSITORY / "docs/results/start-up.md"
GAZEPIPE = [sys.executable, "-c", "import sys; from gazepipe.cli import main; sys.exit(main())"]
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "2"]
DATASET = "columbia-drawn"
TINY = """
run: ""
benchmark: {datasets: [columbia-drawn], models: [resnet18], methods: [base], folds: {columbia-drawn: [1]}}
datasets: {columbia-drawn: {subjects: 4, parts: 1, source: {drawn: {scale: 0.125}}}}
"""
LARGE = {
    "sheet": "gazepipe.datasets.overview",
    "train": "gazepipe.methods.train",
    "predict": "gazepipe.evaluation.predict",
    "profile": "gazepipe.profiling.stage",
    "explain": "gazepipe.near_eye.explain.stage",
    "export": "gazepipe.export.stage",
    "tables": "gazepipe.report.tables",
}
JOBS = """
rule all:
    input: [f"out/{{i}}" for i in range({count})]

rule one:
    output: "out/{{i}}"
    log: "logs/{{i}}.log"
    benchmark: "benchmarks/{{i}}.tsv"
    params: block="{{{{}}}}", key="0123456789abcdef"
    shell: "true {{params.block:q}} {{params.key}} > {{output}} 2> {{log}}"
"""
MORE = 40


def measure(repeats: int = 5) -> pd.DataFrame:
    """`what` was started, and the processor seconds that it took: medians of `repeats`."""
    os.environ |= {"PYTHONPATH": str(REPOSITORY), "GAZEPIPE_SLOTS": "off", "OMP_NUM_THREADS": "1"}

    def timed(command: list[str], folder: Path, before: Callable[[], None] | None = None) -> float:
        return statistics.median(_seconds(command, folder, before) for _ in range(repeats))

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = [("gazepipe --help", timed([*GAZEPIPE, "--help"], folder))]
        helps = [timed([*GAZEPIPE, name, "--help"], folder) for name in _commands(folder)]
        rows.append((f"gazepipe COMMAND --help, the slowest of {len(helps)}", max(helps)))
        rows += [
            (f"gazepipe {stage[0]}, 4 drawn subjects", timed([*GAZEPIPE, *stage], folder)) for stage in _stages(folder)
        ]
        for stage, module in LARGE.items():
            rows.append((f"import of {stage} ({module})", timed([sys.executable, "-c", f"import {module}"], folder)))
        rows += _snakemake(folder, timed)
    return pd.DataFrame(rows, columns=["what", "cpu_seconds"])


def main() -> None:
    """Measure, write the page."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    lines = [f"| {what} | {seconds:.2f} |" for what, seconds in measure(repeats).itertuples(index=False)]
    head = f"User and system time in seconds on {machine()['cpu']}, median of {repeats}."
    made = "Made by `python benchmarks/bench_startup.py`."
    OUT.write_text("\n".join(["# Start-up", "", head, made, "", "| what | CPU (s) |", "|---|--:|", *lines, "", NOTE]))
    print("\n".join(lines))


NOTE = """A job of the local executor is a shell of the one Snakemake process: no second Snakemake starts. On a cluster
each job starts one, at the price of the dry run above, and small jobs are better grouped.

What is left is mostly torch (2 s), pandas and scipy. Stages that need none of them import none: `predict-control` took
about 2 s more when its module imported torch.
"""


def _seconds(command: list[str], folder: Path, before: Callable[[], None] | None) -> float:
    if before is not None:
        before()
    start = os.times()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    end = os.times()
    return end.children_user + end.children_system - start.children_user - start.children_system


def _commands(folder: Path) -> list[str]:
    text = subprocess.run([*GAZEPIPE, "--help"], cwd=folder, check=True, capture_output=True, text=True).stdout
    return re.findall(r"^    ([a-z-]+)", text, re.MULTILINE)


def _stages(folder: Path) -> list[list[str]]:
    """Small stages as the workflow would call them, in an order in which each finds what it reads."""
    (folder / "tiny.yaml").write_text(TINY)
    plan = Plan(configuration.load_files([folder / "tiny.yaml"]))
    jobs = [Job.of(name, dataset=DATASET) for name in ("fetch", "prepare", "split")]
    jobs.insert(1, Job.of("prepare_part", dataset=DATASET, part=0))
    jobs.append(Job.of("predict_control", dataset=DATASET, model="mean", fold=1, seed=0))
    return [words(job.stage, plan.settings(job).model_dump_json(), files(plan, job)) for job in jobs]


def _snakemake(folder: Path, timed: Callable) -> list[tuple[str, float]]:
    smoke = [*SNAKEMAKE, "--dry-run", "--configfile", "config/smoke.yaml", "--", "results/smoke/tables.md"]
    taken = []
    for count in (1, 1 + MORE):
        (folder / "Snakefile").write_text(JOBS.format(count=count))

        def clear() -> None:
            subprocess.run(["rm", "-rf", "out", "logs", "benchmarks", ".snakemake"], cwd=folder, check=True)

        taken.append(timed([*SNAKEMAKE, "--nolock"], folder, clear))
    return [
        ("snakemake --dry-run of the smoke workflow", timed(smoke, REPOSITORY)),
        ("snakemake, one empty job", taken[0]),
        (f"each job more (of {MORE})", (taken[1] - taken[0]) / MORE),
    ]


if __name__ == "__main__":
    main()
