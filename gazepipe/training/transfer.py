"""From host memory to a GPU without waiting: pinned memory, copies on a stream of their own, batches read ahead.

On other devices nothing here changes what is computed or in which order.
"""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import torch

AHEAD = 3
"""Batches in pinned memory: one that is read, one that is copied, one that is computed on."""

Tensors = tuple[torch.Tensor, ...]


def sent(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A tensor of the CPU on the device, as `dtype` where one is given; the caller does not wait for a copy to a GPU.

    torch keeps the pinned memory until the copy is done.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, dtype, non_blocking=True)


def prefetched(batches: Iterable[Tensors], device: torch.device) -> Iterator[Tensors]:
    """The batches, in their order; on a GPU they are read ahead by a thread and copied beside the computation.

    At most AHEAD batches are on their way, which also bounds how far the CPU runs ahead of the GPU.
    """
    if device.type != "cuda":
        yield from batches
        return
    copying = torch.cuda.Stream(device)
    for slot in read_ahead(batches, [Slot(pinned=True) for _ in range(AHEAD)]):
        computing = torch.cuda.current_stream(device)
        with torch.cuda.stream(copying):
            batch = tuple(tensor.to(device, non_blocking=True) for tensor in slot.tensors)
        computing.wait_stream(copying)
        for tensor in batch:
            tensor.record_stream(computing)
        yield batch
        # All that reads the batch is queued by now. When it is done, so is the copy, and the slot may be filled anew.
        slot.used = computing.record_event()


class Slot:
    """Memory for one batch after another; `used` is the event, of a GPU, after which it may be filled again."""

    def __init__(self, pinned: bool) -> None:
        self.pinned = pinned
        self.tensors: Tensors = ()
        self.used: Any = None

    def fill(self, batch: Tensors) -> None:
        """Hold a copy of the batch; waits for `used` first."""
        if self.used is not None:
            self.used.synchronize()
        if [(each.shape, each.dtype) for each in batch] != [(each.shape, each.dtype) for each in self.tensors]:
            self.tensors = tuple(torch.empty_like(each, pin_memory=self.pinned) for each in batch)
        for own, each in zip(self.tensors, batch, strict=True):
            own.copy_(each)


def read_ahead(batches: Iterable[Tensors], slots: list[Slot]) -> Iterator[Slot]:
    """The batches, in their order, each in one of the slots, which a thread fills while earlier ones are used.

    A slot holds its batch until the next one is asked for. An error of the reader comes after the batches before it.
    The thread has ended when the iterator has, also where it is closed early.
    """
    empty: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
    full: queue.SimpleQueue[Slot | BaseException | None] = queue.SimpleQueue()
    for slot in slots:
        empty.put(slot)

    def read() -> None:
        try:
            for batch in batches:
                slot = empty.get()
                if slot is None:
                    return
                slot.fill(batch)
                full.put(slot)
            full.put(None)
        except BaseException as error:
            full.put(error)

    reader = threading.Thread(target=read, name="gazepipe-reader", daemon=True)
    reader.start()
    try:
        while (found := full.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
            empty.put(found)
    finally:
        empty.put(None)
        reader.join()
