"""A bundle whose network is known in closed form: gaze = slope * mean of the normalised patch + offset."""

import hashlib
import json
from pathlib import Path

import numpy as np

from gazepipe.geometry import VIEW_GEOMETRY

SLOPE = np.array([0.05, -0.2], np.float32)
OFFSET = np.array([0.1, 0.3], np.float32)
MEAN, STD = 0.4, 0.25


def expected(patches: np.ndarray) -> np.ndarray:
    """Gaze [n, 2] in radians of patches u8 [n, H, W]."""
    mean = patches.reshape(len(patches), -1).mean(axis=1) / 255
    return (mean[:, None] - MEAN) / STD * SLOPE + OFFSET


def write_bundle(
    folder: Path, kind: str = "eyes", height: int = 36, width: int = 112, offset: np.ndarray = OFFSET, **changes: object
) -> Path:
    """Write model.onnx, the same as OpenVINO IR, and their description; `changes` replace entries of it."""
    import onnx
    import openvino
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "slope", "offset"], ["gaze"]),
    ]
    constants = [numpy_helper.from_array(SLOPE[None], "slope"), numpy_helper.from_array(np.float32(offset), "offset")]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, height, width])
    gaze = helper.make_tensor_value_info("gaze", TensorProto.FLOAT, ["batch", len(offset)])
    graph = helper.make_graph(nodes, "tiny", [image], [gaze], constants)
    if len(offset) != 2:
        constants[0].CopyFrom(numpy_helper.from_array(np.ones((1, len(offset)), np.float32), "slope"))
        graph = helper.make_graph(nodes, "tiny", [image], [gaze], constants)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    openvino.save_model(openvino.convert_model(folder / "model.onnx"), folder / "model.xml", compress_to_fp16=False)
    describe(folder, kind, height, width, **changes)
    return folder


def describe(folder: Path, kind: str, height: int, width: int, **changes: object) -> None:
    """Write `preprocess.json` for the model files as they are now."""
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.glob("model.*"))
    }
    content = {
        "schema": 1,
        "task": "gaze angles",
        "units": "rad",
        "target_scale": [1, 1],
        "input": [1, height, width],
        "patch": {"kind": kind, "height": height, "width": width},
        "mean": MEAN,
        "std": STD,
        "geometry": VIEW_GEOMETRY,
        "grayscale": True,
        "files": files,
    }
    (folder / "preprocess.json").write_text(json.dumps(content | changes))
