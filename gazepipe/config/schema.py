"""The whole configuration as types: a catalogue (datasets, models, methods, training) and a selection (`benchmark`)."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gazepipe.common.settings import Count, Name, Seed, Settings, Share
from gazepipe.datasets.settings import POINT_LAYOUTS, Manifest, NearEye, Patch, Source, Split
from gazepipe.evaluation.settings import Statistics
from gazepipe.export.settings import Deploy
from gazepipe.methods.settings import Kinds
from gazepipe.near_eye.settings import Explain
from gazepipe.profiling.settings import Profiling
from gazepipe.training.settings import Augmentation, Training


class Dataset(Settings):
    """One data set of the catalogue. `patch`: in place of the top-level one. `licence`: that of a `path` source, for
    the record. `max_rejected`: the share of unusable images above which `prepare` fails. `training` and
    `augmentation` override keys of the top-level blocks."""

    layout: Literal["columbia", "mpiifacegaze", "ethxgaze", "mpiigaze", "mpiigaze-npz", "manifest", "near-eye"]
    source: Source
    subjects: Count
    split: Split
    patch: Patch | None = None
    manifest: Manifest | None = None
    near_eye: NearEye | None = None
    licence: str = ""
    max_rejected: Share = 0.01
    parts: Count = 2
    training: dict[str, Any] = {}
    augmentation: dict[str, Any] = {}

    @property
    def task(self) -> Literal["angles", "point"]:
        """What is to be predicted: gaze angles, or the gaze point in a scene image."""
        return "point" if self.layout in POINT_LAYOUTS else "angles"

    @model_validator(mode="after")
    def _near_eye_with_its_layout(self) -> "Dataset":
        near_eye = self.layout == "near-eye"
        if self.near_eye is not None and not near_eye:
            raise ValueError("'near_eye' goes with layout 'near-eye', and only with it")
        if (self.split.protocol == "given") != near_eye:
            raise ValueError("protocol 'given' goes with layout 'near-eye', and only with it")
        return self

    @model_validator(mode="after")
    def _manifest_with_its_layout(self) -> "Dataset":
        if (self.manifest is not None) != (self.layout == "manifest"):
            raise ValueError("'manifest' goes with layout 'manifest', and only with it")
        return self


class Model(Settings):
    """A network: `arch` is a registered name or a user's own `module:function`; `width` multiplies its channels;
    `options` are the network's own; `task`: whether it predicts gaze `angles` or a gaze `point` (left out: what
    the registered network does, `angles` for one's own); `methods`: in place of the benchmark's; `training`
    overrides keys of the top-level block."""

    arch: str
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    options: dict[str, Any] = {}
    task: Literal["angles", "point"] | None = None
    methods: list[Name] | None = None
    training: dict[str, Any] = {}


class Method(Kinds):
    """A node of the DAG: what is done (`kd`, `rebirth`, `shrink`, `structural`), from which weights (`parent`), taught
    by whom (`teacher`: a method of the same model, or `model/method`); `shape`: start from nothing, as the network that
    this other method makes; `training` overrides keys of the top-level block."""

    parent: Name | None = None
    teacher: Annotated[str, Field(pattern=r"^[^/]+(/[^/]+)?$")] | None = None
    shape: Name | None = None
    training: dict[str, Any] = {}

    @model_validator(mode="after")
    def _links(self) -> "Method":
        if (self.kd is None) != (self.teacher is None):
            raise ValueError("'kd' and 'teacher' go together")
        for kind in ("rebirth", "shrink", "structural"):
            if getattr(self, kind) is not None and self.parent is None:
                raise ValueError(f"'{kind}' starts from trained weights: name a 'parent'")
        if self.shape is not None and self.parent is not None:
            raise ValueError("'shape' starts from nothing, 'parent' from weights: name one of them")
        return self


class Benchmark(Settings):
    """The selection that goes into the tables. `folds` per data set: a list, or all folds where it is left out;
    `skip`: pairs `model/method` that make no sense together; `deploy`: pairs that are exported, tested through every
    runtime and timed against each other, the first being the one that others are compared with."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    models: Annotated[list[Name], Field(min_length=1)]
    methods: Annotated[list[Name], Field(min_length=1)]
    folds: dict[Name, Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]] = {}
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    skip: list[str] = []
    deploy: list[str] = []


class Config(Settings):
    """The whole configuration. `run` names the folder below `results/` (and `data/`), empty for the top itself."""

    run: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?$")] = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    patch: Patch = Patch()
    datasets: dict[Name, Dataset]
    models: dict[Name, Model]
    methods: dict[Name, Method]
    training: Training = Training()
    augmentation: Augmentation = Augmentation()
    profiling: Profiling = Profiling()
    statistics: Statistics = Statistics()
    explain: Explain = Explain()
    deploy: Deploy = Deploy()
    benchmark: Benchmark
