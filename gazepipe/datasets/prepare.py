"""From a native layout to the store: parts of the subjects side by side, then one merge.

The store's bytes depend on the data and the patch alone, not on the number of parts.
"""

import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import h5py

from gazepipe.common.files import atomic, write_text
from gazepipe.common.progress import track
from gazepipe.datasets.fetch.receipt import raw_folder
from gazepipe.datasets.layouts.layout import Prepared, reader
from gazepipe.datasets.settings import PartSettings, StoreSettings
from gazepipe.datasets.store import DAMAGED, DEFAULTS, write_store
from gazepipe.errors import UserError


def expected_subjects(folder: str | Path, layout: str, count: int, options: dict[str, Any]) -> list[str]:
    """Names of the first `count` subjects of a native `folder`.

    In layouts that number their subjects without gaps these are the names that ought to be there; in the others those
    found, and UserError where they are too few. `options` as in `write_part`.
    """
    module = reader(layout)
    if hasattr(module, "subject_name"):
        return [module.subject_name(index) for index in range(count)]
    found = module.subjects(folder, **options)
    if len(found) < count:
        raise UserError(f"{folder}: holds {len(found)} subjects, expected {count}; add the rest or correct `subjects`")
    return found[:count]


def prepare_part(settings: PartSettings, receipt: Path, part: Path) -> None:
    """Detect, normalise and cut the images of some subjects.

    Errors as `expected_subjects` and `write_part`.
    """
    folder, options = raw_folder(receipt), settings.options
    subjects = expected_subjects(folder, settings.layout, settings.subjects, options)
    patch = settings.patch.model_dump()
    write_part(folder, settings.layout, patch, subjects, settings.part, settings.parts, part, options)


def prepare(settings: StoreSettings, parts: list[Path], store: Path, rejected: Path) -> None:
    """Merge the prepared parts into the store of a data set.

    Errors as `merge`.
    """
    attrs = {"dataset": settings.dataset}
    merge(parts, store, rejected, attrs, settings.max_rejected, by_day=settings.by == "day")


def write_part(
    folder: str | Path,
    layout: str,
    patch: dict,
    subjects: Sequence[str],
    part: int,
    parts: int,
    out: str | Path,
    options: dict[str, Any] | None = None,
) -> None:
    """Prepare the expected `subjects[part::parts]` of a native `folder` into the part file `out` (HDF5).

    `patch` as in `gazepipe.geometry.patch_camera`; `options` go to the layout's reader as they are. Each file that
    cannot be used is named on stderr. Raises UserError where the folder is empty, an expected subject is
    missing or has no usable picture, or a file breaks its layout.
    """
    cv2.setNumThreads(1)  # the parts already share the cores
    module = reader(layout)
    with atomic(out) as partial, h5py.File(partial, "w") as file:
        file.attrs["patch"] = json.dumps(patch, sort_keys=True)
        file.attrs["geometry"] = module.GEOMETRY
        file.attrs["task"] = getattr(module, "TASK", DEFAULTS["task"])
        file.attrs["units"] = getattr(module, "UNITS", DEFAULTS["units"])
        for subject in track(subjects[part::parts], f"prepare {layout} part {part + 1}/{parts}", unit="subject"):
            prepared = module.prepare_subject(folder, subject, patch, **(options or {}))
            for frame, reason in prepared.rejected:
                print(f"warning: {prepared.place / frame}: {reason}; left out", file=sys.stderr)
            if not prepared.frame:
                frame, reason = prepared.rejected[0]
                raise UserError(
                    f"{prepared.place}: no usable picture (first: {frame}: {reason}); "
                    "correct the pictures or leave the subject out"
                )
            _write_subject(file.create_group(subject), prepared)


