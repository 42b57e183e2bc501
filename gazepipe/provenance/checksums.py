"""`manifest.json`: the checksum of every result of a run, and what has become of them since."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from gazepipe.common.files import read_json, write_json
from gazepipe.common.progress import track
from gazepipe.errors import UserError

FOLDERS = ("data", "splits", "runs", "predictions", "profiles", "explain", "deployed", "figures", "tables")
"""Folders of results below a run's root; those of named runs lie beside them. Bundles carry checksums of their own."""
TABLE_FOLDERS = ("predictions", "profiles", "explain", "figures", "tables")
"""Folders that the tables are made from, and their own."""
PARTS = "data/parts"
"""Where stores are in parts, before the merge."""
MANIFEST = "manifest.json"
CACHE = ".records/.checksums.json"
"""Checksums as they were taken last, and of what."""


def write_manifest(root: Path, elsewhere: bool = False) -> None:
    """Write the manifest of the results below `root`: SHA-256 and bytes of each file.

    Of results that are kept `elsewhere` only those that the tables are made from are here, and are listed.
    Logs, time records, states and parts of stores are no results. A file that is as it was when its checksum was taken
    last (inode, size, times) is not read again.
    """
    cache = root / CACHE
    before, now, files = _load(cache), {}, {}
    for name in track(_listed(root, elsewhere), f"checksum {root}", unit="file"):
        stamp = _stamp(root / name)
        known = before.get(name, {})
        sum_ = known["sha256"] if known.get("stamp") == stamp else _sha256(root / name)
        now[name] = {"stamp": stamp, "sha256": sum_}
        files[name] = {"sha256": sum_, "bytes": stamp[1]}
    write_json(cache, now)
    write_json(root / MANIFEST, {"files": files, **({"elsewhere": True} if elsewhere else {})})


def _listed(root: Path, elsewhere: bool) -> list[str]:
    names = list_files(root)
    return [name for name in names if not elsewhere or "/" not in name or name.split("/")[0] in TABLE_FOLDERS]


def list_files(root: Path) -> list[str]:
    """Names, relative to `root`, of the results of the run there, and of no other run beside it; sorted."""
    found = [entry.name for entry in os.scandir(root) if entry.is_file()]
    for folder in FOLDERS:
        for place, folders, names in os.walk(root / folder):
            folders[:] = [name for name in folders if os.path.join(place, name) != str(root / PARTS)]
            found += [os.path.relpath(os.path.join(place, name), root) for name in names]
    own = MANIFEST
    return sorted(Path(n).as_posix() for n in found if n != own and not os.path.basename(n).startswith("."))


def problems(root: Path) -> Iterator[str]:
    """One line for each file below `root` that is missing, changed or not in the manifest; every file is read."""
    path = root / MANIFEST
    manifest = read_json(path)
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise UserError(f"{path}: lists no files; delete it and run the workflow")
    here = set(_listed(root, manifest.get("elsewhere", False)))
    for name, entry in track(files.items(), f"check {root}", len(files), "file"):
        if name not in here:
            yield f"{root / name}: missing"
        elif (root / name).stat().st_size != entry["bytes"] or _sha256(root / name) != entry["sha256"]:
            yield f"{root / name}: changed"
    for name in sorted(here - files.keys()):
        yield f"{root / name}: extra, not in the manifest"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _load(path: Path) -> dict:
    try:
        return read_json(path)
    except UserError:
        return {}
