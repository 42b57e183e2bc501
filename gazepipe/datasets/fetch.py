"""Get a data set in its native layout, and leave a receipt: where it lies, what it is, its checksum."""

import hashlib
import shutil
from pathlib import Path

from gazepipe.errors import UserError
from gazepipe.io import read_json, write_json, write_text
from gazepipe.progress import track

SUBJECT_NAMES = {"columbia": lambda i: f"{i + 1:04d}", "mpiifacegaze": lambda i: f"p{i:02d}"}
IMAGE_FILES = {".jpg", ".mat"}


def subject_names(layout: str, count: int) -> list[str]:
    """Names of the first `count` subjects in a layout: 0001, 0002, ... (Columbia); p00, p01, ... (MPIIFaceGaze)."""
    return [SUBJECT_NAMES[layout](i) for i in range(count)]


def fetch(block: dict, receipt: Path, workers: int) -> None:
    """Draw a data set into `block["folder"]`, or look at the folder that `source.path` names, which is only read.

    `block` is {"layout", "subjects", "source": {"drawn": {...}} or {"path": folder}, "folder"}. Writes the receipt
    {"folder", "layout", "source", "files", "bytes", "checksum"} last. Raises UserError for a folder that is missing or
    holds no image file.
    """
    source = block["source"]
    if "drawn" in source:
        folder = Path(block["folder"])
        _draw(block, folder, workers)
    else:
        folder = Path(source["path"]).expanduser()
    write_json(receipt, {"folder": str(folder), "layout": block["layout"], "source": source, **_inventory(folder)})


def raw_folder(receipt: Path) -> Path:
    """The native folder that a receipt names; `UserError` where it is gone."""
    folder = Path(read_json(receipt).get("folder", ""))
    if not folder.is_dir():
        raise UserError(f"{folder}: is named in {receipt} and is not there; delete {receipt} and run again")
    return folder


def _draw(block: dict, folder: Path, workers: int) -> None:
    """Draw subjects that are not there yet; a folder drawn under other settings is emptied first."""
    from gazepipe.datasets.synthetic import draw

    settings = {"layout": block["layout"], "subjects": block["subjects"], **block["source"]["drawn"]}
    marker = folder / ".drawn.json"
    # An interrupted drawing is taken up where it stopped, but never under other settings or another renderer.
    from gazepipe.provenance import digest, source_fingerprint

    stamp = digest([settings, source_fingerprint(("gazepipe.datasets.synthetic",))])
    if folder.exists() and not (marker.exists() and marker.read_text() == stamp):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(marker, stamp)
    draw(settings, folder, workers)


def _inventory(folder: Path) -> dict:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; mend datasets.*.source.path")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_FILES and p.is_file())
    if not files:
        raise UserError(f"{folder}: holds no .jpg or .mat file; unpack the data set there")
    total = hashlib.sha256()
    size = 0
    for path in track(files, f"checksum {folder.name}", unit="file"):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
        size += path.stat().st_size
    return {"files": len(files), "bytes": size, "checksum": total.hexdigest()}
