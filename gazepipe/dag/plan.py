"""The DAG of one configuration: each job's settings, files, source and key, and what it stands on.

All of it follows from the declarations in `gazepipe.dag.stages`. The key is a digest of the settings, of the job's own
source and of the keys below it. Rules hand it to Snakemake as a param, so a job reruns exactly when its key changes:
file times never matter.
"""

import importlib
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from gazepipe.common.settings import Settings
from gazepipe.config import select
from gazepipe.config.schema import Config
from gazepipe.dag.stage import WILDCARDS, File, Job, filled, matching, places
from gazepipe.dag.stages import STAGES
from gazepipe.errors import UserError
from gazepipe.models.registry import model_module
from gazepipe.provenance import fingerprint


class Plan:
    """What to run for one configuration."""

    def __init__(self, config: Config):
        self.config = config
        self.places = places(config.run)
        self.root = self.places["results"]
        self.key = cache(self._key)
        self.settings = cache(self._settings)
        self.inputs = cache(self._inputs)
        self._patterns = cache(self._patterns_of)
        self._fingerprint = cache(fingerprint.source_fingerprint)

    # ---- one job

    def _key(self, job: Job) -> str:
        """Digest of what a job is made of."""
        return fingerprint.digest(self.made_of(job))

    def made_of(self, job: Job) -> dict:
        """What a job's key is the digest of: settings, source, and the keys of the jobs `upstream` by their names."""
        return {
            "job": str(job),
            "settings": self.settings(job).deciding(),
            "source": self.source(job),
            "upstream": {str(each): self.key(each) for each in self.upstream(job)},
        }

    def _settings(self, job: Job) -> Settings:
        """The stage's typed settings."""
        return _function(STAGES[job.stage].settings)(self, **dict(job.wildcards))

    def _inputs(self, job: Job) -> dict[str, list[File]]:
        """What a job reads, by name; a list for one file, too."""
        reads = STAGES[job.stage].inputs
        found = _function(reads)(self, **dict(job.wildcards)) if reads else {}
        return {name: files if isinstance(files, list) else [files] for name, files in found.items()}

    def upstream(self, job: Job) -> list[Job]:
        """The jobs whose results one job reads."""
        return list(dict.fromkeys(file.job for files in self.inputs(job).values() for file in files))

    def outputs(self, job: Job) -> dict[str, str]:
        """The result files of a job by name; the first is the one that tells the job's folder."""
        wildcards = dict(job.wildcards)
        return {name: filled(pattern, wildcards) for name, pattern in self._patterns(job.stage).items()}

    def path(self, file: File) -> str:
        """Where a result lies, relative to the project."""
        return filled(self._patterns(file.job.stage)[file.output], dict(file.job.wildcards))

    def modules(self, job: Job) -> tuple[str, ...]:
        """Modules whose source, with all that they import, decides a job's result."""
        stage = STAGES[job.stage]
        own = stage.source or (stage.run.partition(":")[0],)
        loaded = _function(stage.modules)(self, **dict(job.wildcards)) if stage.modules else ()
        return (*own, *loaded)

    def source(self, job: Job) -> str:
        """Fingerprint of the source that one job runs."""
        return self._fingerprint(self.modules(job))

    def told(self, job: Job, elsewhere: bool) -> dict[str, str | bool]:
        """What the command of a job is told of it: name, results folder, key, source, the file for its state, and
        whether results are kept elsewhere."""
        told = {"name": str(job), "root": self.root, "key": self.key(job), "source": self.source(job)}
        state = (
            {"state": f"{self.root}/.state/{'/'.join([job.stage, *job.names])}"} if STAGES[job.stage].resumes else {}
        )
        return {**told, **state, "elsewhere": elsewhere}

    # ---- patterns and other files of a stage: wildcards stand for themselves

    def patterns(self, stage: str) -> dict[str, str]:
        """The result files of a stage's jobs by name, with its wildcards as `{dataset}` and so on."""
        return dict(self._patterns(stage))

    def _patterns_of(self, stage: str) -> dict[str, str]:
        outputs = STAGES[stage].outputs
        declared = _function(outputs)(self) if isinstance(outputs, str) else outputs
        return {name: filled(pattern, self.places) for name, pattern in declared.items()}

    def log(self, stage: str) -> str:
        """Pattern of the logs of a stage's jobs."""
        return f"{self.root}/logs/{'-'.join(_names(stage))}.log"

    def benchmark(self, stage: str) -> str:
        """Pattern of Snakemake's records of time and memory of a stage's jobs."""
        return f"{self.root}/benchmarks/{'-'.join(_names(stage))}.tsv"

    def maker(self, path: str) -> Job:
        """The job that makes a result file, or most of a result folder; UserError where none does."""
        for stage in STAGES:
            for pattern in self._patterns(stage).values():
                for candidate in (pattern, os.path.dirname(pattern)):
                    found = matching(candidate, path) if "{" in candidate or candidate == pattern else None
                    # A folder may hold the results of several jobs.
                    if found is not None and found.keys() == set(STAGES[stage].wildcards):
                        return Job.of(stage, **found)
        raise UserError(f"{path}: is no result of this configuration; give a file below {self.root}/")

    # ---- what the declarations ask for

    def parts(self, dataset: str) -> range:
        """Numbers of the parts that a data set is prepared in."""
        entry = self.config.datasets[dataset]
        return range(min(entry.parts, entry.subjects))

    def network_module(self, model: str) -> str:
        """The module that holds a model's network."""
        return model_module(self.config.models[model].arch)

    def kind_modules(self, method: str) -> tuple[str, ...]:
        """The modules of what a method does."""
        return tuple(kind.code.partition(":")[0] for kind in self.config.methods[method].chosen.values())

    def targets(self) -> Iterator[Job]:
        """The jobs that are requested by name: the page and its tables, and every bundle that may be exported."""
        yield Job.of("page")
        for dataset in self.config.benchmark.datasets:
            for model, method in select.networks_for(self.config, dataset):
                yield Job.of("export", dataset=dataset, model=model, method=method)


@cache
def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _names(stage: str) -> list[str]:
    return [stage, *(f"{{{name}}}" for name in WILDCARDS if name in STAGES[stage].wildcards)]
