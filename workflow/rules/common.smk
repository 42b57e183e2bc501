import inspect
import json

from snakemake_interface_executor_plugins.settings import SharedFSUsage

from gazepipe.config.load import load
from gazepipe.dag import forking, orphans
from gazepipe.dag.cores import shared
from gazepipe.dag.lock import Lock
from gazepipe.dag.measured import noted, start
from gazepipe.dag.plan import Plan
from gazepipe.dag.planning import Planned
from gazepipe.dag.progress import RUN
from gazepipe.dag.stage import Job, one
from gazepipe.dag.stages import STAGES
from gazepipe.dag.times import settle_times
from gazepipe.errors import UserError
from gazepipe.evaluation.settings import CONTROLS
from gazepipe.provenance import records

try:
    PLAN = Plan(load(config))
except UserError as error:
    print(error, file=sys.stderr, flush=True)
    # Past Snakemake's own handler, which would print a traceback and leave with status 1.
    os._exit(2)

orphans.lead()
# Not in the processes that Snakemake starts for single jobs.
LOCK = Lock(PLAN.root) if workflow.is_main_process and not workflow.output_settings.dryrun else None
# Results may be kept elsewhere by a storage plugin; raw data, parts of stores and training states stay where they are made.
STORAGE = workflow.storage_settings.default_storage_prefix
REMOTE = workflow.storage_settings.default_storage_provider is not None
if REMOTE and workflow.is_main_process:
    try:
        workflow.storage_registry.default_storage_provider.object(f"{STORAGE}/{PLAN.root}/tables.md").exists()
    except Exception as error:
        # One line, where Snakemake would show a traceback for each result.
        print(f"{STORAGE}: no access ({error}); check prefix, endpoint and keys", file=sys.stderr, flush=True)
        os._exit(2)
if LOCK is not None and LOCK.error is None:
    records.tell_storage(PLAN.root, STORAGE if REMOTE else "")
# Keys hold all that a job depends on. File times, which a copy, a clone or a touch changes, are brought in line with them.
if workflow.is_main_process:
    settle_times(PLAN)


onstart:
    try:
        LOCK.require()
    except UserError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(2)
    # Jobs of a cluster each have a Snakemake of their own.
    if workflow.local_exec:
        forking.lead()
    jobs = [
        Job.of(job.rule.name, **job.wildcards_dict)
        for job in workflow.dag.needrun_jobs()
        if job.rule.name in STAGES
    ]
    records.announce(PLAN, jobs)
    # `gazepipe run` tells how far they are, `gazepipe trace` when they ran.
    RUN.jobs, RUN.cores = jobs, shared(workflow.cores) if workflow.local_exec else workflow.nodes
    start(PLAN.root, RUN.cores if workflow.local_exec else 0)


# bash, told to stop, waits for its stage, which saves its state first: a cluster tells all processes of a job at once.
shell.prefix("trap : TERM; ")

RESULTS = PLAN.root
# What jobs will take: memory, minutes, and which of them the others wait for.
PLANNED = Planned(PLAN)
RUN.root, RUN.planned = RESULTS, PLANNED
# Without a common file system, jobs that read raw data run beside them.
BESIDE_DATA = REMOTE and SharedFSUsage.INPUT_OUTPUT not in workflow.storage_settings.shared_fs_usage
GPUS = 1 if PLAN.config.device == "cuda" else 0
ENVIRONMENT = "../../envs/gpu.yaml" if GPUS else "../../envs/cpu.yaml"


wildcard_constraints:
    dataset="[A-Za-z0-9][A-Za-z0-9_.-]*",
    model="[A-Za-z0-9][A-Za-z0-9_.-]*",
    method="[A-Za-z0-9][A-Za-z0-9_.-]*",
    fold=r"\d+",
    seed=r"\d+",
    part=r"\d+",


# ---- what the rules take from the declarations in gazepipe/dag/stages.py


def _signed(function):
    """The function with its signature beside it: Snakemake asks for it at every call, and would have it made anew."""
    function.__signature__ = inspect.signature(function)
    return function


