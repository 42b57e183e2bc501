"""Stages live no longer than the workflow that started them.

A workflow that is killed leaves its stages behind. What they would still write, the next start would delete and have
written again, by two processes at once. So a stage ends when its workflow is gone, as it does at SIGTERM: a training
saves its state first. And a workflow begins when the stages of the last one have ended.
"""

import fcntl
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gazepipe.io import process_name, process_named

WORKFLOW = "GAZEPIPE_WORKFLOW"
STAGES = ".stages"


def lead() -> None:
    """Make this process the one that the stages started from here on live no longer than."""
    os.environ[WORKFLOW] = process_name()


def wait_for_stages(root: Path) -> None:
    """Wait, with a line on stderr, until no stage is at work in the results folder `root`."""
    with open(root / STAGES, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{root}: waiting for the end of stages that an earlier workflow left", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)


@contextmanager
def at_work(root: Path) -> Iterator[None]:
    """A stage at work in the results folder `root`; it ends by SIGTERM when its workflow, if it has one, is gone."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / STAGES, "a") as file:
        # A file system may know no locks.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH)
        _follow(os.environ.get(WORKFLOW, ""))
        yield


def _follow(workflow: str) -> None:
    pid = process_named(workflow)
    if pid is None:
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGTERM)
    except (AttributeError, OSError):
        return  # a system without such descriptors: the workflow's next start waits for this stage
    else:
        threading.Thread(target=_end_with, args=(descriptor,), daemon=True).start()


def _end_with(descriptor: int) -> None:
    """Wait, without a clock, for the end of a process; then end this one."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)
