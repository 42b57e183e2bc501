"""int8: static quantisation after training, for ONNX Runtime and OpenVINO, and fine-tuning where that costs too much.

Activations are u8 with a zero point, weights s8 per output channel, without one. Ranges come from training samples
only; which layers stay in fp32, and whether the network is fine-tuned, is decided on the validation subjects.
"""

import copy
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from gazepipe.export.onnx import INPUT, inputs, read_model, save_ir
from gazepipe.methods import distillation
from gazepipe.training.fit import derived_seed, fit
from gazepipe.training.samples import Samples
from gazepipe.training.state import State

if TYPE_CHECKING:
    import onnx
    import openvino

LAYERS = (nn.Conv2d, nn.Linear)
ONNX_LAYERS = ("Conv", "Gemm", "MatMul")
IR_LAYERS = ("Convolution", "GroupConvolution", "MatMul")
WEIGHT_LIMIT, ACTIVATION_LIMIT = 127, 255
IMITATION = {"response": 1.0, "random_target": False, "reliability": False, "feature": None}


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
RECIPES = (EVERYTHING, LAYERS_ONLY, HEAD_KEPT, ENDS_KEPT)
"""Fastest first, which is also the order of rising accuracy, as a rule."""
TUNED_RECIPES = (LAYERS_ONLY, ENDS_KEPT)
"""What is tried again with a fine-tuned network."""
TUNED = "fine-tuned, "


def calibration_samples(train: Samples, count: int, seed: int) -> Samples:
    """`count` of the training samples (all, where there are fewer), drawn with `seed`, in the order of the store."""
    rng = np.random.default_rng(derived_seed(seed, "calibration"))
    picks = np.sort(rng.permutation(len(train))[:count])
    return replace(train, rows=train.rows[picks], target=train.target[picks], subject=train.subject[picks])


@dataclass(frozen=True)
class Attempt:
    """One way to int8: its file, what it is called, and its relative loss of validation error (0.01: 1 % worse)."""

    path: Path
    recipe: str
    validation_error: float
    loss: float


def quantise_within(
    tolerance: float, fp32_error: float, recipes: Iterable[tuple[str, Callable[[], Path]]], judge: Callable
) -> tuple[Attempt, list[Attempt]]:
    """Carry out the recipes, (name, function that writes a file), until one loses at most `tolerance`.

    `judge` tells a file's validation error. Returns the one that is good enough, or, where none is, the one that loses
    least, and all that were tried.
    """
    tried: list[Attempt] = []
    for recipe, write in recipes:
        path = write()
        error = judge(path)
        tried.append(Attempt(path, recipe, error, error / max(fp32_error, 1e-9) - 1))
        if tried[-1].loss <= tolerance:
            break
    return min(tried, key=lambda attempt: attempt.loss), tried


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


def fine_tune(
    network: nn.Module,
    calibration: Samples,
    train: Samples,
    validation: Samples,
    training: dict,
    seed: int,
    device: torch.device,
    state: State | None = None,
) -> tuple[nn.Module, list[dict]]:
    """A copy of the network, trained to keep its accuracy when it is quantised, and the history of its training.

    It runs with rounded weights and layer inputs (`FakeQuantised`), learns from labels and from the network itself, and
    ends with the weights of the epoch of lowest validation error. `training` is a block of `gazepipe.training.fit`;
    `state` as there.
    """
    student = FakeQuantised(copy.deepcopy(network), layer_ranges(network, calibration))
    teacher, draws = copy.deepcopy(network), torch.Generator().manual_seed(derived_seed(seed, "int8"))
    objective, _ = distillation.prepare(IMITATION, student, teacher, training["loss"], train, draws, device)
    fitted = fit(student, train, validation, objective, training, seed, device, label="fine-tune int8", state=state)
    return student.restored().cpu(), fitted.history


@torch.inference_mode()
def layer_ranges(network: nn.Module, calibration: Samples) -> dict[str, tuple[float, float]]:
    """Smallest and largest input, 0 among them, of every convolution and linear layer over the calibration samples."""
    network = copy.deepcopy(network).cpu().float().eval()
    ranges: dict[str, tuple[float, float]] = {}

    def watch(name: str) -> Callable:
        def note(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, given[0].min().item()), max(high, given[0].max().item()))

        return note

    for name, layer in network.named_modules():
        if isinstance(layer, LAYERS):
            layer.register_forward_pre_hook(watch(name))
    for images in inputs(calibration):
        network(torch.from_numpy(images))
    return ranges


class FakeQuantised(nn.Module):
    """A network whose layers see their inputs and weights rounded as int8 has them; gradients pass the rounding.

    Weights are rounded per output channel, which folding a batch normalisation only scales. The network stays in eval
    mode: what it learns is what is exported. `ranges` as `layer_ranges` gives them; a layer without one is left alone.
    """

    def __init__(self, network: nn.Module, ranges: dict[str, tuple[float, float]]) -> None:
        super().__init__()
        self.network = network
        self.hooks = []
        for name, layer in network.named_modules():
            if name in ranges:
                parametrize.register_parametrization(layer, "weight", RoundedWeights())
                self.hooks.append(layer.register_forward_pre_hook(_rounded_input(*ranges[name])))

    def train(self, mode: bool = True) -> "FakeQuantised":
        return super().train(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)

    def restored(self) -> nn.Module:
        """The network as it was built, with the learnt weights before rounding."""
        for hook in self.hooks:
            hook.remove()
        for layer in list(self.network.modules()):
            if parametrize.is_parametrized(layer):
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        return self.network


class RoundedWeights(nn.Module):
    """Weights [C, ...] at the nearest of the 255 multiples of max |w| / 127 of their output channel."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        scale = weight.detach().abs().flatten(1).amax(dim=1).clamp(min=1e-12) / WEIGHT_LIMIT
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -WEIGHT_LIMIT, WEIGHT_LIMIT)


def _rounded_input(low: float, high: float) -> Callable:
    scale = max(high - low, 1e-12) / ACTIVATION_LIMIT
    zero = round(-low / scale)

    def rounded(_: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (torch.fake_quantize_per_tensor_affine(given[0], scale, zero, 0, ACTIVATION_LIMIT), *given[1:])

    return rounded


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
