"""Exported networks against eager torch: python benchmarks/bench_deploy.py [threads] [seconds per case].

Untrained networks, since time does not depend on weights; int8 as both quantisers write it from random images. All take
turns in one run, so that what else the machine does hits all alike. Ratios are to eager ResNet-18 at 224x224.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
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


def variants(spec: dict, folder: Path, threads: int) -> dict[str, object]:
    """The network of a spec, eager and as every kind of file."""
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
    engines = {name: open_engine(path, threads) for name, path in files.items()}
    runners = {name: lambda x, engine=engine: engine(x.numpy()) for name, engine in engines.items()}
    return {"eager fp32": network, **runners}


def main() -> None:
    """Time every network in every form, and print a line for each."""
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    models, shapes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for number, spec in enumerate(SPECS):
            size = "x".join(map(str, spec["input"][1:]))
            for name, runner in variants(spec, Path(folder) / str(number), threads).items():
                key = f"{spec['arch']} {spec['width']:g} {size} {name}"
                models[key], shapes[key] = runner, tuple(spec["input"])
        times = measure_interleaved(models, shapes, batches=BATCHES, seconds=seconds, threads=threads)
    pace = [row["images_per_second"] for row in next(iter(times.values()))]
    for key, rows in times.items():
        cells = (
            f"batch {row['batch']}: {row['latency_ms']:8.2f} ms (p95 {row['latency_ms_p95']:8.2f}), "
            f"ratio {row['images_per_second'] / one:6.2f}"
            for row, one in zip(rows, pace, strict=True)
        )
        print(f"{key:<44} {'   '.join(cells)}")


if __name__ == "__main__":
    main()
