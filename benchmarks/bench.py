"""Every measurement of speed, one after the other, as one page: python benchmarks/bench.py [--quick] [--sections ...]

Writes docs/results/speed.md, and beside it speed/NAME.csv as soon as a section ends. Each section runs in a process of
its own. One that fails is named on the page and costs no other its figures; the exit status is then 1. `--quick` tries
everything within minutes: fewer rounds and sizes, no figures to quote.
"""

import argparse
import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from gazepipe.common.files import write_csv, write_text
from gazepipe.common.machine import machine, versions
from gazepipe.common.markdown import plain

OUT = Path(__file__).resolve().parents[1] / "docs/results/speed.md"
PACKAGES = ("snakemake", "torch", "numpy", "h5py", "opencv-python-headless", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Section:
    """A part of the page: the module whose `measure(**options)` gives its table, what the table shows and how it was
    measured, a sentence each; `quick` are the options of a short try. `cuda`: only where there is a CUDA device."""

    title: str
    module: str
    shows: str
    how: str
    quick: Mapping[str, Any] = field(default_factory=dict)
    cuda: bool = False


SECTIONS = {
    "start-up": Section(
        "Start-up",
        "bench_startup",
        "What a job, a command and Snakemake cost before anything is computed.",
        "Processor seconds of whole processes, median of 5.",
        {"repeats": 1},
    ),
    "dag": Section(
        "DAG",
        "bench_dag",
        "What a dry run costs by its number of jobs, and how little of that is gazepipe's: keys and file times.",
        "Processor seconds and peak memory of whole processes, median of 5.",
        {"sizes": (200,), "rounds": 1},
    ),
    "step": Section(
        "Training step",
        "bench_step",
        "How near training, validation and prediction come to the same arithmetic on one resident batch, and how far"
        " they are from a plain script.",
        "Processor time on one thread; arms take turns; `of_...` are medians of the ratios of 7 rounds.",
        {"kinds": ["base", "kd"], "networks": ["resnet18"], "sizes": ["36x112"], "rounds": 3},
    ),
    "scores": Section(
        "Scores of filters",
        "bench_scores",
        "How much faster redundancy and re-birth scores are than nested loops that give the same numbers.",
        "Processor time on one thread, both in turns, medians over rounds.",
        {"rounds": 1, "largest": 64},
    ),
    "renderer": Section(
        "Drawing faces",
        "bench_renderer",
        "How fast one core draws the people of the default run.",
        "Processor time on one core, median of 5 rounds.",
        {"count": 8, "rounds": 1},
    ),
    "near-eye": Section(
        "Drawing and reading near-eye samples",
        "bench_near_eye",
        "How fast samples of four eye images and a scene frame are drawn and read, PNG files included.",
        "By the clock and by processor time of all workers, median of 5 rounds.",
        {"subjects": 3, "images": 4, "rounds": 1},
    ),
    "prepare": Section(
        "Preparing and reading data",
        "bench_prepare",
        "How preparing compares with plain decoding and with a bare copy, and reading a store with a memory map.",
        "By the clock, both in turns, median of 5 rounds.",
        {"rounds": 1, "pictures": 4, "rows": 100},
    ),
    "deploy": Section(
        "Exported networks",
        "bench_deploy",
        "How exported files compare with eager torch, which is ratio 1 for ResNet-18 at 224x224.",
        "Latency on one thread; all take turns; medians over all calls.",
        {"seconds": 0.05},
    ),
    "video": Section(
        "Video",
        "bench_video",
        "Frames a second of `gazepipe video` with decoding, faces, gaze, drawing and encoding, by model file.",
        "By the clock on two cores, files in turns, median of 5 rounds; a drawn clip and an untrained network.",
        {"rounds": 1},
    ),
    "gpu": Section(
        "GPU",
        "bench_gpu",
        "Training from the store on a GPU, as images a second and as shares of the GPU's measured ceilings.",
        "By the clock after warm-up.",
        cuda=True,
    ),
}

Outcome = pd.DataFrame | str
"""The table of a section, or why there is none."""


# ---- measuring


def measured(section: Section, quick: bool) -> pd.DataFrame:
    """The section's table, measured in a process of its own; RuntimeError says why there is none."""
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=context) as process:
            return process.submit(_measure, section.module, dict(section.quick) if quick else {}).result()
    # A benchmark may leave by sys.exit, and its process may die.
    except (Exception, SystemExit) as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def _measure(module: str, options: dict[str, Any]) -> pd.DataFrame:
    return importlib.import_module(module).measure(**options)


def has_cuda() -> bool:
    """Whether torch finds a CUDA device."""
    import torch

    return torch.cuda.is_available()


# ---- the page


def page(outcomes: Mapping[str, Outcome], seconds: float, quick: bool) -> str:
    """The page of these sections, by their names in SECTIONS; a text stands for the table that there is not."""
    host, software = machine(), versions(PACKAGES)
    on = f"{plain(str(host['cpu']))}, {host['cores']} cores, {host['system']}"
    load = f"Load at the end {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "Load not known"
    blocks = [
        "# Speed",
        f"Made by `{'python benchmarks/bench.py --quick' if quick else 'make bench'}` in {seconds / 60:.0f} minutes, in"
        f" one run on {on}. {load}.",
        ", ".join(f"{name} {version}" for name, version in software.items()) + ".",
    ]
    if quick:
        blocks.append("**A quick try: too few rounds to be quoted.**")
    for name, outcome in outcomes.items():
        blocks += _blocks(SECTIONS[name], outcome, quick)
    return "\n\n".join(blocks) + "\n"


def _blocks(section: Section, outcome: Outcome, quick: bool) -> list[str]:
    if isinstance(outcome, str):
        return [f"## {section.title}", outcome]
    # A quick try has fewer rounds than `how` says.
    told = section.shows if quick else f"{section.shows} {section.how}"
    return [f"## {section.title}", f"{told} (`benchmarks/{section.module}.py`)", _table(outcome)]


def _table(frame: pd.DataFrame) -> str:
    """The frame in Markdown: numbers to three figures, nothing where there is none."""
    shown = frame.rename(columns=lambda name: str(name).replace("_", " "))
    numbers = [pd.api.types.is_numeric_dtype(kind) for kind in shown.dtypes]
    cells = [["" if pd.isna(value) else _cell(value) for value in row] for row in shown.itertuples(index=False)]
    align = ["right" if number else "left" for number in numbers]
    return tabulate(cells, list(shown.columns), "pipe", colalign=align, disable_numparse=True)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else plain(str(value))


# ---- the command


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a try of everything within minutes")
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--out", type=Path, default=OUT, help="the page; tables go into the folder of its name")
    return parser.parse_args()


def main() -> int:
    """Measure, write; 1 where a section failed."""
    args, began = arguments(), time.monotonic()
    outcomes: dict[str, Outcome] = {}
    failed = []
    for name in args.sections:
        section = SECTIONS[name]
        print(f"---- {section.title}", flush=True)
        if section.cuda and not has_cuda():
            outcomes[name] = "Not measured: there is no CUDA device here."
            continue
        try:
            outcomes[name] = measured(section, args.quick)
            write_csv(args.out.with_suffix("") / f"{name}.csv", outcomes[name])
        except RuntimeError as error:
            failed.append(name)
            outcomes[name] = f"**Failed**, so nothing is shown: {plain(str(error))}"
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    write_text(args.out, page(outcomes, time.monotonic() - began, args.quick))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
