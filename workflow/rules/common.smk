import json
from functools import partial
from pathlib import Path

from snakemake_interface_executor_plugins.settings import SharedFSUsage

from gazepipe.config import load as configuration
from gazepipe.config import select
from gazepipe.dag import orphans as lifeline, paths
from gazepipe.dag.lock import Lock
from gazepipe.dag.plan import Job, Plan
from gazepipe.dag.times import settle_times
from gazepipe.errors import UserError
from gazepipe.provenance import records

try:
    PLAN = Plan(configuration.load(config))
except UserError as error:
    print(error, file=sys.stderr, flush=True)
    # Past Snakemake's own handler, which would print a traceback and leave with status 1.
    os._exit(2)

lifeline.lead()
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


# bash, told to stop, waits for its stage, which saves its state first: a cluster tells all processes of a job at once.
shell.prefix("trap : TERM; ")

RESULTS = PLAN.root
RUN = PLAN.config.run
# Without a common file system, jobs that read raw data run beside them.
BESIDE_DATA = REMOTE and SharedFSUsage.INPUT_OUTPUT not in workflow.storage_settings.shared_fs_usage
GPUS = 1 if PLAN.config.device == "cuda" else 0
ENVIRONMENT = "../../envs/gpu.yaml" if GPUS else "../../envs/cpu.yaml"


wildcard_constraints:
    dataset="[A-Za-z0-9][A-Za-z0-9_.-]*",
    test="[A-Za-z0-9][A-Za-z0-9_.-]*",
    model="[A-Za-z0-9][A-Za-z0-9_.-]*",
    method="[A-Za-z0-9][A-Za-z0-9_.-]*",
    fold=r"\d+",
    seed=r"\d+",
    part=r"\d+",


def _params(function):
    """A params function of the job's wildcards; unknown names in a requested path end as one line."""

    def of_wildcards(wildcards):
        try:
            return function(**wildcards)
        except KeyError as error:
            raise WorkflowError(
                f"{error.args[0]!r} is not in the configuration's catalogue; check the path that you asked for"
            )
        except UserError as error:
            raise WorkflowError(str(error))

    return of_wildcards


def block(stage):
    """The job's configuration block, and the record that it leaves, as one JSON argument."""

    def of_job(**wildcards):
        job = Job.of(stage, **wildcards)
        if LOCK is not None and LOCK.error is None:
            records.announce(PLAN, job)
        return json.dumps({**PLAN.block(stage, **wildcards), "record": records.entry(PLAN, job)}, sort_keys=True)

    return _params(of_job)


def by_attempt(amount):
    """A resource that grows with each attempt at the job."""
    return lambda wildcards, attempt: amount * attempt


def key(stage):
    """The job's key: it reruns when this changes."""
    return _params(partial(PLAN.key, stage))


def source(stage):
    """The fingerprint of the job's source."""
    return _params(partial(PLAN.source, stage))


def of_training(count):
    """What `count` makes of the run's training block."""
    return _params(lambda **wildcards: count(PLAN.block("train", **wildcards)["training"]))


def linked_weights(wildcards, link):
    run = PLAN.linked_runs(**wildcards).get(link)
    return [f"{paths.run_folder(RESULTS, **run)}/model.safetensors"] if run else []


def recommended_width(wildcards):
    return [PLAN.outputs(job)[1] for job in PLAN.width_jobs(**wildcards)]


def explained(jobs, *names):
    """Files of explanations: where results are kept elsewhere, a job has those that its rule names and no others."""
    return [path for job in jobs for path in PLAN.outputs(job) if Path(path).name in names]


def explanations_of_seeds(*names):
    return lambda wildcards: explained(PLAN.upstream("explain_seeds", **wildcards), *names)


def deployed(kind):
    """A file of the run that a bundle holds."""

    def of_wildcards(wildcards):
        run = PLAN.deployed_run(**wildcards)
        if kind == "predicted":
            return paths.prediction(RESULTS, test=wildcards.dataset, **run)
        return f"{paths.run_folder(RESULTS, **run)}/model.safetensors"

    return of_wildcards


def exported(kind):
    """Of a data set's networks that are timed: bundles (their descriptions), what is in them, or weights."""

    def of_wildcards(wildcards):
        names = [{"model": m, "method": n, **wildcards} for m, n in PLAN.deployed(wildcards.dataset)]
        if kind == "bundles":
            return [paths.bundle(RESULTS, **each)[0] for each in names]
        if kind == "files":
            return [path for each in names for path in paths.bundle(RESULTS, **each)[1:]]
        return [f"{paths.run_folder(RESULTS, **PLAN.deployed_run(**each))}/model.safetensors" for each in names]

    return of_wildcards


def shaped_weights(wildcards):
    run = PLAN.shaped_run(**wildcards)
    return [f"{paths.run_folder(RESULTS, **run)}/model.safetensors"] if run else []


def given(*names):
    """The inputs of these names as options of the command line, those that the job has."""
    return lambda wildcards, input: " ".join(f"--{name} {input[name][0]}" for name in names if input[name])


def prepared_parts(wildcards):
    return [local(paths.part(RESULTS, wildcards.dataset, p)) for p in PLAN.parts(wildcards.dataset)]


def table_inputs(wildcards):
    results = [PLAN.outputs(job)[0] for job in [*PLAN.table_jobs(), *PLAN.seed_jobs()]]
    results += [path for job in PLAN.deploy_jobs() for path in PLAN.outputs(job)]
    return results + explained(PLAN.explain_jobs(), "explain.json", "width.json", "dimension.json")


def measured_weights(wildcards):
    """The weights whose size is in the near-eye table."""
    return [
        PLAN.outputs(Job.of("train", **PLAN.deployed_run(dataset, model, method)))[0]
        for dataset in PLAN.config.benchmark.datasets
        if PLAN.config.datasets[dataset].task == "point"
        for model, method in select.networks_for(PLAN.config, dataset)
    ]
