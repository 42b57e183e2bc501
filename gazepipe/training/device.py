"""Devices: which one computes, how precisely, and that it computes the same every time."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from gazepipe.errors import UserError
from gazepipe.training.transfer import sent

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 where the device computes it natively (CUDA from Ampere on, CPU with AVX512-BF16 or
    AMX), else fp32.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = False
    return "bf16" if native else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Mixed precision for `fp16` and `bf16`, nothing for `fp32`."""
    return torch.autocast(device.type, AUTOCAST[precision]) if precision in AUTOCAST else nullcontext()


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA, else Apple's MPS, else the CPU; UserError for a device that is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(candidate for candidate, there in available.items() if there)
    if not available.get(name, False):
        there = ", ".join(candidate for candidate, found in available.items() if found)
        raise UserError(f"device: {name!r} is not available here; use auto or one of: {there}")
    return torch.device(name)


def make_deterministic() -> None:
    """Same inputs, same bytes: deterministic kernels, and no choice of kernels by timing."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Else every new tensor is filled before it is written: a tenth of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False


def standard_normal(shape: torch.Size, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Normal numbers on the device, decided by the CPU's `generator`: drawn from it, but on a GPU from a generator
    there, which one draw seeds. A CPU takes longer to draw the noise of a batch than a GPU to learn from it.
    """
    if device.type != "cuda":
        return sent(torch.randn(shape, generator=generator), device)
    seed = torch.randint(2**62, (), generator=generator).item()
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's own generators that a computation on the device draws from, by type of device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    return states


def set_random_states(device: torch.device, states: dict[str, torch.Tensor]) -> None:
    """Make the generators what they were; the state of another device is left out."""
    torch.set_rng_state(states["cpu"])
    if device.type in states and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[device.type])


@contextmanager
def memory_told(label: str, batch_size: int) -> Iterator[None]:
    """UserError in place of torch's own where the memory of a GPU does not suffice."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(
            f"{label}: the GPU has too little memory for training.batch_size {batch_size}; "
            "lower it, or the jobs that share a GPU (GAZEPIPE_JOBS_PER_GPU)"
        ) from None


def device_name(device: torch.device) -> str:
    """What a table's footnote calls the device: the GPU's name, or the device type."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_memory_mb(device: torch.device) -> dict[str, int]:
    """Largest resident size of this process, and the largest allocation on a GPU, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 10**6}
    if device.type == "cuda":
        peak["device"] = torch.cuda.max_memory_allocated(device) // 10**6
    return peak
