"""The one training loop: every method is this loop with another `Regime`, or other weights to start from."""

import copy
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gazepipe.common.progress import track
from gazepipe.common.units import errors
from gazepipe.errors import UserError
from gazepipe.training.augment import augment
from gazepipe.training.device import autocast, resolve_precision
from gazepipe.training.distributed import ALONE, Group
from gazepipe.training.method import Regime
from gazepipe.training.optim import build_optimizer, rate_factor
from gazepipe.training.run import Average, Run, identity, restore, snapshot
from gazepipe.training.samples import Samples, batches, evaluation_batch, normalised, to_unit
from gazepipe.training.settings import EarlyStopping
from gazepipe.training.state import State
from gazepipe.training.tensorboard import scalar_log
from gazepipe.training.transfer import prefetched, sent

HISTORY_COLUMNS = ("epoch", "lr", "train_loss", "validation_error")


@dataclass(frozen=True)
class Fitted:
    """The result of a training; `history` has one row of HISTORY_COLUMNS per epoch, epochs counted from 1; no row
    and `best_epoch` 0 where a regime has no cycle.

    Errors are those of the best epoch, in degrees or pixels; `seconds` and `resumes` count earlier processes, too;
    `told` is what the regime's hook told before each cycle.
    """

    history: list[dict]
    best_epoch: int
    validation_error: float
    validation_errors: dict[str, float]
    precision: str
    seconds: float
    resumes: int
    told: list[dict]


def fit(
    model: nn.Module,
    train: Samples,
    validation: Samples,
    regime: Regime,
    seed: int,
    device: torch.device,
    *,
    label: str = "train",
    log_dir: Path | None = None,
    state: State | None = None,
    group: Group = ALONE,
) -> Fitted:
    """Train `model` in place; it ends, in eval mode, with the weights of the epoch of lowest validation
    error, or those that it has where the regime has no cycle.

    Early stopping ends a cycle of the regime. `label` names the run in messages; `log_dir` receives TensorBoard scalars
    and graph; `group` are the processes that divide each batch. The validation error is the mean over subjects of each
    subject's mean error, in degrees or pixels.

    Same arguments on one machine give the same bytes: order, augmentation and dropout are seeded by `seed`.
    With a `state` that also holds for a run that was killed at any moment and started again; a signal ends it
    with `Stopped`. Raises UserError where the loss or the validation error is no longer finite.
    """
    training = regime.training
    torch.set_num_threads(training.threads)
    torch.manual_seed(group.seed(derived_seed(seed, "dropout")))
    run = _begun(model, regime, seed, device, group)
    if state is not None:
        saved = state.load(_identity(run, seed, len(train)))
        if saved is not None:
            restore(run, saved)
    objective = group.together(regime.objective, model, regime.adapters, rows=min(training.batch_size, len(train)))
    example = torch.zeros(1, *train.images.shape[1:], device=device)

    def pause() -> None:
        if state is not None:
            state.offer(lambda: snapshot(run))

    orders = _orders(len(train), derived_seed(seed, "order"), skip=len(run.history))
    with (
        scalar_log(log_dir if group.first else None, model, example, first=len(run.history) + 1) as log,
        nullcontext() if state is None else state.listening(),
    ):
        while run.cycle < regime.cycles:
            if not run.losses and run.epoch == 0:
                _begin_cycle(run)
            text = f"{label} epoch {len(run.history) + 1}/{training.epochs * regime.cycles}"
            rate = _learn(run, train, next(orders), objective, text, pause)
            _judge(run, validation, rate, label, pause)
            log(run.history[-1])
            run.epoch += 1
            past = [row["validation_error"] for row in run.history[-run.epoch :]]
            if run.epoch == training.epochs or stalled(past, training.early_stopping):
                run.cycle, run.epoch = run.cycle + 1, 0

    if not run.history:
        found = subject_errors(model, validation, device, run.precision, group=group)
        return Fitted([], 0, mean_of(found), found, run.precision, run.seconds, run.resumes, run.told)
    model.load_state_dict(run.best)
    model.eval()
    best = min(run.history, key=lambda row: row["validation_error"])
    return Fitted(
        run.history,
        best["epoch"],
        best["validation_error"],
        run.best_errors,
        run.precision,
        run.seconds,
        run.resumes,
        run.told,
    )


def _begun(model: nn.Module, regime: Regime, seed: int, device: torch.device, group: Group) -> Run:
    """The run before its first step, everything on the device."""
    model.to(device, memory_format=torch.channels_last)
    group.adopt(model, device)
    if regime.adapters is not None:
        regime.adapters.to(device)
    precision = resolve_precision(regime.training.precision, device)
    optimizer = build_optimizer(regime.training, [model] if regime.adapters is None else [model, regime.adapters])
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    draws = torch.Generator().manual_seed(derived_seed(seed, "augmentation"))
    generators = {"augmentation": draws, **regime.generators}
    for generator in generators.values():
        generator.manual_seed(group.seed(generator.initial_seed()))
    return Run(model, regime, optimizer, scaler, device, precision, generators, group)


def _identity(run: Run, seed: int, samples: int) -> str:
    regime = run.regime
    settings = [regime.training.deciding(), regime.augmentation.deciding()]
    counts = {"seed": seed, "cycles": regime.cycles, "samples": samples}
    return identity(run, {"settings": settings, "precision": run.precision, **counts})


