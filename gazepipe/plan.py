"""The DAG as plain functions of the configuration: for each job its block, its key and what it stands on.

`block` is everything of the configuration that a job reads, and nothing else. `key` is a digest of that block, of the
job's own source and of the keys below it. Rules hand both to Snakemake as params, so a job reruns exactly when its key
changes: file times never matter.
"""

import os
import re
from dataclasses import dataclass
from functools import cache

from gazepipe import config as configuration
from gazepipe import paths, provenance
from gazepipe.config import Config
from gazepipe.errors import UserError
from gazepipe.models import model_module

MEAN_MODEL = "mean"  # the predict-the-mean row of the tables
NO_METHOD = "none"
PAPER_INPUT = (1, 224, 224)
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
    "tables": (),
}
"""The wildcards of each stage's jobs, in the order of `paths.WILDCARDS`."""
NUMBERS = ("fold", "seed", "part")
METHOD_MODULES = {
    "kd": "gazepipe.training.distillation",
    "rebirth": "gazepipe.compression.rebirth",
    "shrink": "gazepipe.compression.shrink",
}


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


class Plan:
    """What to run for one configuration."""

    def __init__(self, config: Config):
        self.config = config
        self.root = paths.results_root(config.run)
        self._key = cache(self._compute_key)

    def block(self, stage: str, **wildcards: str) -> dict:
        """The configuration that one job reads, as builtins."""
        return getattr(self, f"_block_{stage}")(**wildcards)

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
        return provenance.source_fingerprint(self.modules(stage, **wildcards))

    # ---- what each stage reads of the configuration

    def _block_fetch(self, dataset: str) -> dict:
        entry = self.config.datasets[dataset]
        block = {
            "layout": entry.layout,
            "subjects": entry.subjects,
            "options": self._options(dataset),
            "source": entry.source.model_dump(exclude_none=True, exclude={"consent"}),
            "folder": paths.raw_folder(self.config.run, dataset),
        }
        if entry.source.url is not None:
            block |= {"consent": entry.source.consent, "downloads": paths.DOWNLOADS, "lock": paths.DATA_LOCK}
        return block

    def _block_prepare_part(self, dataset: str, part: str) -> dict:
        entry = self.config.datasets[dataset]
        return {
            "layout": entry.layout,
            "subjects": entry.subjects,
            "patch": self._patch(dataset),
            "part": int(part),
            "parts": entry.parts,
            "options": self._options(dataset),
        }

    def _options(self, dataset: str) -> dict:
        """What the layout's reader wants to know beyond the folder."""
        entry = self.config.datasets[dataset]
        if entry.near_eye is not None:
            return entry.near_eye.model_dump()
        return {"manifest": entry.manifest.model_dump(exclude_none=True)} if entry.manifest else {}

    def _patch(self, dataset: str) -> dict:
        return configuration.patch_of(self.config, dataset).model_dump()

    def _block_prepare(self, dataset: str) -> dict:
        entry = self.config.datasets[dataset]
        return {"dataset": dataset, "max_rejected": entry.max_rejected, "by": entry.split.by}

    def _block_split(self, dataset: str) -> dict:
        # `by` is applied when the store is made: its subjects are the groups.
        return self.config.datasets[dataset].split.model_dump(exclude_none=True, exclude={"by"})

    def _block_sheet(self, dataset: str) -> dict:
        entry = self.config.datasets[dataset]
        return {"dataset": dataset, "layout": entry.layout, "options": self._options(dataset)}

    def _block_train(self, dataset: str, model: str, method: str, fold: str, seed: str) -> dict:
        node = self.config.methods[method]
        return {
            "model": self._spec(model, dataset),
            "training": {
                **configuration.training_of(self.config, dataset, model, method).model_dump(),
                "augmentation": configuration.augmentation_of(self.config, dataset).model_dump(),
            },
            "kd": node.kd.model_dump() if node.kd else None,
            "rebirth": node.rebirth.model_dump() if node.rebirth else None,
            "shrink": node.shrink.model_dump() if node.shrink else None,
            "device": self.config.device,
            "fold": int(fold),
            "seed": int(seed),
        }

    def _block_predict(self, dataset: str, model: str, method: str, fold: str, seed: str, test: str) -> dict:
        return {
            "model": self._spec(model, dataset),
            # Another data set is predicted whole.
            "fold": int(fold) if test == dataset else None,
            "device": self.config.device,
            "threads": self.config.training.threads,
        }

    def _block_predict_mean(self, dataset: str, fold: str, seed: str, test: str) -> dict:
        return {"fold": int(fold), "own": test == dataset}

    def _block_profile(self, model: str, method: str) -> dict:
        dataset = self._dataset_for(model)
        spec = self._spec(model, dataset)
        sizes = {"run": spec}
        if configuration.task_of(self.config.models[model]) == "angles":
            # The paper's size is that of the published network: full width.
            sizes["paper"] = {**spec, "width": 1.0, "input": list(PAPER_INPUT)}
        return {"sizes": sizes, **self.config.profiling.model_dump()}

    def _block_explain(self, dataset: str, model: str, method: str, fold: str, seed: str) -> dict:
        return {
            **self.config.explain.model_dump(),
            "fold": int(fold),
            "seed": int(seed),
            "device": self.config.device,
            "threads": self.config.training.threads,
        }

    def _block_explain_seeds(self, dataset: str, model: str, method: str, fold: str) -> dict:
        return {"seeds": self.config.benchmark.seeds}

    def _block_export(self, dataset: str, model: str, method: str) -> dict:
        run, entry = self.deployed_run(dataset, model, method), self.config.datasets[dataset]
        trained = self._block_train(**run)
        licence = entry.source.url.licence if entry.source.url else entry.licence
        drawn = entry.source.drawn is not None
        return {
            **self.config.deploy.model_dump(),
            **{name: trained[name] for name in ("fold", "seed", "device", "training")},
            "threads": trained["training"]["threads"],
            "model": trained["model"],
            "statistics": self.config.statistics.model_dump(),
            "about": {
                "dataset": dataset,
                "model": model,
                "method": method,
                "drawn": drawn,
                "licence": licence or ("drawn here: none needed" if drawn else "not stated"),
            },
        }

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
        return {"parent": node.parent, "teacher": node.teacher, "shape": node.shape, "profiled": self.network_of(name)}

    def _epochs(self, model: str, method: str) -> list[int]:
        rebirth = self.config.methods[method].rebirth
        if rebirth:
            return [rebirth.generations * rebirth.epochs]
        epochs = (
            configuration.training_of(self.config, name, model, method).epochs for name in self._datasets_for(model)
        )
        return list(dict.fromkeys(epochs))

    def _spec(self, model: str, dataset: str) -> dict:
        entry, patch = self.config.models[model], configuration.patch_of(self.config, dataset)
        return {
            "arch": entry.arch,
            "width": entry.width,
            "input": configuration.input_shape(patch),
            "options": entry.options,
        }

    def _datasets_for(self, model: str) -> list[str]:
        """The selected data sets that a model is trained on."""
        task = configuration.task_of(self.config.models[model])
        return [name for name in self.config.benchmark.datasets if self.config.datasets[name].task == task]

    def _dataset_for(self, model: str) -> str:
        """The one that stands for the others where only the network's size matters: all have the same patch."""
        found = self._datasets_for(model)
        if not found:
            raise UserError(f"configuration: benchmark.datasets: none holds what the model {model} predicts; add one")
        return found[0]

    # ---- what each stage runs and stands on

    def modules(self, stage: str, **wildcards: str) -> tuple[str, ...]:
        """Python modules whose source (with all that they import) decides a job's result."""
        match stage:
            case "fetch" if self.config.datasets[wildcards["dataset"]].source.drawn is not None:
                return ("gazepipe.datasets.inventory", "gazepipe.datasets.synthetic")
            case "fetch":
                # How a file came here decides nothing: its checksum is compared.
                return ("gazepipe.datasets.inventory", "gazepipe.datasets.archive")
            case "prepare_part" | "prepare":
                return ("gazepipe.datasets.prepare",)
            case "split":
                return ("gazepipe.datasets.splits",)
            case "sheet":
                return ("gazepipe.datasets.overview",)
            case "train":
                node = self.config.methods[wildcards["method"]]
                used = [module for name, module in METHOD_MODULES.items() if getattr(node, name) is not None]
                return ("gazepipe.training.stage", self._module_of(wildcards["model"]), *used)
            case "predict":
                return ("gazepipe.evaluation.predict", self._module_of(wildcards["model"]))
            case "predict_mean":
                return ("gazepipe.evaluation.mean",)
            case "profile":
                return ("gazepipe.profiling.stage", self._module_of(wildcards["model"]))
            case "export":
                return ("gazepipe.deploy.stage", self._module_of(wildcards["model"]))
            case "explain" | "explain_seeds":
                return ("gazepipe.explain.stage", self._module_of(wildcards["model"]))
            case "tables":
                return ("gazepipe.report.tables", "gazepipe.checksums")
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
                run = self.deployed_run(**wildcards)
                return [
                    Job.of("train", **run),
                    Job.of("predict", test=dataset, **run),
                    Job.of("split", dataset=dataset),
                ]
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
                return self.table_jobs() + self.explain_jobs() + self.seed_jobs() + sheets
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

    def network_of(self, method: str) -> str:
        """The method that made the network's shape: training, KD and re-birth keep the shape that they start from."""
        node = self.config.methods[method]
        if node.shrink is not None:
            return method
        origin = node.parent or node.shape
        return self.network_of(origin) if origin else "base" if "base" in self.config.methods else method

    def shaped_run(self, model: str, method: str) -> dict | None:
        """Wildcards of the run whose weights tell a network's shape, where the configuration does not tell it."""
        if self.config.methods[self.network_of(method)].shrink is None:
            return None
        dataset = self._dataset_for(model)
        fold, seed = configuration.folds(self.config, dataset)[0], self.config.benchmark.seeds[0]
        return {"dataset": dataset, "model": model, "method": method, "fold": str(fold), "seed": str(seed)}

    def deployed_run(self, dataset: str, model: str, method: str) -> dict[str, str]:
        """Wildcards of the run that a bundle holds: the first of the folds and seeds."""
        fold, seed = configuration.folds(self.config, dataset)[0], self.config.benchmark.seeds[0]
        return {"dataset": dataset, "model": model, "method": method, "fold": str(fold), "seed": str(seed)}

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
            case "explain_seeds":
                return paths.seed_comparison(self.root, **wildcards)
            case "tables":
                return [*paths.tables(self.root, self._tasks()), paths.manifest(self.root)]
        raise KeyError(job.stage)

    def _tasks(self) -> set[str]:
        return {self.config.datasets[name].task for name in self.config.benchmark.datasets}

    def settle_times(self) -> None:
        """Give every result that is older than what it was made from the time of the latter.

        Snakemake reruns a job whose input is newer than its output. Keys already decide what reruns, so after a copy, a
        clone or a `touch` such an order of times means nothing. Results that may not be changed are left alone.
        """
        settled: dict[Job, int] = {}
        self._settle(Job.of("tables"), settled)
        for dataset in self.config.benchmark.datasets:
            for model, method in configuration.networks_for(self.config, dataset):
                job = Job.of("export", dataset=dataset, model=model, method=method)
                if os.path.exists(self.outputs(job)[0]):
                    self._settle(job, settled)

    def _settle(self, job: Job, settled: dict[Job, int]) -> int:
        if job not in settled:
            upstream = self.upstream(job.stage, **dict(job.wildcards))
            newest = max((self._settle(each, settled) for each in upstream), default=0)
            # Snakemake counts a job's benchmark record among its outputs.
            for path in [*self.outputs(job), paths.benchmark(self.root, job.stage, *job.names)]:
                newest = max(newest, _not_older(path, newest))
            settled[job] = newest
        return settled[job]


def _matching(pattern: str, path: str) -> dict[str, str] | None:
    """The wildcards by which `pattern` becomes `path`."""
    texts = [
        re.escape(piece) if index % 2 == 0 else f"(?P<{piece}>{'[0-9]+' if piece in NUMBERS else '[^/]+'})"
        for index, piece in enumerate(re.split(r"\{(\w+)\}", pattern))
    ]
    found = re.fullmatch("".join(texts), path)
    return found and found.groupdict()


def _not_older(path: str, than_ns: int) -> int:
    """The file's time in ns after it was raised to `than_ns`; 0 without such a file."""
    try:
        time_ns = os.stat(path).st_mtime_ns
        if time_ns < than_ns:
            os.utime(path, ns=(than_ns, than_ns))
        return max(time_ns, than_ns)
    except OSError:
        return 0


def _deciding(stage: str, block: dict) -> dict:
    """The part of a block that decides a job's result: not the licence of a data set, nor a mirror's address."""
    if stage != "fetch" or "url" not in block["source"]:
        return block
    archives = [
        {"content": archive.get("sha256", archive["url"]), "folder": archive.get("folder", "")}
        for archive in block["source"]["url"]["archives"]
    ]
    return {**block, "source": {"url": archives}, "consent": None}
