"""A training step, validation and prediction against their limits and a plain script, side by side in one run.

    python benchmarks/bench_step.py                                                  # all of it, about 25 minutes
    python benchmarks/bench_step.py --sizes 36x112 --networks resnet18 --rounds 9    # some of it, a minute
    python benchmarks/bench_step.py --sizes 36x112 --without transforms float32      # what single habits cost

The arms of a case, all on one thread:

- gazepipe: the loop of `gazepipe.training.fit` on a store, `subject_errors`, or the stage `predict`
- limit: the same step (forward, backward, clipping, optimiser, moving average) again and again on one batch in memory,
  already augmented and normalised; for validation and prediction the forward pass on one such batch
- arithmetic: of that only forward and backward, and the teacher's forward pass
- usual: the plain script of `benchmarks/usual.py`, and the same without single habits

They take turns in every round, for about `--seconds` each. Written is one row for each arm: the median time of a step
(of `images` images; for validation and prediction a pass over a store) by processor and by clock, and the median,
lowest and highest ratio over the rounds of the limit's, the arithmetic's and the usual script's processor time.
"""

import argparse
import contextlib
import copy
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from usual import HABITS, usual

from gazepipe.common.machine import machine, versions
from gazepipe.datasets.store import open_store, write_store
from gazepipe.evaluation.predict import BATCH, predict
from gazepipe.evaluation.settings import PredictSettings
from gazepipe.methods.distillation import Distillation
from gazepipe.methods.settings import KD
from gazepipe.models.registry import build
from gazepipe.models.weights import load_weights, save_weights
from gazepipe.training.device import autocast, make_deterministic, resolve_precision
from gazepipe.training.distributed import ALONE
from gazepipe.training.fit import _begin_cycle, _begun, _learn, prepared, subject_errors, update
from gazepipe.training.inherit import description
from gazepipe.training.losses import loss_of
from gazepipe.training.method import Context, regime
from gazepipe.training.run import Run
from gazepipe.training.samples import Samples, batches, evaluation_batch, normalised, samples_of, to_unit
from gazepipe.training.settings import Augmentation, Training

REPOSITORY = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
SIZES = ("36x112", "112x112", "224x224")
NETWORKS = ("resnet18", "resnet10_wide")
KINDS = ("base", "kd", "near-eye", "validate", "predict")
TEACHER = {"arch": "resnet18", "width": 0.28}
NEAR_EYE_AUGMENTATION = Augmentation(flip=0, pairs=0, crop=0, mixup=0, noise=0)
"""As in config.yaml."""
SUBJECTS = 8
PATCH = {"kind": "none"}
REFERENCES = ("limit", "arithmetic", "usual")

Steps = Callable[[int], None]
"""Carries out so many steps."""


@dataclass(frozen=True)
class Case:
    """A network [V, H, W] in one kind of training or of evaluation."""

    kind: str
    arch: str
    width: float
    shape: tuple[int, int, int]
    batch: int

    @property
    def spec(self) -> dict:
        return {"arch": self.arch, "width": self.width, "input": list(self.shape)}


def cases(kinds: list[str], networks: list[str], sizes: list[str], width: float, batch: int) -> Iterator[Case]:
    """Those of the given kinds, networks and sizes; near-eye has its own."""
    for kind in kinds:
        if kind == "near-eye":
            yield Case(kind, "itracker4", 1.0, (4, 192, 240), 16)
        else:
            for arch, size in itertools.product(networks, sizes):
                height, width_px = map(int, size.split("x"))
                yield Case(kind, arch, width, (1, height, width_px), batch)


def measure(
    kinds: list[str] = KINDS,
    networks: list[str] = NETWORKS,
    sizes: list[str] = SIZES,
    width: float = 0.25,
    batch: int = 32,
    without: list[str] = (),
    rounds: int = 7,
    seconds: float = 0.3,
) -> pd.DataFrame:
    """One row for each arm of each case; see the module's docstring."""
    torch.set_num_threads(1)
    make_deterministic()
    rows = []
    for case in cases(kinds, networks, sizes, width, batch):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            size, arms = _arms(case, Path(folder), without)
            rows += _summary(case, size, _timed(arms, rounds, seconds))
        print(pd.DataFrame(rows[-len(arms) :]).to_string(index=False, header=len(rows) == len(arms)), flush=True)
    return pd.DataFrame(rows)


