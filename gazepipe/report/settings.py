"""The typed settings of the stage `tables`, and the tables that it writes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from gazepipe.common.settings import Settings
from gazepipe.datasets.settings import Patch
from gazepipe.evaluation.settings import Statistics

TOPICS = {
    "angles": "angles",
    "structural": "angles",
    "rebirth": "angles",
    "point": "point",
    "deploy": None,
    "robustness": None,
}
"""What tables are about, and the task of the networks that they are made from; None: of every task."""


@dataclass(frozen=True)
class Table:
    """A table of the stage `tables`. Functions are named, "module:function", so that the declarations import nothing.

    - `name`: of the CSV and of the LaTeX file, in tables/.
    - `topic`: a key of TOPICS; the table is made in runs that are about it.
    - `section(results, frame)`: what the page says of it, a list of blocks: `str`, a paragraph of Markdown, or
      `pandas.DataFrame`, a table as it is shown, whose cells are text in Markdown.
    - `frame(results)`: the CSV, a DataFrame. Without it there is no CSV and no LaTeX file, only the section, which gets
      None.
    - `sentences(results, frame)`: what the top of the page says of it, blocks likewise.
    - `figures`: names of the figures that belong to the section, each in figures/ as SVG and as PNG. One that holds
      `{dataset}` stands for a figure of every data set of the topic.
    - `draw(results, frame)`: the figures by name, a dictionary of matplotlib's Figure, made without pyplot. It runs in
      the style of `gazepipe.common.plotting`, and the stage saves what it gives.

    `results` are the `gazepipe.evaluation.results.Results` of the topic's task.
    """

    name: str
    topic: str
    section: str
    frame: str = ""
    sentences: str = ""
    draw: str = ""
    figures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.draw) != bool(self.figures):
            raise ValueError(f"table {self.name}: figures need both their names and a function that draws them")

    def figure_names(self, datasets: Collection[str]) -> list[str]:
        """The names of its figures for these data sets of its topic."""
        return [
            figure.replace("{dataset}", dataset)
            for figure in self.figures
            for dataset in (datasets if "{dataset}" in figure else [""])
        ]

    @property
    def latex(self) -> str:
        """The name of its LaTeX file among the outputs of the stage."""
        return f"{self.name}_tex"

    @property
    def modules(self) -> list[str]:
        """The modules of its functions."""
        names = (self.frame, self.section, self.sentences, self.draw)
        return list(dict.fromkeys(name.partition(":")[0] for name in names if name))


def _table(
    name: str, topic: str, module: str, draw: str = "", figures: tuple[str, ...] = (), compares: bool = False
) -> Table:
    """The table whose functions are <name> and <name>_section of a module, and <name>_sentences where it compares."""
    function = f"{module}:{name}"
    section, sentences = f"{function}_section", f"{function}_sentences" if compares else ""
    return Table(name, topic, frame=function, section=section, sentences=sentences, draw=draw, figures=figures)


def _pictures(name: str, topic: str, module: str, figures: tuple[str, ...]) -> Table:
    """Figures without a table: the functions are section and draw of a module."""
    return Table(name, topic, section=f"{module}:section", draw=f"{module}:draw", figures=figures)


FIGURES = "gazepipe.report.figures"

TABLES = (
    _table("benchmark", "angles", "gazepipe.report.angles"),
    _table("cross_dataset", "angles", "gazepipe.report.angles", f"{FIGURES}.matrix:draw", ("cross-dataset",)),
    _table("efficiency", "angles", "gazepipe.report.efficiency"),
    _table("efficiency_run_size", "angles", "gazepipe.report.efficiency", f"{FIGURES}.cost:draw", ("pareto",)),
    _table(
        "comparisons",
        "angles",
        "gazepipe.report.angles",
        f"{FIGURES}.compared:draw",
        ("forest", "paired-{dataset}"),
        compares=True,
    ),
    _table("subjects", "angles", "gazepipe.report.angles"),
    _pictures("learning", "angles", f"{FIGURES}.learning", ("learning-{dataset}",)),
    _pictures("filters", "rebirth", f"{FIGURES}.filters", ("filters",)),
    _pictures("gaze", "angles", f"{FIGURES}.gaze", ("gaze-{dataset}",)),
    _table(
        "calibration", "angles", "gazepipe.report.calibration", "gazepipe.report.calibration:draw", ("calibration",)
    ),
    _table(
        "by_gaze", "angles", "gazepipe.report.conditions", "gazepipe.report.conditions:draw", ("gaze_pose-{dataset}",)
    ),
    _table("by_pose", "angles", "gazepipe.report.conditions"),
    _table("compression", "structural", "gazepipe.report.compression", compares=True),
    _table("near_eye", "point", "gazepipe.near_eye.tables"),
    _table(
        "near_eye_comparisons",
        "point",
        "gazepipe.near_eye.tables",
        f"{FIGURES}.compared:draw_near_eye",
        ("forest-near-eye", "paired-{dataset}"),
        compares=True,
    ),
    _table("near_eye_subjects", "point", "gazepipe.near_eye.tables"),
    _pictures("near_eye_learning", "point", f"{FIGURES}.learning", ("learning-{dataset}",)),
    _pictures("near_eye_gaze", "point", f"{FIGURES}.gaze", ("gaze-{dataset}",)),
    Table("explanations", "point", section="gazepipe.near_eye.tables:explanations_section"),
    _table("deployed", "deploy", "gazepipe.report.deployed", "gazepipe.report.pareto:draw", ("pareto/{dataset}",)),
    _table("deployed_comparisons", "deploy", "gazepipe.report.deployed", compares=True),
    _table(
        "robustness",
        "robustness",
        "gazepipe.report.robustness",
        "gazepipe.report.robustness_figure:draw",
        ("robustness/{dataset}",),
    ),
    _table("robustness_comparisons", "robustness", "gazepipe.report.robustness", compares=True),
)
"""Every table, in the order of the page."""


def chosen(topics: Collection[str]) -> list[Table]:
    """The tables of a run that is about `topics`."""
    return [table for table in TABLES if table.topic in topics]


def datasets_of(topic: str, tasks: Mapping[str, str], special: Mapping[str, Collection[str]]) -> list[str]:
    """The data sets that a topic is about, of the selected ones with their `tasks`: those that `special` names for a
    topic of every task (`deploy`: with exported networks, `robustness`: with corrupted images), else those of its task.
    """
    if topic in special:
        return [name for name in tasks if name in special[topic]]
    return [name for name, task in tasks.items() if task == TOPICS[topic]]


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
    control: str | None
    """The method that trains as long without its idea."""
    placebo: bool
    """Whether it is there to be beaten: its network cannot have learnt."""
    structural: bool
    """Whether it prunes."""
    rebirth: bool
    """Whether filters start again in it."""
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
    total_epochs: dict[str, int]
    """Epochs of its training and of those of its parents, by the data set that it is trained on."""
    source: str
    """Fingerprint of the training source."""


class TablesSettings(Settings):
    """Of the stage `tables`."""

    run: str
    """The run's name; empty for the default run."""
    topics: list[str]
    """What the run is about: keys of TOPICS."""
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
    corrupted: dict[str, list[tuple[str, str]]]
    """The (model, method) pairs that are tested with corrupted images, by data set."""
    explained: list[dict[str, str]]
    """The runs that are explained: dataset, model, method, fold, seed."""
    statistics: Statistics
    """How methods are compared."""
    files: dict[str, dict[str, str]]
    """Patterns of result files below the results folder, by stage and output."""

    def file(self, folder: Path, stage: str, output: str, **wildcards: object) -> Path:
        """The result `output` of a stage's job, below the results folder `folder`; further wildcards do not matter."""
        return folder / self.files[stage][output].format(**wildcards)

    def figures(self, table: Table) -> list[str]:
        """The names of a table's figures in this run."""
        tasks = {name: entry.task for name, entry in self.datasets.items()}
        special = {"deploy": self.deployed, "robustness": self.corrupted}
        return table.figure_names(datasets_of(table.topic, tasks, special))

    def of_task(self, task: str | None) -> Self:
        """The settings with the data sets, models and networks of one task; None: all of them."""
        if task is None:
            return self
        models = {name: model for name, model in self.models.items() if model.task == task}
        return self.model_copy(
            update={
                "datasets": {name: entry for name, entry in self.datasets.items() if entry.task == task},
                "models": models,
                "networks": [network for network in self.networks if network.model in models],
            }
        )


