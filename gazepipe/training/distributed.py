"""One training by several processes, each with a share of every batch: the steps are those of one process.

Every process draws the order of samples and the augmentation of the whole batch and then keeps its own rows. Batch
normalisation takes its statistics over all shares, dropout the rows of its draw for the whole batch, and gradients are
summed, each loss weighted by its share, before anything looks at them. So weights stay the same, bit by bit, in
all processes, and only the first one validates, keeps the state and writes.
"""

import copy
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from gazepipe.errors import UserError
from gazepipe.models.network import DropPath
from gazepipe.training.device import random_states, set_random_states
from gazepipe.training.state import SIGNALS, Snapshot, State

TIMEOUT = timedelta(minutes=30)
"""Longest wait for the others: while the first validates, they do."""
DRAWING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, DropPath)
"""Modules that multiply their input by a draw."""
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}

Found = TypeVar("Found")


class Lost(SystemExit):
    """Another process of the run has gone. It, or who started it, says why; the exit status is EX_TEMPFAIL."""

    def __init__(self) -> None:
        super().__init__(os.EX_TEMPFAIL)


class Group:
    """The processes of one training, and the rank of this one; alone, a Group() changes nothing."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.count = 0  # rows of the whole batch at hand

    @property
    def first(self) -> bool:
        """Whether this process is the one that validates and writes."""
        return self.rank == 0

    def adopt(self, model: nn.Module, adapters: nn.Module | None, example: torch.Tensor, rows: int) -> None:
        """Make all processes start from the first one's weights, and `model` normalise and draw over whole batches.

        `example` [1, V, H, W] is what the model sees, `rows` the size of a batch. Raises UserError where there is not
        one row for each process, and for a network that draws other than by DRAWING.
        """
        if self.size == 1:
            return
        if rows < self.size:
            raise UserError(f"training.processes: {self.size} share a batch of {rows} samples; use {rows} at most")
        if _draws_by_itself(model, example):
            raise UserError(
                f"training.processes: {self.size}, but {type(model).__name__} draws random numbers in its own way; "
                "use the modules nn.Dropout or gazepipe.models.network.DropPath, or set processes to 1"
            )
        for module in filter(None, (model, adapters)):
            for tensor in module.state_dict().values():
                _exchange(dist.broadcast, tensor, 0)
        for module in model.modules():
            if isinstance(module, (nn.modules.batchnorm._BatchNorm, *DRAWING)):
                module.__class__ = _shared(type(module))
                module.group = self

    def mine(self, whole: torch.Tensor) -> torch.Tensor:
        """The rows of this process of a batch [B, ...]."""
        if self.size == 1:
            return whole
        self.count = len(whole)
        edges = self._edges()
        return whole[edges[self.rank] : edges[self.rank + 1]]

    def drawn(self, draw: Callable[[int], torch.Tensor], rows: int) -> torch.Tensor:
        """The `rows` of this process, or that many for each, of what `draw` draws for all rows of the whole batch."""
        if self.size == 1:
            return draw(rows)
        each, edges = rows // self.shares()[self.rank], self._edges()
        return draw(each * self.count)[each * edges[self.rank] : each * edges[self.rank + 1]]

    def places(self, x: torch.Tensor) -> int:
        """Values per channel in the whole batch, of which x [b, C, ...] is this process's share."""
        return x.numel() // x.shape[1] * self.count // self.shares()[self.rank]

    def weighted(self, loss: torch.Tensor) -> torch.Tensor:
        """A mean over the rows of this process as its part of the mean over the whole batch."""
        return loss if self.size == 1 else loss * (self.shares()[self.rank] / self.count)

    def total(self, part: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over the processes."""
        if self.size > 1:
            _exchange(dist.all_reduce, part := part.clone())
        return part

    def add_gradients(self, modules: list[nn.Module]) -> None:
        """Give every process the sum of the gradients of all."""
        if self.size == 1:
            return
        gradients = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
        total = self.total(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, values in zip(gradients, total.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(values.view(gradient.shape))

    def from_first(self, find: Callable[[], Found]) -> Found:
        """What `find` returns in the first process, where alone it is called; the others wait."""
        if self.size == 1:
            return find()
        found = [find() if self.first else None]
        _exchange(dist.broadcast_object_list, found, 0)
        return found[0]

    def gathered(self, own: torch.Tensor) -> torch.Tensor:
        """A tensor of every process, stacked by rank."""
        everyones = [torch.empty_like(own) for _ in range(self.size)]
        _exchange(dist.all_gather, everyones, own)
        return torch.stack(everyones)

    def shares(self) -> list[int]:
        """Rows of the batch at hand that each process has."""
        edges = self._edges()
        return [end - start for start, end in pairwise(edges)]

    def _edges(self) -> list[int]:
        return [rank * self.count // self.size for rank in range(self.size + 1)]


ALONE = Group()


class SharedState(State):
    """The state of a run of several processes: the first keeps it, all go on from it."""

    def __init__(self, path: Path, key: str, group: Group) -> None:
        super().__init__(path, key)
        self.group = group

    def load(self, identity: str) -> Snapshot | None:
        return self.group.from_first(lambda: State.load(self, identity))

    def offer(self, snapshot: Callable[[], Snapshot]) -> None:
        if self.group.first:
            super().offer(snapshot)

    def save(self, tensors: dict[str, torch.Tensor], facts: dict) -> None:
        if self.group.first:
            super().save(tensors, facts)

    def part(self, name: str) -> State:
        return SharedState(super().part(name).path, self.key, self.group)

    def listening(self) -> AbstractContextManager[None]:
        return super().listening() if self.group.first else nullcontext()

    def remove(self) -> None:
        if self.group.first:
            super().remove()


def state_of(path: Path | None, key: str, group: Group) -> State | None:
    """The state that a run of the group keeps at `path`, if it keeps one."""
    if path is None:
        return None
    return State(path, key) if group.size == 1 else SharedState(path, key, group)


@contextmanager
def joined(processes: int, device: torch.device) -> Iterator[Group]:
    """The group of this process, which is one of `processes`, as RANK and WORLD_SIZE tell.

    They find each other by the file GAZEPIPE_RENDEZVOUS (see `gazepipe.training.launch`), or where torchrun says. A
    GPU each with NCCL, or gloo on the CPU. Only the first listens to signals. Raises UserError for another number
    of processes, too few GPUs, and another device.
    """
    if processes == 1:
        yield ALONE
        return
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size != processes:
        raise UserError(f"training.processes: {processes}, but {size} started; use gazepipe train, or torchrun")
    if device.type not in BACKENDS:
        raise UserError(f"training.processes: {processes}, but the device is {device.type}; use cuda or cpu")
    if device.type == "cuda":
        local, there = int(os.environ.get("LOCAL_RANK", rank)), torch.cuda.device_count()
        if local >= there:
            raise UserError(f"training.processes: {processes} need a GPU each, but {there} are here; use fewer, or cpu")
        torch.cuda.set_device(local)
    if rank > 0 and threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    place = os.environ.get("GAZEPIPE_RENDEZVOUS")
    method = f"file://{place}" if place else "env://"
    _exchange(
        dist.init_process_group, BACKENDS[device.type], init_method=method, rank=rank, world_size=size, timeout=TIMEOUT
    )
    yield Group(rank, size)
    # Not after an error: the others may have gone, and the process ends.
    dist.destroy_process_group()


def _exchange(collective: Callable, *arguments: object, **options: object) -> None:
    try:
        collective(*arguments, **options)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        raise Lost from error


@cache
def _shared(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of modules that are of this `kind`, for isinstance, too, and work over the whole batch."""
    return type(f"Shared{kind.__name__}", (_SharedDraw if issubclass(kind, DRAWING) else _SharedNorm, kind), {})


class _SharedDraw(nn.Module):
    group: Group

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        draw = super().forward
        return x * self.group.drawn(lambda rows: draw(x.new_ones(rows, *x.shape[1:])), len(x))


class _SharedNorm(nn.Module):
    group: Group

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        channels = x.shape[1]
        weight = x.new_ones(channels) if self.weight is None else self.weight
        bias = x.new_zeros(channels) if self.bias is None else self.bias
        out, mean, variance = _Normalise.apply(x, weight, bias, self.eps, self.group)
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                step = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                count = self.group.places(x)
                self.running_mean.lerp_(mean, step)
                self.running_var.lerp_(variance * (count / (count - 1)), step)
        return out


class _Normalise(torch.autograd.Function):
    """Batch normalisation of a share [b, C, ...] of a batch; also the whole batch's mean and variance [C], of which no
    gradient is taken.

    Shares tell each other their means and variances, not their sums of squares, which would cancel.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, eps: float, group: Group):
        dims = [0, *range(2, x.ndim)]
        own = torch.var_mean(_wide(x), dims, correction=0)
        variances, means = group.gathered(torch.stack(own)).unbind(dim=1)
        share = means.new_tensor(group.shares())[:, None] / group.count
        mean = (share * means).sum(dim=0)
        variance = (share * (variances + (means - mean).square())).sum(dim=0)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.dims, ctx.group, ctx.places = dims, group, group.places(x)
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps), mean, variance

    @staticmethod
    def backward(ctx, gradient, *_):
        x, weight, mean, scale = ctx.saved_tensors
        shape = [1, -1, *[1] * (x.ndim - 2)]
        normal = (_wide(x) - mean.view(shape)) * scale.view(shape)
        wide = _wide(gradient)
        own = torch.stack([wide.sum(ctx.dims), (wide * normal).sum(ctx.dims)])
        shift, slope = (ctx.group.total(own) / ctx.places).view(2, *shape)
        back = (wide - shift - normal * slope) * (scale * weight).view(shape)
        return back.to(x.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None, None


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _draws_by_itself(model: nn.Module, example: torch.Tensor) -> bool:
    """Whether a training step of the network draws from torch's own generators elsewhere than in DRAWING."""
    tried = copy.deepcopy(model).train()
    for module in tried.modules():
        if isinstance(module, DRAWING):
            module.eval()
    before = random_states(example.device)
    with torch.no_grad():
        tried(torch.cat([example, example]))
    after = random_states(example.device)
    set_random_states(example.device, before)
    return any(not torch.equal(before[name], after[name]) for name in before)
