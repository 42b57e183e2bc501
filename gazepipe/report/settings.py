"""The typed settings of the stage `tables`, and the tables that it writes."""

from typing import Literal

from gazepipe.common.settings import Settings
from gazepipe.datasets.settings import Patch
from gazepipe.evaluation.settings import Statistics

TABLES = {
    "angles": ("benchmark", "cross_dataset", "efficiency", "efficiency_run_size", "comparisons"),
    "structural": ("compression",),
    "deploy": ("deployed",),
    "point": ("near_eye", "near_eye_subjects", "near_eye_comparisons"),
}
"""CSV tables by topic: the task of the data sets, or what was done with the networks."""


class DatasetSummary(Settings):
    """What the tables say of a data set."""

    drawn: bool
    """Whether it is drawn."""
    task: Literal["angles", "point"]
    """What is predicted."""
    patch: Patch
    """What networks see."""
    tests: list[str]
    """The data sets that its networks are tested on."""
    subjects: int
    """Number of subjects."""
    unit: Literal["subject", "day"]
    """What folds, errors and statistics are over."""
    protocol: str
    """Fold protocol."""
    validation: float
    """Share of the training subjects held out to choose the epoch."""
    fold_count: int
    """Folds that the protocol makes."""
    folds: list[int]
    """Folds that were run."""


class ModelSummary(Settings):
    """What the tables say of a model."""

    arch: str
    """The network."""
    width: float
    """Factor on its channels."""
    task: Literal["angles", "point"]
    """What it predicts."""


class MethodSummary(Settings):
    """What the tables say of a method."""

    parent: str | None
    """The method whose weights it starts from."""
    teacher: str | None
    """The method, or model/method, that it learns from."""
    shape: str | None
    """The method whose network it trains from nothing."""
    structural: bool
    """Whether it prunes."""
    profiled: str
    """The method that made the network's shape, by whose profile it is counted and timed."""


class NetworkSummary(Settings):
    """A selected model and method."""

    model: str
    """The model's name."""
    method: str
    """The method's name."""
    epochs: list[int]
    """Epochs of its trainings, those that differ between data sets."""
    source: str
    """Fingerprint of the training source."""


class TablesSettings(Settings):
    """Of the stage `tables`."""

    run: str
    """The run's name; empty for the default run."""
    topics: list[str]
    """What the run is about: keys of TABLES."""
    datasets: dict[str, DatasetSummary]
    """The selected data sets by name."""
    models: dict[str, ModelSummary]
    """The selected models by name."""
    methods: dict[str, MethodSummary]
    """The methods of the selected networks by name; the first is what others are compared with."""
    networks: list[NetworkSummary]
    """The selected networks."""
    seeds: list[int]
    """The selected seeds."""
    deployed: dict[str, list[tuple[str, str]]]
    """The (model, method) pairs that are exported, by data set."""
    explained: list[dict[str, str]]
    """The runs that are explained: dataset, model, method, fold, seed."""
    statistics: Statistics
    """How intervals are found."""
    files: dict[str, dict[str, str]]
    """Patterns of result files below the results folder, by stage and output."""
