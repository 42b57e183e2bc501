"""What a native folder holds: number of files, bytes, and one checksum over names and contents."""

import hashlib
from pathlib import Path

from gazepipe.common.files import sha256
from gazepipe.common.progress import track
from gazepipe.errors import UserError

DATA_FILES = {
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".tif",
    ".tiff",
    ".mat",
    ".npz",
    ".h5",
    ".hdf5",
    ".csv",
    ".jsonl",
    ".txt",
}


def inventory(folder: Path) -> dict:
    """{"files", "bytes", "checksum"} of all data files below `folder`; UserError where there is none.

    The checksum is the SHA-256 over "name checksum" lines, sorted by name.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in DATA_FILES and p.is_file())
    if not files:
        raise UserError(f"{folder}: holds no image or data file; put the unpacked data set there")
    total = hashlib.sha256()
    size = 0
    for path in track(files, f"checksum {folder.name}", unit="file"):
        total.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
        size += path.stat().st_size
    return {"files": len(files), "bytes": size, "checksum": total.hexdigest()}
