"""The whole configuration as types: a catalogue (datasets, models, methods, training) and a selection (`benchmark`)."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gazepipe.common.settings import Count, Name, Seed, Settings, Share
from gazepipe.datasets.layouts.settings import LAYOUTS
from gazepipe.datasets.settings import Manifest, NearEye, Patch, Source, Split
from gazepipe.evaluation.settings import Robustness, Statistics
from gazepipe.export.settings import Deploy
from gazepipe.methods.settings import Kinds, declared
from gazepipe.near_eye.settings import Explain
from gazepipe.profiling.settings import Profiling
from gazepipe.training.settings import Augmentation, Training


class Dataset(Settings):
    """One data set of the catalogue."""

    layout: Literal[*LAYOUTS]
    """How the data set's files lie, which says what reads them."""
    source: Source
    """Where it comes from."""
    subjects: Count
    """Number of subjects that are used, the first ones; fewer in the data are an error."""
    split: Split
    """Its folds."""
    patch: Patch | None = None
    """What networks see of it. null: the top-level `patch`."""
    manifest: Manifest | None = None
    """How its table is read; with layout `manifest` only."""
    near_eye: NearEye | None = None
    """Corrections of its images; with layout `near-eye` only."""
    licence: str = ""
    """Licence of a `path` source, for the record."""
    max_rejected: Share = 0.01
    """Share of unusable images above which `prepare` fails."""
    parts: Count = 2
    """Jobs that prepare its subjects side by side."""
    training: dict[str, Any] = {}
    """Keys of the top-level `training` to override."""
    augmentation: dict[str, Any] = {}
    """Keys of the top-level `augmentation` to override."""

    @property
    def task(self) -> Literal["angles", "point"]:
        """What is to be predicted: gaze angles, or the gaze point in a scene image."""
        return LAYOUTS[self.layout].task

    @model_validator(mode="after")
    def _drawn_by_a_writer(self) -> "Dataset":
        if self.source.drawn is not None and not LAYOUTS[self.layout].drawn:
            raise ValueError(f"nothing draws layout {self.layout!r}; give its source a 'path' or a 'url'")
        return self

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
    """One network of the catalogue."""

    arch: str
    """A registered name, or one's own `module:function`."""
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Factor on the numbers of channels."""
    options: dict[str, Any] = {}
    """The network's own options."""
    task: Literal["angles", "point"] | None = None
    """What it predicts: gaze `angles`, or the gaze `point` in a scene image. null: what the registered network does,
    `angles` for one's own."""
    methods: list[Name] | None = None
    """Methods of this model in place of the benchmark's. null: the benchmark's."""
    training: dict[str, Any] = {}
    """Keys of the top-level `training` to override."""


class Method(Kinds):
    """A node of the DAG: what is done to a network, and from which other nodes."""

    parent: Name | None = None
    """Method of the same model whose weights are the start. null: random weights."""
    teacher: Annotated[str, Field(pattern=r"^[^/]+(/[^/]+)?$")] | None = None
    """Whom `kd` and `pseudo_labels` learn from: a method of the same model, or `model/method`."""
    unlabelled: list[Name] | dict[Name, list[Name]] = []
    """Data sets whose images, without their labels, `pseudo_labels` learns from: the same ones whatever the network is
    trained on, or by the data set that it is trained on. No network of the run may be tested on them."""
    shape: Name | None = None
    """Start from random weights, in the shape of the network that this other method makes."""
    control: Name | None = None
    """Method of the same model that trains as long without the idea: tables compare with it first. No edge of the DAG:
    it need not be selected. null: none."""
    training: dict[str, Any] = {}
    """Keys of the top-level `training` to override."""

    def unlabelled_for(self, dataset: str) -> list[str]:
        """The data sets without labels that a network sees which is trained on `dataset`."""
        return self.unlabelled if isinstance(self.unlabelled, list) else self.unlabelled.get(dataset, [])

    def images(self, dataset: str) -> float:
        """Images that a step of a training on `dataset` sees for each one that has a label."""
        return 1 + self.pseudo_labels.share if self.pseudo_labels and self.unlabelled_for(dataset) else 1

    @model_validator(mode="after")
    def _links(self) -> "Method":
        learners = [name for name, kind in declared(Kinds).items() if kind.needs == "teacher"]
        if any(name in self.chosen for name in learners) != (self.teacher is not None):
            raise ValueError(f"{' or '.join(map(repr, learners))} and 'teacher' go together")
        if bool(self.unlabelled) != (self.pseudo_labels is not None):
            raise ValueError("'pseudo_labels' and 'unlabelled' go together: name both, or neither")
        for name, kind in self.chosen.items():
            if kind.needs == "parent" and self.parent is None:
                raise ValueError(f"'{name}' starts from trained weights: name a 'parent'")
            if kind.stands_alone and self.parent is not None:
                raise ValueError(f"'{name}' starts from random weights: remove the 'parent'")
        if self.shape is not None and self.parent is not None:
            raise ValueError("'shape' starts from nothing, 'parent' from weights: name one of them")
        return self

    @property
    def starts_again(self) -> bool:
        """Whether filters start again."""
        return self.rebirth is not None and self.rebirth.share > 0


class Benchmark(Settings):
    """What goes into the tables."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    """Names of `datasets`. Networks train on each and are tested on all of the same task."""
    models: Annotated[list[Name], Field(min_length=1)]
    """Names of `models`."""
    methods: Annotated[list[Name], Field(min_length=1)]
    """Names of `methods`, for each model without its own."""
    folds: dict[Name, Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]] = {}
    """Folds of a data set that run. All where it is left out."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    """Each run is repeated with each seed."""
    skip: list[str] = []
    """Pairs `model/method` to leave out."""
    deploy: list[str] = []
    """Pairs `model/method` that are exported, tested through every runtime and timed; others are compared with the
    first."""


class Config(Settings):
    """The whole configuration."""

    run: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?$")] = ""
    """Name of the run: results go to `results/<run>/`, data to `data/<run>/`. Empty: `results/` and `data/`
    themselves."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What networks train and predict on. `auto`: a GPU where there is one."""
    patch: Patch = Patch()
    """What networks see, unless a data set says otherwise."""
    datasets: dict[Name, Dataset]
    """Catalogue of data sets."""
    models: dict[Name, Model]
    """Catalogue of networks."""
    methods: dict[Name, Method]
    """Catalogue of methods."""
    training: Training = Training()
    """How networks are trained."""
    augmentation: Augmentation = Augmentation()
    """Random changes of training images."""
    profiling: Profiling = Profiling()
    """How networks are timed."""
    statistics: Statistics = Statistics()
    """How methods are compared."""
    robustness: Robustness = Robustness()
    """How networks bear corrupted images."""
    explain: Explain = Explain()
    """What is read from near-eye networks."""
    deploy: Deploy = Deploy()
    """How networks are exported."""
    benchmark: Benchmark
    """What goes into the tables."""
