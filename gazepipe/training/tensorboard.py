"""TensorBoard: the scalars of every epoch and the graph of the network; optional, and no part of a run's result."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
from torch import nn

from gazepipe.errors import UserError


@contextmanager
def scalar_log(log_dir: Path | None, model: nn.Module, example: torch.Tensor, first: int) -> Iterator[Callable]:
    """A function that writes a history row as scalars to `log_dir`, or does nothing without one.

    Before epoch 1 the graph of `model` on the `example` [1, V, H, W] is written. What an earlier process wrote from
    epoch `first` on is superseded. Raises UserError where TensorBoard is not installed.
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
    with SummaryWriter(str(log_dir), purge_step=first) as writer:
        if first == 1:
            _write_graph(writer, model, example)
        yield lambda row: [
            writer.add_scalar(name, value, row["epoch"]) for name, value in row.items() if name != "epoch"
        ]


def _write_graph(writer, model: nn.Module, example: torch.Tensor) -> None:
    """Tracing takes no part in training: random states and the mode of every module stay."""
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.random.fork_rng(), torch.no_grad(), redirect_stdout(sys.stderr):
            writer.add_graph(model.eval(), example)
    except Exception as error:  # whatever a user's own network does under a tracer
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"{writer.log_dir}: no graph, the network cannot be traced ({reason})", file=sys.stderr, flush=True)
    finally:
        for module, mode in modes.items():
            module.training = mode
