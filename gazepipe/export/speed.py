"""The stage `speed`: exported networks and eager torch, timed in one interleaved run on one machine."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from gazepipe.common.files import read_json, write_csv, write_json
from gazepipe.common.machine import available_cores, versions
from gazepipe.common.machine import machine as this_machine
from gazepipe.errors import UserError
from gazepipe.export.compare import PRECISIONS
from gazepipe.export.onnx import Engine, open_engine
from gazepipe.export.settings import SpeedSettings
from gazepipe.export.trained import EAGER
from gazepipe.live.runtime import FILES
from gazepipe.models.registry import build
from gazepipe.models.settings import Spec
from gazepipe.profiling.cost import count
from gazepipe.profiling.throughput import Runner, measure_interleaved
from gazepipe.training.inherit import load_like

REFERENCE = "reference"
REFERENCE_SPEC: Spec = {"arch": "resnet18", "width": 1.0, "input": [1, 224, 224]}
"""Eager ResNet-18 at 224x224 in fp32, of which all speeds are multiples."""
COLUMNS = (
    "network",
    "runtime",
    "precision",
    "params",
    "macs",
    "bytes",
    "units",
    "error",
    "low",
    "high",
    "batch",
    "latency_ms",
    "latency_ms_p95",
    "images_per_second",
    "ratio",
    "repeats",
    "threads",
)
PACKAGES = ("torch", "numpy", "onnxruntime", "openvino", "nncf")


def speed(settings: SpeedSettings, bundles: list[Path], weights: list[Path], table: Path, machine: Path) -> None:
    """Time the exported networks of a data set in every runtime, beside eager torch.

    `bundles` are the descriptions (preprocess.json) of the bundles, `weights` the files that they were made from, both
    in the order of `settings.networks`. `table` is a CSV of COLUMNS: one row per network, runtime, precision and batch
    size, the reference (REFERENCE_SPEC, random weights) first; `ratio` is images per second over the reference's of the
    same batch size. Errors, their interval and file sizes are those of the descriptions. `machine` is a JSON:
    {"threads", "machine", "versions", "reference"}. Raises UserError for a bundle without its files, and where bundles
    and weights are not of the same networks.
    """
    names = settings.networks
    if not len(names) == len(bundles) == len(weights):
        raise UserError(
            f"speed: {len(bundles)} bundles and {len(weights)} weights of {len(names)} networks; name one of each a "
            "network, in the same order"
        )
    threads = settings.threads or available_cores()
    variants = [_reference()]
    for name, bundle, file in zip(names, bundles, weights, strict=True):
        variants += _variants(name, settings.models[name], bundle, file, threads)
    write_csv(table, pd.DataFrame(timed(variants, settings.batches, settings.seconds, threads), columns=COLUMNS))
    about = {"machine": this_machine(), "versions": versions(PACKAGES), "reference": REFERENCE_SPEC}
    write_json(machine, {"threads": threads, **about})


@dataclass(frozen=True)
class Variant:
    """A network in one form: how it runs, the shape [V, H, W] of what it sees, and its columns that are not timed."""

    run: Runner
    shape: tuple[int, ...]
    facts: dict


def timed(variants: list[Variant], batches: list[int], seconds: float, threads: int) -> list[dict]:
    """Rows of COLUMNS; the first of the variants is the reference."""
    runners, shapes = (dict(enumerate(each)) for each in zip(*((v.run, v.shape) for v in variants), strict=True))
    times = measure_interleaved(runners, shapes, batches=tuple(batches), seconds=seconds, threads=threads)
    pace = {row["batch"]: row["images_per_second"] for row in times[0]}
    return [
        {**row, **variants[number].facts, "ratio": row["images_per_second"] / pace[row["batch"]], "threads": threads}
        for number, rows in times.items()
        for row in rows
    ]


def _reference() -> Variant:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(REFERENCE_SPEC).eval()
    shape = tuple(REFERENCE_SPEC["input"])
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    names = {"network": REFERENCE, "runtime": EAGER, "precision": "fp32"}
    return Variant(model, shape, {**names, **count(model, shape), "bytes": size})


def _variants(name: str, spec: Spec, bundle: Path, weights: Path, threads: int) -> list[Variant]:
    """A network, eager and through every file of its bundle, eager first."""
    known = _errors(bundle)
    model = load_like(weights, spec)[0].eval()
    shape = tuple(model.input_shape)
    cost = count(model, shape)
    runners: dict[tuple[str, str], Runner] = {(EAGER, "fp32"): model}
    for runtime, files in FILES.items():
        for precision, file in zip(PRECISIONS, files, strict=True):
            path = bundle.with_name(file)
            if not path.is_file():
                raise UserError(f"{path}: is missing; export the network again")
            runners[runtime, precision] = _of_tensors(open_engine(path, threads))
    missing = sorted(set(runners) - set(known))
    if missing:
        raise UserError(f"{bundle}: has no error of {', '.join(missing[0])}; export the network again")
    return [
        Variant(run, shape, {"network": name, "runtime": form[0], "precision": form[1], **cost, **known[form]})
        for form, run in runners.items()
    ]


def _of_tensors(engine: Engine) -> Runner:
    return lambda images: engine(images.numpy())


def _errors(bundle: Path) -> dict[tuple[str, str], dict]:
    """Error, interval, unit and bytes by runtime and precision, from a bundle's description."""
    rows = read_json(bundle).get("error")
    names = ("units", "error", "low", "high", "bytes")
    try:
        return {(row["runtime"], row["precision"]): {name: row[name] for name in names} for row in rows}
    except (TypeError, KeyError):
        raise UserError(f"{bundle}: holds no errors by runtime and precision; export the network again") from None
