"""The DAG as plain functions of the configuration: for each job its block, its key and what it stands on.

`block` is everything of the configuration that a job reads, and nothing else. `key` is a digest of that block, of the
job's own source and of the keys below it. Rules hand both to Snakemake as params, so a job reruns exactly when its key
changes: file times never matter.
"""

import os
import re
from dataclasses import dataclass
from functools import cache

from gazepipe.config import load as configuration
from gazepipe.config.load import Config
from gazepipe.dag import paths
from gazepipe.dag.blocks import Blocks
from gazepipe.errors import UserError
from gazepipe.methods.kinds import PARTS
from gazepipe.models.registry import model_module
from gazepipe.provenance import fingerprint as provenance

MEAN_MODEL = "mean"  # the predict-the-mean row of the tables
NO_METHOD = "none"
RUN = ("dataset", "model", "method", "fold", "seed")
STAGES = {
    "fetch": ("dataset",),
    "prepare_part": ("dataset", "part"),
    "prepare": ("dataset",),
    "split": ("dataset",),
    "sheet": ("dataset",),
    "train": RUN,
    # Before `predict`, whose files theirs are named like.
    "predict_mean": ("dataset", "fold", "seed", "test"),
    "predict": (*RUN, "test"),
    "profile": ("model", "method"),
    "explain": RUN,
    "explain_seeds": ("dataset", "model", "method", "fold"),
    "export": ("dataset", "model", "method"),
    "export_errors": RUN,
    "speed": ("dataset",),
    "tables": (),
}
"""The wildcards of each stage's jobs, in the order of `paths.WILDCARDS`."""
NUMBERS = ("fold", "seed", "part")


@dataclass(frozen=True)
class Job:
    """A stage and the wildcards that name one job of it, as sorted (name, value) pairs."""

    stage: str
    wildcards: tuple[tuple[str, str], ...]

    @staticmethod
    def of(stage: str, **wildcards: object) -> "Job":
        """The job of `stage` with these wildcards; values become text, as Snakemake has them."""
        return Job(stage, tuple(sorted((name, str(value)) for name, value in wildcards.items())))

    @property
    def names(self) -> list[str]:
        """The values of the wildcards, in the order of `paths.WILDCARDS`."""
        wildcards = dict(self.wildcards)
        return [wildcards[name] for name in paths.WILDCARDS if name in wildcards]

    def __str__(self) -> str:
        return " ".join([self.stage, *self.names])


