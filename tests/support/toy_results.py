"""Results of a configuration, written by hand, that the stage `tables` reads."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from gazepipe.common.files import write_json
from gazepipe.config import load as config
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import File, Job
from gazepipe.report.tables import tables


class Run:
    """A configuration whose results lie in a folder of their own: what the stage reads there, and what it writes.

    Networks are not tested with corrupted images unless the configuration says so.
    """

    def __init__(self, raw: dict, folder: Path):
        self.plan = Plan(config.load({"robustness": {"networks": []}, **raw}))
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


EXPLAINED = {
    "summary": {"heat maps": {"sanity": {"verdict": "the maps of every method change"}}},
    "width": {"low_rank": 6, "dropped": 12, "full_error_px": 11.5},
    "dimension": {"estimates": {"active_subspace_99": 3, "pca_99": 20}},
}


def write_points(path: Path, errors: dict[str, list[float]]) -> None:
    """Predictions of gaze points that are off to the right by so many pixels, a number for each image of a subject."""
    rows = [(subject, 600.0 + i, 400.0, off) for subject, offs in errors.items() for i, off in enumerate(offs)]
    frame = pd.DataFrame(rows, columns=["subject", "x", "y", "off"])
    frame = frame.assign(x_pred=frame.x + frame.off, y_pred=frame.y).drop(columns="off")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)


def write_near_eye(run: Run, errors: Callable[[str, int], dict[str, list[float]]]) -> None:
    """All that the near-eye tables are made from; `errors` (px) by the method (none: the mean) and the seed."""
    rows = [{"runtime": "eager", "batch": b, "images_per_second": 50.0, "latency_ms": 20.0 * b} for b in (8, 1)]
    size = {"model": {}, "params": 500_000, "first_fc_params": 160_000, "macs": 270_000_000, "rows": rows}
    for file, names, path in run.inputs("predictions", "profiles"):
        if file.job.stage == "profile":
            write_json(path, {"sizes": {"run": size}, "threads": 2, "machine": {"cpu": "a cpu"}})
        else:
            write_points(path, errors(names.get("method", "none"), int(names["seed"])))
    for _, _, path in run.inputs("weights"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 2048)
    for file, _, path in run.inputs("explanations"):
        write_json(path, EXPLAINED[file.output])
    for _, _, path in run.inputs("agreements"):
        path.parent.mkdir(parents=True)
        path.write_text("importance,a,b,spectrum\ntaylor,x,y,0.75\n")
