"""The DAG as plain functions of the configuration: for each job its block, its key and what it stands on.

`block` is everything of the configuration that a job reads, and nothing else. `key` is a digest of that block, of the
job's own source and of the keys below it. Rules hand both to Snakemake as params, so a job reruns exactly when its key
changes: file times never matter.
"""

import os
from dataclasses import dataclass
from functools import cache

from gazepipe import config as configuration
from gazepipe import paths, provenance
from gazepipe.config import Config
from gazepipe.models import model_module

MEAN_MODEL = "mean"  # the predict-the-mean row of the tables
NO_METHOD = "none"
PAPER_INPUT = (1, 224, 224)
METHOD_MODULES = {"kd": "gazepipe.training.distillation", "rebirth": "gazepipe.compression.rebirth"}


@dataclass(frozen=True)
class Job:
    """A stage and the wildcards that name one job of it, as sorted (name, value) pairs."""

    stage: str
    wildcards: tuple[tuple[str, str], ...]

    @staticmethod
    def of(stage: str, **wildcards: object) -> "Job":
        """The job of `stage` with these wildcards; values become text, as Snakemake has them."""
        return Job(stage, tuple(sorted((name, str(value)) for name, value in wildcards.items())))


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
        wildcards = dict(job.wildcards)
        return provenance.digest(
            {
                "stage": job.stage,
                "wildcards": wildcards,
                "block": _deciding(job.stage, self.block(job.stage, **wildcards)),
                "source": provenance.source_fingerprint(self.modules(job.stage, **wildcards)),
                "upstream": [self._key(upstream) for upstream in self.upstream(job.stage, **wildcards)],
            }
        )

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
            "patch": self.config.patch.model_dump(),
            "part": int(part),
            "parts": entry.parts,
            "options": self._options(dataset),
        }

    def _options(self, dataset: str) -> dict:
        """What the layout's reader wants to know beyond the folder."""
        manifest = self.config.datasets[dataset].manifest
        return {"manifest": manifest.model_dump(exclude_none=True)} if manifest else {}

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
            "model": self._spec(model),
            "training": {
                **configuration.training_of(self.config, dataset, model, method).model_dump(),
                "augmentation": self.config.augmentation.model_dump(),
            },
            "kd": node.kd.model_dump() if node.kd else None,
            "rebirth": node.rebirth.model_dump() if node.rebirth else None,
            "device": self.config.device,
            "fold": int(fold),
            "seed": int(seed),
        }

    def _block_predict(self, dataset: str, model: str, method: str, fold: str, seed: str, test: str) -> dict:
        return {
            "model": self._spec(model),
            # Another data set is predicted whole.
            "fold": int(fold) if test == dataset else None,
            "device": self.config.device,
            "threads": self.config.training.threads,
        }

    def _block_predict_mean(self, dataset: str, fold: str, seed: str, test: str) -> dict:
        return {"fold": int(fold), "own": test == dataset}

    def _block_profile(self, model: str, method: str) -> dict:
        spec = self._spec(model)
        # The paper's size is that of the published network: full width.
        paper = {**spec, "width": 1.0, "input": list(PAPER_INPUT)}
        return {
            "sizes": {"paper": paper, "run": spec},
            **self.config.profiling.model_dump(),
        }

    def _block_tables(self) -> dict:
        config = self.config
        chosen = config.benchmark
        return {
            "run": config.run,
            "datasets": {name: self._dataset_summary(name) for name in chosen.datasets},
            "models": {name: config.models[name].model_dump(include={"arch", "width"}) for name in chosen.models},
            "methods": {name: self._method_summary(name) for name in chosen.methods},
            "networks": [
                {
                    "model": model,
                    "method": method,
                    "epochs": self._epochs(model, method),
                    "source": self.source("train", model=model, method=method),
                }
                for model, method in configuration.networks(config)
            ],
            "seeds": chosen.seeds,
            "patch": config.patch.model_dump(),
            "statistics": config.statistics.model_dump(),
        }

    def _dataset_summary(self, name: str) -> dict:
        entry = self.config.datasets[name]
        return {
            "drawn": entry.source.drawn is not None,
            "subjects": entry.subjects,
            "unit": entry.split.by,
            "protocol": entry.split.protocol,
            "validation": entry.split.validation,
            "fold_count": len(configuration.fold_numbers(entry)),
            "folds": configuration.folds(self.config, name),
        }

    def _method_summary(self, name: str) -> dict:
        node = self.config.methods[name]
        return {"parent": node.parent, "teacher": node.teacher, "profiled": self.network_of(name)}

    def _epochs(self, model: str, method: str) -> list[int]:
        rebirth = self.config.methods[method].rebirth
        if rebirth:
            return [rebirth.generations * rebirth.epochs]
        chosen = self.config.benchmark.datasets
        epochs = (configuration.training_of(self.config, name, model, method).epochs for name in chosen)
        return list(dict.fromkeys(epochs))

    def _spec(self, model: str) -> dict:
        entry, patch = self.config.models[model], self.config.patch
        return {"arch": entry.arch, "width": entry.width, "input": [1, patch.height, patch.width]}

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
                return ("gazepipe.evaluation.predict",)
            case "profile":
                return ("gazepipe.profiling.stage", self._module_of(wildcards["model"]))
            case "tables":
                return ("gazepipe.report.tables",)
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
                return data + [Job.of("train", **node) for node in self.linked_runs(**wildcards).values()]
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
                return self.table_jobs() + sheets
        return []

    def parts(self, dataset: str) -> range:
        """Numbers of the parts that a data set is prepared in."""
        entry = self.config.datasets[dataset]
        return range(min(entry.parts, entry.subjects))

    def linked_runs(self, dataset: str, model: str, method: str, fold: str, seed: str) -> dict[str, dict]:
        """Wildcards of the `parent` and `teacher` runs of a run, those that it has."""
        common = {"dataset": dataset, "fold": fold, "seed": seed}
        linked = {}
        parent = self.config.methods[method].parent
        if parent:
            linked["parent"] = {**common, "model": model, "method": parent}
        teacher = configuration.teacher_of(self.config, model, method)
        if teacher:
            linked["teacher"] = {**common, "model": teacher[0], "method": teacher[1]}
        return linked

    def network_of(self, method: str) -> str:
        """The method that made the network's shape; training, KD and re-birth keep the shape that they start from."""
        parent = self.config.methods[method].parent
        return self.network_of(parent) if parent else "base" if "base" in self.config.methods else method

    def table_jobs(self) -> list[Job]:
        """Every prediction and profile that the tables read."""
        chosen = self.config.benchmark
        networks = configuration.networks(self.config)
        profiles = dict.fromkeys((model, self.network_of(method)) for model, method in networks)
        jobs = [Job.of("profile", model=model, method=method) for model, method in profiles]
        for dataset in chosen.datasets:
            for fold in configuration.folds(self.config, dataset):
                for test in chosen.datasets:
                    jobs.append(Job.of("predict_mean", dataset=dataset, fold=fold, seed=0, test=test))
                    jobs += [
                        Job.of("predict", dataset=dataset, model=m, method=n, fold=fold, seed=seed, test=test)
                        for m, n in networks
                        for seed in chosen.seeds
                    ]
        return jobs

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
            case "tables":
                return paths.tables(self.root)
        raise KeyError(job.stage)

    def settle_times(self) -> None:
        """Give every result that is older than what it was made from the time of the latter.

        Snakemake reruns a job whose input is newer than its output. Keys already decide what reruns, so after a copy, a
        clone or a `touch` such an order of times means nothing. Results that may not be changed are left alone.
        """
        self._settle(Job.of("tables"), {})

    def _settle(self, job: Job, settled: dict[Job, int]) -> int:
        if job not in settled:
            upstream = self.upstream(job.stage, **dict(job.wildcards))
            newest = max((self._settle(each, settled) for each in upstream), default=0)
            names = [dict(job.wildcards)[name] for name in paths.WILDCARDS if name in dict(job.wildcards)]
            # Snakemake counts a job's benchmark record among its outputs.
            for path in [*self.outputs(job), paths.benchmark(self.root, job.stage, *names)]:
                newest = max(newest, _not_older(path, newest))
            settled[job] = newest
        return settled[job]


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
