"""Mutated inputs, from one seed: prepare either works or says in one line what is wrong; never a traceback or a hang.

Set GAZEPIPE_MUTANTS to try more of each kind.
"""

import json
import os
import signal

import cv2
import numpy as np
import pytest
from native_layouts import (
    PLAIN,
    labels,
    manifest_block,
    patches,
    straight_mesh,
    views,
    write_eyes,
    write_mat,
    write_npz,
    write_pictures,
    write_xgaze,
)

from gazepipe import cli
from gazepipe.datasets.layouts import columbia, manifest

MUTANTS = int(os.environ.get("GAZEPIPE_MUTANTS", "30"))
SECONDS = 20
NASTY = [
    b"",
    b"0",
    b"-1",
    b"nan",
    b"1e999",
    b"9" * 400,
    b"../../x",
    b"/etc/passwd",
    b"\x00",
    b"\xff\xfe",
    b'"',
    b",",
    b"\n",
    b"{",
    b"[" * 3000,
    b"true",
    b"null",
    b"'; --",
    b"A" * 200_000,
    "\N{SNOWMAN}".encode(),
    b".",
    b"..",
]


def csv_manifest(folder):
    rows = patches(folder, 6)
    (folder / "labels.csv").write_text("\n".join(["image,subject,pitch,yaw", *rows]) + "\n")
    return folder / "labels.csv", {"manifest": manifest_block(**PLAIN)}


def json_manifest(folder):
    names = ("image", "subject", "pitch", "yaw")
    rows = [dict(zip(names, row.split(","), strict=True)) for row in patches(folder, 6)]
    rows = [{**row, "pitch": float(row["pitch"]), "yaw": float(row["yaw"])} for row in rows]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder / "labels.jsonl", {"manifest": manifest_block(file="labels.jsonl", **PLAIN)}


def patch_png(folder):
    csv_manifest(folder)
    return folder / "3.png", {"manifest": manifest_block(**PLAIN)}


def patch_jpg(folder):
    csv_manifest(folder)
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 9), np.uint8), (60, 36))
    cv2.imwrite(str(folder / "3.jpg"), image)
    text = (folder / "labels.csv").read_text().replace("3.png", "3.jpg")
    (folder / "labels.csv").write_text(text)
    return folder / "3.jpg", {"manifest": manifest_block(**PLAIN)}


def columbia_jpg(folder):
    write_pictures(folder, ["0001"])
    return folder / "0001" / "0001_2m_0P_10V_-5H.jpg", {}


def faces_mat(folder):
    write_mat(folder / "p00.mat", views(3, 48), labels(3))
    return folder / "p00.mat", {}


def xgaze_h5(folder):
    return write_xgaze(folder / "train" / "subject0000.h5"), {}


def eyes_mat(folder):
    return write_eyes(folder), {}


def eyes_list(folder):
    write_eyes(folder)
    return folder / "Evaluation Subset" / "sample list for eye image" / "p00.txt", {}


def eyes_npz(folder):
    return write_npz(folder) / "eyes.npz", {}


KINDS = {  # what is mutated: layout, its maker
    "manifest.csv": ("manifest", csv_manifest),
    "manifest.jsonl": ("manifest", json_manifest),
    "manifest.png": ("manifest", patch_png),
    "manifest.jpg": ("manifest", patch_jpg),
    "columbia.jpg": ("columbia", columbia_jpg),
    "mpiifacegaze.mat": ("mpiifacegaze", faces_mat),
    "ethxgaze.h5": ("ethxgaze", xgaze_h5),
    "mpiigaze.mat": ("mpiigaze", eyes_mat),
    "mpiigaze.txt": ("mpiigaze", eyes_list),
    "mpiigaze.npz": ("mpiigaze-npz", eyes_npz),
}


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes, near the start (where headers are) as often as anywhere."""
    content = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        reach = len(content) if rng.random() < 0.5 else min(len(content), 600)
        at = int(rng.integers(0, max(reach, 1)))
        length = int(rng.integers(1, 40))
        match int(rng.integers(0, 7)):
            case 0:
                content[at : at + 1] = bytes([int(rng.integers(0, 256))])
            case 1:
                content[at : at + length] = rng.bytes(length)
            case 2:
                content[at : at + length] = bytes([int(rng.choice([0, 255, 127, 128]))]) * length
            case 3:
                del content[at : at + length]
            case 4:
                content[at:at] = NASTY[int(rng.integers(0, len(NASTY)))]
            case 5:
                del content[at:]
            case 6:
                content[at:at] = content[at : at + 10 * length]
    return bytes(content)


@pytest.fixture
def no_detection(monkeypatch):
    """Detection replaced: it is the files that are tried here."""
    monkeypatch.setattr(columbia, "find_mesh", straight_mesh)
    monkeypatch.setattr(manifest, "find_mesh", straight_mesh)


@pytest.fixture
def deadline():
    def late(*_):
        raise TimeoutError(f"took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    yield lambda: signal.alarm(SECONDS)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_read_or_refused_in_one_line(tmp_path, kind, no_detection, deadline, monkeypatch, capfd):
    layout, make = KINDS[kind]
    folder = tmp_path / "data_p00"
    folder.mkdir()
    path, options = make(folder)
    original = path.read_bytes()
    (tmp_path / "receipt.json").write_text(json.dumps({"folder": str(folder)}))
    patch = {"kind": "eye" if "mpiigaze" in layout else "eyes", "height": 16, "width": 32}
    job = {"layout": layout, "subjects": 1, "patch": patch, "part": 0, "parts": 1, "options": options}
    arguments = ["prepare-part", "--block", json.dumps(job), "--receipt", str(tmp_path / "receipt.json")]
    monkeypatch.setenv("GAZEPIPE_SLOTS", "off")
    noticed = 0
    for number in range(MUTANTS):
        path.write_bytes(mutated(original, np.random.default_rng([list(KINDS).index(kind), number])))
        before = {entry: entry.stat().st_mtime_ns for entry in folder.rglob("*")}
        deadline()
        status = cli.main([*arguments, "--out", str(tmp_path / "part.h5")])
        error = capfd.readouterr().err
        assert status in (0, 2), f"mutant {number}"
        noticed += status == 2 or "warning: " in error
        assert "Traceback" not in error, f"mutant {number}"
        if status == 2:
            assert sum(line.startswith("gazepipe prepare-part: ") for line in error.splitlines()) == 1
            assert not (tmp_path / "part.h5").exists()
        (tmp_path / "part.h5").unlink(missing_ok=True)
        assert {entry: entry.stat().st_mtime_ns for entry in folder.rglob("*")} == before
        assert {entry.name for entry in tmp_path.iterdir()} == {"data_p00", "receipt.json"}
    assert noticed > MUTANTS / 10  # many changes of pixels are no fault
    path.write_bytes(original)
    assert cli.main([*arguments, "--out", str(tmp_path / "part.h5")]) == 0
