"""Images a second on a GPU against what it can do at most: python benchmarks/bench_gpu.py [--tiny]

The real loop, from a store, with augmentation, in the precision `auto`: ResNet-18 at 1x224x224 in batches of 256, the
networks of config/paper.yaml with and without a teacher, and small networks alone and several at once. Beside it the
measured ceilings: bf16 products of large matrices, and copies of a large tensor. Writes docs/results/speed-gpu.csv and
prints the GPU hours of config/paper.yaml by these figures and by the cost model.

`--tiny` tries the code with small sizes on whatever is there, prints the figures and writes nothing.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from gazepipe.common.machine import versions
from gazepipe.dag.costs import Costs
from gazepipe.dag.planning import needed, plan_of
from gazepipe.dag.work import work
from gazepipe.datasets.store import open_store, write_store
from gazepipe.methods.distillation import outputs, prepare
from gazepipe.methods.settings import KD
from gazepipe.models.registry import build
from gazepipe.profiling.cost import count
from gazepipe.training.compiled import compiled
from gazepipe.training.device import device_name, make_deterministic, resolve_device, resolve_precision
from gazepipe.training.fit import fit
from gazepipe.training.method import Context, regime
from gazepipe.training.samples import Samples, samples_of
from gazepipe.training.settings import Augmentation, Training

REPOSITORY = Path(__file__).resolve().parents[1]
OUT = REPOSITORY / "docs/results/speed-gpu.csv"
PAPER = REPOSITORY / "config/paper.yaml"
GOAL = 10_000
"""Images a second: ResNet-18 at 1x224x224, batches of 256."""
PASSES = 3
"""Forward and backward, in multiply-adds of the forward pass."""
TRAFFIC = 5 * 2
"""Bytes for each number that a layer puts out, at least: in bf16 written and read once, its gradient likewise, and read
again for the backward pass."""
MPS = "CUDA_MPS_PIPE_DIRECTORY"


@dataclass(frozen=True)
class Case:
    """A training that is timed: `epochs` passes over `images` after one that is not; `jobs` of them at once."""

    arch: str
    width: float
    size: tuple[int, int, int]
    batch: int
    taught: bool = False
    compile: bool = False
    jobs: int = 1
    images: int = 8192
    epochs: int = 3


def cases() -> list[Case]:
    """What is measured on a GPU."""
    large = Case("resnet18", 1.0, (1, 224, 224), 256)
    paper = [
        replace(large, arch=arch, batch=128, taught=taught)
        for arch in ("resnet10_wide", "resnet18", "simvit")
        for taught in (False, True)
    ]
    small = Case("resnet18", 0.25, (1, 36, 112), 64, images=16384, epochs=5)
    several = [replace(small, jobs=jobs) for jobs in (2, 4, 8)]
    return [large, replace(large, compile=True), *paper, small, replace(small, compile=True), *several]


def tiny() -> list[Case]:
    """The same kinds of case, in seconds on a CPU."""
    small = Case("resnet18", 0.125, (1, 36, 48), 8, images=16, epochs=1)
    return [small, replace(small, taught=True), replace(small, jobs=2)]


# ---- ceilings


def ceilings(device: torch.device, side: int = 8192, numbers: int = 1 << 30) -> dict[str, float]:
    """Multiply-adds a second of bf16 matrix products, and bytes a second that a copy reads and writes."""
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    source = torch.zeros(numbers, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return {
        "matmul": side**3 / _seconds(lambda: a @ b, device),
        "bandwidth": 2 * numbers / _seconds(lambda: target.copy_(source), device),
    }


def _seconds(call: Callable[[], Any], device: torch.device, rounds: int = 5, calls: int = 10) -> float:
    """Seconds of a call: the best round, since a ceiling is asked for."""
    found = []
    for _ in range(rounds + 1):
        _wait(device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        _wait(device)
        found.append((time.perf_counter() - start) / calls)
    return min(found[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# ---- trainings


def written(path: Path, size: tuple[int, int, int], images: int) -> Path:
    """A store of random pixels and targets."""
    draws = np.random.default_rng(0)

    def chunks() -> Iterator[dict]:
        for first in range(0, images, 1024):
            rows = min(1024, images - first)
            yield {
                "image": draws.integers(0, 256, (rows, *size), dtype=np.uint8),
                "target": draws.uniform(-0.3, 0.3, (rows, 2)),
                "head_pose": np.zeros((rows, 2)),
                "subject": "s0",
                "frame": [f"{number:06d}" for number in range(first, first + rows)],
            }

    patch = {"kind": "face", "height": size[1], "width": size[2]}
    write_store(path, chunks(), {"dataset": "random", "patch": patch, "source": "random"})
    return path


def trained(case: Case, store: Path, device: torch.device, ready: Barrier | None = None) -> dict[str, float]:
    """Images a second and peak memory (MB) of the case's training; `ready` is met after the pass that warms up.

    Each epoch is a cycle of its own, and what is called before a cycle takes the time: the pass before has been
    validated by then, on one batch, and so is over.
    """
    torch.manual_seed(0)
    make_deterministic()
    samples = samples_of(open_store(store), None)
    few = replace(samples, rows=samples.rows[:8], target=samples.target[:8], subject=samples.subject[:8])
    training = Training(epochs=1, batch_size=case.batch, warmup_epochs=0, compile=case.compile, threads=1)
    context = Context(training, Augmentation(), samples, 0, device, {})
    spec = {"arch": case.arch, "width": case.width, "input": list(case.size)}
    model = build(spec).to(device)
    times: list[float] = []

    def note(*_: Any) -> None:
        if len(times) == 1 and ready is not None:
            ready.wait()
        times.append(time.perf_counter())

    plain = regime({}, (model, spec), context, Augmentation())
    objective = taught_by(build(spec), model, samples, context) if case.taught else plain.objective
    whole = replace(plain, objective=objective, cycles=case.epochs + 1, before_cycle=note)
    fit(model, samples, few, whole, 0, device, label="benchmark")
    times.append(time.perf_counter())
    if len(times) == 2:
        raise RuntimeError("no epoch was timed")
    seen = case.epochs * max(case.batch, case.images - case.images % case.batch)
    memory = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else float("nan")
    return {"images_per_s": seen / (times[-1] - times[1]), "memory_mb": memory}


def taught_by(teacher: nn.Module, student: nn.Module, samples: Samples, context: Context) -> Callable:
    """The objective of plain distillation."""
    draws, device = torch.Generator().manual_seed(0), context.device
    forward = compiled(outputs, context)
    return prepare(KD(), student, teacher, context.training.loss, samples, draws, device, forward)[0]


def together(case: Case, store: Path, device: torch.device) -> dict[str, float]:
    """The case's jobs, each a process of its own, at once: their images a second together, and the largest's memory."""
    spawned = multiprocessing.get_context("spawn")
    ready, found = spawned.Barrier(case.jobs), spawned.Queue()
    jobs = [spawned.Process(target=_work, args=(case, store, device, ready, found)) for _ in range(case.jobs)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    if any(job.exitcode for job in jobs):
        raise SystemExit(f"bench_gpu.py: {sum(job.exitcode != 0 for job in jobs)} of {len(jobs)} trainings failed")
    told = [found.get() for _ in jobs]
    return {
        "images_per_s": sum(each["images_per_s"] for each in told),
        "memory_mb": max(each["memory_mb"] for each in told),
    }


def _work(case: Case, store: Path, device: torch.device, ready: Barrier, found: Any) -> None:
    found.put(trained(case, store, device, ready))


# ---- figures


def measure(small: bool = False) -> pd.DataFrame:
    """A row for each case, as `timed` gives it, with both measured ceilings; `small` tries the code on any device."""
    device = resolve_device("auto")
    ceiling = ceilings(device, *((256, 1 << 20) if small else ()))
    told = f"{2 * ceiling['matmul'] / 1e12:.2f} TFLOP/s of bf16 matmul, {ceiling['bandwidth'] / 1e9:.0f} GB/s"
    print(f"ceilings: {told}", file=sys.stderr, flush=True)
    frame = timed(tiny() if small else cases(), device, ceiling)
    return frame.assign(matmul_tflops=2 * ceiling["matmul"] / 1e12, bandwidth_gb=ceiling["bandwidth"] / 1e9)


def timed(chosen: Iterable[Case], device: torch.device, ceiling: dict[str, float]) -> pd.DataFrame:
    """A row for each case: images a second, memory, and the shares of both ceilings that the networks' own arithmetic
    and least traffic are. The teacher's forward pass counts."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in chosen:
            store = Path(folder, f"{'x'.join(map(str, case.size))}-{case.images}.h5")
            if not store.exists():
                written(store, case.size, case.images)
            found = together(case, store, device)
            macs, numbers = cost(case)
            rate, passes = found["images_per_s"], PASSES + case.taught
            shares = {
                "matmul_share": passes * macs * rate / ceiling["matmul"],
                "bandwidth_share": passes / PASSES * TRAFFIC * numbers * rate / ceiling["bandwidth"],
            }
            size = "x".join(map(str, case.size))
            rows.append({**asdict(case), "size": size, **found, **shares, "mps": _mps(), **_place(device)})
            print(f"{case}: {rate:,.0f} images/s, {shares['matmul_share']:.0%} of matmul", file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def cost(case: Case) -> tuple[int, int]:
    """Multiply-adds of an image, and numbers that the layers put out."""
    model = build({"arch": case.arch, "width": case.width, "input": list(case.size)}).eval()
    sizes: list[int] = []
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _, inputs, output: sizes.append(output.numel()))
    with torch.no_grad():
        model(torch.zeros(1, *case.size))
    plain = build({"arch": case.arch, "width": case.width, "input": list(case.size)})
    return count(plain, case.size)["macs"], sum(sizes)