def merge(
    parts: Sequence[str | Path],
    out_store: str | Path,
    out_rejected_csv: str | Path,
    attrs: dict[str, Any],
    max_rejected_share: float,
    by_day: bool = False,
) -> None:
    """Join part files into the store, sorted by subject, then frame, and list what was left out in a CSV.

    `attrs` names the `dataset` (see `store.ATTRIBUTES`; `patch`, `source` and what the layout says are filled in). With
    `by_day` the store's subjects are days, `p00/day01`: the part of the frame's name before its `/` joins the
    subject's, and folds, errors and statistics are over days. The CSV has the columns subject, frame, reason
    and is written even when empty. Raises UserError, and writes nothing, where more than `max_rejected_share`
    of all frames had to be left out, where a subject lies in two parts, or patches differ.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(_open_part(path)) for path in parts]
        patches = {file.attrs["patch"] for file in files}
        if len(patches) != 1:
            raise UserError(f"{parts[0]}: the parts hold {len(patches)} different patches; delete them, prepare again")
        groups: dict[str, h5py.Group] = {}
        for path, file in zip(parts, files, strict=True):
            for subject in file:
                if subject in groups:
                    raise UserError(f"{path}: subject {subject} lies in two parts; delete the parts, prepare again")
                groups[subject] = file[subject]
        rows = _rejected(groups)
        used = sum(len(group["target"]) for group in groups.values())
        _check_share(out_store, rows, used, max_rejected_share)
        filled = {**attrs, "patch": json.loads(patches.pop()), "source": _checksum(groups)}
        filled |= {name: files[0].attrs[name] for name in ("geometry", "task", "units")}
        filled["target_scale"] = _target_scale(groups)
        write_store(out_store, _batches(groups, by_day), filled)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("subject", "frame", "reason"), *rows])
    write_text(out_rejected_csv, text.getvalue())


def _write_subject(group: h5py.Group, prepared: Prepared) -> None:
    for name in ("image", "target", "head_pose"):
        group.create_dataset(name, data=getattr(prepared, name))
    group["text"] = json.dumps({"frame": prepared.frame, "rejected": prepared.rejected})
    group.attrs["checksum"] = prepared.checksum
    group.attrs["target_scale"] = prepared.target_scale


def _target_scale(groups: dict[str, h5py.Group]) -> list[float]:
    first, *others = sorted(groups)
    scale = groups[first].attrs["target_scale"].tolist()
    for subject in others:
        own = groups[subject].attrs["target_scale"].tolist()
        if own != scale:
            raise UserError(
                f"{subject}: targets are scaled by {own}, those of {first} by {scale}; use one scene camera"
            )
    return scale


def _open_part(path: str | Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except DAMAGED as error:
        raise UserError(f"{path}: is missing or damaged ({error}); delete it and prepare again") from None


def _text(group: h5py.Group) -> dict:
    return json.loads(group["text"][()])


def _batches(groups: dict[str, h5py.Group], by_day: bool) -> Iterator[dict[str, Any]]:
    for subject in sorted(groups):
        group = groups[subject]
        columns = {name: group[name][()] for name in ("image", "target", "head_pose")}
        frames = _text(group)["frame"]
        yield {**columns, "subject": _days(subject, frames) if by_day else subject, "frame": frames}


def _days(subject: str, frames: list[str]) -> list[str]:
    for frame in frames:
        if "/" not in frame:
            raise UserError(f"{subject}: frame {frame} names no day (day/image); leave out `by: day`")
    return [f"{subject}/{frame.partition('/')[0]}" for frame in frames]


def _rejected(groups: dict[str, h5py.Group]) -> list[tuple[str, str, str]]:
    return [
        (subject, frame, reason) for subject in sorted(groups) for frame, reason in _text(groups[subject])["rejected"]
    ]


def _check_share(out_store: str | Path, rows: list[tuple[str, str, str]], used: int, max_rejected_share: float) -> None:
    total = len(rows) + used
    if len(rows) > max_rejected_share * total:
        subject, frame, reason = rows[0]
        raise UserError(
            f"{out_store}: {len(rows)} of {total} frames cannot be used, more than the allowed share "
            f"{max_rejected_share:g} (first: subject {subject}, {frame}: {reason}); "
            "correct the data or raise max_rejected"
        )


def _checksum(groups: dict[str, h5py.Group]) -> str:
    """Of all bytes that the subjects were read from."""
    lines = (f"{subject} {groups[subject].attrs['checksum']}\n" for subject in sorted(groups))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
