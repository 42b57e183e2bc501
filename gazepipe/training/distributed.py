"""One training by several processes: DistributedDataParallel, each process with its share of every batch.

Every process reads, augments and predicts only its own rows, with generators of its own. Gradients are averaged, each
loss weighted by its share of the rows, so that weights stay the same, bit by bit, in all processes. Only the first one
writes.
"""

import gc
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gazepipe.errors import UserError
from gazepipe.training.state import Snapshot, State

# State and predictions are exchanged in host memory, gradients where they are.
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}

Objective = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


class Lost(SystemExit):
    """Another process of the run has gone. It, or who started it, says why; the exit status is EX_TEMPFAIL."""

    def __init__(self) -> None:
        super().__init__(os.EX_TEMPFAIL)


class Group:
    """The processes of one training, and the rank of this one; alone, a Group() changes nothing."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """The rows of this process in any list of rows: each `size`-th, as torch's DistributedSampler has it, but
        without padding: no row is left out and none comes twice.
        """
        return slice(self.rank, None, self.size)

    def seed(self, seed: int) -> int:
        """`seed` for the first process, another one for each of the others: they draw for different rows."""
        return seed if self.first else int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0])

    def adopt(self, model: nn.Module, device: torch.device) -> None:
        """On GPUs, make batch norms of the model take their statistics over all shares. (On the CPU torch has no such
        norm, and each process normalises its share by itself.)
        """
        if self.size > 1 and device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(model)

    def together(
        self, objective: Objective, model: nn.Module, adapters: nn.Module | None, rows: int
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """The objective of (images, target) of this process's share of a batch of `rows`.

        Its gradient, after backward, is that of the mean over the whole batch in every process. All start from the
        first one's weights. Raises UserError where there is not one row for each process.
        """
        if self.size == 1:
            return lambda images, target: objective(model, images, target)
        if rows < self.size:
            raise UserError(f"training.processes: {self.size} share a batch of {rows} samples; use {rows} at most")
        own = len(range(rows)[self.share])
        step = _Weighted(objective, model, adapters, own * self.size / rows)
        # Filters of 1x1 have two ways to be laid out, which are the same.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        # A network may leave parameters unused. Also, buckets then stay as they are from the first step on: sums
        # of a run that was interrupted have the order of one that was not.
        return DistributedDataParallel(step, find_unused_parameters=True)

    def alike(self, module: nn.Module) -> None:
        """Give the module the first process's weights and statistics."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)

    def total(self, part: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over the processes."""
        if self.size > 1:
            dist.all_reduce(part := part.clone())
        return part

    def mean(self, part: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over the processes."""
        return self.total(part) / self.size

    def whole(self, own: torch.Tensor, rows: int) -> torch.Tensor:
        """[rows, ...] of which each process has `own`, its share."""
        whole = own.new_zeros(rows, *own.shape[1:])
        whole[self.share] = own
        return self.total(whole)

    def gathered(self, own: torch.Tensor) -> torch.Tensor:
        """A tensor of every process, stacked by rank."""
        if self.size == 1:
            return own[None]
        everyones = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(everyones, own)
        return torch.stack(everyones)

    def highest(self, *own: int) -> list[int]:
        """The highest of each number over the processes."""
        numbers = torch.tensor(own)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return numbers.tolist()


ALONE = Group()


class _Weighted(nn.Module):
    """The objective, with all that it trains, as the one module that DistributedDataParallel needs."""

    def __init__(self, objective: Objective, model: nn.Module, adapters: nn.Module | None, weight: float) -> None:
        super().__init__()
        self.objective, self.model, self.adapters, self.weight = objective, model, adapters, weight

    def forward(self, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.objective(self.model, images, target) * self.weight


class SharedState(State):
    """The state of a run of several processes: the first keeps it, all go on from it, and all stop at the same step."""

    def __init__(self, path: Path, key: str, group: Group) -> None:
        super().__init__(path, key)
        self.group = group

    def load(self, identity: str) -> Snapshot | None:
        found = [super().load(identity) if self.group.first else None]
        dist.broadcast_object_list(found, 0)
        return found[0]

    def is_due(self) -> bool:
        due, number = self.group.highest(super().is_due(), self.signal or 0)
        self.signal = signal.Signals(number) if number else None
        return bool(due)

    def save(self, tensors: dict[str, torch.Tensor], facts: dict) -> None:
        if self.group.first:
            super().save(tensors, facts)

    def nested(self, name: str) -> State:
        return SharedState(super().nested(name).path, self.key, self.group)

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
    """The group of this process, which is one of `processes` that torchrun or `gazepipe.training.launch` started.

    They use gloo on the CPU, and a GPU each with NCCL. Raises UserError for another number of processes, too few GPUs,
    and another device, and `Lost` where another process has gone.
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
        here, there = int(os.environ.get("LOCAL_WORLD_SIZE", size)), torch.cuda.device_count()
        if here > there:
            raise UserError(f"training.processes: {processes} need a GPU each, but {there} are here; use fewer, or cpu")
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)))
    try:
        dist.init_process_group(BACKENDS[device.type], rank=rank, world_size=size)
        yield Group(rank, size)
    except RuntimeError as error:
        # Not an error of the run itself: a connection that broke. The group is left as it is, the process ends.
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        raise Lost from error
    gc.collect()  # what still uses the group would wait for it for ever when it goes later
    dist.destroy_process_group()
