"""The stage `speed`: deployed networks and eager torch against each other, in one interleaved run of one machine."""

from pathlib import Path

import pandas as pd
import torch

from gazepipe.common.files import read_json, write_json, write_text
from gazepipe.common.machine import available_cores, machine, versions
from gazepipe.errors import UserError
from gazepipe.export.onnx import Engine, open_engine
from gazepipe.export.stage import EAGER, PRECISIONS
from gazepipe.live.bundle import DESCRIPTION
from gazepipe.live.runtime import FILES
from gazepipe.models.registry import build
from gazepipe.models.weights import load_weights, read_metadata
from gazepipe.profiling.cost import count
from gazepipe.profiling.throughput import Runner, measure_interleaved
from gazepipe.training.inherit import load_like

REFERENCE = "reference"
REFERENCE_SPEC = {"arch": "resnet18", "width": 1.0, "input": [1, 224, 224]}
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


def speed(block: dict, bundles: dict[str, Path], weights: dict[str, Path], out: Path) -> None:
    """Write the speed of `bundles` (name to folder) and of their `weights` (name to file), eager, as a CSV of COLUMNS.

    `block` is {"batches", "seconds": for each network, runtime and batch size, "threads" (0: all cores)} and "models",
    the specs of users' own networks by name. One row per network, runtime, precision and batch size, the reference
    (REFERENCE_SPEC, random weights) first; `ratio` is images per second over the reference's of the same batch size.
    Errors, their interval and file sizes are those of the bundle's `preprocess.json`. Beside the CSV goes a JSON of the
    same name: {"threads", "machine", "versions", "reference"}. Raises UserError for a bundle without its files, and
    where bundles and weights are not of the same networks.
    """
    if set(bundles) != set(weights):
        odd = sorted(set(bundles) ^ set(weights))[0]
        raise UserError(f"speed: {odd!r} has a bundle or weights, not both; name both, or neither")
    rows = measured(block, bundles, weights)
    write_text(out, pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    threads = block["threads"] or available_cores()
    record = {"threads": threads, "machine": machine(), "versions": versions(PACKAGES), "reference": REFERENCE_SPEC}
    write_json(out.with_suffix(".json"), record)


def measured(block: dict, bundles: dict[str, Path], weights: dict[str, Path]) -> list[dict]:
    """Rows of COLUMNS, see `speed`."""
    threads = block["threads"] or available_cores()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reference = build(REFERENCE_SPEC).eval()
    key = (REFERENCE, EAGER, "fp32")
    shape = tuple(REFERENCE_SPEC["input"])
    size = sum(tensor.numel() * tensor.element_size() for tensor in reference.state_dict().values())
    runners: dict[tuple[str, str, str], Runner] = {key: reference}
    shapes, facts = {key: shape}, {key: {**count(reference, shape), "bytes": size}}
    for name, folder in bundles.items():
        for (runtime, precision), (runner, fact) in _variants(block, name, folder, weights[name], threads).items():
            key = (name, runtime, precision)
            runners[key], facts[key] = runner, fact
            shapes[key] = tuple(read_metadata(weights[name])["model"]["input"])
    times = measure_interleaved(
        runners, shapes, batches=tuple(block["batches"]), seconds=block["seconds"], threads=threads
    )
    pace = {row["batch"]: row["images_per_second"] for row in times[(REFERENCE, EAGER, "fp32")]}
    names = ("network", "runtime", "precision")
    return [
        {
            **row,
            **dict(zip(names, key, strict=True)),
            **facts[key],
            "ratio": row["images_per_second"] / pace[row["batch"]],
            "threads": threads,
        }
        for key, found in times.items()
        for row in found
    ]


def _variants(
    block: dict, name: str, folder: Path, weights: Path, threads: int
) -> dict[tuple[str, str], tuple[Runner, dict]]:
    """By runtime and precision: what runs the network, and what is known of it."""
    table = _table(folder)
    spec = block.get("models", {}).get(name)
    model = (load_like(weights, spec) if spec else load_weights(weights))[0].eval()
    cost = count(model, tuple(model.input_shape))
    runners: dict[tuple[str, str], Runner] = {(EAGER, "fp32"): model}
    for runtime, files in FILES.items():
        for precision, file in zip(PRECISIONS, files, strict=True):
            if not (folder / file).is_file():
                raise UserError(f"{folder / file}: is missing; export the network again")
            runners[runtime, precision] = _of_tensors(open_engine(folder / file, threads))
    missing = sorted(set(runners) - set(table))
    if missing:
        raise UserError(f"{folder / DESCRIPTION}: has no error of {', '.join(missing[0])}; export the network again")
    return {variant: (runner, {**cost, **table[variant]}) for variant, runner in runners.items()}


def _of_tensors(engine: Engine) -> Runner:
    return lambda images: engine(images.numpy())


def _table(folder: Path) -> dict[tuple[str, str], dict]:
    """Error, interval, unit and bytes by runtime and precision, from a bundle's description."""
    path = folder / DESCRIPTION
    rows = read_json(path).get("error")
    names = ("units", "error", "low", "high", "bytes")
    try:
        return {(row["runtime"], row["precision"]): {name: row[name] for name in names} for row in rows}
    except (TypeError, KeyError):
        raise UserError(f"{path}: holds no errors by runtime and precision; export the network again") from None
