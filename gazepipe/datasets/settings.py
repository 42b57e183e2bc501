"""The typed blocks of a data set: what it shows the network, where it comes from, how it is read and folded."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

EYE_LAYOUTS = {"mpiigaze", "mpiigaze-npz"}  # one eye in each image
POINT_LAYOUTS = {"near-eye"}  # four eye cameras in a headset, gaze as a point in the scene image
VIEWS = {"near-eye": 4}  # images of a sample, by kind of patch; 1 otherwise

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class Block(BaseModel):
    """Base of every block: unknown keys are refused, values are not coerced between kinds."""

    model_config = ConfigDict(extra="forbid", strict=False, frozen=True, allow_inf_nan=False)


class Patch(Block):
    """What the network sees: the whole normalised `face`, a 120 mm wide band over both `eyes`, one normalised `eye`
    (the MPIIGaze layouts only), or the four whole images of a headset (`near-eye`); size in pixels."""

    kind: Literal["face", "eyes", "eye", "near-eye"] = "eyes"
    height: Annotated[int, Field(ge=16, le=1024)] = 36
    width: Annotated[int, Field(ge=16, le=1024)] = 112


class Drawn(Block):
    """Settings of the renderer. `scale`: fraction of Columbia's 5184 x 3456 px, or of a headset camera's 720 x 576;
    `images` per subject: all but Columbia; `size` (px): side of the normalised view (MPIIFaceGaze, ETH-XGaze) or width
    of the camera's picture (manifest)."""

    seed: Seed = 0
    scale: Annotated[float, Field(gt=0, le=1)] | None = None
    images: Count | None = None
    size: Annotated[int, Field(ge=64, le=2048)] | None = None


class Archive(Block):
    """One archive of a data set: its address, size in bytes and SHA-256 where they are published, and the subfolder
    of the data set's folder that it is unpacked into."""

    # No user name in it: addresses go into data-checksums.json and the log. A password belongs into ~/.netrc.
    url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s#]*)?$")]
    size: Count | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]*(/[A-Za-z0-9][A-Za-z0-9_. -]*)*$")] | None = None


class Url(Block):
    """Archives to load, under which licence, whom to cite, the address of the terms. Where `consent_required`,
    nothing is loaded before the source says `consent: true`."""

    archives: Annotated[list[Archive], Field(min_length=1)]
    licence: Annotated[str, Field(min_length=1)]
    citation: str = ""
    terms: str = ""
    consent_required: bool = False

    @model_validator(mode="after")
    def _terms_to_consent_to(self) -> "Url":
        if self.consent_required and not self.terms:
            raise ValueError("'consent_required' needs 'terms', the address to read them at")
        return self


class Source(Block):
    """Where a data set comes from: exactly one of `drawn` (rendered here), `url` (archives to load) and `path` (a
    folder or archive that is only read). `consent`: yours, to the licence of `url`."""

    drawn: Drawn | None = None
    url: Url | None = None
    path: str | None = None
    consent: bool = False

    @model_validator(mode="after")
    def _one(self) -> "Source":
        if sum(kind is not None for kind in (self.drawn, self.url, self.path)) != 1:
            raise ValueError("needs exactly one of 'drawn', 'url' and 'path'")
        return self


class Split(Block):
    """Fold protocol. `columbia`: the five published folds; `leave-one-out`: one subject a fold; `k-fold`: `folds`
    seeded groups of subjects; `given`: the one fold that the data set's own folders make (near-eye). `by`: `day` makes
    every day of a subject a group of its own, in layouts whose frames are named `day/image`. `validation`: share of the
    training subjects (or days) held out for model selection."""

    protocol: Literal["columbia", "leave-one-out", "k-fold", "given"]
    by: Literal["subject", "day"] = "subject"
    folds: Annotated[int, Field(ge=2)] | None = None
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: Seed = 0

    @model_validator(mode="after")
    def _folds_only_for_k_fold(self) -> "Split":
        if (self.folds is not None) != (self.protocol == "k-fold"):
            raise ValueError("'folds' goes with protocol 'k-fold', and only with it")
        if self.by == "day" and self.protocol != "k-fold":
            raise ValueError("'by: day' goes with protocol 'k-fold': how many days there are is not known beforehand")
        return self


class Camera(Block):
    """The camera of a manifest's pictures, without distortion: size, focal lengths, principal point, in pixels."""

    width: Count
    height: Count
    fx: Positive
    fy: Positive
    cx: float
    cy: float


class Screen(Block):
    """A flat screen: size in pixels and in mm; `origin` (mm) of its upper left corner, as its user sees it, in the
    camera's frame; `rotation`: rotation vector (radians) from the screen's axes (x to the user's right, y down, z away
    from the user) to the camera's. Its default is a screen in the camera's plane that faces as the camera does."""

    width: Count
    height: Count
    width_mm: Positive
    height_mm: Positive
    origin: tuple[float, float, float]
    rotation: tuple[float, float, float] = (0.0, math.pi, 0.0)


class Manifest(Block):
    """How the layout `manifest` is read. `file` (CSV or JSONL) lies in the data set's folder. `gaze` names the columns:
    `angles` (pitch, yaw, in `units`), `point` (x, y, z: mm in the camera's frame) or `screen` (screen_x, screen_y: px).
    `normalise`: `face` normalises the face, with a head pose that is `found` in the picture or `given` in columns;
    `none` takes each image as the patch it is."""

    file: str = "labels.csv"
    gaze: Literal["angles", "point", "screen"] = "angles"
    units: Literal["radians", "degrees"] = "radians"
    normalise: Literal["face", "none"]
    head: Literal["found", "given"] = "found"
    camera: Camera | None = None
    screen: Screen | None = None

    @model_validator(mode="after")
    def _complete(self) -> "Manifest":
        if (self.camera is not None) != (self.normalise == "face"):
            raise ValueError("'camera' goes with 'normalise: face', and only with it")
        if (self.screen is not None) != (self.gaze == "screen"):
            raise ValueError("'screen' goes with 'gaze: screen', and only with it")
        if self.gaze != "angles" and self.normalise == "none":
            raise ValueError("a gaze point needs 'normalise: face', which knows where the face is")
        if self.head == "given" and self.normalise == "none":
            raise ValueError("'head: given' goes with 'normalise: face'")
        return self


class NearEye(Block):
    """How the layout `near-eye` is read: histogram equalisation, gamma correction (1: none), gamma-intensity
    correction."""

    equalise: bool = False
    gamma: Annotated[float, Field(gt=0, le=5)] = 1.0
    intensity_correction: bool = False


class Dataset(Block):
    """One data set of the catalogue. `patch`: in place of the top-level one. `licence`: that of a `path` source, for
    the record. `max_rejected`: the share of unusable images above which `prepare` fails. `training` and
    `augmentation` override keys of the top-level blocks."""

    layout: Literal["columbia", "mpiifacegaze", "ethxgaze", "mpiigaze", "mpiigaze-npz", "manifest", "near-eye"]
    source: Source
    subjects: Count
    split: Split
    patch: Patch | None = None
    manifest: Manifest | None = None
    near_eye: NearEye | None = None
    licence: str = ""
    max_rejected: Share = 0.01
    parts: Count = 2
    training: dict[str, Any] = {}
    augmentation: dict[str, Any] = {}

    @property
    def task(self) -> Literal["angles", "point"]:
        """What is to be predicted: gaze angles, or the gaze point in a scene image."""
        return "point" if self.layout in POINT_LAYOUTS else "angles"

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
