"""torch.compile for the forward passes of a training, where that repays itself.

A function (model, images) -> outputs is compiled, never a module: names of weights, saving, averaging, export and
validation meet the network as it is. The backward pass is compiled along.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

if TYPE_CHECKING:
    from gazepipe.training.losses import Objective
    from gazepipe.training.method import Context

MANY_STEPS = 10_000
"""Steps from which on `auto` compiles: a guess, with a minute to compile and a few ms saved in each step."""
SMALL_BATCH = 4_000_000
"""Pixels of a batch up to which a GPU computes faster than the CPU starts its kernels: these run as CUDA graphs."""

Outputs = TypeVar("Outputs")


def is_on(context: Context) -> bool:
    """Whether forward passes are compiled; `auto`: on a GPU, by one process, for MANY_STEPS or more."""
    training = context.training
    if training.compile != "auto":
        return training.compile
    steps = training.epochs * max(1, len(context.samples) // training.batch_size)
    return context.device.type == "cuda" and training.processes == 1 and steps >= MANY_STEPS


def uses_graphs(context: Context) -> bool:
    """Whether compiled passes are recorded once and replayed as CUDA graphs."""
    pixels = context.training.batch_size * np.prod(context.samples.images.shape[1:])
    return is_on(context) and context.device.type == "cuda" and pixels <= SMALL_BATCH


def compiled(
    forward: Callable[..., Outputs], context: Context, backend: str | Callable[..., Any] = "inductor"
) -> Callable[..., Outputs]:
    """`forward`, a function of a model, images and plain values, compiled where it is on; a line says if it cannot be.

    Kernels are chosen without timing them, so that a run repeats.
    """
    if not is_on(context):
        return forward
    options = {"deterministic": True, "triton.cudagraphs": uses_graphs(context)} if backend == "inductor" else None
    fast: Callable[..., Outputs] | None = torch.compile(forward, backend=backend, dynamic=False, options=options)

    def called(*arguments: Any) -> Outputs:
        nonlocal fast
        if fast is not None:
            try:
                return fast(*arguments)
            except torch._dynamo.exc.TorchDynamoException as error:
                reason = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0]
                print(f"training.compile: not compiled ({reason})", file=sys.stderr, flush=True)
                fast = None
        return forward(*arguments)

    return called


def stepwise(objective: Objective, context: Context) -> Objective:
    """The objective, which is called once for each step: from then on CUDA graphs may reuse the last step's memory."""
    if not uses_graphs(context):
        return objective

    def marked(model: torch.nn.Module, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return objective(model, images, target)

    return marked
