"""Names of result files: one function per kind, so that rules, stages and tables agree.

Every argument may also be a Snakemake wildcard such as "{fold}".
"""

from pathlib import Path

WILDCARDS = ("dataset", "model", "method", "fold", "seed", "test", "part")
TABLES = {
    "angles": ("benchmark", "cross_dataset", "efficiency", "efficiency_run_size", "comparisons"),
    "structural": ("compression",),
    "deploy": ("deployed",),
    "point": ("near_eye", "near_eye_subjects", "near_eye_comparisons"),
}
"""CSV tables by topic: the task of the data sets, or what was done with the networks."""
EXPLANATION = (
    "explain.json",
    "width.json",
    "width.csv",
    "width.png",
    "embedding.npz",
    "importance.csv",
    "importance.png",
    "stability.csv",
    "stability.png",
    "dimension.json",
    "dimension.png",
    "sweep.csv",
    "sweep.png",
    "heatmaps.csv",
    "heatmaps.png",
    "sanity.csv",
    "sanity.png",
)
BUNDLE = (
    "preprocess.json",
    "card.md",
    "deploy.csv",
    "subjects.csv",
    "model.onnx",
    "model.int8.onnx",
    "model.xml",
    "model.bin",
    "model.int8.xml",
    "model.int8.bin",
)
FOLDERS = ("data", "splits", "runs", "predictions", "profiles", "explain", "deployed", "figures", "tables")
"""Folders of results below a run's root; those of named runs lie beside them. Bundles carry checksums of their own."""
TABLE_FOLDERS = ("predictions", "profiles", "explain", "figures", "tables")
"""Folders that the tables are made from, and their own."""
PARTS = "data/parts"
"""Where stores are in parts, before the merge."""
DOWNLOADS = "data/downloads"
"""Archives as they were loaded, of all runs."""
DATA_CHECKSUMS = "data-checksums.json"
"""Checksums of archives whose publisher gives none, as first seen; to be committed."""


def results_root(run: str) -> str:
    """`results`, or `results/<run>` for a named run."""
    return f"results/{run}" if run else "results"


def raw_folder(run: str, dataset: str) -> str:
    """Native layout of a data set that is drawn or unpacked here."""
    return f"data/{run}/raw/{dataset}" if run else f"data/raw/{dataset}"


def receipt(run: str, dataset: str) -> str:
    """Record of a fetched data set: its folder, source and checksum."""
    return f"{raw_folder(run, dataset)}.json"


def store(root: str, dataset: str) -> str:
    """The HDF5 store of a data set."""
    return f"{root}/data/{dataset}.h5"


def rejected(root: str, dataset: str) -> str:
    """CSV of the images that could not be used."""
    return f"{root}/data/{dataset}.rejected.csv"


def part(root: str, dataset: str, number: str | int) -> str:
    """One part of a store, before the merge."""
    return f"{root}/{PARTS}/{dataset}/{number}.h5"


def split(root: str, dataset: str) -> str:
    """Fold, subject, role."""
    return f"{root}/splits/{dataset}.csv"


def run_folder(root: str, dataset: str, model: str, method: str, fold: str | int, seed: str | int) -> str:
    """Folder of one trained network."""
    return f"{root}/runs/{dataset}/{model}/{method}/fold{fold}/seed{seed}"


def data_of_run(folder: Path) -> tuple[Path, Path] | None:
    """Store and receipt of the data set of a run whose `run_folder` is `folder`; None where it is none of that form."""
    parents = folder.absolute().parents
    if len(parents) < 8 or parents[4].name != "runs":
        return None
    dataset, root = parents[3].name, parents[5]
    project, run = (root.parent, "") if root.name == "results" else (root.parents[1], root.name)
    if root != project / results_root(run):
        return None
    return Path(store(str(root), dataset)), project / receipt(run, dataset)


def prediction(root: str, dataset: str, model: str, method: str, fold: str | int, seed: str | int, test: str) -> str:
    """Predictions of one run on data set `test`."""
    return f"{root}/predictions/{dataset}/{model}/{method}/fold{fold}/seed{seed}/{test}.csv"


