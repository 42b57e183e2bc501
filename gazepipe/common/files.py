"""Files that appear complete or not at all, and their checksums."""

import errno
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gazepipe.errors import StorageError, UserError

if TYPE_CHECKING:
    import pandas as pd

MENDS = {
    (errno.ENOSPC, errno.EDQUOT): "disk full: free space and run again",
    (errno.EFBIG,): "larger than a file may be here (ulimit -f); raise the limit and run again",
    (errno.EROFS, errno.EACCES, errno.EPERM): "may not be written; make its folder writable and run again",
}
PARTIAL = ".partial-"


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` (file or folder) that takes its name when the block ends without an error.

    The temporary name keeps the suffix, since some writers choose their format by it. What killed processes left
    beside it is removed. Raises StorageError where the disk is full or may not be written.
    """
    path = Path(path)
    partial = path.with_name(f"{PARTIAL}{_machine()}{os.getpid():07d}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        _remove(partial)
        yield partial
        if partial.is_dir() and path.is_dir():
            shutil.rmtree(path)
        os.replace(partial, path)
    except Exception as error:
        stored = storage_error(error, path) if _is_about(error, path, partial) else None
        if stored is None or isinstance(error, UserError):
            raise
        raise stored from error
    finally:
        with suppress(OSError):
            _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary siblings of processes that are gone, and those of `path` itself that another machine left: a
    result has one writer at a time."""
    with suppress(OSError):
        for name in _partials(path.parent):
            token, _, of = name.removeprefix(PARTIAL).partition("-")
            if not token.isdecimal():
                continue
            ours = token[:-7] == _machine()
            if (ours and _is_gone(int(token[-7:]))) or (not ours and of == path.name):
                _remove(path.parent / name)


def _partials(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.name.startswith(PARTIAL)]


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


@cache
def _machine() -> str:
    """Digits that tell apart the machines and containers whose process ids must not be mixed up."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return str(zlib.crc32(f"{os.uname().nodename} {space}".encode()))


def storage_error(error: Exception, path: Path) -> StorageError | None:
    """The error of a disk that could not take `path`, whichever library reports it; None for any other error."""
    text, code = str(error), getattr(error, "errno", None)
    for codes, mend in MENDS.items():
        for known in codes:
            # Writers in C and Rust raise errors of their own that hold the system's words.
            if code == known or (code is None and os.strerror(known) in text):
                return StorageError(known, f"{path}: {mend}")
    return None


def _is_about(error: Exception, path: Path, partial: Path) -> bool:
    """Whether the file that an error names, if any, is `partial`, within it, or a folder that `path` is to lie in."""
    name = getattr(error, "filename", None)
    if not isinstance(name, str | bytes | os.PathLike):
        return True
    blamed = Path(os.fsdecode(name))
    return blamed in (path, partial) or partial in blamed.parents or blamed in path.parents


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as sorted, indented JSON, atomically: equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_csv(path: str | Path, table: "pd.DataFrame") -> None:
    """Write a table without its index, numbers with six digits, atomically: equal tables give equal bytes."""
    write_text(path, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits; OSError where it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: str | Path) -> dict:
    """Read a JSON object; `UserError` names a file that is missing or is no JSON object."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); run the stage that writes it") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error}); delete it and run again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a JSON {type(value).__name__}, expected an object; delete it and run again")
    return value
