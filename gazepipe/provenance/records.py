"""Records of what results were made of: the parts of each job's key, kept beside the results.

The workflow writes the parts of every job that is to run into a planned record; the job itself, when it has ended,
makes that its record. So a record always tells the configuration, source and upstream keys of the results that are
there, and `gazepipe why` can say what has changed since. Records hold no times and no machine: equal results have equal
records.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gazepipe.common.files import read_json, write_json
from gazepipe.dag import paths
from gazepipe.errors import UserError
from gazepipe.provenance import fingerprint as provenance
from gazepipe.provenance.changes import Source

if TYPE_CHECKING:
    # A job that ends needs no configuration.
    from gazepipe.dag.plan import Job, Plan

FORMAT = 1


def entry(plan: Plan, job: Job) -> dict:
    """What a job is told about its record: the planned file, the file that it becomes, and the key."""
    return {
        "planned": paths.planned(plan.root, job.stage, *job.names),
        "file": paths.record(plan.root, job.stage, *job.names),
        "key": plan.key(job.stage, **dict(job.wildcards)),
    }


def announce(plan: Plan, job: Job) -> None:
    """Write the planned record of a job whose results are not of its present key."""
    told = entry(plan, job)
    before = load(told["file"])
    if told["key"] in (before.get("key"), load(told["planned"]).get("key")):
        return
    parts = plan.made_of(job)
    _keep_source(plan, job, parts["source"])
    # What the results were made of until now: those that stand on them may not have been made again yet.
    before.pop("before", None)
    write_json(told["planned"], {"format": FORMAT, "key": told["key"], **parts, "before": before})


def finish(told: dict) -> None:
    """Make the planned record of a job that has ended its record; nothing where it was planned elsewhere."""
    planned = Path(told["planned"])
    if load(planned).get("key") == told["key"]:
        Path(told["file"]).parent.mkdir(parents=True, exist_ok=True)
        os.replace(planned, told["file"])


def tell_storage(root: str, prefix: str) -> None:
    """Note that the results of `root` are kept below `prefix` by a storage plugin; an empty one: that they are here."""
    if storage(root) != prefix:
        write_json(paths.storage_note(root), {"format": FORMAT, "prefix": prefix})


def storage(root: str) -> str:
    """The prefix that the results of `root` are kept below elsewhere; empty where they are here."""
    return load(paths.storage_note(root)).get("prefix", "")


def load(path: str | Path) -> dict:
    """A record; empty where there is none that can be read."""
    try:
        record = read_json(path)
    except UserError:
        return {}
    return record if record.get("format") == FORMAT else {}


def recorded(plan: Plan, job: Job) -> dict:
    """The record of a job's present results; empty where there is none."""
    return load(paths.record(plan.root, job.stage, *job.names))


def source(root: str, fingerprint: str) -> Source | None:
    """A recorded source; None where it was not kept."""
    try:
        modules = read_json(paths.source_record(root, fingerprint))
    except UserError:
        return None
    return Source(modules, lambda module: read_json(paths.source_record(root, modules[module])))


def present_source(plan: Plan, job: Job) -> Source:
    """The source that a job would run now."""
    modules = plan.modules(job.stage, **dict(job.wildcards))
    return Source(provenance.source_modules(modules), provenance.function_hashes)


def _keep_source(plan: Plan, job: Job, fingerprint: str) -> None:
    path = Path(paths.source_record(plan.root, fingerprint))
    if path.exists():
        return
    now = present_source(plan, job)
    for name, tree in now.modules.items():
        module_path = Path(paths.source_record(plan.root, tree))
        if not module_path.exists():
            write_json(module_path, now.functions(name))
    write_json(path, now.modules)
