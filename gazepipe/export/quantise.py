"""Static quantisation to int8 after training, for ONNX Runtime and OpenVINO.

Activations are u8 with a zero point, weights s8 per output channel, without one. Ranges come from training samples
only.
"""

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gazepipe.export.onnx import INPUT, inputs, read_model, save_ir
from gazepipe.training.samples import Samples

if TYPE_CHECKING:
    import onnx
    import openvino

ONNX_LAYERS = ("Conv", "Gemm", "MatMul")
IR_LAYERS = ("Convolution", "GroupConvolution", "MatMul")


@dataclass(frozen=True)
class Recipe:
    """What is rounded: every operator, or only what `layers` with weights read; `kept` ends of the network stay fp32.

    An end is "first" or "head", see `end_layers`.
    """

    name: str
    layers_only: bool = False
    kept: tuple[str, ...] = ()


EVERYTHING = Recipe("all operators")
LAYERS_ONLY = Recipe("layers only", True)
HEAD_KEPT = Recipe("layers only, head in fp32", True, ("head",))
ENDS_KEPT = Recipe("layers only, first layer and head in fp32", True, ("first", "head"))


def quantise_onnx(model: Path, calibration: Samples, path: Path, recipe: Recipe = EVERYTHING) -> Path:
    """Write an ONNX file in int8, with QDQ nodes, for ONNX Runtime."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_suffix(".prepared.onnx")
    with _quiet():
        # Also takes out what would keep ONNX Runtime from its int8 kernels: several times slower without.
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(ONNX_LAYERS) if recipe.layers_only else None,
            nodes_to_exclude=end_layers(onnx_graph(onnx.load(prepared)), recipe.kept),
        )
    prepared.unlink()
    return path


def quantise_openvino(model: Path, calibration: Samples, path: Path, recipe: Recipe = EVERYTHING) -> Path:
    """Write an ONNX file as OpenVINO IR in int8, by NNCF.

    Ranges are the smallest and largest value seen: NNCF's own, which average over samples, cut off what only some
    subjects show, and cost 20 % of error.
    """
    os.environ.setdefault("NNCF_CI", "1")  # else NNCF reports each use to its makers
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    graph = read_model(model)
    widen_scalars(graph)
    others = {node.get_type_name() for node in graph.get_ops()} - {*IR_LAYERS, "Constant", "Parameter", "Result"}
    ignored = nncf.IgnoredScope(
        names=end_layers(ir_graph(graph), recipe.kept),
        types=sorted(others) if recipe.layers_only else [],
        validate=False,
    )
    with _quiet():
        quantised = nncf.quantize(
            graph,
            nncf.Dataset(_Batches(calibration)),
            subset_size=len(calibration),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=ignored,
            advanced_parameters=AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
        )
    save_ir(quantised, path)
    return path


class _Batches:
    """Calibration images as NNCF wants them: as often as it likes."""

    def __init__(self, calibration: Samples) -> None:
        self.calibration = calibration

    def __iter__(self) -> Iterator[np.ndarray]:
        return inputs(self.calibration)


class _Reader:
    """Calibration images as ONNX Runtime wants them: one dictionary after the other, then None."""

    def __init__(self, calibration: Samples) -> None:
        self.batches = inputs(calibration)

    def get_next(self) -> dict[str, np.ndarray] | None:
        images = next(self.batches, None)
        return None if images is None else {INPUT: images}


Graph = dict[str, tuple[bool, list[str]]]
"""Node to (whether it multiplies by weights, the nodes that it reads), in an order of computation."""


def onnx_graph(model: "onnx.ModelProto") -> Graph:
    """The nodes of an ONNX file, by name."""
    weights = {tensor.name for tensor in model.graph.initializer}
    weights |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    producer = {output: node.name for node in model.graph.node for output in node.output}
    return {
        node.name: (
            node.op_type in ONNX_LAYERS and not weights.isdisjoint(node.input),
            [producer[name] for name in node.input if name in producer],
        )
        for node in model.graph.node
    }


def ir_graph(model: "openvino.Model") -> Graph:
    """The nodes of OpenVINO's graph, by name."""
    return {
        node.get_friendly_name(): (_multiplies_weights(node), [value.get_node().get_friendly_name() for value in read])
        for node in model.get_ordered_ops()
        for read in [node.input_values()]
    }


def _multiplies_weights(node: "openvino.Node") -> bool:
    if node.get_type_name() not in IR_LAYERS:
        return False
    source = node.input_value(1).get_node()
    while source.get_type_name() in ("Reshape", "Convert", "Transpose"):
        source = source.input_value(0).get_node()
    return source.get_type_name() == "Constant"


def end_layers(graph: Graph, kept: tuple[str, ...]) -> list[str]:
    """Layers with weights that no other such layer comes before ("first") or behind ("head"), in the graph's order."""
    above: dict[str, bool] = {}  # whether a layer lies between the input and this node's output
    below = dict.fromkeys(graph, False)  # whether a layer reads this node, directly or not
    for name, (layer, sources) in graph.items():
        above[name] = layer or any(above[source] for source in sources)
    for name, (layer, sources) in reversed(graph.items()):
        for source in sources:
            below[source] = below[source] or layer or below[name]
    found = []
    for name, (layer, sources) in graph.items():
        first = "first" in kept and not any(above[source] for source in sources)
        if layer and (first or ("head" in kept and not below[name])):
            found.append(name)
    return found


def widen_scalars(model: "openvino.Model") -> None:
    """Give every scalar that is added to a convolution one value per channel, in place.

    NNCF takes such an addition for a bias and fails to correct it where it has a single value.
    """
    from openvino import opset13

    for node in model.get_ordered_ops():
        if node.get_type_name() != "Add":
            continue
        for port in (0, 1):
            constant, other = node.input_value(port).get_node(), node.input_value(1 - port)
            convolution = other.get_node().get_type_name() in ("Convolution", "GroupConvolution")
            if convolution and constant.get_type_name() == "Constant" and constant.data.size == 1:
                rank, channels = len(other.partial_shape), other.partial_shape[1].get_length()
                shape = (1, channels, *(1,) * (rank - 2))
                wide = opset13.constant(np.full(shape, constant.data.item(), constant.data.dtype))
                node.input(port).replace_source_output(wide.output(0))


@contextmanager
def _quiet():
    """Only warnings and worse from the quantisers' own loggers."""
    loggers = [logging.getLogger(name) for name in ("nncf", None)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):  # NNCF draws its progress there
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