class MethodCard(Settings):
    """What the page says of a method."""

    parent: str | None
    """The method whose weights it starts from."""
    teacher: str | None
    """The method, or model/method, that it learns from."""
    shape: str | None
    """The method whose network it trains from nothing."""
    control: str | None
    """The method that trains as long without the idea, if it is selected, too."""
    kinds: dict[str, dict[str, Any]]
    """The settings of its kinds by name."""
    trainings: dict[str, dict[str, dict[str, Any]]]
    """Its training settings that are not the defaults, by model and data set."""
    networks: list[str]
    """The selected models that it is applied to; none for a method that others only start or learn from."""


class PageSettings(Settings):
    """Of the stage `page`."""

    root: str
    """The results folder, as commands name it."""
    about: TablesSettings
    """What the tables know of the run."""
    methods: dict[str, MethodCard]
    """The run's methods by name, and those that they start or learn from."""
    files: list[str]
    """The results that tables and figures are in, below the results folder."""
    sheets: dict[str, str]
    """The contact sheet of each data set, below the results folder."""
    bundles: dict[str, str]
    """The card of each exported network by "data set: model/method", below the results folder."""
    configuration: dict[str, Any]
    """The part of the configuration that the run uses."""

    def facts(self, folder: Path) -> list[Path]:
        """Where the facts of the trainings lie."""
        about = self.about
        networks = [(each.model, {"model": each.model, "method": each.method}) for each in about.networks]
        return [
            about.file(folder, "train", "facts", dataset=name, **network, fold=fold, seed=seed)
            for name, dataset in about.datasets.items()
            for model, network in networks
            if about.models[model].task == dataset.task
            for fold in dataset.folds
            for seed in about.seeds
        ]
