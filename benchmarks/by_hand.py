"""A stage's command as the workflow would give it, for benchmarks that start stages themselves."""

from pathlib import Path

from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job
from gazepipe.dag.stages import STAGES


def files(plan: Plan, job: Job) -> dict[str, list[str]]:
    """The files of a job's command by option: inputs, and outputs or their folder."""
    stage, outputs = STAGES[job.stage], plan.outputs(job)
    read = {name: [plan.path(file) for file in files] for name, files in plan.inputs(job).items()}
    given = {name: paths for name, paths in read.items() if name not in stage.besides}
    if stage.whole_folder:
        return {**given, "folder": [str(Path(next(iter(outputs.values()))).parent)]}
    return {**given, **{name: [path] for name, path in outputs.items()}}


def words(stage: str, settings: str, given: dict[str, list[str]]) -> list[str]:
    """`gazepipe` and after: the subcommand of a stage with its settings (JSON) and files."""
    options = [word for name, paths in given.items() for word in (f"--{name.replace('_', '-')}", *paths)]
    return [stage.replace("_", "-"), "--settings", settings, *options]
