"""Core slots: heavy jobs of every workflow on this machine share the cores that are really there.

`snakemake --cores 8` on two cores starts eight jobs; each heavy one waits here, before it imports anything large, until
as many slots are free as it has threads. A slot is a file lock, which the kernel drops when its holder dies, however
that happens; nothing has to be cleaned.
"""

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

POLL_SECONDS = 0.05
DISABLE = "GAZEPIPE_SLOTS"  # set to "off" where a scheduler already hands out cores


def available_cores() -> int:
    """Cores that this process may use: CPU affinity, cut by the cgroup's quota (at least 1)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, cores)


def slot_folder() -> Path:
    """Folder of the lock files: one per user and set of cores, so that two cluster jobs on one node do not mix."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    name = hashlib.sha256(repr(affinity).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"gazepipe-slots-{os.getuid()}-{name}"


@contextmanager
def hold(count: int, folder: Path | None = None, total: int | None = None) -> Iterator[int]:
    """Hold `count` core slots (0 or more than there are: all of them); yields the number held.

    Waiting jobs queue at one more lock, so that two wide jobs can never each hold half of what both need.
    """
    total = total or available_cores()
    count = total if count == 0 else min(count, total)
    if os.environ.get(DISABLE) == "off":
        yield count
        return
    folder = folder or slot_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        with open(folder / "queue.lock", "a") as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            taken: dict[int, TextIO] = {}
            while len(taken) < count:
                for index in range(total):
                    if index not in taken and len(taken) < count:
                        slot = _try_lock(folder / f"core{index}.lock")
                        if slot is not None:
                            taken[index] = held.enter_context(slot)
                if len(taken) < count:
                    time.sleep(POLL_SECONDS)
        yield count


def _try_lock(path: Path) -> TextIO | None:
    file = open(path, "a")  # noqa: SIM115 -- the lock lives as long as the file is open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
