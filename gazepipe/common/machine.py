"""The machine and the software that results were made with, and the cores that may be used."""

import os
import platform
from importlib import metadata
from pathlib import Path

from gazepipe import __version__

SLURM_CORES = "SLURM_CPUS_ON_NODE"  # cores of this job or step; not every Slurm binds its jobs to them


def available_cores() -> int:
    """Cores that this process may use: CPU affinity, cut by the cgroup's quota and by what Slurm gave (at least 1)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    given = os.environ.get(SLURM_CORES, "")
    return max(1, min(cores, int(given)) if given.isdecimal() else cores)


def machine() -> dict[str, str | int]:
    """The machine as a table's footnote names it: processor, cores, system."""
    return {
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions(
    packages: tuple[str, ...] = ("torch", "numpy", "h5py", "opencv-python-headless", "openvino"),
) -> dict:
    """Versions of Python, gazepipe and `packages`; those not installed are left out."""
    found = {"python": platform.python_version(), "gazepipe": __version__}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