def _begin_cycle(run: Run) -> None:
    if run.regime.before_cycle is not None:
        run.told.append(run.regime.before_cycle(run.cycle, run.model, run.optimizer) or {})
        run.group.alike(run.model)
    ema = run.regime.training.ema
    run.average = Average(run.model, ema) if ema > 0 else None


def _orders(count: int, seed: int, skip: int) -> Iterator[np.ndarray]:
    """The order of samples of each epoch, from epoch `skip` on."""
    draws = np.random.default_rng(seed)
    for _ in range(skip):
        draws.permutation(count)
    while True:
        yield draws.permutation(count)


def _learn(
    run: Run,
    train: Samples,
    order: np.ndarray,
    objective: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    label: str,
    pause: Callable[[], None],
) -> float:
    """The steps of an epoch that are still to be done; returns the last learning rate. `pause` follows each step."""
    training = run.regime.training
    for module in run.trained:
        module.train()
    size, done = training.batch_size, len(run.losses)
    steps = max(1, len(train) // size)
    first = run.epoch * steps
    read = batches(train, size, order, start=done, share=run.group.share)
    shown = track(prefetched(read, run.device), label, steps - done, "batch")
    ready = prepared(shown, train, run)
    for step, (images, target) in enumerate(ready, first + done):
        set_rate(run.optimizer, training.learning_rate * rate_factor(training, step, steps))
        with autocast(run.device, run.precision):
            loss = objective(images, target)
        update(loss, run.trained, run.optimizer, run.scaler, training.clip_norm)
        if run.average is not None:
            run.average.update_parameters(run.model)
        run.losses.append(loss.detach())
        pause()
    return training.learning_rate * rate_factor(training, first + steps - 1, steps)


def _judge(run: Run, validation: Samples, rate: float, label: str, pause: Callable[[], None]) -> None:
    """Close the epoch: validate, write its row of the history, keep the weights if they are the best so far."""
    train_loss = run.group.mean(torch.stack(run.losses)).mean().item()
    run.group.alike(run.judged)
    by_subject = subject_errors(run.judged, validation, run.device, run.precision, pause, run.group)
    error = mean_of(by_subject)
    epoch = len(run.history) + 1
    _check_finite(label, epoch, train_loss, error, run.regime.training.learning_rate)
    if error < min((row["validation_error"] for row in run.history), default=math.inf):
        run.best, run.best_errors = copy.deepcopy(run.judged.state_dict()), by_subject
    run.history.append(dict(zip(HISTORY_COLUMNS, (epoch, rate, train_loss, error), strict=True)))
    run.losses = []


def stalled(past: list[float], early_stopping: EarlyStopping | None) -> bool:
    """Whether the errors `past` of a cycle's epochs have not fallen by more than `delta` for `patience` epochs.

    A fall is counted from the error at the last fall: small falls add up until they count, and noise does not count.
    """
    if early_stopping is None:
        return False
    lowest, since = math.inf, 0
    for error in past:
        lowest, since = (error, 0) if error < lowest - early_stopping.delta else (lowest, since + 1)
    return since >= early_stopping.patience


def prepared(
    raw: Iterable[tuple[torch.Tensor, torch.Tensor]], samples: Samples, run: Run
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches (u8 images, targets) as floats on the run's device, augmented and normalised."""
    draws = run.generators["augmentation"]
    for images, target in raw:
        seen, target = to_unit(images, run.device), sent(target, run.device)
        seen, target = augment(seen, target, run.regime.augmentation, draws)
        yield normalised(seen, samples.mean, samples.std), target


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
    """One step of the optimizer on `loss`; the norm of the gradient is cut to `clip_norm` (0: it is not)."""
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    if clip_norm > 0:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_([p for module in modules for p in module.parameters()], clip_norm)
    scaler.step(optimizer)
    scaler.update()


def subject_errors(
    model: nn.Module,
    samples: Samples,
    device: torch.device,
    precision: str = "fp32",
    pause: Callable[[], None] = lambda: None,
    group: Group = ALONE,
) -> dict[str, float]:
    """Each subject's mean error, degrees or pixels; leaves the model in eval mode. `pause` follows each batch.

    Each process of the `group` predicts its share of every batch.
    """
    model.eval()
    predicted = [torch.empty(0, 2, device=device)]
    with torch.inference_mode(), autocast(device, precision):
        read = batches(samples, group.size * evaluation_batch(samples), share=group.share)
        for images, _ in prefetched(read, device):
            if len(images) > 0:
                seen = normalised(to_unit(images, device), samples.mean, samples.std)
                predicted.append(model(seen).float())
            pause()
    whole = group.whole(torch.cat(predicted).cpu(), len(samples))
    found = errors(whole.numpy() * np.float32(samples.scale), samples.target, samples.units)
    return {str(name): float(found[samples.subject == name].mean()) for name in np.unique(samples.subject)}


def validation_error(model: nn.Module, samples: Samples, device: torch.device, precision: str = "fp32") -> float:
    """Mean over subjects of `subject_errors`: every subject counts alike."""
    return mean_of(subject_errors(model, samples, device, precision))


def mean_of(by_subject: dict[str, float]) -> float:
    """Mean of the values."""
    return float(np.mean(list(by_subject.values())))


def derived_seed(seed: int, purpose: str) -> int:
    """An independent 32-bit seed for each purpose of one run."""
    return int(np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1)[0])


def _check_finite(label: str, epoch: int, loss: float, error: float, rate: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(error)):
        raise UserError(
            f"{label}: loss {loss} and validation error {error} in epoch {epoch}; "
            f"lower training.learning_rate (it is {rate:g}) or set training.precision to fp32"
        )
