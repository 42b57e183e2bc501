"""The typed block of comparisons, and the settings of the stages that predict."""

from typing import Annotated, Literal

from pydantic import Field

from gazepipe.common.settings import Count, Positive, Settings
from gazepipe.models.settings import Spec


class Statistics(Settings):
    """How methods are compared. Two are equivalent where their difference is shown to lie within the margin."""

    margin: Positive = 0.5
    """Largest difference of mean errors that does not matter, in degrees: of tables in degrees."""
    margin_percent: Positive = 10.0
    """The same in percent of the other network's mean error: of tables in percent (near-eye, pruned and exported
    networks), and so of errors in pixels."""


# ---- the stages


class PredictSettings(Settings):
    """Of the stage `predict`."""

    model: Spec
    """The network's arguments; shrinking and pruning may have changed its options and channels."""
    fold: Annotated[int, Field(ge=0)] | None
    """The fold whose test subjects are predicted; null: every subject of the store."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    """What it is computed on."""
    threads: Count
    """CPU threads."""


CONTROLS = {"mean": "gazepipe.evaluation.mean:mean_of", "ridge": "gazepipe.evaluation.ridge:ridge_of"}
"""What is predicted without a network, by the name that stands for its model: "module:function", loaded by name. The
function takes the store trained on and the subjects of the fold's roles, and gives a function of (store, rows [n]) to
predictions [n, 2] in the unit of the target."""
NO_METHOD = "none"
"""Stands for the method of a control."""


class ControlSettings(Settings):
    """Of the stage `predict_control`."""

    control: Literal[*CONTROLS]
    """What predicts."""
    fold: Annotated[int, Field(ge=0)]
    """The fold whose training subjects it learns from."""
    own: bool
    """Whether the data set tested is the one trained on: then only the fold's test subjects are predicted."""