def _timed(arms: dict[str, Steps], rounds: int, seconds: float) -> dict[str, np.ndarray]:
    """Processor and wall seconds of a step, [rounds, 2] for each arm. Arms take turns; the first time warms up."""
    counts = {}
    for name, steps in arms.items():
        steps(1)
        began = time.process_time()
        steps(1)
        counts[name] = max(1, round(seconds / (time.process_time() - began)))
    times = {name: np.empty((rounds, 2)) for name in arms}
    for number in range(rounds):
        for name, steps in arms.items():
            began = np.array([time.process_time(), time.perf_counter()])
            steps(counts[name])
            ended = np.array([time.process_time(), time.perf_counter()])
            times[name][number] = (ended - began) / counts[name]
    return times


def _summary(case: Case, size: int, times: dict[str, np.ndarray]) -> Iterator[dict]:
    named = {"kind": case.kind, "network": case.arch, "width": case.width, "size": "x".join(map(str, case.shape))}
    for arm, taken in times.items():
        processor, wall = np.median(taken, axis=0)
        row = {**named, "images": size, "arm": arm, "ms": round(1000 * processor, 3), "wall_ms": round(1000 * wall, 3)}
        row["images_per_second"] = round(size / processor, 1)
        for reference in REFERENCES:
            if reference in times:
                ratios = times[reference][:, 0] / taken[:, 0]
                found = np.median(ratios), ratios.min(), ratios.max()
                names = (f"of_{reference}", f"of_{reference}_low", f"of_{reference}_high")
                row |= {name: round(float(value), 3) for name, value in zip(names, found, strict=True)}
        yield row


