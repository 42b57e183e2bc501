"""Records of what results were made of: the parts of each job's key, kept beside the results.

When the workflow starts it writes the parts of every job that is to run into a planned record; the job itself, when it
has ended, makes that its record. So a record always tells the configuration, source and upstream keys of the results
that are there, and `gazepipe why` can say what has changed since. Records hold no times and no machine: equal results
have equal records.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gazepipe.common.files import read_json, write_json
from gazepipe.errors import UserError
from gazepipe.provenance import fingerprint as provenance
from gazepipe.provenance.changes import Source

if TYPE_CHECKING:
    # A job that ends needs no configuration.
    from gazepipe.dag.plan import Plan
    from gazepipe.dag.stage import Job

FORMAT = 2


def record_path(root: str, name: str) -> str:
    """The record of a job, by the results folder and the job's name ("train columbia-drawn ...")."""
    return f"{root}/.records/{'/'.join(name.split())}.json"


def planned_path(root: str, name: str) -> str:
    """The record of a job that is to run; it becomes the record when the job has ended."""
    return f"{root}/.records/.planned/{'/'.join(name.split())}.json"


def source_path(root: str, fingerprint: str) -> str:
    """The modules of one fingerprint, or the functions of one module's hash."""
    return f"{root}/.records/.source/{fingerprint}.json"


def storage_path(root: str) -> str:
    """Where the results are, if a storage plugin keeps them."""
    return f"{root}/.records/.storage.json"


def announce(plan: Plan, jobs: Iterable[Job]) -> None:
    """Write the planned records of jobs that are to run, where their results are not of the present key."""
    for job in jobs:
        key, planned = plan.key(job), planned_path(plan.root, str(job))
        before = recorded(plan, job)
        if key in (before.get("key"), load(planned).get("key")):
            continue
        parts = plan.made_of(job)
        _keep_source(plan, job, parts["source"])
        # What the results were made of until now: those that stand on them may not have been made again yet.
        before.pop("before", None)
        write_json(planned, {"format": FORMAT, "key": key, **parts, "before": before})


def finish(root: str, name: str, key: str) -> None:
    """Make the planned record of a job that has ended its record; nothing where it was planned elsewhere."""
    planned, record = Path(planned_path(root, name)), Path(record_path(root, name))
    if load(planned).get("key") == key:
        record.parent.mkdir(parents=True, exist_ok=True)
        os.replace(planned, record)


def tell_storage(root: str, prefix: str) -> None:
    """Note that the results of `root` are kept below `prefix` by a storage plugin; an empty one: that they are here."""
    if storage(root) != prefix:
        write_json(storage_path(root), {"format": FORMAT, "prefix": prefix})


def storage(root: str) -> str:
    """The prefix that the results of `root` are kept below elsewhere; empty where they are here."""
    return load(storage_path(root)).get("prefix", "")


def load(path: str | Path) -> dict:
    """A record; empty where there is none that can be read."""
    try:
        record = read_json(path)
    except UserError:
        return {}
    return record if record.get("format") == FORMAT else {}


def recorded(plan: Plan, job: Job) -> dict:
    """The record of a job's present results; empty where there is none."""
    return load(record_path(plan.root, str(job)))


def source(root: str, fingerprint: str) -> Source | None:
    """A recorded source; None where it was not kept."""
    try:
        modules = read_json(source_path(root, fingerprint))
    except UserError:
        return None
    return Source(modules, lambda module: read_json(source_path(root, modules[module])))


def present_source(plan: Plan, job: Job) -> Source:
    """The source that a job would run now."""
    modules = plan.modules(job)
    return Source(provenance.source_modules(modules), provenance.function_hashes)


def _keep_source(plan: Plan, job: Job, fingerprint: str) -> None:
    path = Path(source_path(plan.root, fingerprint))
    if path.exists():
        return
    now = present_source(plan, job)
    for name, tree in now.modules.items():
        module_path = Path(source_path(plan.root, tree))
        if not module_path.exists():
            write_json(module_path, now.functions(name))
    write_json(path, now.modules)
