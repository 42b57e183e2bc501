"""How fast a network runs on this machine."""

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from gazepipe.common.progress import track

ROUNDS = 5
WARM_UP_CALLS = 2
MIN_CALLS_PER_ROUND = 1

Name = TypeVar("Name", bound=Hashable)
Runner = Callable[[torch.Tensor], object]


def measure(model: nn.Module, input_shape: tuple[int, ...], **settings) -> list[dict]:
    """`measure_interleaved` for one eager model: its rows."""
    return measure_interleaved({"model": model}, input_shape, **settings)["model"]


def measure_interleaved(
    models: Mapping[Name, nn.Module | Runner],
    input_shape: tuple[int, ...] | Mapping[Name, tuple[int, ...]],
    *,
    batches: tuple[int, ...] = (1, 8),
    seconds: float = 2.0,
    threads: int = 1,
    runtime: str = "eager",
) -> dict[Name, list[dict]]:
    """Latency of each model, or function of a float32 batch [B, C, H, W], for every batch size.

    `input_shape` is [C, H, W], or one of each model's own by name.

    Models take turns in rounds, so that a machine that slows down meanwhile slows all of them alike; each
    turn, where there are several models, starts with a call that is not timed. `seconds` is the time for one
    model and batch size, warm-up apart. Images are random and fixed. Networks run in eval mode on the device where
    they lie, under
    inference mode with `threads` threads.

    Returns per model one row per batch size: runtime, batch, images_per_second (batch over the median
    latency), latency_ms (median), latency_ms_p25, latency_ms_p75, latency_ms_p95, repeats (timed calls).
    """
    results: dict[Name, list[dict]] = {name: [] for name in models}
    turns = len(batches) * ROUNDS * len(models)
    with _threads(threads), _eval_mode(models.values()), torch.inference_mode():
        shapes = input_shape if isinstance(input_shape, Mapping) else dict.fromkeys(models, input_shape)
        runs = {name: _timed_run(model, shapes[name]) for name, model in models.items()}
        progress = iter(track(range(turns), "throughput", total=turns, unit="turn"))
        for batch in batches:
            calls = {name: _calls_per_round(run, batch, seconds) for name, run in runs.items()}
            times: dict[Name, list[float]] = {name: [] for name in models}
            for _ in range(ROUNDS):
                for name, run in runs.items():
                    next(progress)
                    if len(runs) > 1:
                        run(batch)  # brings this model back into the caches
                    times[name] += [run(batch) for _ in range(calls[name])]
            for name in models:
                results[name].append({"runtime": runtime, "batch": batch, **_summary(times[name], batch)})
        next(progress, None)
    return results


def _timed_run(model: nn.Module | Runner, input_shape: tuple[int, ...]) -> Callable[[int], float]:
    """A function of the batch size that runs the model once and returns the seconds it took."""
    device = torch.device("cpu")
    if isinstance(model, nn.Module):
        device = next(model.parameters()).device
    inputs: dict[int, torch.Tensor] = {}

    def run(batch: int) -> float:
        if batch not in inputs:
            generator = torch.Generator().manual_seed(batch)
            inputs[batch] = torch.randn(batch, *input_shape, generator=generator).to(device)
        _synchronise(device)
        start = time.perf_counter()
        model(inputs[batch])
        _synchronise(device)
        return time.perf_counter() - start

    return run


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _calls_per_round(run: Callable[[int], float], batch: int, seconds: float) -> int:
    """Warm up, and fit the calls of one round into their share of `seconds`."""
    latency = min(run(batch) for _ in range(WARM_UP_CALLS))
    return max(MIN_CALLS_PER_ROUND, round(seconds / ROUNDS / max(latency, 1e-6)))


def _summary(times: list[float], batch: int) -> dict:
    low, median, high, slow = (1000 * float(value) for value in np.percentile(times, [25, 50, 75, 95]))
    return {
        "images_per_second": round(1000 * batch / median, 2),
        "latency_ms": round(median, 3),
        "latency_ms_p25": round(low, 3),
        "latency_ms_p75": round(high, 3),
        "latency_ms_p95": round(slow, 3),
        "repeats": len(times),
    }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _eval_mode(models: Iterable[nn.Module | Runner]) -> Iterator[None]:
    training = [model for model in models if isinstance(model, nn.Module) and model.training]
    for model in training:
        model.eval()
    try:
        yield
    finally:
        for model in training:
            model.train()