def _of_job(stage, find):
    """A function of a job's wildcards; an unknown name in a requested path ends as one line."""

    @_signed
    def of_wildcards(wildcards):
        try:
            return find(Job.of(stage, **wildcards))
        except KeyError as error:
            raise WorkflowError(
                f"{error.args[0]!r} is not in the configuration's catalogue; check the path that you asked for"
            )
        except UserError as error:
            raise WorkflowError(str(error))

    return of_wildcards


def inputs(stage):
    """A job's input files by name."""

    def files(job):
        return {
            name: [local(PLAN.path(file)) if STAGES[file.job.stage].stays else PLAN.path(file) for file in files]
            for name, files in PLAN.inputs(job).items()
        }

    return _of_job(stage, files)


def outputs(stage):
    """The result files of a stage by name; those that stay on the machine that made them are marked."""
    files = PLAN.patterns(stage)
    return {name: local(path) for name, path in files.items()} if STAGES[stage].stays else files


def in_report(files):
    """Result files by name, of which `snakemake --report` shows tables and figures."""
    shown = {".csv": "Tables", ".svg": "Figures"}
    return {
        name: report(path, category=shown[path[-4:]]) if path[-4:] in shown else path for name, path in files.items()
    }


def logged(stage):
    return PLAN.log(stage)


def benchmarked(stage):
    return PLAN.benchmark(stage)


def cores(stage):
    """Threads of a job; profiling takes every core by itself when it starts, so that it never waits for them here."""
    of_settings = STAGES[stage].cores
    return 1 if of_settings is one else _of_job(stage, lambda job: of_settings(PLAN.settings(job)) or 1)


def gpus(stage):
    """GPUs of a job: one for each of its processes, where the configuration names the GPU."""
    return _of_job(stage, lambda job: GPUS * STAGES[stage].processes(PLAN.settings(job))) if GPUS else 0


def memory(stage, least):
    """Megabytes of a job: twice what is predicted, `least` at least; as much more with each attempt at the job."""
    predicted = _of_job(stage, PLANNED.memory_mb)

    @_signed
    def of_job(wildcards, attempt):
        return attempt * max(least, predicted(wildcards))

    return of_job


def minutes(stage, least):
    """Minutes of a job, as often again with each attempt; `least` at least, where too little is known of it."""
    predicted = _of_job(stage, lambda job: PLANNED.minutes(job, least))

    @_signed
    def of_job(wildcards, attempt):
        return attempt * predicted(wildcards)

    return of_job


def first(stage):
    """The priority of a job: the longer the chain of jobs that wait for it, the sooner it starts."""
    return _of_job(stage, PLANNED.priority if workflow.is_main_process else lambda job: 0)


def params(stage):
    """The key, by whose change alone a job reruns, and what its command is told: settings, input files, the job.

    Snakemake compares params that are functions of wildcards alone with those of the last run; the others, which
    take `input`, too, it does not.
    """
    declared = STAGES[stage]
    names = _of_job(stage, lambda job: [name for name in PLAN.inputs(job) if name not in declared.besides])
    settings_of = _of_job(stage, lambda job: PLAN.settings(job).model_dump_json())
    told_of = _of_job(stage, lambda job: json.dumps(PLAN.told(job, REMOTE)))

    @_signed
    def settings(wildcards, input):
        return settings_of(wildcards)

    @_signed
    def files(wildcards, input):
        given = {name: input[name] for name in names(wildcards)}
        return " ".join(
            f"--{name.replace('_', '-')} {paths if isinstance(paths, str) else ' '.join(paths)}"
            for name, paths in given.items()
        )

    @_signed
    def told(wildcards, input):
        return told_of(wildcards)

    return {"key": _of_job(stage, PLAN.key), "settings": settings, "files": files, "job": told}


def command(stage):
    """The command of a stage's jobs: `gazepipe <stage>` with settings, inputs and outputs by name."""
    if STAGES[stage].whole_folder:
        results = f"--folder $(dirname {{output.{next(iter(PLAN.patterns(stage)))}}})"
    else:
        results = " ".join(f"--{name.replace('_', '-')} {{output.{name}}}" for name in PLAN.patterns(stage))
    return (
        f"gazepipe {stage.replace('_', '-')} --settings {{params.settings:q}} {{params.files}} {results}"
        " --job {params.job:q} 2> {log}"
    )
