import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gazepipe.common.files import atomic, read_json, write_json
from gazepipe.errors import StorageError, UserError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(IsADirectoryError), atomic(path) as partial:
        partial.write_text("half") and tmp_path.read_text()
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("old", "new"):
        with atomic(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_bad_json_is_named(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"bad\.json"):
        read_json(path)
    with pytest.raises(UserError, match=r"none\.json"):
        read_json(tmp_path / "none.json")


WRITE = """
import resource, sys
from pathlib import Path
import numpy as np
folder = Path(sys.argv[1])
if sys.argv[3] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

def text():
    from gazepipe.common.files import write_text
    write_text(folder / "file.json", "x" * 3_000_000)

def store():
    from gazepipe.datasets.store import write_store
    n = 2000
    image = np.random.default_rng(0).integers(0, 255, (n, 1, 20, 50), np.uint8)
    zeros = np.zeros((n, 2))
    batch = {"image": image, "target": zeros, "head_pose": zeros, "subject": "a", "frame": [str(i) for i in range(n)]}
    attrs = {"dataset": "x", "patch": {"kind": "eyes", "height": 20, "width": 50}, "source": "x"}
    write_store(folder / "file.h5", [batch], attrs)

def part():
    import h5py
    from gazepipe.common.files import atomic
    with atomic(folder / "file.h5") as partial, h5py.File(partial, "w") as file:
        column = file.create_dataset("x", (0, 1000), np.uint8, maxshape=(None, 1000), chunks=(10, 1000), compression=1)
        for i in range(30):
            column.resize((i + 1) * 100, 0)
            column[-100:] = np.random.default_rng(i).integers(0, 255, (100, 1000), np.uint8)

def weights():
    from safetensors.numpy import save_file
    from gazepipe.common.files import atomic
    with atomic(folder / "file.safetensors") as partial:
        save_file({"x": np.zeros(3_000_000, np.uint8)}, partial)

def table():
    import pandas as pd
    from gazepipe.common.files import atomic
    with atomic(folder / "file.csv") as partial:
        pd.DataFrame({"a": np.arange(400_000)}).to_csv(partial)

from gazepipe import cli
from gazepipe.evaluation import trainings
trainings.format_trainings = lambda files: globals()[sys.argv[2]]()
sys.exit(cli.main(["errors", "none"]))
"""
KINDS = {"text": "file.json", "store": "file.h5", "part": "file.h5", "weights": "file.safetensors", "table": "file.csv"}


def write(folder: Path, kind: str, limit: str = "", within: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    command = [*within, sys.executable, "-c", WRITE, str(folder), kind, limit]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def small_disk(folder: Path, options: str) -> tuple[str, ...]:
    """A command before another, which then finds a memory disk mounted at `folder`, and nobody else does."""
    mount = f'mount -t tmpfs -o {options} tmpfs {folder} && "$@"; status=$?; ls -A {folder}; exit $status'
    command = ("unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh")
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("no disk can be mounted here")
    return command


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, kind):
    done = write(tmp_path, kind, within=small_disk(tmp_path, "size=1m"))
    assert done.stderr == f"gazepipe errors: {tmp_path / KINDS[kind]}: disk full: free space and run again\n"
    assert (done.returncode, done.stdout) == (2, "")


def test_a_disk_that_may_not_be_written_is_one_line(tmp_path):
    done = write(tmp_path, "text", within=small_disk(tmp_path, "ro"))
    assert done.stderr.startswith(f"gazepipe errors: {tmp_path / 'file.json'}: may not be written; ")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_beyond_the_limit_leaves_the_old_one(tmp_path, kind):
    path = tmp_path / KINDS[kind]
    path.write_text("old")
    done = write(tmp_path, kind, "limit")
    assert done.stderr.startswith(f"gazepipe errors: {path}: larger than a file may be here")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_errors_that_are_not_the_disks_stay_as_they_are(tmp_path):
    with pytest.raises(PermissionError, match="input"), atomic(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied", "an input")
    with pytest.raises(UserError, match="No space left on device, he said"), atomic(tmp_path / "a"):
        raise UserError("No space left on device, he said")
    with pytest.raises(StorageError) as caught, atomic(tmp_path / "a"):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert (caught.value.errno, isinstance(caught.value, OSError)) == (errno.EDQUOT, True)


KILLED = """
import os, signal, sys
from gazepipe.common.files import atomic
with atomic(sys.argv[1]) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_killed_processes_left_is_removed(tmp_path):
    path = tmp_path / "a.json"
    for name in ("a.json", "b.json"):
        subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)], check=False)
        (left,) = tmp_path.iterdir()
        assert left.name.startswith(".partial-")
        assert left.name.endswith(name)
    write_json(path, {})
    assert list(tmp_path.iterdir()) == [path]


def test_what_living_processes_and_other_machines_write_stays(tmp_path):
    with atomic(tmp_path / "other") as living:
        living.mkdir()
        # As of a machine with a number of its own, process 1.
        foreign = [tmp_path / f".partial-10000001-{name}" for name in ("a.json", "other", "third")]
        for path in foreign:
            path.write_text("half")
        (tmp_path / ".partial-mine").write_text("a user's own")
        write_json(tmp_path / "a.json", {})
        assert living.is_dir()
        # A result has one writer at a time: that of another machine is gone.
        assert [path.exists() for path in foreign] == [False, True, True]
    assert (tmp_path / ".partial-mine").exists()
