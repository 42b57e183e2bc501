"""Exported networks against eager torch: python benchmarks/bench_deploy.py [threads] [seconds per case].

Untrained networks, since time does not depend on weights; int8 as both quantisers write it from random images. All take
turns in one run, so that what else the machine does hits all alike. Ratios are to eager ResNet-18 at 224x224.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gazepipe.export.onnx import open_engine, to_onnx, to_openvino
from gazepipe.export.quantise import quantise_onnx, quantise_openvino
from gazepipe.export.speed import REFERENCE_SPEC
from gazepipe.models.registry import build
from gazepipe.profiling.throughput import measure_interleaved
from gazepipe.training.samples import Samples

SPECS = [
    REFERENCE_SPEC,
    {"arch": "resnet18", "width": 0.5, "input": [1, 112, 112]},
    {"arch": "resnet18", "width": 0.25, "input": [1, 112, 112]},
]
BATCHES = (1, 8)


def exported(spec: dict, folder: Path) -> tuple[torch.nn.Module, dict[str, Path]]:
    """An untrained network of a spec, and every kind of file of it, by its name, in a new folder."""
    torch.manual_seed(0)
    network = build(spec).eval()
    images = np.random.default_rng(0).integers(0, 256, (8, *spec["input"]), dtype=np.uint8)
    samples = Samples(images, np.arange(8), np.zeros((8, 2), np.float32), np.full(8, "s"), 0.5, 0.25)
    folder.mkdir()
    model = to_onnx(network, folder / "model.onnx")
    files = {
        "ONNX Runtime fp32": model,
        "ONNX Runtime int8": quantise_onnx(model, samples, folder / "model.int8.onnx"),
        "OpenVINO fp32": to_openvino(model, folder / "model.xml"),
        "OpenVINO int8": quantise_openvino(model, samples, folder / "model.int8.xml"),
    }
    return network, files


def variants(spec: dict, folder: Path, threads: int) -> dict[str, object]:
    """The network of a spec, eager and as every kind of file."""
    network, files = exported(spec, folder)
    engines = {name: open_engine(path, threads) for name, path in files.items()}
    runners = {name: lambda x, engine=engine: engine(x.numpy()) for name, engine in engines.items()}
    return {"eager fp32": network, **runners}


def measure(threads: int = 1, seconds: float = 1.0) -> pd.DataFrame:
    """A row for each network, form and batch: median and 95 % latency, and images a second over those of eager
    ResNet-18 at the same batch. `seconds` is the time for each row."""
    models, shapes, names = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for number, spec in enumerate(SPECS):
            size = "x".join(map(str, spec["input"][1:]))
            for form, runner in variants(spec, Path(folder) / str(number), threads).items():
                key = (number, form)
                models[key], shapes[key] = runner, tuple(spec["input"])
                names[key] = {"network": spec["arch"], "width": spec["width"], "size": size, "form": form}
        times = measure_interleaved(models, shapes, batches=BATCHES, seconds=seconds, threads=threads)
    pace = {row["batch"]: row["images_per_second"] for row in next(iter(times.values()))}
    return pd.DataFrame(
        [
            {
                **names[key],
                "batch": row["batch"],
                "latency_ms": row["latency_ms"],
                "latency_ms_p95": row["latency_ms_p95"],
                "ratio": row["images_per_second"] / pace[row["batch"]],
            }
            for key, rows in times.items()
            for row in rows
        ]
    )


def main() -> None:
    """Time every network in every form, and print a line for each."""
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    print(measure(threads, seconds).to_string(index=False, float_format="%.2f"))


if __name__ == "__main__":
    main()
