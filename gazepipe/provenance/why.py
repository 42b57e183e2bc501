"""`gazepipe why`: what a result depends on, and what would run again now, because of which change."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job
from gazepipe.errors import UserError
from gazepipe.provenance import changes, records


def explain(plan: Plan, path: Path) -> str:
    """The job of the result file (or folder) `path`, what it reads and stands on, and its `reruns`.

    Results of a stage that was run by hand, without a workflow, have no record. Raises UserError for a path that no job
    makes.
    """
    name = Path(os.path.relpath(path)).as_posix()
    job = plan.maker(name)
    try:
        made_of = plan.made_of(job)
    except KeyError as error:
        raise UserError(f"{name}: {error.args[0]!r} is not in the configuration; check the path") from None
    modules = plan.modules(job)
    chain = Counter(each.stage for each in _chain(plan, job) if each != job)
    lines = [
        name,
        f"  made by   {job}",
        f"  reads     {json.dumps(made_of['settings'], sort_keys=True)}",
        f"  source    {', '.join(modules)}, and what they import",
        *_column("stands on", changes.shortened(list(made_of["upstream"])) or ["nothing"]),
        f"  in all on {', '.join(f'{count} {stage}' for stage, count in chain.items()) or 'nothing'}",
        *_Present(plan).reruns(job),
    ]
    return "\n".join(lines)


def _column(title: str, lines: list[str]) -> list[str]:
    return [f"  {title if index == 0 else '':9} {line}" for index, line in enumerate(lines)]


def _chain(plan: Plan, job: Job) -> list[Job]:
    """A job and everything that it stands on, the first to run first."""
    order: dict[Job, None] = {}

    def visit(each: Job) -> None:
        if each not in order:
            for upstream in plan.upstream(each):
                visit(upstream)
            order[each] = None

    visit(job)
    return list(order)


class _Present:
    """The results of a plan as they lie there, against the plan."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.storage = records.storage(plan.root)
        self.record = cache(lambda job: records.recorded(plan, job))
        self.own_changes = cache(self._own_changes)

    def reruns(self, job: Job) -> list[str]:
        """Lines that tell which jobs would run if the results of `job` were asked for, and why."""
        if not self._missing(job) and not self.record(job):
            return ["no record of how it was made: whether it would run again, `snakemake --dry-run` tells"]
        reasons = self._reasons(job)
        if not reasons:
            kept = f"; whether it is still in {self.storage}, `snakemake --dry-run` tells" if self.storage else ""
            return [f"would not run again: nothing that it depends on has changed{kept}"]
        lines = ["would run again, because of", *(f"  {reason}" for reason in changes.shortened(reasons))]
        before = self._running(job)
        stages = dict.fromkeys(each.stage for each in before)
        if stages:
            lines.append("and before it")
        for stage in stages:
            jobs = [each for each in before if each.stage == stage]
            counted = Counter(reason for each in jobs for reason in dict.fromkeys(self._reasons(each, named=False)))
            lines.append(f"  {jobs[0] if len(jobs) == 1 else f'{stage}, {len(jobs)} jobs'}")
            lines += changes.shortened(
                [f"    {reason}{f' ({count} jobs)' if count > 1 else ''}" for reason, count in counted.items()]
            )
        return lines

    def _running(self, job: Job) -> list[Job]:
        """What would run before `job` does, the first first."""
        found: dict[Job, None] = {}

        def visit(each: Job) -> None:
            for upstream in self._upstream(each):
                if upstream not in found and self._reasons(upstream):
                    visit(upstream)
                    found[upstream] = None

        visit(job)
        return list(found)

    def _reasons(self, job: Job, named: bool = True) -> list[str]:
        """Why a job would run; with `named`, files and jobs by their full names."""
        record, found = self.record(job), []
        if record and record["key"] != self._key(job):
            found = [*self.own_changes(job, record["key"]), *self._upstream_changes(job, record, named)]
        missing = [] if found else self._missing(job)
        return found or ([f"missing: {missing[0] if named else 'its results'}"] if missing else [])

    def _missing(self, job: Job) -> list[str]:
        if self.storage:
            return []
        return [path for path in self.plan.outputs(job).values() if not os.path.exists(path)]

    def _own_changes(self, job: Job, key: str) -> list[str]:
        """What of a job's settings and source has changed since it had `key`, as far as that was recorded."""
        then, now = self._as_of(job, key), self.plan.made_of(job)
        if then is None:
            return ["made again since"]
        found = list(changes.of_values(then["settings"], now["settings"]))
        if then["source"] != now["source"]:
            recorded = records.source(self.plan.root, then["source"])
            present = records.present_source(self.plan, job)
            found += ["source: changed"] if recorded is None else list(changes.of_sources(recorded, present))
        return found

    def _as_of(self, job: Job, key: str) -> dict | None:
        record = self.record(job)
        return next((each for each in (record, record.get("before", {})) if each.get("key") == key), None)

    def _upstream_changes(self, job: Job, record: dict, named: bool) -> Iterator[str]:
        then = record["upstream"]
        for upstream in self._upstream(job):
            shown = str(upstream) if named else upstream.stage
            key = then.get(str(upstream))
            if key is None:
                yield f"upstream: {shown} is new"
            elif key != self._key(upstream):
                yield f"upstream: {shown} ({'; '.join(self._roots(upstream, key)[:2])})"
        now = {str(upstream) for upstream in self._upstream(job)}
        yield from (f"upstream: {name} is no longer used" for name in then if name not in now)

    def _roots(self, job: Job, key: str) -> list[str]:
        """The first changes, going up from a job, since it had `key`."""
        own = self.own_changes(job, key)
        then = self._as_of(job, key)
        if own or then is None:
            return own
        for upstream in self._upstream(job):
            before = then["upstream"].get(str(upstream))
            if before != self._key(upstream):
                return self._roots(upstream, before) if before else [f"{upstream} is new"]
        return ["fewer jobs upstream"]

    def _upstream(self, job: Job) -> list[Job]:
        return self.plan.upstream(job)

    def _key(self, job: Job) -> str:
        return self.plan.key(job)