def _mps() -> bool:
    """Whether NVIDIA's MPS runs, by which jobs of several processes compute at the same time."""
    return Path(os.environ.get(MPS, "/tmp/nvidia-mps"), "control").exists()


def _place(device: torch.device) -> dict[str, str]:
    return {
        "device": device_name(device),
        "precision": resolve_precision("auto", device),
        "torch": versions().get("torch", torch.__version__),
    }


def paper_hours(frame: pd.DataFrame) -> tuple[float, float]:
    """GPU hours of the trainings of config/paper.yaml: by the measured images a second, and by the cost model."""
    plan = plan_of([PAPER])
    alone = frame[(frame["size"] == "1x224x224") & (frame.batch == 128) & (frame.jobs == 1)]
    rates = alone.set_index(["arch", "taught"]).images_per_s
    costs, measured, predicted = Costs(plan, {}), 0.0, 0.0
    for job in needed(plan):
        if job.stage == "train":
            names = dict(job.wildcards)
            taught = plan.config.methods[names["method"]].teacher is not None
            seen = work(plan, job).seconds["augmented"]
            measured += seen / rates[plan.config.models[names["model"]].arch, taught]
            predicted += costs.of(job).seconds
    return measured / 3600, predicted / 3600


def main(arguments: list[str]) -> int:
    """Measure and write, or try."""
    small = arguments == ["--tiny"]
    if not small and (arguments or not torch.cuda.is_available()):
        print("bench_gpu.py: there is no CUDA device here; use one, or --tiny to try the code", file=sys.stderr)
        return 2
    frame = measure(small)
    print(frame.to_string(index=False))
    if small:
        return 0
    frame.to_csv(OUT, index=False, float_format="%.4g")
    best = frame[(frame["size"] == "1x224x224") & (frame.batch == 256)].images_per_s.max()
    measured, predicted = paper_hours(frame)
    print(f"ResNet-18 at 1x224x224: {best:,.0f} images/s; the goal is {GOAL:,}.")
    print(f"config/paper.yaml: {measured:.0f} GPU hours by these figures, {predicted:.0f} by the cost model.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
