"""The one training loop: every method is this loop with another objective, other weights to start from, or a
hook.
"""

import copy
import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gazepipe.errors import UserError
from gazepipe.geometry import angles_to_vector, angular_error_deg
from gazepipe.progress import track
from gazepipe.training.augment import augment
from gazepipe.training.data import Samples, batches, normalised, to_unit
from gazepipe.training.device import autocast, resolve_precision
from gazepipe.training.optim import build_optimizer, rate_factor

Objective = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
"""(model, images [B, V, H, W] as the network sees them, target [B, 2] rad) -> scalar loss."""
CycleHook = Callable[[int, nn.Module, torch.optim.Optimizer], None]
"""Called with (cycle, model, optimizer) before each cycle's first step."""

HISTORY_COLUMNS = ("epoch", "lr", "train_loss", "validation_error_deg", "seconds")
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Fitted:
    """What a training was like; `history` has one row of HISTORY_COLUMNS per epoch, epochs counted from 1."""

    history: list[dict]
    best_epoch: int
    validation_error_deg: float
    precision: str


def fit(
    model: nn.Module,
    train: Samples,
    validation: Samples,
    objective: Objective,
    training: dict,
    seed: int,
    device: torch.device,
    *,
    label: str = "train",
    adapters: nn.Module | None = None,
    cycles: int = 1,
    on_cycle: CycleHook | None = None,
    log_dir: Path | None = None,
) -> Fitted:
    """Train `model` in place; it ends, in eval mode, with the weights of the epoch of lowest validation
    error.

    `training` is a plain block: `epochs`, `batch_size`, `optimizer` (adamw, adam, sgd), `learning_rate`,
    `weight_decay` (not on norms and biases), `schedule` (cosine, step) with `warmup_epochs`, `step_epochs`,
    `step_factor`, `clip_norm` (0: off), `ema` (decay of a moving average of the weights, 0: off; the average
    is what is validated and kept), `precision` (fp32, bf16, fp16, auto), `threads` (CPU threads, fixed
    because sums depend on them), and `augmentation` (see `augment`).

    `cycles` repeats the schedule, `on_cycle` is called before each; `adapters` are trained along and not
    kept; `log_dir` receives TensorBoard scalars. The validation error is the mean over subjects of each
    subject's mean angular error, in degrees.

    Same arguments on one machine give the same bytes: order, augmentation and dropout are seeded by `seed`.
    Raises UserError where the loss or the validation error is no longer finite.
    """
    torch.set_num_threads(training["threads"])
    torch.manual_seed(derived_seed(seed, "dropout"))
    order = np.random.default_rng(derived_seed(seed, "order"))
    draws = torch.Generator().manual_seed(derived_seed(seed, "augmentation"))
    precision = resolve_precision(training["precision"], device)
    model.to(device, memory_format=torch.channels_last)
    trained = [model] if adapters is None else [model, adapters.to(device)]
    optimizer = build_optimizer(training, trained)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    steps = max(1, len(train) // training["batch_size"])
    epochs = training["epochs"] * cycles
    best_error, best_epoch, best_state = math.inf, 0, {}
    history: list[dict] = []
    average = None

    with scalar_log(log_dir) as log:
        for epoch in range(epochs):
            started = time.monotonic()
            if epoch % training["epochs"] == 0:
                if on_cycle is not None:
                    on_cycle(epoch // training["epochs"], model, optimizer)
                average = Average(model, training["ema"]) if training["ema"] > 0 else None
            for module in trained:
                module.train()
            losses = []
            shuffled = batches(train, training["batch_size"], order.permutation(len(train)))
            shown = track(shuffled, f"{label} epoch {epoch + 1}/{epochs}", steps, "batch")
            first = epoch % training["epochs"] * steps
            for step, (images, target) in enumerate(prepared(shown, train, training, draws, device), first):
                rate = set_rate(optimizer, training["learning_rate"] * rate_factor(training, step, steps))
                with autocast(device, precision):
                    loss = objective(model, images, target)
                update(loss, trained, optimizer, scaler, training["clip_norm"])
                if average is not None:
                    average.update(model)
                losses.append(loss.detach())
            judged = model if average is None else average.model
            train_loss = torch.stack(losses).mean().item()
            error = validation_error(judged, validation, device, precision)
            _check_finite(label, epoch + 1, train_loss, error, training["learning_rate"])
            values = (epoch + 1, rate, train_loss, error, time.monotonic() - started)
            history.append(dict(zip(HISTORY_COLUMNS, values, strict=True)))
            log(history[-1])
            if error < best_error:
                best_error, best_epoch, best_state = error, epoch + 1, copy.deepcopy(judged.state_dict())

    model.load_state_dict(best_state)
    model.eval()
    return Fitted(history, best_epoch, best_error, precision)


def prepared(
    raw: Iterable[tuple[torch.Tensor, torch.Tensor]],
    samples: Samples,
    training: dict,
    draws: torch.Generator,
    device: torch.device,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches (u8 images, targets) as floats on `device`, augmented and normalised."""
    for images, target in raw:
        images, target = augment(to_unit(images, device), target.to(device), training["augmentation"], draws)
        yield normalised(images, samples.mean, samples.std), target


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> float:
    """Give every group of parameters this learning rate, and return it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def update(
    loss: torch.Tensor,
    modules: list[nn.Module],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    clip_norm: float,
) -> None:
    """One step of the optimizer on `loss`; the norm of the whole gradient is cut to `clip_norm` (0: it is
    not).
    """
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    if clip_norm > 0:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_([p for module in modules for p in module.parameters()], clip_norm)
    scaler.step(optimizer)
    scaler.update()


def validation_error(model: nn.Module, samples: Samples, device: torch.device, precision: str = "fp32") -> float:
    """Mean over subjects of each subject's mean angular error, degrees; leaves the model in eval mode."""
    model.eval()
    predicted = []
    with torch.inference_mode(), autocast(device, precision):
        for images, _ in batches(samples, EVALUATION_BATCH):
            seen = normalised(to_unit(images, device), samples.mean, samples.std)
            predicted.append(model(seen).float().cpu())
    vectors = angles_to_vector(torch.cat(predicted).numpy())
    errors = angular_error_deg(vectors, angles_to_vector(samples.target))
    return float(np.mean([errors[samples.subject == subject].mean() for subject in np.unique(samples.subject)]))


class Average:
    """Exponential moving average of a network's weights; its batch statistics are those of the last step.

    The decay rises as (1 + n) / (10 + n) to its final value, so that the start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)


def derived_seed(seed: int, purpose: str) -> int:
    """An independent 32-bit seed for each purpose of one run."""
    return int(np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1)[0])


@contextmanager
def scalar_log(log_dir: Path | None) -> Iterator[Callable[[dict], None]]:
    """A function that writes a history row as TensorBoard scalars to `log_dir`, or does nothing without one.

    Raises UserError where TensorBoard is not installed.
    """
    if log_dir is None:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "training.tensorboard: true, but TensorBoard is not installed; "
            "pip install 'gazepipe[tensorboard]' or set it to false"
        ) from None
    with SummaryWriter(str(log_dir)) as writer:
        yield lambda row: [writer.add_scalar(name, row[name], row["epoch"]) for name in HISTORY_COLUMNS[1:]]


def _check_finite(label: str, epoch: int, loss: float, error: float, rate: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(error)):
        raise UserError(
            f"{label}: loss {loss} and validation error {error} in epoch {epoch}; "
            f"lower training.learning_rate (it is {rate:g}) or set training.precision to fp32"
        )
