"""Results of a configuration, written by hand, that the stage `tables` reads."""

from pathlib import Path

import pandas as pd

from gazepipe.common.files import write_json
from gazepipe.config import load as config
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import File, Job
from gazepipe.report.tables import tables


class Run:
    """A configuration whose results lie in a folder of their own: what the stage reads there, and what it writes."""

    def __init__(self, raw: dict, folder: Path):
        self.plan = Plan(config.load(raw))
        self.folder = folder

    def file(self, file: File) -> Path:
        return self.folder / Path(self.plan.path(file)).relative_to(self.plan.root)

    def inputs(self, *names: str) -> list[tuple[File, dict, Path]]:
        """The files that the tables are made from, each with its wildcards and its place."""
        read = self.plan.inputs(Job.of("tables"))
        return [(file, dict(file.job.wildcards), self.file(file)) for name in names for file in read[name]]

    def write(self) -> None:
        tables(self.plan.settings(Job.of("tables")), self.folder)

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / "tables" / f"{name}.csv", keep_default_na=False, na_values=[""])

    @property
    def page(self) -> Path:
        return self.folder / "tables.md"


def row(frame: pd.DataFrame, **where: str) -> pd.Series:
    for column, value in where.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def write_profile(path: Path) -> None:
    """A profile that is the same for every network."""
    row = {"runtime": "eager", "batch": 1, "images_per_second": 50.0, "latency_ms": 20.0}
    size = {"model": {}, "params": 1_000_000, "macs": 2_000_000_000, "rows": [row]}
    write_json(path, {"sizes": {"paper": size, "run": size}, "threads": 2, "machine": {"cpu": "a cpu", "cores": 2}})
