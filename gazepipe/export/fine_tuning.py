"""Fine-tuning for int8: training on with weights and layer inputs rounded as int8 has them."""

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrize

from gazepipe.export.onnx import inputs
from gazepipe.export.settings import ExportSettings
from gazepipe.methods import distillation
from gazepipe.methods.settings import KD
from gazepipe.training.device import resolve_device
from gazepipe.training.fit import derived_seed, fit
from gazepipe.training.method import Regime
from gazepipe.training.samples import Samples
from gazepipe.training.settings import Training
from gazepipe.training.state import State

LAYERS = (nn.Conv2d, nn.Linear)
WEIGHT_LIMIT, ACTIVATION_LIMIT = 127, 255
IMITATION = KD(response=1.0)
"""What is learnt from the network itself, beside the labels."""


def fine_tune(
    settings: ExportSettings,
    network: nn.Module,
    calibration: Samples,
    train: Samples,
    validation: Samples,
    state: State | None = None,
) -> tuple[nn.Module, list[dict]]:
    """A copy of the network, trained to keep its accuracy when it is quantised, and the history of its training.

    It runs with rounded weights and layer inputs (`FakeQuantised`), learns from labels and from the network itself, and
    ends with the weights of the epoch of lowest validation error. `state` as in `gazepipe.training.fit.fit`.
    """
    training, device = _training(settings), resolve_device(settings.device)
    student = FakeQuantised(copy.deepcopy(network), layer_ranges(network, calibration))
    teacher, draws = copy.deepcopy(network), torch.Generator().manual_seed(derived_seed(settings.seed, "int8"))
    objective, _ = distillation.prepare(IMITATION, student, teacher, training.loss, train, draws, device)
    regime = Regime(objective, training, settings.augmentation)
    fitted = fit(student, train, validation, regime, settings.seed, device, label="fine-tune int8", state=state)
    return student.restored().cpu(), fitted.history


def _training(settings: ExportSettings) -> Training:
    """The run's own training, but shorter and slower; in fp32, since rounding is what the weights are to learn."""
    return settings.training.model_copy(
        update={
            **dict(settings.fine_tuning),
            "threads": settings.threads,
            "precision": "fp32",
            "ema": 0.0,
            "early_stopping": None,
        }
    )


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
