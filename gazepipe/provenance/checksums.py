"""`checksums.json`: the checksum of every result of a run, and the comparison of the results with it."""

import os
from collections.abc import Iterator
from pathlib import Path

from gazepipe.common.files import read_json, sha256, write_json
from gazepipe.common.progress import track
from gazepipe.errors import UserError

FOLDERS = ("data", "splits", "runs", "predictions", "profiles", "explain", "deployed", "figures", "tables")
"""Folders of results below a run's root; those of named runs lie beside them. Bundles carry checksums of their own."""
TABLE_FOLDERS = ("predictions", "profiles", "explain", "figures", "tables")
"""Folders that the tables are made from, and their own."""
PARTS = "data/parts"
"""Where stores are in parts, before the merge."""
CHECKSUMS = "checksums.json"
PAGES = ("index.html", "report.html", "report.zip")
"""Pages made from the results, after the checksums."""
TRACE = ("trace.csv", "trace.svg", "trace.png")
"""When the jobs of the last run ran: differs from run to run."""
CACHE = ".records/.checksums.json"
"""Checksums as they were taken last, and of what."""

FORMER = "manifest.json"
"""The former name of `checksums.json`; a file of that name is no result."""


def write_checksums(root: Path, elsewhere: bool = False) -> None:
    """Write the checksums of the results below `root`: SHA-256 and bytes of each file.

    Of results that are kept `elsewhere` only those that the tables are made from are here, and are listed.
    Logs, time records, states and parts of stores are no results. A file that is as it was when its checksum was taken
    last (inode, size, times) is not read again.
    """
    cache = root / CACHE
    before, now, files = _load(cache), {}, {}
    for name in track(_listed(root, elsewhere), f"checksum {root}", unit="file"):
        stamp = _stamp(root / name)
        known = before.get(name, {})
        sum_ = known["sha256"] if known.get("stamp") == stamp else sha256(root / name)
        now[name] = {"stamp": stamp, "sha256": sum_}
        files[name] = {"sha256": sum_, "bytes": stamp[1]}
    write_json(cache, now)
    write_json(root / CHECKSUMS, {"files": files, **({"elsewhere": True} if elsewhere else {})})


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
    ours = FORMER, CHECKSUMS, *PAGES, *TRACE
    return sorted(Path(n).as_posix() for n in found if n not in ours and not os.path.basename(n).startswith("."))


def problems(root: Path) -> Iterator[str]:
    """One line for each file below `root` that is missing, changed or not listed; every file is read."""
    path = root / CHECKSUMS
    recorded = read_json(path)
    files = recorded.get("files")
    if not isinstance(files, dict):
        raise UserError(f"{path}: lists no files; delete it and run the workflow")
    here = set(_listed(root, recorded.get("elsewhere", False)))
    for name, entry in track(files.items(), f"check {root}", len(files), "file"):
        if name not in here:
            yield f"{root / name}: missing"
        elif (root / name).stat().st_size != entry["bytes"] or sha256(root / name) != entry["sha256"]:
            yield f"{root / name}: changed"
    for name in sorted(here - files.keys()):
        yield f"{root / name}: extra, not in checksums.json"


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _load(path: Path) -> dict:
    try:
        return read_json(path)
    except UserError:
        return {}
