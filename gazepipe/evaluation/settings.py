"""The typed blocks of comparisons and of robustness, and the settings of the stages that predict."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gazepipe.common.settings import Count, NonNegative, Positive, Settings, Share
from gazepipe.models.settings import Spec


class Statistics(Settings):
    """How methods are compared. Two are equivalent where their difference is shown to lie within the margin."""

    margin: Positive = 0.5
    """Largest difference of mean errors that does not matter, in degrees: of tables in degrees."""
    margin_percent: Positive = 10.0
    """The same in percent of the other network's mean error: of tables in percent (near-eye, pruned and exported
    networks), and so of errors in pixels."""


class Jitter(Settings):
    """The same image seen several times, as a camera and a landmark detector see it when nothing moves."""

    samples: Count = 4
    """At most so many images of each subject."""
    repeats: Annotated[int, Field(ge=2, le=1000)] = 8
    """How often each is seen."""
    noise: NonNegative = 2.0
    """Standard deviation of the sensor's noise, grey levels of 255."""
    shift: Share = 0.005
    """Standard deviation of the place of the crop along each axis, as a share of its width. Images that are not cut out
    by landmarks (`near-eye`) stay where they are."""


Strengths = Annotated[list[Positive], Field(min_length=3, max_length=3)]
Shares = Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=3, max_length=3)]
Qualities = Annotated[list[Annotated[int, Field(ge=0, le=100)]], Field(min_length=3, max_length=3)]


class Corruptions(Settings):
    """What test images are corrupted by, each in three strengths: mild, medium, strong."""

    samples: Count = 4
    """At most so many images of each subject, evenly spread."""
    noise: Strengths = [5.0, 15.0, 30.0]
    """Standard deviation of Gaussian noise of every pixel, grey levels of 255."""
    blur: Shares = [0.005, 0.01, 0.02]
    """Standard deviation of a Gaussian blur, as a share of the image's width."""
    darker: Strengths = [1.0, 2.0, 3.0]
    """Stops by which the exposure is shorter: light halved by each, then a camera's gamma of 2.2."""
    brighter: Strengths = [0.5, 1.0, 2.0]
    """Stops by which the exposure is longer; what is brighter than white is white."""
    jpeg: Qualities = [50, 20, 10]
    """Quality of JPEG compression, as OpenCV counts it."""
    occlusion: Shares = [0.05, 0.15, 0.3]
    """Share of the area that a dark or grey rectangle covers."""
    jitter: Jitter = Jitter()
    """How precise predictions are."""

    @model_validator(mode="after")
    def _rising(self) -> "Corruptions":
        for name in ("noise", "blur", "darker", "brighter", "occlusion", "jpeg"):
            levels = getattr(self, name)
            if levels != sorted(set(levels), reverse=name == "jpeg"):
                falls = "falls" if name == "jpeg" else "rises"
                raise ValueError(f"{name!r} is {levels}, but {falls} from mild to strong; put it in order")
        return self


class Robustness(Corruptions):
    """How networks bear corrupted images, and how precise they are. Each network is tested on the test subjects of its
    own data set."""

    networks: list[str] | None = None
    """Pairs `model/method` that are tested. null: all that are selected, but for placebos; `[]`: none."""


# ---- the stages


class Tested(Settings):
    """What a run or a control is tested on."""

    dataset: str
    """The data set that it learnt from."""
    fold: Annotated[int, Field(ge=0)]
    """The fold of it whose test subjects are predicted. Of another data set all are."""
    tests: Annotated[list[str], Field(min_length=1)]
    """The names of the data sets that are predicted, in the order of their stores."""


class PredictSettings(Tested):
    """Of the stage `predict`."""

    model: Spec
    """The network's arguments; shrinking and pruning may have changed its options and channels."""
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


class ControlSettings(Tested):
    """Of the stage `predict_control`: it learns from the training subjects of the fold."""

    control: Literal[*CONTROLS]
    """What predicts."""


class RobustnessSettings(Corruptions):
    """Of the stage `robustness`."""

    model: Spec
    """The network's arguments; shrinking and pruning may have changed its options and channels."""
    runs: list[tuple[int, int]]
    """Fold and seed of each of the weights."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    """What it is computed on."""
    threads: Count
    """CPU threads."""


class PictureSettings(Corruptions):
    """Of the stage `corruptions`."""

    dataset: str
    """The data set's name, for the title."""
    fold: Annotated[int, Field(ge=0)]
    """The fold of whose test subjects an image is shown."""