def profile(root: str, model: str, method: str) -> str:
    """Cost and speed of one network."""
    return f"{root}/profiles/{model}/{method}.json"


def explanation(root: str, dataset: str, model: str, method: str, fold: str | int, seed: str | int) -> list[str]:
    """What is read from a near-eye run: the summary first, the width that it recommends second, then the rest."""
    folder = f"{root}/explain/{dataset}/{model}/{method}/fold{fold}/seed{seed}"
    return [f"{folder}/{name}" for name in EXPLANATION]


def bundle(root: str, dataset: str, model: str, method: str) -> list[str]:
    """An exported network: its description first."""
    return [f"{root}/deploy/{dataset}/{model}/{method}/{name}" for name in BUNDLE]


def deployed_errors(root: str, dataset: str, model: str, method: str, fold: str | int, seed: str | int) -> str:
    """The error of every test subject of one run, through each of its exported files."""
    return f"{root}/deployed/{dataset}/{model}/{method}/fold{fold}/seed{seed}.csv"


def speed(root: str, dataset: str) -> list[str]:
    """Speed of a data set's exported networks, and what it was measured on."""
    return [f"{root}/deployed/{dataset}.csv", f"{root}/deployed/{dataset}.json"]


def pareto(root: str, dataset: str) -> str:
    """The figure of error against latency and against size."""
    return f"{root}/figures/pareto/{dataset}.png"


def seed_comparison(root: str, dataset: str, model: str, method: str, fold: str | int) -> list[str]:
    """How far the explanations of a network agree over its seeds."""
    folder = f"{root}/explain/{dataset}/{model}/{method}/fold{fold}/seeds"
    return [f"{folder}/{name}" for name in ("runs.csv", "runs_dimension.csv", "runs.png")]


def training_state(root: str, dataset: str, model: str, method: str, fold: str | int, seed: str | int) -> str:
    """Where a run keeps what it needs to go on after a kill; beside the results, for Snakemake deletes those of a job
    that failed."""
    return f"{root}/.state/{dataset}/{model}/{method}/fold{fold}/seed{seed}"


def export_state(root: str, *names: str) -> str:
    """Where an export keeps the fine-tuning for int8."""
    return f"{root}/.state/deploy/{'/'.join(names)}"


def sheet(root: str, dataset: str) -> str:
    """Contact sheet of a data set."""
    return f"{root}/figures/{dataset}.png"


def tables(root: str, topics: set[str]) -> list[str]:
    """The page of tables and its CSV files, those of the `topics` that the run is about."""
    names = [name for topic, names in TABLES.items() if topic in topics for name in names]
    return [f"{root}/tables.md", *(f"{root}/tables/{name}.csv" for name in names)]


def checksums(root: str) -> str:
    """Checksums of a run's results."""
    return f"{root}/checksums.json"


def checksum_cache(root: str) -> str:
    """Checksums as they were taken last, and of what."""
    return f"{root}/.records/.checksums.json"


def record(root: str, stage: str, *names: str) -> str:
    """What one job's results were made of; `names` as in `log`."""
    return f"{root}/.records/{'/'.join([stage, *names])}.json"


def root_of_record(path: str) -> str:
    """The results folder that a `record` or `planned` lies in."""
    return path.partition("/.records/")[0]


def planned(root: str, stage: str, *names: str) -> str:
    """The record of one job that is to run; it becomes `record` when the job has ended."""
    return f"{root}/.records/.planned/{'/'.join([stage, *names])}.json"


def source_record(root: str, fingerprint: str) -> str:
    """The modules of one fingerprint, or the functions of one module's hash."""
    return f"{root}/.records/.source/{fingerprint}.json"


def storage_note(root: str) -> str:
    """Where the results are, if a storage plugin keeps them."""
    return f"{root}/.records/.storage.json"


def log(root: str, stage: str, *names: str) -> str:
    """Log of one job: `names` are the values of its wildcards, in the order of WILDCARDS."""
    return f"{root}/logs/{'-'.join([stage, *names])}.log"


def benchmark(root: str, stage: str, *names: str) -> str:
    """Snakemake's record of one job's time and memory; `names` as in `log`."""
    return f"{root}/benchmarks/{'-'.join([stage, *names])}.tsv"
