"""The typed blocks of a data set: what it shows the network, where it comes from, how it is read and folded."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gazepipe.common.settings import Count, Name, Positive, Seed, Settings, Share

VIEWS = {"near-eye": 4}  # images of a sample, by kind of patch; 1 otherwise


class Patch(Settings):
    """What the network sees of a sample."""

    kind: Literal["face", "eyes", "eye", "near-eye"] = "eyes"
    """`face`: the whole normalised face; `eyes`: a band 120 mm wide over both eyes; `eye`: one normalised eye (MPIIGaze
    layouts only); `near-eye`: the four whole images of a headset."""
    height: Annotated[int, Field(ge=16, le=1024)] = 36
    """Height of an image, px."""
    width: Annotated[int, Field(ge=16, le=1024)] = 112
    """Width of an image, px."""


class Drawn(Settings):
    """What the renderer draws."""

    seed: Seed = 0
    """Seed of people, poses, light and gaze."""
    scale: Annotated[float, Field(gt=0, le=1)] | None = None
    """Size of the pictures as a fraction of the real ones: Columbia's 5184 x 3456 px, a headset camera's 720 x 576.
    null: the renderer's own."""
    images: Count | None = None
    """Images of each subject. null: the renderer's own number. Columbia has a fixed number."""
    size: Annotated[int, Field(ge=64, le=2048)] | None = None
    """Side of the normalised view (MPIIFaceGaze, ETH-XGaze) or width of the camera's picture (manifest), px. null: the
    renderer's own."""


class Archive(Settings):
    """One archive of a data set."""

    # No user name in it: addresses go into data-checksums.json and the log. A password belongs into ~/.netrc.
    url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s#]*)?$")]
    """Address, http or https, without a user name; a password belongs in ~/.netrc."""
    size: Count | None = None
    """Size in bytes, if published. null: not checked."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 in hexadecimal, if published. null: the first download is the reference."""
    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]*(/[A-Za-z0-9][A-Za-z0-9_. -]*)*$")] | None = None
    """Subfolder of the data set's folder to unpack into. null: the data set's folder itself."""


class Url(Settings):
    """Archives to download, and their terms."""

    archives: Annotated[list[Archive], Field(min_length=1)]
    """The archives, in the order in which they are downloaded."""
    licence: Annotated[str, Field(min_length=1)]
    """Name of the licence."""
    citation: str = ""
    """Whom to cite. Empty: nobody."""
    terms: str = ""
    """Address of the terms. Empty: none, unless `consent_required`."""
    consent_required: bool = False
    """true: nothing is downloaded before the source says `consent: true`."""

    @model_validator(mode="after")
    def _terms_to_consent_to(self) -> "Url":
        if self.consent_required and not self.terms:
            raise ValueError("'consent_required' needs 'terms', the address to read them at")
        return self


class Source(Settings):
    """Where a data set comes from: exactly one of `drawn`, `url` and `path`."""

    drawn: Drawn | None = None
    """Rendered here."""
    url: Url | None = None
    """Downloaded from the web."""
    path: str | None = None
    """A folder or an archive on this machine, which is only read. `~` is the home folder."""
    consent: bool = False
    """true: you agree to the terms of `url`."""

    @model_validator(mode="after")
    def _one(self) -> "Source":
        if sum(kind is not None for kind in (self.drawn, self.url, self.path)) != 1:
            raise ValueError("needs exactly one of 'drawn', 'url' and 'path'")
        return self


class Split(Settings):
    """Which subjects train, validate and test in each fold."""

    protocol: Literal["columbia", "leave-one-out", "k-fold", "given"]
    """`columbia`: the five published folds; `leave-one-out`: one test subject a fold; `k-fold`: seeded groups of
    subjects; `given`: the one fold that the data set's own folders make (near-eye)."""
    by: Literal["subject", "day"] = "subject"
    """`day`: every day of a subject is a subject of its own, where frames are named `day/image`; needs `k-fold`."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Number of groups of `k-fold`. null for the other protocols."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training subjects (or days) that is held out to choose the best epoch."""
    seed: Seed = 0
    """Seed of the groups and of the choice of validation subjects."""

    @model_validator(mode="after")
    def _folds_only_for_k_fold(self) -> "Split":
        if (self.folds is not None) != (self.protocol == "k-fold"):
            raise ValueError("'folds' goes with protocol 'k-fold', and only with it")
        if self.by == "day" and self.protocol != "k-fold":
            raise ValueError("'by: day' goes with protocol 'k-fold': how many days there are is not known beforehand")
        return self


class Camera(Settings):
    """The camera that took a manifest's pictures, without distortion."""

    width: Count
    """Width of a picture, px."""
    height: Count
    """Height of a picture, px."""
    fx: Positive
    """Focal length along x, px."""
    fy: Positive
    """Focal length along y, px."""
    cx: float
    """Principal point from the left edge, px."""
    cy: float
    """Principal point from the upper edge, px."""


class Screen(Settings):
    """A flat screen that subjects look at."""

    width: Count
    """Width, px."""
    height: Count
    """Height, px."""
    width_mm: Positive
    """Width, mm."""
    height_mm: Positive
    """Height, mm."""
    origin: tuple[float, float, float]
    """Upper left corner, as the user sees it, in the camera's frame: x, y, z in mm."""
    rotation: tuple[float, float, float] = (0.0, math.pi, 0.0)
    """Rotation vector (radians) from the screen's axes (x to the user's right, y down, z away from the user) to the
    camera's. The default is a screen in the camera's plane that faces as the camera does."""


class Manifest(Settings):
    """How a table of one's own images is read (layout `manifest`)."""

    file: str = "labels.csv"
    """The table, CSV or JSONL, below the data set's folder."""
    gaze: Literal["angles", "point", "screen"] = "angles"
    """Columns of the label. `angles`: pitch and yaw; `point`: x, y, z, mm in the camera's frame; `screen`: screen_x,
    screen_y, px."""
    units: Literal["radians", "degrees"] = "radians"
    """Unit of the gaze angles."""
    normalise: Literal["face", "none"]
    """`face`: each picture is normalised around the face; `none`: each image is the patch as it is."""
    head: Literal["found", "given"] = "found"
    """Head pose for the normalisation: `found` in the picture, or `given` in columns."""
    camera: Camera | None = None
    """The camera; with `normalise: face` only."""
    screen: Screen | None = None
    """The screen; with `gaze: screen` only."""

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
    """How the layout `near-eye` is read; the corrections are applied in the order intensity, gamma, equalisation."""

    equalise: bool = False
    """true: histogram equalisation of each image."""
    gamma: Annotated[float, Field(gt=0, le=5)] = 1.0
    """Gamma correction: values in 0 to 1 to the power of 1 / gamma; above 1 brightens, 1: none."""
    intensity_correction: bool = False
    """true: each image gets the gamma that brings its mean brightness to a half."""


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
    """Folder that archives are downloaded to."""
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
