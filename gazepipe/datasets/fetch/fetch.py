"""Get a data set in its native layout, and leave a receipt: where it lies, what it is, its checksum."""

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from gazepipe.common.files import PARTIAL, atomic, read_json, sha256, write_json, write_text
from gazepipe.datasets.fetch.archive import extract
from gazepipe.datasets.fetch.download import Patience, alone, download
from gazepipe.datasets.fetch.inventory import inventory
from gazepipe.datasets.settings import Archive, Drawn, FetchSettings, Url
from gazepipe.errors import UserError

DRAWN, UNPACKED = ".drawn.json", ".unpacked.json"  # mark the folders that gazepipe filled and may empty


def fetch(settings: FetchSettings, receipt: Path, workers: int = 1, patience: Patience | None = None) -> None:
    """Get a data set in its native layout: draw it, download it, or check the folder that holds it.

    A data set that is drawn or unpacked here lies in `settings.folder`; the folder of a `path` source is only read.
    Writes the receipt {"folder", "layout", "source", "files", "bytes", "checksum"} last. `workers`: processes that
    draw. Raises UserError where consent is missing, a download fails or is not the file expected, an archive is unsafe
    or holds another data set, or a folder is missing or empty.
    """
    if settings.source.drawn is not None:
        folder = Path(settings.folder)
        _draw(settings, settings.source.drawn, folder, workers)
    elif settings.source.url is not None:
        folder = _load(settings, settings.source.url, patience)
    else:
        folder = _from_path(settings, Path(settings.source.path or "").expanduser())
    source = settings.source.model_dump(exclude_none=True, exclude={"consent"})
    write_json(receipt, {"folder": str(folder), "layout": settings.layout, "source": source, **inventory(folder)})


# ---- drawn


def _draw(settings: FetchSettings, drawn: Drawn, folder: Path, workers: int) -> None:
    """Draw into `folder`, which is emptied first where it was drawn under other settings or by another renderer."""
    from gazepipe.drawn.draw import draw, writer_module

    asked = {"layout": settings.layout, "subjects": settings.subjects, **drawn.model_dump(exclude_none=True)}
    marker = folder / DRAWN
    from gazepipe.provenance.fingerprint import digest, source_fingerprint

    stamp = digest([asked, source_fingerprint(("gazepipe.drawn.draw", writer_module(settings.layout)))])
    _refuse_foreign(folder)
    if folder.exists() and not (marker.exists() and marker.read_text() == stamp):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(marker, stamp)
    # Of subjects half drawn when a process was killed: they must not be counted.
    for leftover in list(folder.rglob(f"{PARTIAL}*")):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    draw(asked, folder, workers)


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder with files that gazepipe did not write: it would be emptied."""
    if not folder.is_dir():
        return
    names = {entry.name for entry in folder.iterdir()}
    if names and not names & {DRAWN, UNPACKED}:
        raise UserError(f"{folder}: holds files that gazepipe did not put there; move them away")


# ---- path


def _from_path(settings: FetchSettings, path: Path) -> Path:
    if path.is_dir():
        _look(path, settings)
        return path
    if not path.is_file():
        raise UserError(f"{path}: no such folder or archive; correct datasets.*.source.path")
    folder = Path(settings.folder)
    with alone(folder.with_name(f".{folder.name}.lock")):
        return _unpack(settings, [(path, "")], [sha256(path)])


# ---- url


def _load(settings: FetchSettings, source: Url, patience: Patience | None) -> Path:
    """Download, verify and unpack the archives of a `url` source; what is there already is only verified."""
    folder = Path(settings.folder)
    _require_consent(folder.name, source, settings.source.consent)
    known, archives = Path(settings.checksums), source.archives
    with alone(folder.with_name(f".{folder.name}.lock")):
        seen = [archive.sha256 or _first_seen(known, archive.url) for archive in archives]
        if _unpacked_before(folder, [archive.folder or "" for archive in archives], seen):
            return folder
        paths = [_download(archive, Path(settings.downloads), known, patience) for archive in archives]
        members = [(path, archive.folder or "") for (path, _), archive in zip(paths, archives, strict=True)]
        _unpack(settings, members, [found for _, found in paths])
        # Only now: a checksum is worth keeping where the archive was sound and the right one.
        for archive, (path, found) in zip(archives, paths, strict=True):
            if archive.sha256 is None:
                _remember(known, path.parent, archive.url, found, path.stat().st_size)
        return folder


def _require_consent(dataset: str, source: Url, consent: bool) -> None:
    if source.consent_required and not consent:
        raise UserError(
            f"{dataset}: its licence needs your consent: {source.licence}; read the terms at {source.terms} and, "
            f"if you agree, add this line to datasets.{dataset}.source in the configuration: consent: true"
        )


def _download(archive: Archive, downloads: Path, known: Path, patience: Patience | None) -> tuple[Path, str]:
    """(path, SHA-256) of one archive, downloaded and compared with the configuration, or with the `known` checksums."""
    url = archive.url
    expected, told_by = archive.sha256, "the configuration"
    if expected is None:
        expected, told_by = _first_seen(known, url), str(known)
    target = downloads / _file_name(url)
    found = download(url, target, archive.size, expected, patience)
    if expected is not None and found != expected.lower():
        mend = "correct sha256" if told_by == "the configuration" else f"remove the entry of {url}"
        raise UserError(
            f"{target}: the file has changed: SHA-256 {found}, expected {expected} from {told_by}; "
            f"delete it to download it again, or, if the new file is right, {mend} in {told_by}"
        )
    return target, found


def _file_name(url: str) -> str:
    """A name for a download, different for each address, with what a reader knows it by."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-80:].lstrip(".") or "archive"
    return f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{plain}"


