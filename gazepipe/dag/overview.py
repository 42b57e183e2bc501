"""`gazepipe stages`: what each stage runs, reads and writes, in the words of its declaration."""

from gazepipe.dag.plan import Plan
from gazepipe.dag.signature import signature
from gazepipe.dag.stages import STAGES

Reads = dict[str, dict[str, dict[str, None]]]
"""By stage and by the name of an input: the results ("stage.output") that it may be, in the order met."""


def overview(plan: Plan) -> str:
    """A paragraph for each stage: its function, what its jobs read, and the patterns of its results."""
    reads = _reads(plan)
    return "\n\n".join(_paragraph(plan, name, reads[name]) for name in STAGES)


def _reads(plan: Plan) -> Reads:
    """What the jobs of the plan read, all taken together: not every run has a teacher."""
    reads: Reads = {name: {} for name in STAGES}
    waiting, seen = list(plan.targets()), set()
    while waiting:
        job = waiting.pop()
        if job in seen:
            continue
        seen.add(job)
        for name, files in plan.inputs(job).items():
            reads[job.stage].setdefault(name, {}).update(dict.fromkeys(f"{f.job.stage}.{f.output}" for f in files))
        waiting += plan.upstream(job)
    return reads


def _paragraph(plan: Plan, name: str, reads: dict[str, dict[str, None]]) -> str:
    lines = [f"{name}: {signature(STAGES[name].run).summary}", f"  runs    {STAGES[name].run}"]
    lines += [f"  reads   {read}: {', '.join(makers)}" for read, makers in reads.items() if makers]
    lines += [f"  writes  {output}: {pattern}" for output, pattern in plan.patterns(name).items()]
    return "\n".join(lines)
