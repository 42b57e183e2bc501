"""checksums.json: which files it lists, and what `gazepipe check` finds."""

import hashlib
import os
from pathlib import Path

import pytest

from gazepipe import cli
from gazepipe.common.files import read_json, write_json
from gazepipe.provenance import checksums
from gazepipe.provenance.checksums import problems, write_checksums

RESULTS = {
    "tables.md": "# tables",
    "tables/benchmark.csv": "a,b",
    "data/set.h5": "store",
    "runs/set/net/base/fold0/seed0/model.safetensors": "weights",
}
OTHER = {
    "logs/train.log": "took 3 s",
    "benchmarks/train.tsv": "3",
    ".state/set/net": "state",
    ".lock": "process 1",
    ".records/tables.json": "{}",
    "data/parts/set/0.h5": "part",
    "data/.partial-1-set.h5": "half",
    "smoke/tables.md": "another run",
}


@pytest.fixture
def root(tmp_path) -> Path:
    for name, text in {**RESULTS, **OTHER}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    write_checksums(tmp_path)
    return tmp_path


def test_every_result_is_listed_with_its_checksum_and_nothing_else(root):
    files = read_json(root / "checksums.json")["files"]
    assert files == {
        name: {"sha256": hashlib.sha256(text.encode()).hexdigest(), "bytes": len(text)}
        for name, text in RESULTS.items()
    }
    assert list(problems(root)) == []


def test_what_is_missing_changed_or_extra_is_one_line_each_and_status_2(root, capsys):
    (root / "tables.md").unlink()
    (root / "data/set.h5").write_text("stors")
    (root / "tables/benchmark.csv").write_text("a,b,c")
    (root / "data/new.h5").write_text("new")
    (root / "logs/another.log").write_text("no result")
    assert cli.main(["check", str(root)]) == 2
    assert sorted(capsys.readouterr().out.splitlines()) == [
        f"{root}/data/new.h5: extra, not in checksums.json",
        f"{root}/data/set.h5: changed",
        f"{root}/tables.md: missing",
        f"{root}/tables/benchmark.csv: changed",
    ]


def test_a_change_that_keeps_size_and_time_is_found(root):
    path = root / "data/set.h5"
    before = path.stat()
    path.write_text("stors")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert list(problems(root)) == [f"{path}: changed"]
    write_checksums(root)
    assert list(problems(root)) == []


def test_only_what_changed_is_read_again(root, monkeypatch):
    read = []
    whole = checksums.sha256
    monkeypatch.setattr(checksums, "sha256", lambda path: read.append(path.name) or whole(path))
    (root / "data/new.h5").write_text("new")
    (root / "tables.md").write_text("# other")
    write_checksums(root)
    assert sorted(read) == ["new.h5", "tables.md"]
    assert list(problems(root)) == []


def test_the_same_results_have_the_same_checksums(root, tmp_path):
    before = (root / "checksums.json").read_bytes()
    (root / ".records/.checksums.json").write_text("{damaged")
    write_checksums(root)
    assert (root / "checksums.json").read_bytes() == before


def test_a_manifest_of_an_earlier_version_is_no_result(root):
    (root / "manifest.json").write_text("{}")
    assert list(problems(root)) == []
    before = (root / "checksums.json").read_bytes()
    write_checksums(root)
    assert (root / "checksums.json").read_bytes() == before
    (root / "data/manifest.json").write_text("{}")
    assert list(problems(root)) == [f"{root}/data/manifest.json: extra, not in checksums.json"]


def test_without_checksums_the_check_says_so(tmp_path, capsys):
    assert cli.main(["check", str(tmp_path)]) == 2
    assert "checksums.json: cannot be read" in capsys.readouterr().err
    write_json(tmp_path / "checksums.json", {"files": 1})
    assert cli.main(["check", str(tmp_path)]) == 2
