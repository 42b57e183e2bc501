"""The typed blocks of a data set: what it shows the network, where it comes from, how it is read and folded."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gazepipe.common.settings import Count, Name, Positive, Seed, Settings, Share

EYE_LAYOUTS = {"mpiigaze", "mpiigaze-npz"}  # one eye in each image
POINT_LAYOUTS = {"near-eye"}  # four eye cameras in a headset, gaze as a point in the scene image
VIEWS = {"near-eye": 4}  # images of a sample, by kind of patch; 1 otherwise

# The prior work's five folds, which numbered the subjects from 0: folder 0001 is 0.
COLUMBIA_FOLDS = (
    (7, 11, 53, 18, 17, 29, 30, 33, 22, 46, 32),
    (51, 1, 45, 20, 25, 2, 14, 37, 10, 27, 6),
    (55, 9, 8, 49, 16, 4, 28, 52, 19, 39, 23),
    (50, 47, 5, 54, 34, 40, 36, 13, 38, 42, 41),
    (21, 0, 12, 15, 48, 24, 44, 35, 43, 26, 31, 3),
)


class Patch(Settings):
    """What the network sees: the whole normalised `face`, a 120 mm wide band over both `eyes`, one normalised `eye`
    (the MPIIGaze layouts only), or the four whole images of a headset (`near-eye`); size in pixels."""

    kind: Literal["face", "eyes", "eye", "near-eye"] = "eyes"
    height: Annotated[int, Field(ge=16, le=1024)] = 36
    width: Annotated[int, Field(ge=16, le=1024)] = 112


class Drawn(Settings):
    """Settings of the renderer. `scale`: fraction of Columbia's 5184 x 3456 px, or of a headset camera's 720 x 576;
    `images` per subject: all but Columbia; `size` (px): side of the normalised view (MPIIFaceGaze, ETH-XGaze) or width
    of the camera's picture (manifest)."""

    seed: Seed = 0
    scale: Annotated[float, Field(gt=0, le=1)] | None = None
    images: Count | None = None
    size: Annotated[int, Field(ge=64, le=2048)] | None = None


class Archive(Settings):
    """One archive of a data set: its address, size in bytes and SHA-256 where they are published, and the subfolder
    of the data set's folder that it is unpacked into."""

    # No user name in it: addresses go into lock file and log. A password belongs into ~/.netrc.
    url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s#]*)?$")]
    size: Count | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]*(/[A-Za-z0-9][A-Za-z0-9_. -]*)*$")] | None = None


class Url(Settings):
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


class Source(Settings):
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


class Split(Settings):
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


class Camera(Settings):
    """The camera of a manifest's pictures, without distortion: size, focal lengths, principal point, in pixels."""

    width: Count
    height: Count
    fx: Positive
    fy: Positive
    cx: float
    cy: float


class Screen(Settings):
    """A flat screen: size in pixels and in mm; `origin` (mm) of its upper left corner, as its user sees it, in the
    camera's frame; `rotation`: rotation vector (radians) from the screen's axes (x to the user's right, y down, z away
    from the user) to the camera's. Its default is a screen in the camera's plane that faces as the camera does."""

    width: Count
    height: Count
    width_mm: Positive
    height_mm: Positive
    origin: tuple[float, float, float]
    rotation: tuple[float, float, float] = (0.0, math.pi, 0.0)


class Manifest(Settings):
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


class NearEye(Settings):
    """How the layout `near-eye` is read: histogram equalisation, gamma correction (1: none), gamma-intensity
    correction."""

    equalise: bool = False
    gamma: Annotated[float, Field(gt=0, le=5)] = 1.0
    intensity_correction: bool = False


# ---- the stages


class FetchSettings(Settings):
    """Of the stage `fetch`."""

    layout: str
    """Native layout that the data set has."""
    subjects: Count
    """Subjects to draw, or that ought to be there."""
    options: dict[str, Any]
    """What the layout's reader wants to know beyond the folder."""
    source: Source
    """Where the data set comes from."""
    folder: str
    """Folder of a data set that is drawn or unpacked here."""
    downloads: str
    """Folder that archives are loaded to."""
    checksums: str
    """File of the checksums of archives whose publisher gives none, as first seen."""

    def deciding(self) -> dict[str, Any]:
        """Neither the licence of a data set nor a mirror's address decides what it holds."""
        settings = super().deciding()
        if self.source.url is None:
            return settings
        contents = [
            {"content": archive.sha256 or archive.url, "folder": archive.folder or ""}
            for archive in self.source.url.archives
        ]
        return {**settings, "source": {"url": contents}}


class PartSettings(Settings):
    """Of the stage `prepare_part`."""

    layout: str
    """Native layout of the data set."""
    subjects: Count
    """Subjects of the whole data set."""
    patch: Patch
    """What networks see."""
    part: Annotated[int, Field(ge=0)]
    """Which of the parts this is."""
    parts: Count
    """Parts that the subjects are divided into: part k gets the subjects k, k + parts, ..."""
    options: dict[str, Any]
    """What the layout's reader wants to know beyond the folder."""


class StoreSettings(Settings):
    """Of the stage `prepare`."""

    dataset: Name
    """The data set's name, for the store."""
    max_rejected: Share
    """Share of unusable images above which the stage fails."""
    by: Literal["subject", "day"]
    """What is a group of its own in folds and statistics: each subject, or each day of a subject."""


class SheetSettings(Settings):
    """Of the stage `sheet`."""

    dataset: Name
    """The data set's name, for the title."""
    layout: str
    """Native layout of the data set."""
    options: dict[str, Any]
    """What the layout's reader wants to know beyond the folder."""
