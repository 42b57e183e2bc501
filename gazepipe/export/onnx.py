"""A trained network as files that other runtimes read, ONNX and OpenVINO's IR, and what those files predict."""

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from gazepipe.common.progress import track
from gazepipe.common.units import ERROR_UNIT, errors
from gazepipe.errors import UserError
from gazepipe.live.runtime import run_onnxruntime, run_openvino
from gazepipe.training.samples import Samples, batches, normalised, to_unit

if TYPE_CHECKING:
    import openvino

Engine = Callable[[np.ndarray], np.ndarray]
"""Images f32 [B, V, H, W] as the network sees them to its output f32 [B, 2]."""

INPUT, OUTPUT, OPSET = "image", "gaze", 18
BATCH = 32
ENGINES = {".onnx": run_onnxruntime, ".xml": run_openvino}
LARGEST_DIFFERENCE = {"rad": 0.01, "px": 0.1}
"""By units: how far, in degrees or pixels, a file in full precision may be from torch on any sample."""
AUTOMATIC = re.compile(r"[A-Za-z]+_\d+")


def to_onnx(network: nn.Module, path: Path) -> Path:
    """Write a network, in eval mode and with `input_shape` [V, H, W], as ONNX: `image` [B, V, H, W] to `gaze` [B, 2].

    The batch size is free; batch normalisation is folded into the convolutions. Equal weights give equal bytes: the
    exporter is TorchScript's, since the newer one keeps the source's path in the file, and takes minutes for SimViT.
    Raises UserError for a network that it cannot trace or that ONNX has no operators for.
    """
    example = torch.zeros(2, *network.input_shape)
    free = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}
    names = {"input_names": [INPUT], "output_names": [OUTPUT], "dynamic_axes": free}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer, about shapes; `check` compares the numbers
            torch.onnx.export(network, (example,), str(path), opset_version=OPSET, dynamo=False, **names)
    except Exception as error:  # whatever a user's own forward raises when it is traced
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{type(network).__name__}: cannot be exported to ONNX ({reason}); "
            "write its forward with tensor operations that ONNX has"
        ) from None
    return path


def to_openvino(model: Path, path: Path) -> Path:
    """Write an ONNX file as OpenVINO IR in fp32: `path` (.xml) and the weights beside it (.bin)."""
    save_ir(read_model(model), path)
    return path


def read_model(path: Path) -> "openvino.Model":
    """OpenVINO's graph of an ONNX file."""
    import openvino

    return openvino.Core().read_model(path)


def save_ir(model: "openvino.Model", path: Path) -> None:
    """Write a graph as IR, its numbers as they are; nodes that OpenVINO named by a counter of the process are named by
    their place, so that equal graphs give equal bytes.
    """
    import openvino

    for place, node in enumerate(model.get_ordered_ops()):
        if AUTOMATIC.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{place}")
    openvino.save_model(model, path, compress_to_fp16=False)


def open_engine(path: Path, threads: int) -> Engine:
    """What runs an exported file, `.onnx` or `.xml`, on `threads` cores."""
    return ENGINES[path.suffix](path, threads)


def torch_engine(network: nn.Module) -> Engine:
    """The network itself, in eval mode, in fp32 on the CPU."""
    network = network.cpu().float().eval()

    def infer(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(images)).numpy()

    return infer


def inputs(samples: Samples, batch: int = BATCH) -> Iterator[np.ndarray]:
    """The samples, in order, as a network sees them: f32 [B, V, H, W]."""
    for images, _ in batches(samples, batch):
        seen = normalised(to_unit(images, torch.device("cpu")), samples.mean, samples.std)
        yield seen.contiguous().numpy()


def predict(engine: Engine, samples: Samples, label: str) -> np.ndarray:
    """Gaze f64 [n, 2] of the samples in their `units`."""
    steps = -(-len(samples) // BATCH)
    parts = [engine(images).astype(np.float64) for images in track(inputs(samples), label, steps, "batch")]
    return np.concatenate(parts) * samples.scale


def error_of(predicted: np.ndarray, samples: Samples) -> float:
    """Mean over subjects of each subject's mean error, in degrees or pixels."""
    return float(np.mean(list(subject_errors(predicted, samples).values())))


def subject_errors(predicted: np.ndarray, samples: Samples) -> dict[str, float]:
    """Mean error of each subject, in degrees or pixels."""
    found = errors(predicted, samples.target, samples.units)
    return {str(subject): float(found[samples.subject == subject].mean()) for subject in np.unique(samples.subject)}


def largest_difference(predicted: np.ndarray, reference: np.ndarray, units: str) -> float:
    """Largest angle (degrees) or distance (pixels) between two predictions [n, 2] of the same samples."""
    return float(errors(predicted, reference, units).max())


def check(name: str, difference: float, units: str) -> None:
    """Refuse, with a UserError, a file in full precision that does not predict what torch does."""
    if not difference <= LARGEST_DIFFERENCE[units]:
        raise UserError(
            f"{name}: differs by up to {difference:.3g} {ERROR_UNIT[units]} from the network that was exported; "
            "write its forward with tensor operations: Python conditions on tensor values cannot be exported"
        )