def _arms(case: Case, folder: Path, without: list[str]) -> tuple[int, dict[str, Steps]]:
    """Images of a step, and the arms."""
    per_image = int(np.prod(case.shape))
    store = folder / "store.h5"
    _write(store, case.shape, max(8 * case.batch, min(2048, (1 << 25) // per_image)))
    if case.kind == "predict":
        return _predict_arms(case, folder, store)
    samples = samples_of(open_store(store), None)
    torch.manual_seed(0)
    if case.kind == "validate":
        return _validate_arms(case, samples)
    return case.batch, _training_arms(case, folder, samples, without)


def _write(path: Path, shape: tuple[int, int, int], count: int) -> None:
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (count, *shape), np.uint8),
        "target": rng.normal(0, 0.2, (count, 2)),
        "head_pose": np.zeros((count, 2)),
        "subject": [f"s{number % SUBJECTS}" for number in range(count)],
        "frame": [f"{number:05d}" for number in range(count)],
    }
    write_store(path, [batch], {"dataset": "drawn", "patch": PATCH, "source": "none"})


def _training_arms(case: Case, folder: Path, samples: Samples, without: list[str]) -> dict[str, Steps]:
    near_eye = case.kind == "near-eye"
    augmentation = NEAR_EYE_AUGMENTATION if near_eye else Augmentation()
    training = Training(batch_size=case.batch, learning_rate=0.002, ema=0.99)
    taught = case.kind == "kd"
    if taught:
        spec = {**TEACHER, "input": list(case.shape)}
        told = {"mean": samples.mean, "std": samples.std, "units": samples.units}
        save_weights(folder / "teacher.safetensors", build(spec), spec, told)
    teacher = load_weights(folder / "teacher.safetensors")[0] if taught else None
    run = _run(case, training, augmentation, samples, folder)
    resident = next(prepared(batches(samples, case.batch), samples, run))
    loss = loss_of(training.loss, samples.units)
    arms = {
        "gazepipe": _loop(run, samples),
        "limit": _same_step(_run(case, training, augmentation, samples, folder), *resident),
        "arithmetic": _arithmetic(build(case.spec), copy.deepcopy(teacher), loss, run.precision, *resident),
    }
    for left_out in [None, *(name for name in without if taught or name != "teacher_gradients")]:
        habits = frozenset(HABITS) - {left_out}
        name = "usual" if left_out is None else f"usual without {left_out}"
        arms[name] = usual(build(case.spec), teacher, loss, samples, training, augmentation, habits)
    return arms


def _run(case: Case, training: Training, augmentation: Augmentation, samples: Samples, folder: Path) -> Run:
    """A training under way, as `fit` has it before the first step."""
    context = Context(training, augmentation, samples, 0, CPU, {"teacher": folder / "teacher.safetensors"})
    kinds = {"kd": Distillation(KD(), context, torch.Generator())} if case.kind == "kd" else {}
    model = build(case.spec)
    run = _begun(model, regime(kinds, (model, case.spec), context, augmentation), 0, CPU, ALONE)
    _begin_cycle(run)
    return run


def _loop(run: Run, samples: Samples) -> Steps:
    """Steps of the loop, whose epochs are as long as asked for."""
    objective = ALONE.together(run.regime.objective, run.model, None, run.regime.training.batch_size)
    order, size = np.random.default_rng(0).permutation(len(samples)), run.regime.training.batch_size

    def steps(count: int) -> None:
        run.losses = []
        _learn(run, samples, np.resize(order, count * size), objective, "", lambda: None)

    return steps


def _same_step(run: Run, images: torch.Tensor, target: torch.Tensor) -> Steps:
    def steps(count: int) -> None:
        run.model.train()
        for _ in range(count):
            with autocast(CPU, run.precision):
                loss = run.regime.objective(run.model, images, target)
            update(loss, run.trained, run.optimizer, run.scaler, run.regime.training.clip_norm)
            run.average.update_parameters(run.model)

    return steps


def _arithmetic(
    model: nn.Module,
    teacher: nn.Module | None,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    precision: str,
    images: torch.Tensor,
    target: torch.Tensor,
) -> Steps:
    model.to(memory_format=torch.channels_last).train()
    if teacher is not None:
        teacher.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    def steps(count: int) -> None:
        for _ in range(count):
            with autocast(CPU, precision):
                if teacher is not None:
                    with torch.inference_mode():
                        teacher(images)
                total = loss(model(images).float(), target).mean()
            model.zero_grad()
            total.backward()

    return steps


def _forward(model: nn.Module, images: torch.Tensor, precision: str) -> Steps:
    def steps(count: int) -> None:
        with torch.inference_mode(), autocast(CPU, precision):
            for _ in range(count):
                model(images)

    return steps


def _validate_arms(case: Case, samples: Samples) -> tuple[int, dict[str, Steps]]:
    """A step is a pass over the samples, in whole batches."""
    model = build(case.spec).to(memory_format=torch.channels_last).eval()
    size, precision = evaluation_batch(samples), resolve_precision("auto", CPU)
    passes = max(1, len(samples) // size)
    some = replace(samples, **{name: getattr(samples, name)[: passes * size] for name in ("rows", "target", "subject")})
    images, _ = next(batches(some, size))
    resident = normalised(to_unit(images, CPU), samples.mean, samples.std)

    def judge(count: int) -> None:
        for _ in range(count):
            subject_errors(model, some, CPU, precision)

    return len(some), {"gazepipe": judge, "limit": _forward(model, resident, precision, len(some) // len(images))}


def _predict_arms(case: Case, folder: Path, store: Path) -> tuple[int, dict[str, Steps]]:
    """A step is the whole stage: it opens the store, loads the weights and writes the CSV, too."""
    opened, weights, split = open_store(store), folder / "model.safetensors", folder / "split.csv"
    save_weights(weights, build(case.spec), case.spec, description(opened, samples_of(opened, None)))
    split.write_text("fold,subject,role\n" + "".join(f"0,s{number},test\n" for number in range(SUBJECTS)))
    settings = PredictSettings(model=case.spec, device="cpu", threads=1, tests=["drawn"], dataset="drawn", fold=0)
    model = build(case.spec).to(memory_format=torch.channels_last).eval()
    images = torch.from_numpy(np.array(opened.image[:BATCH]))
    resident = normalised(to_unit(images, CPU), opened.attrs["mean"], opened.attrs["std"])

    def stage(count: int) -> None:
        for _ in range(count):
            predict(settings, weights, [store], split, folder / "predictions.csv")

    return len(opened), {"gazepipe": stage, "limit": _forward(model, resident, "fp32", -(-len(opened) // len(images)))}


def _forward(model: nn.Module, images: torch.Tensor, precision: str, repeats: int) -> Steps:
    def steps(count: int) -> None:
        with torch.inference_mode(), autocast(CPU, precision):
            for _ in range(count * repeats):
                model(images)

    return steps


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, values in (("kinds", KINDS), ("networks", NETWORKS), ("sizes", SIZES)):
        parser.add_argument(f"--{name}", nargs="+", choices=None if name == "sizes" else values, default=list(values))
    parser.add_argument(
        "--without", nargs="+", choices=list(HABITS), default=[], help="habits to be left out, one each"
    )
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="processor time of an arm in a round")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs/results/speed-step.csv")
    return parser.parse_args()


def main() -> None:
    """Measure and write the CSV."""
    asked = vars(arguments())
    out = asked.pop("out")
    print({**machine(), **versions(("torch",))}, flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    measure(**asked).to_csv(out, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
