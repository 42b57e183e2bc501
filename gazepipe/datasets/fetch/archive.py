"""Unpack archives that strangers made: zip and tar (plain, gz, bz2, xz), nothing else, and nothing outside the folder.

Refused, each with one line: absolute paths, `..`, links of any kind, devices, encrypted members, bombs, damage.
"""

import bz2
import errno
import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gazepipe.common.progress import track
from gazepipe.errors import UserError

PIECE = 1 << 18
LONGEST_HEADER = 1 << 20  # of a tar's extended names; real ones are a few hundred bytes
MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # an empty one
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
}
FOREIGN = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "rar", b"\x28\xb5\x2f\xfd": "zstd"}
DECOMPRESSORS = {"tar": open, "gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
HEADER_TYPES = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}
DAMAGED = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    RuntimeError,  # and NotImplementedError: a compression that nobody has
)


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to: `ratio` times its own bytes (but `free` bytes in any case), never more than
    `total` bytes and `files` files, in folders at most `depth` deep."""

    ratio: float = 100.0
    free: int = 64 << 20
    total: int = 1 << 40
    files: int = 2_000_000
    depth: int = 32


class _Budget:
    """Counts what comes out of one archive; `UserError` where it is more than the limits allow."""

    def __init__(self, archive: Path, limits: Limits):
        self.archive, self.limits = archive, limits
        self.most = min(limits.total, int(max(limits.free, limits.ratio * archive.stat().st_size)))
        self.files = self.bytes = 0

    def count_file(self) -> None:
        self.files += 1
        if self.files > self.limits.files:
            raise UserError(
                f"{self.archive}: holds more than {self.limits.files} files; unpack it yourself if you trust it"
            )

    def count_bytes(self, number: int) -> None:
        self.bytes += number
        if self.bytes > self.most:
            raise UserError(
                f"{self.archive}: unpacks to more than {self.most} bytes, too many for its size; "
                "unpack it yourself if you trust it"
            )


def extract(archive: str | Path, folder: str | Path, limits: Limits | None = None) -> None:
    """Unpack `archive` (zip or tar, told by content, not by name) into `folder`, which is created.

    Files get this user's default permissions and the present time. Raises UserError, naming archive and member, for
    what is no such archive, is damaged or cut short, is encrypted, unpacks to more than `limits`, holds a link, a
    device, a name twice, an absolute path or one with `..`, or does not fit on the disk. What was unpacked until then
    stays in `folder`: unpack into a temporary one.
    """
    archive, folder = Path(archive), Path(folder)
    with _told(archive, folder):
        budget = _Budget(archive, limits or Limits())
        folder.mkdir(parents=True, exist_ok=True)
        kind = _kind(archive)
        if kind == "zip":
            _unzip(archive, folder, budget)
        else:
            _untar(archive, folder, budget, kind)


@contextmanager
def _told(archive: Path, folder: Path) -> Iterator[None]:
    """Whatever a damaged archive raises, as one line."""
    try:
        yield
    except DAMAGED as error:
        raise _damaged(archive, error) from None
    except OSError as error:
        # Decompressors report bad data as an OSError without a number, an impossible offset is an invalid argument.
        if error.errno in (None, errno.EINVAL):
            raise _damaged(archive, error) from None
        place = error.filename or folder
        raise UserError(f"{place}: {error.strerror} while unpacking {archive}; mend that and run again") from None


def _damaged(archive: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{archive}: is damaged or cut short ({reason}); get it again")


def _kind(archive: Path) -> str:
    with open(archive, "rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "tar"
    for magic, name in FOREIGN.items():
        if head.startswith(magic):
            raise UserError(f"{archive}: is a {name} archive, only zip and tar are read; unpack it and name the folder")
    if head.lstrip()[:1] == b"<":
        raise UserError(f"{archive}: is a web page, not an archive; does its address ask for a login?")
    raise UserError(f"{archive}: is no zip or tar archive; name the data set's own archive")


def _target(archive: Path, folder: Path, name: str, limits: Limits) -> Path | None:
    """Where a member goes; None for the top folder itself; `UserError` where that is outside, or no name at all."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    shown = ascii(name[:80])
    if name[:1] in ("/", "\\") or re.match("[A-Za-z]:", name) or ".." in parts:
        raise UserError(f"{archive}: member {shown} points out of the folder; do not use this archive")
    if len(parts) > limits.depth or not name.isprintable():
        raise UserError(f"{archive}: member {shown} has an impossible name; do not use this archive")
    return folder.joinpath(*parts) if parts else None


