"""What a stage, a job and a result file are: the words in which `gazepipe.dag.stages` declares the DAG."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

WILDCARDS = ("dataset", "model", "method", "fold", "seed", "part")
"""Every wildcard, in the order in which a job's names are written."""
NUMBERS = ("fold", "seed", "part")
ALL_CORES = 0
"""The number of slots that stands for every core of the machine."""


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
        """The values of the wildcards, in the order of WILDCARDS."""
        wildcards = dict(self.wildcards)
        return [wildcards[name] for name in WILDCARDS if name in wildcards]

    def __str__(self) -> str:
        return " ".join([self.stage, *self.names])


@dataclass(frozen=True)
class File:
    """One result of a job: the output of this name."""

    job: Job
    output: str


def made(stage: str, output: str, **wildcards: object) -> File:
    """The file `output` of a stage's job with these wildcards."""
    return File(Job.of(stage, **wildcards), output)


Files = dict[str, "File | list[File]"]
"""What a job reads, by the name under which its function gets it."""


def one(settings: Any) -> int:
    """One core, or one process, whatever the settings."""
    return 1


def _none(settings: Any) -> int:
    return 0


@dataclass(frozen=True)
class Stage:
    """A step of the DAG; see docs/design.md, "A stage is declared once".

    Functions that need the configuration are named, "module:function", so that the declarations import nothing.

    - `run`: the job's function; `settings(plan, **wildcards)`: its settings; none where they are left out.
    - `outputs`: name -> pattern, whose places are the wildcards, `{results}` (the folder of the run's results) and
      `{raw}` (of its raw data); or a function of the plan that gives them.
    - `inputs(plan, **wildcards)`: what a job reads, by name. Those named in `besides` are not handed to the function:
      it finds them beside the others, or by its settings.
    - `modules(plan, **wildcards)`: modules that are loaded by name. `source`: modules that decide the result in place
      of the function's own.
    - `cores`, `gpus`, `processes`: of the settings: core slots that the job holds (ALL_CORES: all; None: it waits for
      none), GPUs of each of its processes, processes.
    - `whole_folder`: the function gets the folder of the outputs, the first of which lies directly in it.
    - `resumes`: the function is told where to keep its state.
    - `stays`: results stay on the machine that made them when others are kept elsewhere.
    """

    run: str
    wildcards: tuple[str, ...]
    outputs: Mapping[str, str] | str
    settings: str = "gazepipe.dag.settings:nothing"
    inputs: str = ""
    besides: tuple[str, ...] = ()
    modules: str = ""
    source: tuple[str, ...] = ()
    cores: Callable[[Any], int | None] = one
    gpus: Callable[[Any], int] = _none
    processes: Callable[[Any], int] = one
    whole_folder: bool = False
    resumes: bool = False
    stays: bool = False

    def __post_init__(self) -> None:
        taken = [name for name in self.outputs if hasattr(list, name)] if isinstance(self.outputs, Mapping) else []
        if taken:
            raise ValueError(f"{self.run}: an output may not be called {taken[0]}, as Snakemake's lists have a method")


def places(run: str) -> dict[str, str]:
    """The folders that patterns begin with, relative to the project; the default run is ""."""
    return {"results": f"results/{run}" if run else "results", "raw": f"data/{run}/raw" if run else "data/raw"}


def filled(pattern: str, values: Mapping[str, object]) -> str:
    """The pattern with these of its places filled."""
    for name, value in values.items():
        pattern = pattern.replace(f"{{{name}}}", str(value))
    return pattern


def matching(pattern: str, path: str) -> dict[str, str] | None:
    """The wildcards by which `pattern` becomes `path`; None where it does not."""
    texts, seen = [], set()
    for index, piece in enumerate(re.split(r"\{(\w+)\}", pattern)):
        if index % 2 == 0:
            texts.append(re.escape(piece))
        elif piece in seen:
            texts.append(f"(?P={piece})")
        else:
            seen.add(piece)
            texts.append(f"(?P<{piece}>{'[0-9]+' if piece in NUMBERS else '[^/]+'})")
    found = re.fullmatch("".join(texts), path)
    return found and found.groupdict()
