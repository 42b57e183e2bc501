"""Stages end with the workflow that started them.

A killed workflow leaves its stages running. The next workflow would start the same jobs, and both would write the same
files. So a stage ends when its workflow is gone, as it does at SIGTERM: a training saves its state first. A workflow
begins when the stages of the one before have ended.
"""

import fcntl
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

WORKFLOW = "GAZEPIPE_WORKFLOW"
STAGES = ".stages"


def lead() -> None:
    """Make this process the workflow with which all stages end that are started from now on."""
    os.environ[WORKFLOW] = f"{os.getpid()} {_here()}"


def wait_for_stages(root: Path) -> None:
    """Wait, with a line on stderr, until no stage runs in the results folder `root`."""
    with open(root / STAGES, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{root}: waiting for the end of stages that an earlier workflow left", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)


@contextmanager
def at_work(root: Path) -> Iterator[None]:
    """A stage that runs in the results folder `root`; it ends by SIGTERM when its workflow, if it has one, is gone."""
    with ExitStack() as held:
        # A folder that cannot be written is reported where results are; a file system may know no locks.
        with suppress(OSError):
            root.mkdir(parents=True, exist_ok=True)
            fcntl.flock(held.enter_context(open(root / STAGES, "a")), fcntl.LOCK_SH)
        _follow()
        yield


def watched() -> int | None:
    """A descriptor that is readable once this stage's workflow has ended; None where it has none, or none is seen.

    Raises ProcessLookupError where it has ended.
    """
    pid, _, place = os.environ.get(WORKFLOW, "").partition(" ")
    if not pid.isdecimal() or place != _here():
        return None
    try:
        return os.pidfd_open(int(pid))
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):
        return None  # a system without such descriptors: the workflow's next start waits for this stage


def _follow() -> None:
    try:
        descriptor = watched()
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGTERM)
        return
    if descriptor is not None:
        threading.Thread(target=_end_with, args=(descriptor,), daemon=True).start()


def _here() -> str:
    """The machine or container whose process ids these are."""
    with suppress(OSError):
        return f"{os.uname().nodename} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _end_with(descriptor: int) -> None:
    """Wait, without polling, for the end of a process; then end this one."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)
