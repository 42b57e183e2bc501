"""Where files are, for commands that start from a file or a name instead of a job."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gazepipe.config.catalogue import DataFiles
from gazepipe.dag.stage import filled, matching, places
from gazepipe.dag.stages import STAGES

WEIGHTS = STAGES["train"].outputs["weights"]
PREDICTIONS = STAGES["predict"].outputs["predictions"]


def data_files(run: str, dataset: str) -> DataFiles:
    """The files of a data set in the run of this name ("": the default run), relative to the project."""
    known = {**places(run), "dataset": dataset}

    def path(stage: str, output: str) -> Path:
        return Path(filled(STAGES[stage].outputs[output], known))

    return DataFiles(
        raw=Path(places(run)["raw"]) / dataset,
        receipt=path("fetch", "receipt"),
        store=path("prepare", "store"),
        rejected=path("prepare", "rejected"),
        sheet=path("sheet", "sheet"),
    )


def files_of_data(run: str) -> Callable[[str], DataFiles]:
    """The files of each data set in a run, by its name."""
    return partial(data_files, run)


def weights_of_run(run: Path) -> Path:
    """The weights file of a run, which is named by its folder or by that file itself."""
    name = Path(WEIGHTS).name
    return run if run.suffix == Path(name).suffix else run / name


def data_of_run(weights: Path) -> tuple[Path, Path] | None:
    """Store and receipt of the data set of a run, by its weights; None where these are in no folder of results."""
    weights = weights.absolute()
    for root in weights.parents[:-1]:
        # `results` of the default run, or `results/RUN`.
        run, project = ("", root.parent) if root.name == "results" else (root.name, root.parent.parent)
        found = matching(WEIGHTS.replace("{results}/", ""), weights.relative_to(root).as_posix())
        if found and root == project / places(run)["results"]:
            files = data_files(run, found["dataset"])
            return project / files.store, project / files.receipt
    return None


def predictions_in(results: Path) -> list[tuple[dict[str, str], Path]]:
    """The prediction files in a folder of results, of whatever configuration, in the order of their names: wildcards
    and path of each.
    """
    pattern = PREDICTIONS.replace("{results}/", "")
    paths = sorted(results.glob(re.sub(r"\{\w+\}", "*", pattern)))
    found = [(matching(pattern, path.relative_to(results).as_posix()), path) for path in paths]
    return [(names, path) for names, path in found if names is not None]


def run_in(results: Path, **wildcards: str) -> Path:
    """The folder of a run in a folder of results."""
    return results / Path(filled(WEIGHTS.replace("{results}/", ""), wildcards)).parent
