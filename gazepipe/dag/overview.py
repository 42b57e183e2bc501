"""`gazepipe stages`: what each stage runs, reads and writes, in the words of its declaration."""

from gazepipe.dag.plan import Plan
from gazepipe.dag.signature import signature
from gazepipe.dag.stages import STAGES


def overview(plan: Plan) -> str:
    """A paragraph for each stage: its function, the names and patterns of its results, and the stages that it reads."""
    examples = {}
    waiting = list(plan.targets())
    while waiting:
        job = waiting.pop()
        if job.stage not in examples:
            examples[job.stage] = job
            waiting += plan.upstream(job)
    return "\n\n".join(_paragraph(plan, name, examples.get(name)) for name in STAGES)


def _paragraph(plan: Plan, name: str, example) -> str:
    stage = STAGES[name]
    lines = [f"{name}: {signature(stage.run).summary}", f"  runs    {stage.run}"]
    if example is not None:
        for read, files in plan.inputs(example).items():
            makers = ", ".join(dict.fromkeys(f"{file.job.stage}.{file.output}" for file in files))
            lines.append(f"  reads   {read}: {makers or 'nothing here'}")
    lines += [f"  writes  {output}: {pattern}" for output, pattern in plan.patterns(name).items()]
    return "\n".join(lines)
