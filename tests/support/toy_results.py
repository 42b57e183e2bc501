"""Results of a configuration, written by hand, that the stage `tables` reads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file
from toy_predictions import put_test

from gazepipe.common.files import write_json
from gazepipe.config import load as config
from gazepipe.config import select
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import File, Job
from gazepipe.datasets.store import write_store
from gazepipe.report.figures.filters import of_filters
from gazepipe.report.tables import tables

LAYERS = ("stem.0", "body.0")
SAMPLES = 6
"""Of each subject in a store."""


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
        """The files that the tables are made from, each with its wildcards and its place; predictions once for each
        test set in them, named by `test`.
        """
        read = self.plan.inputs(Job.of("tables"))
        found = [(name, file, dict(file.job.wildcards)) for name in names for file in read[name]]
        return [
            (file, wildcards | test, self.file(file))
            for name, file, wildcards in found
            for test in (self._tests(wildcards["dataset"]) if name == "predictions" else [{}])
        ]

    def _tests(self, dataset: str) -> list[dict[str, str]]:
        return [{"test": test} for test in select.selected_with(self.plan.config, dataset)]

    def fill(self) -> None:
        """Write what only figures are made from, where a test has not."""
        writers: dict[str, Callable[[Run, dict, Path], None]] = {
            "history": write_history,
            "facts": write_facts,
            "weights": write_filters,
            "store": write_images,
        }
        for file, names, path in self.inputs("histories", "filters", "stores"):
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                writers[file.output](self, names, path)

    def write(self) -> None:
        self.fill()
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


def write_points(path: Path, test: str, errors: dict[str, list[float]]) -> None:
    """Predictions of gaze points that are off to the right by so many pixels, a number for each image of a subject."""
    rows = [(subject, 600.0 + i, 400.0, off) for subject, offs in errors.items() for i, off in enumerate(offs)]
    frame = pd.DataFrame(rows, columns=["subject", "x", "y", "off"])
    frame = frame.assign(x_pred=frame.x + frame.off, y_pred=frame.y).drop(columns="off")
    put_test(path, test, frame)


def write_near_eye(run: Run, errors: Callable[[str, int], dict[str, list[float]]]) -> None:
    """All that the near-eye tables are made from; `errors` (px) by the method (none: the mean) and the seed."""
    rows = [{"runtime": "eager", "batch": b, "images_per_second": 50.0, "latency_ms": 20.0 * b} for b in (8, 1)]
    size = {"model": {}, "params": 500_000, "first_fc_params": 160_000, "macs": 270_000_000, "rows": rows}
    for file, names, path in run.inputs("predictions", "profiles"):
        if file.job.stage == "profile":
            write_json(path, {"sizes": {"run": size}, "threads": 2, "machine": {"cpu": "a cpu"}})
        else:
            write_points(path, names["test"], errors(names.get("method", "none"), int(names["seed"])))
    for _, _, path in run.inputs("weights"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 2048)
    for file, _, path in run.inputs("explanations"):
        write_json(path, EXPLAINED[file.output])
    for _, _, path in run.inputs("agreements"):
        path.parent.mkdir(parents=True)
        path.write_text("importance,a,b,spectrum\ntaylor,x,y,0.75\n")


def write_history(run: Run, names: dict, path: Path) -> None:
    """Six epochs whose validation error is 12 / epoch + seed."""
    epochs = np.arange(1, 7)
    errors = 12 / epochs + int(names["seed"])
    pd.DataFrame({"epoch": epochs, "lr": 0.1, "train_loss": 1.0, "validation_error": errors}).to_csv(path, index=False)


def toy_filters(name: str) -> dict[str, np.ndarray]:
    """Filters of LAYERS that are the same for the same name."""
    draws = np.random.default_rng(sum(map(ord, name)))
    return {layer: draws.normal(size=(8, 2, 3, 3)).astype(np.float32) for layer in LAYERS}


def write_filters(run: Run, names: dict, path: Path) -> None:
    save_file({f"{layer}.weight": value for layer, value in toy_filters(names["method"]).items()}, path)


def write_facts(run: Run, names: dict, path: Path) -> None:
    """Two generations of re-birth: the first finds the filters of "before", the last leaves those of "after"."""
    alike = {
        when: {layer: of_filters(rows.reshape(8, -1)) for layer, rows in toy_filters(when).items()}
        for when in ("before", "after")
    }
    layers = [{"name": name, "reborn": 1, **{when: alike[when][name] for when in alike}} for name in LAYERS]
    write_json(path, {"cycles": [{"rebirth": {"layers": layers}}] * 2})


def write_images(run: Run, names: dict, path: Path) -> None:
    """A store of grey images with random targets, SAMPLES of each of eight subjects."""
    entry = run.plan.config.datasets[names["dataset"]]
    point, draws = entry.task == "point", np.random.default_rng(0)
    batches = [
        {
            "image": draws.integers(0, 255, (SAMPLES, 4 if point else 1, 12, 36), np.uint8),
            "target": draws.uniform(0, 600, (SAMPLES, 2)) if point else draws.uniform(-0.3, 0.3, (SAMPLES, 2)),
            "head_pose": np.zeros((SAMPLES, 2)),
            "subject": f"s{subject}",
            "frame": [str(number) for number in range(SAMPLES)],
        }
        for subject in range(8)
    ]
    attrs = {"units": "px", "task": "gaze point", "target_scale": [800.0, 800.0]} if point else {}
    write_store(path, batches, {"dataset": names["dataset"], "patch": {}, "source": "toy", **attrs})
