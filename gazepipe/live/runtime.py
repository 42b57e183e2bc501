"""A bundle's network on ONNX Runtime or OpenVINO: patches in, gaze angles out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gazepipe.errors import UserError
from gazepipe.live.bundle import Bundle

Network = Callable[[np.ndarray], np.ndarray]
"""Patches u8 [n, H, W] to gaze (pitch, yaw) f64 [n, 2] in radians, in the normalised frame."""

FILES = {"openvino": ("model.xml", "model.int8.xml"), "onnxruntime": ("model.onnx", "model.int8.onnx")}
"""What each runtime reads: in full precision, and as int8."""


def load_network(bundle: Bundle, runtime: str = "openvino", int8: bool = False, threads: int = 1) -> Network:
    """The network of a bundle on a `runtime` of FILES, on `threads` cores.

    Raises UserError where the bundle holds no such file, the runtime is not installed, or cannot run the file.
    """
    name = FILES[runtime][int8]
    if name not in bundle.files:
        raise UserError(f"{bundle.folder}: holds no {name}; choose another --runtime, or leave out --int8")
    path = bundle.folder / name
    run = {"openvino": run_openvino, "onnxruntime": run_onnxruntime}[runtime]
    try:
        infer = run(path, threads)
        network = _between_units(infer, bundle)
        blank = np.zeros((1, bundle.patch["height"], bundle.patch["width"]), np.uint8)
        shape = network(blank).shape
    except ImportError:
        other = next(name for name in FILES if name != runtime)
        raise UserError(f"{runtime}: is not installed; run `pip install {runtime}`, or use --runtime {other}") from None
    except Exception as error:  # each runtime has its own errors, RuntimeError and below
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: {runtime} cannot run it ({reason}); export the network again") from None
    if shape != (1, 2):
        raise UserError(f"{path}: gives {shape} for one patch, expected (1, 2); export the network again")
    return network


def _between_units(infer: Callable[[np.ndarray], np.ndarray], bundle: Bundle) -> Network:
    scale, shift = np.float32(1 / (255 * bundle.std)), np.float32(bundle.mean / bundle.std)

    def network(patches: np.ndarray) -> np.ndarray:
        return infer(patches[:, None] * scale - shift).astype(np.float64)

    return network


def run_openvino(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function of images f32 [B, V, H, W] that runs an .xml file, its sums in fp32, and gives [B, 2]."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def infer(images: np.ndarray) -> np.ndarray:
        request.infer({0: images})
        return request.get_output_tensor().data.copy()

    return infer


def run_onnxruntime(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function of images f32 [B, V, H, W] that runs an .onnx file and gives [B, 2]."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def infer(images: np.ndarray) -> np.ndarray:
        return session.run(None, {name: images})[0]

    return infer
