"""What a run takes over from the weights file of another: network, shape, and what its numbers mean."""

from pathlib import Path

from torch import nn

from gazepipe.datasets.store import Store
from gazepipe.errors import UserError
from gazepipe.models.registry import checked_spec
from gazepipe.models.weights import load_weights, read_metadata
from gazepipe.training.samples import Samples, size_text


def description(store: Store, samples: Samples) -> dict:
    """What a weights file says beside the network: what images and predictions of a run on `samples` mean."""
    return {
        "mean": samples.mean,
        "std": samples.std,
        "units": samples.units,
        "target_scale": list(samples.scale),
        "patch": store.attrs["patch"],
        "dataset": store.attrs["dataset"],
    }


def spec_like(weights: Path, spec: dict) -> dict:
    """The spec in a weights file, where it is `spec` but for options and channels, which shrinking and pruning change.

    Raises UserError for another architecture, width or input.
    """
    found, expected = read_metadata(weights)["model"], checked_spec(spec)
    if any(found[name] != expected[name] for name in ("arch", "width", "input")):
        load_weights(weights, expect_spec=spec)  # says what differs
    return found


def load_like(weights: Path, spec: dict) -> tuple[nn.Module, dict]:
    """The network of a weights file, and its metadata; errors as `spec_like` and `load_weights`."""
    return load_weights(weights, expect_spec=spec_like(weights, spec))


def load_teacher(teacher: Path, student_spec: dict, samples: Samples) -> nn.Module:
    """The teacher's network; any architecture whose input is the student's.

    Raises UserError for another input, and for one that predicts other units or sees images otherwise normalised
    than `samples`.
    """
    metadata = read_metadata(teacher)
    spec = metadata["model"]
    theirs, ours = size_text(spec["input"]), size_text(student_spec["input"])
    if theirs != ours:
        raise UserError(
            f"{teacher}: is a teacher for images of {theirs}, the student takes {ours}; "
            "train the teacher on the same patch"
        )
    check_units(teacher, metadata, samples.units)
    normalisation = [metadata.get(name) for name in ("mean", "std")]
    if normalisation != [samples.mean, samples.std]:
        raise UserError(
            f"{teacher}: normalises images by mean and deviation {normalisation}, the student by "
            f"{[samples.mean, samples.std]}; give both the same training.normalise"
        )
    # The configuration has already named the student's architecture: a user's own network may be its own teacher.
    return load_weights(teacher, expect_spec=spec if spec["arch"] == student_spec["arch"] else None)[0]


def check_units(weights: Path, metadata: dict, units: str) -> None:
    """Refuse, with a UserError, weights that predict other units than those of a data set."""
    theirs = metadata.get("units", "rad")
    if theirs != units:
        raise UserError(f"{weights}: predicts {theirs}, the data set is in {units}; name weights trained on such a set")


def scale_of(metadata: dict) -> tuple[float, float]:
    """What the predictions of a weights file are multiplied by."""
    x, y = metadata.get("target_scale", (1.0, 1.0))
    return float(x), float(y)
