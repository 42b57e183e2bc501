"""Losses between what networks predict and should, and a penalty on filters that resemble each other.

Networks predict radians, or a gaze point over its scale, so that their last layer starts at the right size; losses
are counted in degrees, or in percent of that scale, so that a loss of 1 means the same to a reader, to the smooth L1
bend and to the weights of distillation terms.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from gazepipe.errors import UserError

DEGREES = 180 / math.pi
COUNTED = {"rad": DEGREES, "px": 100.0}
"""From the unit of a target to the factor that makes degrees, or percent of the scale, of a prediction."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Objective = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
"""(model, images [B, V, H, W] as the network sees them, target [B, 2] over its scale) -> scalar loss."""


def mse(prediction: torch.Tensor, target: torch.Tensor, factor: float = DEGREES) -> torch.Tensor:
    """Mean over both numbers of the squared difference, degrees^2 (percent^2): [B, 2], [B, 2] -> [B]."""
    return ((prediction - target) * factor).square().mean(dim=-1)


def l1(prediction: torch.Tensor, target: torch.Tensor, factor: float = DEGREES) -> torch.Tensor:
    """Mean over both numbers of the absolute difference, degrees (percent): [B, 2], [B, 2] -> [B]."""
    return ((prediction - target) * factor).abs().mean(dim=-1)


def smooth_l1(prediction: torch.Tensor, target: torch.Tensor, factor: float = DEGREES) -> torch.Tensor:
    """Mean over both numbers of the Huber loss with its bend at 1 degree (percent): [B, 2], [B, 2] -> [B]."""
    return F.smooth_l1_loss(prediction * factor, target * factor, reduction="none").mean(dim=-1)


def angular(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Angle between the two gaze vectors, degrees: [B, 2], [B, 2] rad -> [B].

    2 atan2(|a - b|, |a + b|) (Kahan) is as exact near 0 and 180 degrees as atan2(|a x b|, a.b), and 0 for
    equal angles, where rounding leaves a x b some direction. Its gradient is bounded: that of a norm at 0 is
    0.
    """
    a, b = gaze_vector(prediction), gaze_vector(target)
    difference, sum_ = torch.linalg.vector_norm(a - b, dim=-1), torch.linalg.vector_norm(a + b, dim=-1)
    return 2 * torch.atan2(difference, sum_) * DEGREES


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "mse": mse,
    "l2": mse,
    "l1": l1,
    "smooth_l1": smooth_l1,
    "angular": angular,
}


def loss_of(name: str, units: str) -> Loss:
    """The loss `name` of networks whose targets are in `units`; UserError for `angular` of a point."""
    if name != "angular":
        return partial(LOSSES[name], factor=COUNTED[units])
    if units != "rad":
        raise UserError(f"training.loss: angular compares gaze angles, this set is in {units}; use l1, l2 or smooth_l1")
    return angular


def gaze_vector(angles: torch.Tensor) -> torch.Tensor:
    """Unit vectors [..., 3] of (pitch, yaw) [..., 2] in radians, as `gazepipe.geometry.angles_to_vector`."""
    pitch, yaw = angles.unbind(dim=-1)
    return torch.stack([-pitch.cos() * yaw.sin(), -pitch.sin(), -pitch.cos() * yaw.cos()], dim=-1)


def predicted(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The predictions [B, 2] in float32."""
    return model(images).float()


def supervised(loss: Loss, forward: Callable[[nn.Module, torch.Tensor], torch.Tensor] = predicted) -> Objective:
    """Objective of plain training: the mean loss of the predictions, which `forward` makes."""

    def objective(model: nn.Module, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return loss(forward(model, images), target).mean()

    return objective


def pearson(model: nn.Module, max_filters: int) -> torch.Tensor:
    """Mean squared Pearson correlation between the filters of a layer, averaged over layers: a scalar in [0,
    1].

    Layers are the dense 3x3 convolutions with 2 to `max_filters` filters. The square is smooth at zero, where
    the absolute value is not.
    """
    layers = [layer for layer in dense_3x3(model) if 2 <= layer.out_channels <= max_filters]
    if not layers:
        return next(model.parameters()).new_zeros(())
    return torch.stack([_mean_squared_correlation(layer.weight.flatten(1).float()) for layer in layers]).mean()


def dense_3x3(model: nn.Module) -> list[nn.Conv2d]:
    """The ungrouped 3x3 convolutions of a network, in the order of definition."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.groups == 1
    ]


def _mean_squared_correlation(rows: torch.Tensor) -> torch.Tensor:
    centred = F.normalize(rows - rows.mean(dim=1, keepdim=True), dim=1)
    correlation = centred @ centred.T
    count = len(rows)
    return (correlation.square().sum() - correlation.diagonal().square().sum()) / (count * (count - 1))