class Plan(Blocks):
    """What to run for one configuration."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.root = paths.results_root(config.run)
        self._key = cache(self._compute_key)
        self._fingerprint = cache(provenance.source_fingerprint)

    def key(self, stage: str, **wildcards: str) -> str:
        """Digest of block, source and everything upstream."""
        return self._key(Job.of(stage, **wildcards))

    def _compute_key(self, job: Job) -> str:
        return provenance.digest(self.made_of(job))

    def made_of(self, job: Job) -> dict:
        """What a job's key is the digest of: `block`, `source`, and the keys of the jobs `upstream` by their names."""
        wildcards = dict(job.wildcards)
        return {
            "job": str(job),
            "block": _deciding(job.stage, self.block(job.stage, **wildcards)),
            "source": self.source(job.stage, **wildcards),
            "upstream": {str(each): self._key(each) for each in self.upstream(job.stage, **wildcards)},
        }

    def source(self, stage: str, **wildcards: str) -> str:
        """Fingerprint of the source that one job runs."""
        return self._fingerprint(self.modules(stage, **wildcards))

    # ---- what the tables read of the configuration

    def _block_tables(self) -> dict:
        config = self.config
        chosen = config.benchmark
        return {
            "run": config.run,
            "datasets": {name: self._dataset_summary(name) for name in chosen.datasets},
            "models": {name: self._model_summary(name) for name in chosen.models},
            "methods": {name: self._method_summary(name) for name in self._selected_methods()},
            "networks": [
                {
                    "model": model,
                    "method": method,
                    "epochs": self._epochs(model, method),
                    "source": self.source("train", model=model, method=method),
                }
                for model, method in self._networks()
            ],
            "seeds": chosen.seeds,
            "deployed": {name: self.deployed(name) for name in self._deployed_datasets()},
            "explained": [dict(job.wildcards) for job in self.explain_jobs()],
            "statistics": config.statistics.model_dump(),
        }

    def _dataset_summary(self, name: str) -> dict:
        entry = self.config.datasets[name]
        return {
            "drawn": entry.source.drawn is not None,
            "task": entry.task,
            "patch": self._patch(name),
            "tests": configuration.selected_with(self.config, name),
            "subjects": entry.subjects,
            "unit": entry.split.by,
            "protocol": entry.split.protocol,
            "validation": entry.split.validation,
            "fold_count": len(configuration.fold_numbers(entry)),
            "folds": configuration.folds(self.config, name),
        }

    def _model_summary(self, name: str) -> dict:
        entry = self.config.models[name]
        return {"arch": entry.arch, "width": entry.width, "task": configuration.task_of(entry)}

    def _selected_methods(self) -> list[str]:
        return list(dict.fromkeys(method for _, method in self._networks()))

    def _networks(self) -> list[tuple[str, str]]:
        """The selected (model, method) pairs that some selected data set is for."""
        return [pair for pair in configuration.networks(self.config) if self._datasets_for(pair[0])]

    def _method_summary(self, name: str) -> dict:
        node = self.config.methods[name]
        links = {"parent": node.parent, "teacher": node.teacher, "shape": node.shape}
        return {**links, "structural": node.structural is not None, "profiled": self.network_of(name)}

    def _epochs(self, model: str, method: str) -> list[int]:
        node = self.config.methods[method]
        if node.rebirth:
            return [node.rebirth.generations * node.rebirth.epochs]
        between = (node.structural.steps - 1) * node.structural.epochs if node.structural else 0
        epochs = (
            between + configuration.training_of(self.config, name, model, method).epochs
            for name in self._datasets_for(model)
        )
        return list(dict.fromkeys(epochs))

    # ---- what each stage runs and stands on

    def modules(self, stage: str, **wildcards: str) -> tuple[str, ...]:
        """Python modules whose source (with all that they import) decides a job's result."""
        match stage:
            case "fetch" if self.config.datasets[wildcards["dataset"]].source.drawn is not None:
                return ("gazepipe.datasets.fetch.inventory", "gazepipe.drawn.draw")
            case "fetch":
                # How a file came here decides nothing: its checksum is compared.
                return ("gazepipe.datasets.fetch.inventory", "gazepipe.datasets.fetch.archive")
            case "prepare_part" | "prepare":
                return ("gazepipe.datasets.prepare",)
            case "split":
                return ("gazepipe.datasets.splits",)
            case "sheet":
                return ("gazepipe.datasets.overview",)
            case "train":
                node = self.config.methods[wildcards["method"]]
                used = [module for name, module in PARTS.items() if getattr(node, name) is not None]
                return ("gazepipe.methods.train", self._module_of(wildcards["model"]), *used)
            case "predict":
                return ("gazepipe.evaluation.predict", self._module_of(wildcards["model"]))
            case "predict_mean":
                return ("gazepipe.evaluation.mean",)
            case "profile":
                return ("gazepipe.profiling.stage", self._module_of(wildcards["model"]))
            case "export" | "export_errors":
                return ("gazepipe.export.stage", self._module_of(wildcards["model"]))
            case "speed":
                used = {self._module_of(model): None for model, _ in self.deployed(wildcards["dataset"])}
                return ("gazepipe.export.speed", *used)
            case "explain" | "explain_seeds":
                return ("gazepipe.near_eye.explain.stage", self._module_of(wildcards["model"]))
            case "tables":
                return ("gazepipe.report.tables", "gazepipe.provenance.checksums")
        raise KeyError(stage)

    def _module_of(self, model: str) -> str:
        return model_module(self.config.models[model].arch)

    def upstream(self, stage: str, **wildcards: str) -> list[Job]:
        """The jobs whose results one job reads."""
        match stage, wildcards:
            case "prepare_part", {"dataset": dataset}:
                return [Job.of("fetch", dataset=dataset)]
            case "prepare", {"dataset": dataset}:
                return [Job.of("prepare_part", dataset=dataset, part=p) for p in self.parts(dataset)]
            case "split", {"dataset": dataset}:
                return [Job.of("prepare", dataset=dataset)]
            case "sheet", {"dataset": dataset}:
                return [Job.of("fetch", dataset=dataset), Job.of("prepare", dataset=dataset)]
            case "train", {"dataset": dataset}:
                data = [Job.of("prepare", dataset=dataset), Job.of("split", dataset=dataset)]
                linked = [Job.of("train", **node) for node in self.linked_runs(**wildcards).values()]
                return data + linked + self.width_jobs(**wildcards)
            case "explain", {"dataset": dataset}:
                data = [Job.of("prepare", dataset=dataset), Job.of("split", dataset=dataset)]
                return [*data, Job.of("train", **wildcards)]
            case "export", {"dataset": dataset}:
                return self.upstream("export_errors", **self.deployed_run(**wildcards))
            case "export_errors", {"dataset": dataset}:
                tested = Job.of("predict", test=dataset, **wildcards)
                return [Job.of("train", **wildcards), tested, Job.of("split", dataset=dataset)]
            case "speed", {"dataset": dataset}:
                names = [{"dataset": dataset, "model": m, "method": n} for m, n in self.deployed(dataset)]
                trained = [Job.of("train", **self.deployed_run(**each)) for each in names]
                return [*(Job.of("export", **each) for each in names), *trained]
            case "explain_seeds", _:
                return [Job.of("explain", seed=seed, **wildcards) for seed in self.config.benchmark.seeds]
            case "profile", _:
                shaped = self.shaped_run(**wildcards)
                return [Job.of("train", **shaped)] if shaped else []
            case "predict", {"test": test, **run}:
                return [Job.of("train", **run), Job.of("prepare", dataset=test)]
            case "predict_mean", {"dataset": dataset, "test": test}:
                return [
                    Job.of("prepare", dataset=dataset),
                    Job.of("split", dataset=dataset),
                    Job.of("prepare", dataset=test),
                ]
            case "tables", _:
                sheets = [Job.of("sheet", dataset=dataset) for dataset in self.config.benchmark.datasets]
                return self.table_jobs() + self.explain_jobs() + self.seed_jobs() + self.deploy_jobs() + sheets
        return []

    def parts(self, dataset: str) -> range:
        """Numbers of the parts that a data set is prepared in."""
        entry = self.config.datasets[dataset]
        return range(min(entry.parts, entry.subjects))

    def linked_runs(self, dataset: str, model: str, method: str, fold: str, seed: str) -> dict[str, dict]:
        """Wildcards of the `parent`, `shape` and `teacher` runs of a run, those that it has."""
        common = {"dataset": dataset, "fold": fold, "seed": seed}
        node, linked = self.config.methods[method], {}
        for link in ("parent", "shape"):
            if getattr(node, link):
                linked[link] = {**common, "model": model, "method": getattr(node, link)}
        teacher = configuration.teacher_of(self.config, model, method)
        if teacher:
            linked["teacher"] = {**common, "model": teacher[0], "method": teacher[1]}
        return linked

    def width_jobs(self, dataset: str, model: str, method: str, fold: str, seed: str) -> list[Job]:
        """The job, if any, that finds how wide a shrunk network has to be."""
        node = self.config.methods[method]
        if node.shrink is None or node.shrink.embedding is None:
            return []
        return [Job.of("explain", dataset=dataset, model=model, method=node.parent, fold=fold, seed=seed)]

    def deploy_jobs(self) -> list[Job]:
        """What the tables read of exported networks: their speed, and every run's errors through its files."""
        jobs, chosen = [], self.config.benchmark
        for dataset in chosen.datasets:
            runs = [
                Job.of("export_errors", dataset=dataset, model=model, method=method, fold=fold, seed=seed)
                for model, method in self.deployed(dataset)
                for fold in configuration.folds(self.config, dataset)
                for seed in chosen.seeds
            ]
            jobs += [Job.of("speed", dataset=dataset), *runs] if runs else []
        return jobs

    def table_jobs(self) -> list[Job]:
        """Every prediction and profile that the tables read."""
        chosen = self.config.benchmark
        pairs = [pair for dataset in chosen.datasets for pair in configuration.networks_for(self.config, dataset)]
        profiles = dict.fromkeys((model, self.network_of(method)) for model, method in pairs)
        jobs = [Job.of("profile", model=model, method=method) for model, method in profiles]
        for dataset in chosen.datasets:
            for fold in configuration.folds(self.config, dataset):
                for test in configuration.selected_with(self.config, dataset):
                    jobs.append(Job.of("predict_mean", dataset=dataset, fold=fold, seed=0, test=test))
                    jobs += [
                        Job.of("predict", dataset=dataset, model=m, method=n, fold=fold, seed=seed, test=test)
                        for m, n in configuration.networks_for(self.config, dataset)
                        for seed in chosen.seeds
                    ]
        return jobs

    def explain_jobs(self) -> list[Job]:
        """The explanation of every full near-eye network: those that are neither shrunk nor shaped as one that is."""
        chosen = self.config.benchmark
        return [
            Job.of("explain", dataset=dataset, model=model, method=method, fold=fold, seed=seed)
            for dataset in chosen.datasets
            if self.config.datasets[dataset].task == "point"
            for model, method in configuration.networks_for(self.config, dataset)
            if self.config.models[model].arch in configuration.POINT_NETWORKS and self.shaped_run(model, method) is None
            for fold in configuration.folds(self.config, dataset)
            for seed in chosen.seeds
        ]

    def seed_jobs(self) -> list[Job]:
        """The comparison over seeds of every explained network; none with a single seed."""
        if len(self.config.benchmark.seeds) == 1:
            return []
        names = [{name: value for name, value in job.wildcards if name != "seed"} for job in self.explain_jobs()]
        return list(dict.fromkeys(Job.of("explain_seeds", **wildcards) for wildcards in names))

    def maker(self, path: str) -> Job:
        """The job that makes a result file, or most of a result folder; UserError where none does."""
        for stage, wildcards in STAGES.items():
            pattern = Job.of(stage, **{name: f"{{{name}}}" for name in wildcards})
            for output in self.outputs(pattern):
                for candidate in (output, os.path.dirname(output)):
                    found = _matching(candidate, path) if "{" in candidate or candidate == output else None
                    if found is not None:
                        return Job.of(stage, **found)
        raise UserError(f"{path}: is no result of this configuration; give a file below {self.root}/")

    def outputs(self, job: Job) -> list[str]:
        """Declared result files of a job, the one that others read first."""
        wildcards = dict(job.wildcards)
        match job.stage:
            case "fetch":
                return [paths.receipt(self.config.run, **wildcards)]
            case "prepare_part":
                return [paths.part(self.root, wildcards["dataset"], wildcards["part"])]
            case "prepare":
                return [paths.store(self.root, **wildcards), paths.rejected(self.root, **wildcards)]
            case "split":
                return [paths.split(self.root, **wildcards)]
            case "sheet":
                return [paths.sheet(self.root, **wildcards)]
            case "train":
                folder = paths.run_folder(self.root, **wildcards)
                return [f"{folder}/{name}" for name in ("model.safetensors", "history.csv", "run.json")]
            case "predict":
                return [paths.prediction(self.root, **wildcards)]
            case "predict_mean":
                return [paths.prediction(self.root, model=MEAN_MODEL, method=NO_METHOD, **wildcards)]
            case "profile":
                return [paths.profile(self.root, **wildcards)]
            case "explain":
                return paths.explanation(self.root, **wildcards)
            case "export":
                return paths.bundle(self.root, **wildcards)
            case "export_errors":
                return [paths.deployed_errors(self.root, **wildcards)]
            case "speed":
                return paths.speed(self.root, **wildcards)
            case "explain_seeds":
                return paths.seed_comparison(self.root, **wildcards)
            case "tables":
                figures = [paths.pareto(self.root, name) for name in self._deployed_datasets()]
                return [*paths.tables(self.root, self._topics()), *figures, paths.checksums(self.root)]
        raise KeyError(job.stage)

    def _deployed_datasets(self) -> list[str]:
        return [name for name in self.config.benchmark.datasets if self.deployed(name)]

    def _topics(self) -> set[str]:
        tasks = {self.config.datasets[name].task for name in self.config.benchmark.datasets}
        pruned = any(
            self.config.methods[method].structural
            for model, method in self._networks()
            if configuration.task_of(self.config.models[model]) == "angles"
        )
        return tasks | ({"structural"} if pruned else set()) | ({"deploy"} if self._deployed_datasets() else set())


def _matching(pattern: str, path: str) -> dict[str, str] | None:
    """The wildcards by which `pattern` becomes `path`."""
    texts = [
        re.escape(piece) if index % 2 == 0 else f"(?P<{piece}>{'[0-9]+' if piece in NUMBERS else '[^/]+'})"
        for index, piece in enumerate(re.split(r"\{(\w+)\}", pattern))
    ]
    found = re.fullmatch("".join(texts), path)
    return found and found.groupdict()


def _deciding(stage: str, block: dict) -> dict:
    """The part of a block that decides a job's result: not the licence of a data set, nor a mirror's address."""
    if stage != "fetch" or "url" not in block["source"]:
        return block
    archives = [
        {"content": archive.get("sha256", archive["url"]), "folder": archive.get("folder", "")}
        for archive in block["source"]["url"]["archives"]
    ]
    return {**block, "source": {"url": archives}, "consent": None}
