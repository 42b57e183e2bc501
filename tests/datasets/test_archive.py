import bz2
import gzip
import io
import lzma
import random
import stat
import tarfile
import time
import zipfile
from contextlib import suppress

import pytest

from gazepipe.datasets.fetch import archive as module
from gazepipe.datasets.fetch.archive import Limits, extract
from gazepipe.errors import UserError

FILES = {
    "0001/0001_2m_0P_0V_0H.jpg": random.Random(3).randbytes(5000),
    "0001/notes.txt": b"x" * 3000,
    "0002/empty": b"",
}
KINDS = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
COMPRESS = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}


def zipped(files: dict, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as file:
        for name, content in files.items():
            file.writestr(name if isinstance(name, zipfile.ZipInfo) else plain(name, compression), content)
    return data.getvalue()


def plain(name: str, compression: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("placeholder", (2020, 1, 1, 0, 0, 0))
    info.filename, info.compress_type = name, compression
    return info


def with_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = plain(name)
    info.external_attr, info.create_system = mode << 16, 3
    return info


def tarred(files: dict, format: int = tarfile.PAX_FORMAT) -> bytes:
    """Names may be TarInfo, whose size is kept where there is no content."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=format) as file:
        for name, content in files.items():
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return data.getvalue()


def packed(kind: str, files: dict) -> bytes:
    return zipped(files) if kind == "zip" else COMPRESS[kind](tarred(files))


def typed(name: str, type_: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, link
    return info


def unpack(tmp_path, data: bytes, limits: Limits | None = None) -> dict[str, bytes]:
    """What `data` unpacks to; nothing may appear beside the folder."""
    (tmp_path / "archive").write_bytes(data)
    before = set(tmp_path.iterdir())
    try:
        extract(tmp_path / "archive", tmp_path / "out" / "deep", limits)
    finally:
        assert set(tmp_path.iterdir()) <= before | {tmp_path / "out"}
        assert {p.name for p in (tmp_path / "out").glob("*")} <= {"deep"}
        inside = list((tmp_path / "out").rglob("*"))
        assert all(stat.S_IFMT(p.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR) for p in inside)
    root = tmp_path / "out" / "deep"
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def refusal(tmp_path, data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(UserError) as caught:
        unpack(tmp_path, data, limits)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "archive") in message
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_sound_archives_unpack_to_what_went_in(tmp_path, kind):
    assert unpack(tmp_path, packed(kind, FILES)) == FILES


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_every_format_of_tar(tmp_path, format_):
    files = {"/".join(["a" * 60] * (2 if format_ == tarfile.USTAR_FORMAT else 5)) + "/ä.jpg": b"1", "./b": b"2"}
    assert unpack(tmp_path, tarred(files, format_)) == {name.removeprefix("./"): c for name, c in files.items()}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_compression_of_zip(tmp_path, method):
    assert unpack(tmp_path, zipped(FILES, method)) == FILES


def test_folders_modes_and_backslashes(tmp_path):
    data = zipped(
        {with_mode("a/", stat.S_IFDIR | 0o000): b"", with_mode("a/b", stat.S_IFREG | 0o000): b"1", "c\\d": b"2"}
    )
    assert unpack(tmp_path, data) == {"a/b": b"1", "c/d": b"2"}
    folders = {typed("./", tarfile.DIRTYPE): b"", typed("a", tarfile.DIRTYPE): b"", "a/b": b"1"}
    assert unpack(tmp_path / "out", tarred(folders)) == {"a/b": b"1"}


OUTSIDE = ["../x", "a/../../x", "/tmp/x", "..\\x", "C:\\x", "c:x", "\\x", "a/..", ".."]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_paths_that_lead_outside(tmp_path, kind, name):
    message = refusal(tmp_path, packed(kind, {"good": b"1", name: b"bad"}))
    assert "points out of the folder" in message
    assert ascii(name) in message


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "d/" * 40 + "x", "\u202egpj.exe"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_impossible_names(tmp_path, kind, name):
    assert "impossible name" in refusal(tmp_path, packed(kind, {name: b""}))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_too_long_for_the_disk(tmp_path, kind):
    assert "File name too long" in refusal(tmp_path, packed(kind, {"n" * 300: b""}))


def test_names_that_are_no_text(tmp_path):
    data = tarred({"a\udcffb": b"1"}, tarfile.GNU_FORMAT)
    assert "impossible name" in refusal(tmp_path, data)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "good"])
def test_links_are_refused_wherever_they_lead(tmp_path, target):
    assert "is a link" in refusal(tmp_path, zipped({with_mode("l", stat.S_IFLNK | 0o777): target.encode()}))
    for number, type_ in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE)):
        (tmp_path / f"{number}").mkdir()
        data = tarred({"good": b"1", typed("l", type_, target): b"", "l/x": b"2"})
        assert "is a link" in refusal(tmp_path / f"{number}", data)


@pytest.mark.parametrize("type_", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices(tmp_path, type_):
    assert "no plain file" in refusal(tmp_path, tarred({typed("d", type_): b""}))
    mode = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}[type_]
    (tmp_path / "zip").mkdir()
    assert "no plain file" in refusal(tmp_path / "zip", zipped({with_mode("d", mode): b""}))


def test_an_encrypted_member(tmp_path):
    data = bytearray(zipped({"secret": b"1"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    assert "member 'secret' is encrypted; unpack it yourself" in refusal(tmp_path, bytes(data))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_by_ratio(tmp_path, kind):
    if kind == "tar":
        pytest.skip("a plain tar cannot grow")
    start = time.perf_counter()
    data = packed(kind, {"bomb": bytes(20_000_000)})
    assert "too many for its size" in refusal(tmp_path, data, Limits(free=1_000_000))
    written = sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert written <= (0 if kind == "zip" else max(1_000_000, 100 * len(data))), (
        "a zip tells before anything is written"
    )
    assert time.perf_counter() - start < 10
    (tmp_path / "2").mkdir()
    assert unpack(tmp_path / "2", data) == {"bomb": bytes(20_000_000)}, "small ones are harmless"


def test_a_zip_that_lies_about_its_sizes(tmp_path):
    honest = zipped({"bomb": bytes(5_000_000)})
    lying = honest.replace((5_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert lying != honest
    refusal(tmp_path, lying, Limits(free=100_000))
    assert sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file()) <= 1000


def test_a_zip_whose_members_overlap(tmp_path):
    """Many entries of the directory that name the same data."""
    data = zipped({"a": bytes(100_000)})
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry = data[at:end]
    tail = bytearray(data[end:])
    tail[8:12] = (500).to_bytes(2, "little") * 2
    tail[12:16] = (500 * len(entry)).to_bytes(4, "little")
    refusal(tmp_path, data[:at] + entry * 500 + bytes(tail), Limits(free=1_000_000))


def test_limits_of_number_and_bytes(tmp_path):
    for number, kind in enumerate(("zip", "tar")):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        data = packed(kind, {f"{i}": b"12345" for i in range(20)})
        assert "more than 10 files" in refusal(folder, data, Limits(files=10))
        assert "more than 60 bytes" in refusal(folder, data, Limits(total=60))


def test_a_huge_header_of_a_tar(tmp_path):
    """Names in an extended header would be read into memory whole."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 50_000_000
    data = gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(50_000_000))
    assert "header of size 50000000" in refusal(tmp_path, data)


def test_a_sparse_file(tmp_path):
    data = tarred({tarfile_with_pax("s", {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9999999999"}): b"1"})
    assert "is sparse" in refusal(tmp_path, data)


def tarfile_with_pax(name: str, headers: dict) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.pax_headers = headers
    return info


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_twice(tmp_path, kind):
    for number, names in enumerate((("a", "./a"), ("a", "a/b"))):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        data = packed(kind, dict.fromkeys(names, b"1"))
        assert "twice" in refusal(folder, data)
    data = packed(kind, {"a": b"1"} | {typed("a", tarfile.DIRTYPE) if kind == "tar" else "a/": b""})
    assert "as a file and as a folder" in refusal(tmp_path, data)


@pytest.mark.parametrize("kind", KINDS)
def test_cut_short_anywhere(tmp_path, kind):
    data = packed(kind, FILES)
    # A tar ends with zeros, of which the first block is the end mark.
    end = -(-len(data.rstrip(b"\0")) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE if kind == "tar" else len(data) - 1
    for number, at in enumerate([*range(512, end, max(1, end // 15)), end]):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        refusal(folder, data[:at])


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_changed_byte_of_content_is_found(tmp_path, kind):
    data = bytearray(packed(kind, FILES))
    data[len(data) // 2] ^= 0x55
    assert "damaged or cut short" in refusal(tmp_path, bytes(data))


def test_a_wrong_checksum_behind_the_end_mark_is_found(tmp_path):
    """Where the tar ends with a piece that was read, nobody has asked for the end of the gzip yet."""
    data = tarred(FILES)
    data = bytearray(gzip.compress(data + bytes(module.PIECE - len(data))))
    data[-8] ^= 1
    assert "CRC check failed" in refusal(tmp_path, bytes(data))


def test_a_damaged_header_within_a_tar_is_not_its_end(tmp_path):
    """tarfile itself stops there and says nothing."""
    data = bytearray(tarred(FILES))
    data[data.index(b"0001/notes.txt") + 150] ^= 0x55
    assert "bad header" in refusal(tmp_path, bytes(data))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "no zip or tar"),
        (b"hello", "no zip or tar"),
        (b"\n<!DOCTYPE html><title>Log in</title>", "web page"),
        (b"Rar!\x1a\x07\x00", "rar archive"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "7z archive"),
        (gzip.compress(b"no tar", mtime=0), "damaged"),
        (b"PK\x03\x04" + bytes(1000), "damaged"),
    ],
)
def test_what_is_no_archive(tmp_path, content, expected):
    assert expected in refusal(tmp_path, content)


def test_an_empty_archive_unpacks_to_nothing(tmp_path):
    assert unpack(tmp_path, zipped({})) == {}


def test_an_archive_that_is_missing_or_does_not_fit(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="No such file"):
        extract(tmp_path / "none", tmp_path / "out")
    free = type("Usage", (), {"free": 10})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: free)
    assert "10 are free" in refusal(tmp_path, zipped(FILES))


NASTY = [{**FILES, name: b"!"} for name in OUTSIDE[:2]]
SOUND = [zipped(FILES), zipped(FILES, zipfile.ZIP_STORED), tarred(FILES), tarred(FILES, tarfile.GNU_FORMAT)]
SEEDS = [*SOUND, *(make(files) for files in NASTY for make in (zipped, tarred))]
SEEDS += [zipped({with_mode("l", stat.S_IFLNK | 0o777): b"/etc", "l/x": b"1"})]
SEEDS += [tarred({typed("l", tarfile.SYMTYPE, "/tmp"): b"", "l/x": b"1"})]
PIECES = [b"PK\x01\x02", b"PK\x05\x06", b"../", b"/", b"\xff" * 8, b"\x80" + bytes(11), bytes(512)]


def mutated(seed: int) -> bytes:
    """A sound or a nasty archive with bytes changed, cut out, doubled or put in, and perhaps compressed after that."""
    rng = random.Random(seed)
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 4)):
        # After the first four, which say that it is a zip.
        at, length = rng.randrange(4, max(len(data), 5)), rng.choice((1, 4, 100, 512))
        match rng.choice(("flip", "set", "set", "cut", "end", "double", "insert")):
            case "flip":
                data[at : at + 1] = bytes(byte ^ 1 << rng.randrange(8) for byte in data[at : at + 1])
            case "set":
                piece = rng.choice((*PIECES, rng.randbytes(4)))
                data[at : at + len(piece)] = piece
            case "cut":
                del data[at : at + length]
            case "end":
                del data[max(at, len(data) - length) :]
            case "double":
                data[at:at] = data[at : at + length]
            case "insert":
                data[at:at] = rng.choice(PIECES)
    compress = rng.choice((bytes, bytes, gzip.compress, bz2.compress, lzma.compress))
    return bytes(data) if data[:2] == b"PK" else compress(data)


def test_mutated_archives_unpack_or_are_refused(tmp_path):
    unpacked = 0
    for seed in range(400):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        start = time.perf_counter()
        with suppress(UserError):
            unpack(folder, mutated(seed), Limits(free=10_000_000))
            unpacked += 1
        assert time.perf_counter() - start < 5
    assert 20 < unpacked < 200, "a good part of the mutations must reach the members"