def _write(archive: Path, target: Path, source: IO[bytes], budget: _Budget | None) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(exist_ok=False)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{archive}: holds {target.name!r} twice in one folder; get a sound archive") from None
    with open(target, "wb") as file:
        while piece := source.read(PIECE):
            if budget:
                budget.count_bytes(len(piece))
            file.write(piece)


def _make_folder(archive: Path, target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{archive}: holds {target.name!r} as a file and as a folder; get a sound archive") from None


# ---- zip


def _unzip(archive: Path, folder: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in members:
            _check_zipped(archive, member)
            budget.count_file()
        announced = sum(member.file_size for member in members)
        if announced > budget.most:
            budget.count_bytes(announced)
        free = shutil.disk_usage(folder).free
        if announced > free:
            raise UserError(f"{folder}: {archive} unpacks to {announced} bytes, {free} are free; make room")
        for member in track(members, f"unpack {archive.name}", unit="files"):
            target = _target(archive, folder, member.filename, budget.limits)
            if _is_folder(member):
                _make_folder(archive, target or folder)
            elif target is None:
                raise UserError(f"{archive}: holds a file without a name; get a sound archive")
            else:
                with file.open(member) as source:
                    _write(archive, target, source, budget)


def _is_folder(member: zipfile.ZipInfo) -> bool:
    return member.filename.endswith(("/", "\\"))


def _check_zipped(archive: Path, member: zipfile.ZipInfo) -> None:
    shown = ascii(member.filename[:80])
    if member.flag_bits & 0x1:
        raise UserError(f"{archive}: member {shown} is encrypted; unpack it yourself and name the folder")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a link" if kind == stat.S_IFLNK else "no plain file"
        raise UserError(f"{archive}: member {shown} is {what}; unpack it yourself and name the folder")


# ---- tar


class _Counted:
    """The unpacked stream of a tar: bytes are counted as they leave the decompressor, skipped ones, too."""

    def __init__(self, source: IO[bytes], budget: _Budget):
        self.source, self.budget = source, budget

    def read(self, size: int) -> bytes:
        piece = self.source.read(size)
        self.budget.count_bytes(len(piece))
        return piece


class _Member(tarfile.TarInfo):
    """Refuses what tarfile lets pass: damaged headers after the first, which it takes for the end, and huge names."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_Member":
        if len(buf) != tarfile.BLOCKSIZE:
            raise tarfile.ReadError("no end mark")
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError:
            if any(buf):
                raise tarfile.ReadError("bad header") from None
            raise
        if member.size < 0 or (member.type in HEADER_TYPES and member.size > LONGEST_HEADER):
            raise tarfile.ReadError(f"header of size {member.size}")
        return member


def _untar(archive: Path, folder: Path, budget: _Budget, kind: str) -> None:
    opener: Any = DECOMPRESSORS[kind]
    with opener(archive, "rb") as source:
        counted = _Counted(source, budget)
        # As a stream: nothing is ever read twice, so that a compressed tar takes one pass.
        with tarfile.open(fileobj=counted, mode="r|", bufsize=PIECE, tarinfo=_Member) as file:
            for member in track(_tarred(file), f"unpack {archive.name}", unit="files"):
                budget.count_file()
                _unpack_tarred(archive, folder, file, member, budget)
        while counted.read(PIECE):  # to the end, where the decompressor compares its checksum
            pass


def _tarred(file: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := file.next()) is not None:
        yield member
        file.members.clear()  # a million of them would fill the memory


def _unpack_tarred(
    archive: Path, folder: Path, file: tarfile.TarFile, member: tarfile.TarInfo, budget: _Budget
) -> None:
    target = _target(archive, folder, member.name, budget.limits)
    shown = ascii(member.name[:80])
    if member.isdir():
        _make_folder(archive, target or folder)
        return
    if not member.isreg() or member.issparse():
        what = "a link" if member.issym() or member.islnk() else "sparse" if member.issparse() else "no plain file"
        raise UserError(f"{archive}: member {shown} is {what}; unpack it yourself and name the folder")
    source = file.extractfile(member)
    if target is None or source is None:
        raise UserError(f"{archive}: holds a file without a name; get a sound archive")
    _write(archive, target, source, None)
