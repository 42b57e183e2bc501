"""Resumable state: a file from which a killed run continues, and the signals that ask for it.

The file is the SHA-256 of the rest, then safetensors whose header says what run it belongs to: nothing is unpickled,
and a state that is cut short, overwritten or another run's is not used.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from gazepipe.common.files import atomic
from gazepipe.errors import UserError

Snapshot = tuple[dict[str, torch.Tensor], dict]
"""Tensors by name, and facts that JSON holds exactly."""

SAVE_SECONDS = 60.0
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))
STOPPED_STATUS = 143
HEADER = "gazepipe"
DIGEST_SIZE = hashlib.sha256().digest_size


class Stopped(SystemExit):
    """A signal ended the run after it had saved its state; exit status 143, that of a process ended by SIGTERM."""


class State:
    """The state file of one run at `path`, used only for runs of the same `key`.

    `key` is a text of everything that decides the run. It is saved every `GAZEPIPE_SAVE_SECONDS` (60) and when a
    signal asks to stop.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key, self.identity = path, key, ""
        self.seconds = _save_seconds()
        self.saved = time.monotonic()
        self.signal: signal.Signals | None = None

    def load(self, identity: str) -> Snapshot | None:
        """What was saved under this key by a run of this `identity`, which is that of all later `offer`s; None, with a
        line on stderr, where the file is no such state.
        """
        self.identity = identity
        if not self.path.is_file():
            return None
        try:
            blob = self.path.read_bytes()
            if hashlib.sha256(blob[DIGEST_SIZE:]).digest() != blob[:DIGEST_SIZE]:
                raise ValueError("it is damaged")
            tensors, facts = _unpack(blob[DIGEST_SIZE:])
            if [facts.pop("key"), facts.pop("identity")] != [self.key, identity]:
                raise ValueError("it is another run's")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            print(f"{self.path}: state not used ({error}); starting anew", file=sys.stderr, flush=True)
            return None
        print(f"{self.path}: continuing", file=sys.stderr, flush=True)
        return tensors, facts

    def offer(self, snapshot: Callable[[], Snapshot]) -> None:
        """Save a snapshot if it is time; raises Stopped, having saved one, if a signal came.

        Where it cannot be saved, the run continues without a new state.
        """
        if not self.is_due():
            return
        self.save(*snapshot())
        self.saved = time.monotonic()
        if self.signal is not None:
            print(f"{self.path}: stopped by {self.signal.name}; run again to continue", file=sys.stderr, flush=True)
            raise Stopped(STOPPED_STATUS)

    def is_due(self) -> bool:
        """Whether it is time to save: `seconds` have passed, or a signal came."""
        return self.signal is not None or time.monotonic() - self.saved >= self.seconds

    def save(self, tensors: dict[str, torch.Tensor], facts: dict) -> None:
        """Save a snapshot now; where that fails, a line on stderr says so."""
        content = _pack(tensors, {**facts, "key": self.key, "identity": self.identity})
        try:
            with atomic(self.path) as partial:
                partial.write_bytes(hashlib.sha256(content).digest() + content)
        except OSError as error:
            print(f"{self.path}: state not saved ({error.strerror})", file=sys.stderr, flush=True)

    def nested(self, name: str) -> "State":
        """A state within this one, of the same key, for one training of several; `remove` deletes it, too."""
        return State(self.path.with_name(f"{self.path.name}-{name}"), self.key)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Until the block ends, SIGTERM, SIGINT and SIGUSR1 wait for the next `offer`; only the main thread can
        listen.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def remove(self) -> None:
        """Delete the state and those nested in it, and what a killed process may have left of one."""
        folder, name = self.path.parent, self.path.name
        for pattern in (f".partial-*-{name}", f".partial-*-{name}-*", f"{name}-*", name):
            for leftover in folder.glob(pattern):
                if leftover.is_file():
                    leftover.unlink()

    def _remember(self, number: int, _: object) -> None:
        self.signal = signal.Signals(number)


def _save_seconds() -> float:
    text = os.environ.get("GAZEPIPE_SAVE_SECONDS", str(SAVE_SECONDS))
    try:
        return float(text)
    except ValueError:
        raise UserError(f"GAZEPIPE_SAVE_SECONDS: {text!r} is no number; give seconds between saved states") from None


def _pack(tensors: dict[str, torch.Tensor], facts: dict) -> bytes:
    """Safetensors with the facts, and the strides, in the header: memory layout decides the order of sums."""
    strides = {name: tensor.stride() for name, tensor in tensors.items()}
    whole = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    return save(whole, {HEADER: json.dumps({**facts, "strides": strides})})


def _unpack(content: bytes) -> Snapshot:
    size = int.from_bytes(content[:8], "little")
    facts = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][HEADER])
    strides = facts.pop("strides")
    tensors = {
        name: torch.empty_strided(tensor.shape, strides[name], dtype=tensor.dtype).copy_(tensor)
        for name, tensor in load(content).items()
    }
    return tensors, facts
