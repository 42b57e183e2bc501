"""Optimizer and learning-rate schedule of a training."""

import math

import torch
from torch import nn

from gazepipe.training.settings import Training

MOMENTUM = 0.9
MAX_WARMUP_SHARE = 0.5


def build_optimizer(training: Training, modules: list[nn.Module]) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD (Nesterov momentum 0.9) over the parameters of `modules`.

    Matrices and filters decay by `weight_decay`; norms and biases, which have one dimension, do not.
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate = training.learning_rate
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, nesterov=True)
    algorithm = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[training.optimizer]
    return algorithm(groups, lr=rate, fused=True)


def rate_factor(training: Training, step: int, steps_per_epoch: int) -> float:
    """Factor in [0, 1] on the learning rate at `step` (from 0) of a cycle of `epochs` epochs.

    Linear warm-up over `warmup_epochs`, at most half of the cycle; then a half cosine that would reach 0 just
    after the last step, or `step_factor` to the power of the number of `step_epochs` that have gone by.
    """
    total = training.epochs * steps_per_epoch
    warmup = min(training.warmup_epochs * steps_per_epoch, MAX_WARMUP_SHARE * total)
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    if training.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    return training.step_factor ** (step // steps_per_epoch // training.step_epochs)
