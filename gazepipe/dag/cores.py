"""Slots: heavy jobs of every workflow on this machine share the cores and GPUs that are really there.

`snakemake --cores 8` on two cores starts eight jobs; each heavy one waits here, before it imports anything large, until
as many slots are free as it has threads, and a GPU where it would use one, alone or with a few others. A slot is a
file lock, which the kernel drops when its holder dies, however that happens; nothing has to be cleaned.
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TextIO

from gazepipe.common.machine import available_cores
from gazepipe.errors import UserError

POLL_SECONDS = 0.05
DISABLE = "GAZEPIPE_SLOTS"  # set to "off" where a scheduler already hands out cores and GPUs
GPUS = "GAZEPIPE_GPUS"  # number of GPUs, in place of what is found
JOBS_PER_GPU = "GAZEPIPE_JOBS_PER_GPU"  # jobs that share each GPU; 1 unless set
VISIBLE = "CUDA_VISIBLE_DEVICES"
SLURM_JOB = "SLURM_JOB_ID"
HELD = "has its cores"  # what a job of a workflow writes to its log then
GPU_NAME = re.compile(r"\d+|(GPU|MIG)-.+")


def slot_folder() -> Path:
    """Folder of the lock files: one per user, Slurm job and set of cores: two cluster jobs on one node do not mix."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    name = hashlib.sha256(repr(affinity).encode()).hexdigest()[:8]
    return _folder("gazepipe-slots", name)


def shared(given: int) -> int:
    """Core slots that the jobs of a workflow with so many cores share."""
    return given if os.environ.get(DISABLE) == "off" else min(given, available_cores())


@contextmanager
def hold(count: int, folder: Path | None = None, total: int | None = None) -> Iterator[int]:
    """Hold `count` core slots (0 or more than there are: all of them); yields the number held."""
    total = total or available_cores()
    count = total if count == 0 else min(count, total)
    if os.environ.get(DISABLE) == "off":
        yield count
        return
    names = [f"core{index}" for index in range(total)]
    with _held(dict(zip(names, names, strict=True)), count, folder or slot_folder()):
        yield count


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: those that it names, else all.

    Looks at files of the driver, not at CUDA, which takes seconds. GAZEPIPE_GPUS=n replaces the look.
    """
    given = os.environ.get(VISIBLE)
    if given is not None:
        # CUDA, too, stops reading at the first that is none.
        return list(takewhile(GPU_NAME.fullmatch, (name.strip() for name in given.split(","))))
    return [str(index) for index in range(_gpu_count())]


def _gpu_count() -> int:
    asked = os.environ.get(GPUS)
    if asked is not None:
        if not asked.isdecimal():
            raise UserError(f"{GPUS}: {asked!r} is no number of GPUs; give one, or unset it")
        return int(asked)
    known = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    if known:
        # In a container the driver lists every GPU of the machine; device files are there for those given to it.
        given = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
        return min(known, len(given) or known)
    return _count_by_tool() if shutil.which("nvidia-smi") else 0


def _count_by_tool() -> int:
    import subprocess

    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def gpu_folder() -> Path:
    """Folder of the GPUs' lock files: one per user and Slurm job, each of which numbers its own GPUs from 0."""
    return _folder("gazepipe-gpus")


def _folder(kind: str, *names: str) -> Path:
    job = os.environ.get(SLURM_JOB)
    return Path(tempfile.gettempdir()) / "-".join([kind, str(os.getuid()), *names, *([job] if job else [])])


@contextmanager
def hold_gpus(count: int, folder: Path | None = None) -> Iterator[list[str]]:
    """Hold a slot of each of `count` GPUs, and show only these to CUDA; yields their names.

    A GPU has as many slots as GAZEPIPE_JOBS_PER_GPU says, 1 unless it is set; first slots are taken first, so that jobs
    spread over the GPUs. Without GPUs, with `count` 0 and with GAZEPIPE_SLOTS=off nothing is held, and nothing changes.
    """
    found = gpus() if count and os.environ.get(DISABLE) != "off" else []
    if not found:
        yield []
        return
    slots = {_gpu_slot(name, number): name for number in range(_jobs_per_gpu()) for name in found}
    with _held(slots, min(count, len(found)), folder or gpu_folder()) as held:
        mine = [name for name in found if name in held]
        before = os.environ.get(VISIBLE)
        os.environ[VISIBLE] = ",".join(mine)
        try:
            yield mine
        finally:
            if before is None:
                del os.environ[VISIBLE]
            else:
                os.environ[VISIBLE] = before


def _jobs_per_gpu() -> int:
    asked = os.environ.get(JOBS_PER_GPU, "1")
    if not asked.isdecimal() or int(asked) == 0:
        raise UserError(f"{JOBS_PER_GPU}: {asked!r} is no number of jobs, 1 or more; give one, or unset it")
    return int(asked)


def _gpu_slot(name: str, number: int) -> str:
    """The lock of a GPU's first, second, ... slot; the first has the name that it had before GPUs were shared."""
    return f"gpu-{re.sub('[^A-Za-z0-9-]', '_', name)}{f'.{number}' if number else ''}"


@contextmanager
def _held(slots: dict[str, str], count: int, folder: Path) -> Iterator[set[str]]:
    """Hold locks in `folder` of `count` different owners, of `slots` from a lock to its owner; yields the owners.

    Waiting jobs queue at one more lock, so that two wide jobs can never each hold half of what both need.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        with open(folder / "queue.lock", "a") as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            taken: set[str] = set()
            while len(taken) < count:
                for slot, owner in slots.items():
                    if owner not in taken and len(taken) < count:
                        lock = _try_lock(folder / f"{slot}.lock")
                        if lock is not None:
                            held.enter_context(lock)
                            taken.add(owner)
                if len(taken) < count:
                    time.sleep(POLL_SECONDS)
        yield taken


def _try_lock(path: Path) -> TextIO | None:
    file = open(path, "a")  # noqa: SIM115 -- the lock lives as long as the file is open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
