"""File times in line with the keys: Snakemake compares times, gazepipe compares keys."""

import os

from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job, filled

LONG_AGO_NS = 10**9


def settle_times(plan: Plan) -> None:
    """Give every result that is older than what it was made from the time of the latter.

    Snakemake reruns a job whose input is newer than its output. Keys already decide what reruns, so after a copy, a
    clone or a `touch` such an order of times means nothing. Results that may not be changed are left alone.

    The results of a job of which some are missing become old, so that it runs again: Snakemake misses only what is
    asked for, and forgets a job's params when its outputs become more.
    """
    settled: dict[Job, int] = {}
    for job in plan.targets():
        if job.stage == "page" or os.path.exists(next(iter(plan.outputs(job).values()))):
            _settle(plan, job, settled)


def _settle(plan: Plan, job: Job, settled: dict[Job, int]) -> int:
    """Time in ns of the newest of a job's results, after what they stand on has been settled."""
    if job not in settled:
        newest = max((_settle(plan, each, settled) for each in plan.upstream(job)), default=0)
        settled[job] = _raise(plan, job, newest)
    return settled[job]


def _raise(plan: Plan, job: Job, newest: int) -> int:
    outputs = list(plan.outputs(job).values())
    if len({os.path.exists(path) for path in outputs}) > 1:
        for path in outputs:
            _set_time(path, LONG_AGO_NS)
        return newest
    # Snakemake counts a job's benchmark record among its outputs.
    for path in [*outputs, filled(plan.benchmark(job.stage), dict(job.wildcards))]:
        newest = max(newest, _not_older(path, newest))
    return newest


def _not_older(path: str, than_ns: int) -> int:
    """The file's time in ns after it was raised to `than_ns`; 0 without such a file."""
    try:
        time_ns = os.stat(path).st_mtime_ns
    except OSError:
        return 0
    if time_ns >= than_ns:
        return time_ns
    return than_ns if _set_time(path, than_ns) else 0


def _set_time(path: str, time_ns: int) -> bool:
    """Whether the file is there and could be given this time."""
    try:
        os.utime(path, ns=(time_ns, time_ns))
    except OSError:
        return False
    return True
