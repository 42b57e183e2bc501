"""Unpack untrusted archives: zip and tar (plain, gz, bz2, xz), nothing else, and nothing outside the folder.

Refused, each with one line: absolute paths, `..`, links of any kind, devices, encrypted members, bombs, damage.
The standard library writes the members (tarfile with its filter "data", zipfile with its own clean names) and compares
their checksums. By itself it would strip a leading slash, follow links within the folder, overwrite a name that comes
twice, and take a damaged header of a tar for its end.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gazepipe.common.progress import track
from gazepipe.errors import UserError

PIECE = 1 << 18
LONGEST_HEADER = 1 << 18  # of a tar's extended names; real ones are a few hundred bytes
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


def extract(archive: str | Path, folder: str | Path, limits: Limits | None = None) -> None:
    """Unpack `archive` (zip or tar, told by content, not by name) into `folder`, which is created.

    Files get this user's default permissions and the present time. Raises UserError, naming archive and member, for
    what is no such archive, is damaged or cut short, is encrypted, unpacks to more than `limits`, holds a link, a
    device, a name twice, an absolute path or one with `..`, or does not fit on the disk. What was unpacked until then
    stays in `folder`: unpack into a temporary one.
    """
    archive, folder, limits = Path(archive), Path(folder), limits or Limits()
    with _told(archive, folder):
        folder.mkdir(parents=True, exist_ok=True)
        kind = _kind(archive)
        if kind == "zip":
            _unzip(archive, folder, limits)
        else:
            _untar(archive, folder, limits, DECOMPRESSORS[kind])


@contextmanager
def _told(archive: Path, folder: Path) -> Iterator[None]:
    """Turn whatever a damaged archive raises into one line."""
    try:
        yield
    except DAMAGED as error:
        raise _damaged(archive, error) from None
    except OSError as error:
        # Decompressors report bad data as an OSError without a number, an impossible offset is an invalid argument.
        if error.errno in (None, errno.EINVAL):
            raise _damaged(archive, error) from None
        place = error.filename or folder
        raise UserError(f"{place}: {error.strerror} while unpacking {archive}; correct this and run again") from None


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


def _unzip(archive: Path, folder: Path, limits: Limits) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        _check_number(archive, len(members), limits)
        # zipfile never writes more of a member than is announced here.
        announced = sum(member.file_size for member in members)
        _check_bytes(archive, announced, limits)
        free = shutil.disk_usage(folder).free
        if announced > free:
            raise UserError(f"{folder}: {archive} unpacks to {announced} bytes, {free} are free; make room")
        for member in members:
            _check_kind(archive, member.filename, _zipped_kind(member))
        for member in track(members, f"unpack {archive.name}", unit="files"):
            parts = _parts(archive, member.filename, limits)
            if member.filename.endswith(("/", "\\")):
                _make_folder(archive, folder.joinpath(*parts))
            else:
                _make_file(archive, folder, parts)
                member.filename = "/".join(parts)
                file.extract(member, folder)


def _zipped_kind(member: zipfile.ZipInfo) -> str:
    if member.flag_bits & 0x1:
        return "encrypted"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind in (0, stat.S_IFREG, stat.S_IFDIR):
        return ""
    return "a link" if kind == stat.S_IFLNK else "no plain file"


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


def _untar(archive: Path, folder: Path, limits: Limits, decompress: Callable[..., IO[bytes]]) -> None:
    # As a stream: nothing is ever read twice, so that a compressed tar takes one pass.
    with (
        decompress(archive, "rb") as source,
        tarfile.open(fileobj=source, mode="r|", bufsize=PIECE, tarinfo=_Member) as file,
    ):
        for number, member in enumerate(track(iter(file.next, None), f"unpack {archive.name}", unit="files"), 1):
            _check_number(archive, number, limits)
            _check_kind(archive, member.name, _tarred_kind(member))
            _check_bytes(archive, member.offset_data + member.size, limits)
            parts = _parts(archive, member.name, limits)
            if member.isdir():
                _make_folder(archive, folder.joinpath(*parts))
            else:
                _make_file(archive, folder, parts)
                named = member.replace(name="/".join(parts), deep=False)
                file.extract(named, folder, set_attrs=False, filter="data")
            file.members.clear()  # a million of them would fill the memory
        unpacked = file.offset
        while piece := source.read(PIECE):  # to the end, where the decompressor compares its checksum
            unpacked += len(piece)
            _check_bytes(archive, unpacked, limits)


def _tarred_kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "a link"
    if member.issparse():
        return "sparse"
    return "" if member.isdir() or member.isreg() else "no plain file"


def _check_number(archive: Path, number: int, limits: Limits) -> None:
    if number > limits.files:
        raise UserError(f"{archive}: holds more than {limits.files} files; unpack it yourself if you trust it")


def _check_bytes(archive: Path, unpacked: int, limits: Limits) -> None:
    most = min(limits.total, int(max(limits.free, limits.ratio * archive.stat().st_size)))
    if unpacked > most:
        raise UserError(
            f"{archive}: unpacks to more than {most} bytes, too many for its size; unpack it yourself if you trust it"
        )


def _check_kind(archive: Path, name: str, refused: str) -> None:
    if refused:
        raise UserError(f"{archive}: member {name[:80]!a} is {refused}; unpack it yourself and name the folder")


def _parts(archive: Path, name: str, limits: Limits) -> list[str]:
    """A member's name, folder by folder; none for the top folder itself; `UserError` where it leads outside."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if name[:1] in ("/", "\\") or re.match("[A-Za-z]:", name) or ".." in parts:
        raise UserError(f"{archive}: member {name[:80]!a} points out of the folder; do not use this archive")
    if len(parts) > limits.depth or not name.isprintable():
        raise UserError(f"{archive}: member {name[:80]!a} has an impossible name; do not use this archive")
    return parts


def _make_file(archive: Path, folder: Path, parts: list[str]) -> None:
    """An empty file for a member, which nobody else may have made: the disk, too, may take `a` and `A` for one."""
    if not parts:
        raise UserError(f"{archive}: holds a file without a name; get a sound archive")
    target = folder.joinpath(*parts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(exist_ok=False)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{archive}: holds {target.name!r} twice in one folder; get a sound archive") from None


def _make_folder(archive: Path, target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{archive}: holds {target.name!r} as a file and as a folder; get a sound archive") from None