def _first_seen(known: Path, url: str) -> str | None:
    """The checksum recorded for `url`, or None."""
    entry = _read_known(known).get(url)
    return entry["sha256"] if entry else None


def _read_known(known: Path) -> dict:
    if not known.exists():
        return {}
    entries = read_json(known)
    for url, entry in entries.items():
        found = entry.get("sha256") if isinstance(entry, dict) else None
        if not isinstance(found, str) or not re.fullmatch("[0-9a-f]{64}", found):
            raise UserError(f"{known}: the entry of {url} has no sha256 of 64 hex digits; restore or remove it")
    return entries


def _remember(known: Path, downloads: Path, url: str, found: str, size: int) -> None:
    with alone(downloads / f"{known.name}.lock"):
        entries = _read_known(known)
        if url not in entries:
            write_json(known, {**entries, url: {"sha256": found, "size": size}})


# ---- archives


def _unpack(settings: FetchSettings, archives: Sequence[tuple[Path, str]], checksums: list[str]) -> Path:
    """Unpack (archive, subfolder) pairs into the data set's folder, whole or not at all."""
    folder = Path(settings.folder)
    subfolders = [subfolder for _, subfolder in archives]
    if _unpacked_before(folder, subfolders, checksums):
        return folder
    _refuse_foreign(folder)
    _remove_leftovers(folder)
    with atomic(folder) as partial:
        for path, subfolder in archives:
            extract(path, partial / subfolder)
        try:
            _look(partial, settings)
        except UserError as error:
            names = " and ".join(str(path) for path, _ in archives)
            raise UserError(f"{names}: is not the data set expected: {_without(error, partial)}") from None
        write_json(partial / UNPACKED, {"archives": _stamp(subfolders, checksums)})
    return folder


def _look(folder: Path, settings: FetchSettings) -> None:
    """Let the layout's reader list its subjects; it raises UserError where it finds none."""
    from gazepipe.datasets.layouts.layout import reader

    reader(settings.layout).subjects(folder, **settings.options)


def _without(error: UserError, folder: Path) -> str:
    """What is wrong, without the name of a temporary folder, and what lies there instead."""
    found = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
    reason = str(error).replace(f"{folder}: ", "").replace(f"{folder}/", "")
    return f"{reason.partition(';')[0]} (found: {shown or 'nothing'}); name the right archive"


def _stamp(subfolders: list[str], checksums: Sequence[str | None]) -> list[list]:
    return [[subfolder, checksum] for subfolder, checksum in zip(subfolders, checksums, strict=True)]


def _unpacked_before(folder: Path, subfolders: list[str], checksums: Sequence[str | None]) -> bool:
    """Whether `folder` was unpacked of these very archives; never where a checksum is not known."""
    try:
        marker = json.loads((folder / UNPACKED).read_text(encoding="utf-8"))
        return None not in checksums and marker["archives"] == _stamp(subfolders, checksums)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _remove_leftovers(folder: Path) -> None:
    """Delete half-unpacked folders of killed runs; nobody uses them, since this process holds the lock."""
    leftover = re.compile(rf"\.partial-\d+-{re.escape(folder.name)}")
    for entry in folder.parent.iterdir() if folder.parent.is_dir() else ():
        if leftover.fullmatch(entry.name):
            shutil.rmtree(entry)
