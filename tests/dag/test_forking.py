"""Stages forked from a server end as they would by themselves, and leave the same bytes."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import toy_training
from toy_store import PATCH, write_toy_split, write_toy_store

from gazepipe.dag import cores, forking, orphans
from gazepipe.evaluation.settings import PredictSettings

WORKFLOW = """
import json, os, sys
from gazepipe.dag import forking, orphans
orphans.lead()
forking.lead()
print(json.dumps({name: os.environ[name] for name in (orphans.WORKFLOW, forking.FORKS)}), flush=True)
sys.stdin.read()
"""
ASKER = """
import sys
from gazepipe.dag.forking import end_as, forked
import entry
status = forked(entry.main, sys.argv, sys.argv[1])
if status is not None:
    end_as(status)
print("alone", flush=True)
"""
ENTRY = """
import os, resource, signal, sys, time

def main():
    return globals()[sys.argv[2]](*sys.argv[3:])

def leave(status):
    sys.exit(int(status))

def fail():
    print("told", end="")
    raise LookupError("gone")

def die(number):
    os.kill(os.getpid(), int(number))

def show(*words):
    print(sys.argv, os.getcwd(), os.umask(0), sys.stdin.read(), os.environ["TOLD"])
    return 0

def used():
    print(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
    return 0

def wait(path):
    print(os.getpid(), os.getppid(), flush=True)
    while not os.path.exists(path):
        time.sleep(0.05)
    return 5

def listen():
    def told(number, _):
        os.write(1, signal.Signals(number).name.encode())
        sys.exit(7)
    signal.signal(signal.SIGUSR1, told)
    wait("never")

def at_exit():
    import atexit, threading
    atexit.register(print, "at exit")
    threading.Thread(target=lambda: (time.sleep(0.5), print("thread"))).start()
    return 0
"""
LARGE = """
import time
content = bytearray(400 << 20)
content[::4096] = bytes(len(content[::4096])).replace(b"\\0", b"1")
del content
while time.process_time() < 1.5:
    pass
"""
THREADED = """
import threading, time
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
"""
CLI = """
import sys
from gazepipe.cli import main
try:
    sys.exit(main())
finally:
    print("torch" in sys.modules)
"""
MEGABYTES = 400


def ended(condition: Callable[[], bool]) -> bool:
    """Whether it comes true, with patience."""
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.1)
    return False


def runs(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def workflow(tmp_path) -> Iterator[subprocess.Popen]:
    """A process that stages take for their workflow; `environment` is what it would start them with."""
    source = tmp_path / "source"
    source.mkdir()
    for name, content in {"entry": ENTRY, "large": LARGE, "threaded": THREADED, "broken": "1 / 0"}.items():
        (source / f"{name}.py").write_text(content)
    given = {name: value for name, value in os.environ.items() if name != forking.FORKS}
    given |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOLD": "told", "TMPDIR": str(tmp_path)}
    given["PYTHONPATH"] = os.pathsep.join([str(Path(forking.__file__).parents[2]), str(source)])
    with subprocess.Popen([sys.executable, "-c", WORKFLOW], stdin=-1, stdout=-1, text=True, env=given) as process:
        process.environment = given | json.loads(process.stdout.readline())
        process.folder = Path(process.environment[forking.FORKS])
        yield process
        process.kill()


def start(workflow, *arguments: object, code: str = ASKER, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, text=True, env=workflow.environment | environment, **pipes)


def ask(workflow, *arguments: object, given: str = "", **options: str) -> tuple[int, str, str]:
    """Exit status, output, errors."""
    process = start(workflow, *arguments, **options)
    out, errors = process.communicate(given)
    return process.returncode, out, errors


def servers(workflow) -> list[Path]:
    return [path for path in workflow.folder.iterdir() if stat.S_ISSOCK(path.lstat().st_mode)]


def test_a_fork_has_arguments_streams_and_surroundings_of_who_asks(workflow):
    mask = os.umask(0)
    os.umask(mask)
    told = f"['-c', 'json', 'show', 'two words'] {os.getcwd()} {mask} text told\n"
    assert ask(workflow, "json", "show", "two words", given="text") == (0, told, "")
    assert len(servers(workflow)) == 1


@pytest.mark.parametrize("status", [0, 2, 143])
def test_the_exit_status_of_a_fork_is_that_of_who_asks(workflow, status):
    assert ask(workflow, "json", "leave", status) == (status, "", "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_fork_that_a_signal_ends_ends_who_asks_by_it(workflow, number):
    assert ask(workflow, "json", "die", int(number)) == (-number, "", "")


def test_an_error_is_a_traceback_and_what_was_printed_is_not_lost(workflow):
    status, out, errors = ask(workflow, "json", "fail")
    assert (status, out) == (1, "told")
    assert errors.startswith("Traceback")
    assert errors.endswith("LookupError: gone\n")


def test_threads_and_exit_functions_of_a_fork_end_before_it(workflow):
    assert ask(workflow, "json", "at_exit") == (0, "thread\nat exit\n", "")


def test_a_module_that_cannot_be_imported_leaves_the_server_at_work(workflow):
    assert ask(workflow, "broken", "leave", 3)[0] == 3
    assert ask(workflow, "json", "leave", 4)[0] == 4
    assert len(servers(workflow)) == 1


def test_what_the_server_took_is_not_the_forks(workflow):
    status, out, _ = ask(workflow, "large", "used")
    seconds, megabytes = map(float, out.split())
    assert status == 0
    assert seconds < 1
    assert megabytes < MEGABYTES


def test_signals_reach_the_fork(workflow):
    process = start(workflow, "json", "listen")
    fork = int(process.stdout.readline().split()[0])
    process.send_signal(signal.SIGUSR1)
    assert process.communicate()[0] == "SIGUSR1"
    assert process.returncode == 7
    assert not runs(fork)


def test_a_fork_ends_with_who_asked(workflow, tmp_path):
    process = start(workflow, "json", "wait", tmp_path / "never")
    fork, server = map(int, process.stdout.readline().split())
    process.kill()
    process.communicate()
    assert ended(lambda: not runs(fork))
    assert runs(server)


def test_who_asked_a_server_that_is_killed_works_alone(workflow, tmp_path):
    process = start(workflow, "json", "wait", tmp_path / "never")
    fork, server = map(int, process.stdout.readline().split())
    os.kill(server, signal.SIGKILL)
    assert process.communicate()[0] == "alone\n"
    assert not runs(fork)
    assert ask(workflow, "json", "leave", 3)[0] == 3


def test_the_server_ends_with_the_workflow_when_the_last_fork_has_ended(workflow, tmp_path):
    process = start(workflow, "json", "wait", tmp_path / "end")
    _, server = map(int, process.stdout.readline().split())
    workflow.kill()
    assert ended(lambda: not workflow.folder.exists())
    assert runs(server)
    (tmp_path / "end").touch()
    process.communicate()
    assert process.returncode == 5
    assert ended(lambda: not runs(server))


def test_another_environment_is_another_server(workflow):
    assert ask(workflow, "json", "show", TOLD="other")[1].split()[-1] == "other"
    assert ask(workflow, "json", "show")[1].split()[-1] == "told"
    assert len(servers(workflow)) == 2


def test_a_server_with_threads_forks_nothing(workflow):
    assert ask(workflow, "threaded", "leave", 3) == (0, "alone\n", "")
    assert ask(workflow, "json", "leave", 3) == (0, "alone\n", "")


@pytest.mark.parametrize("place", [forking.OFF, "", "/no/such/folder", "/dev/null"])
def test_without_a_place_for_a_socket_a_process_works_alone(workflow, place):
    assert ask(workflow, "json", "leave", 3, GAZEPIPE_FORKS=place) == (0, "alone\n", "")


def test_a_long_path_is_no_obstacle(workflow, tmp_path):
    place = tmp_path / ("x" * 200)
    assert ask(workflow, "json", "leave", 3, GAZEPIPE_FORKS=str(place)) == (3, "", "")


@pytest.mark.parametrize("name", ["", f"{os.getppid()} elsewhere"])
def test_without_a_workflow_a_process_works_alone(workflow, name):
    assert ask(workflow, "json", "leave", 3, **{orphans.WORKFLOW: name}) == (0, "alone\n", "")


def test_a_server_that_does_not_start_is_none(workflow):
    code = "import sys; sys.executable = '/bin/false'\n" + ASKER
    assert ask(workflow, "json", "leave", 3, code=code) == (0, "alone\n", "")


def test_a_stale_socket_is_replaced(workflow):
    assert ask(workflow, "json", "leave", 3)[0] == 3
    [path] = servers(workflow)
    process = start(workflow, "json", "wait", "never")
    os.kill(int(process.stdout.readline().split()[1]), signal.SIGKILL)
    process.communicate()
    assert path.exists()
    assert ask(workflow, "json", "leave", 4)[0] == 4
    assert servers(workflow) == [path]


def test_folders_of_others_are_refused(workflow, tmp_path, monkeypatch):
    monkeypatch.setenv(forking.FORKS, str(workflow.folder))
    monkeypatch.setenv(orphans.WORKFLOW, workflow.environment[orphans.WORKFLOW])
    workflow.folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: workflow.folder.stat().st_uid + 1)
    assert forking.forked(WORKFLOW.strip, [], "json") is None
    monkeypatch.undo()
    workflow.folder.chmod(0o755)
    assert ask(workflow, "json", "leave", 3) == (0, "alone\n", "")
    workflow.folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    workflow.folder.symlink_to(tmp_path / "elsewhere")
    assert ask(workflow, "json", "leave", 3) == (0, "alone\n", "")
    workflow.folder.unlink()
    assert list((tmp_path / "elsewhere").iterdir()) == []


# ---- stages


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    return {"store": write_toy_store(folder / "toy.h5"), "split": write_toy_split(folder / "toy.csv")}


def stage(name: str, settings: object, folder: Path, files: dict[str, Path], state: bool = False) -> list[str]:
    """The words of a stage's command in a workflow with its results in `folder`."""
    job = {"name": f"{name} toy", "root": str(folder), "key": "0" * 16, "source": "s"}
    job |= {"state": str(folder / ".state/toy")} if state else {}
    options = [word for option, path in files.items() for word in (f"--{option}", str(path))]
    return [name, "--settings", settings.model_dump_json(), "--job", json.dumps(job), *options]


def trained(folder: Path) -> dict[str, Path]:
    return {name: folder / file for name, file in [("weights", "w.safetensors"), ("history", "h.csv"), ("facts", "f")]}


@pytest.mark.parametrize("threads", [1, 2])
def test_stages_leave_the_same_bytes_forked_and_alone(workflow, tmp_path, data, threads):
    settings = toy_training.settings(training={"threads": threads})
    test = PredictSettings(dataset="toy", fold=0, tests=("toy",), model=settings.model, device="cpu", threads=threads)
    made = {}
    for forks in (str(workflow.folder), forking.OFF):
        folder = tmp_path / "results"
        files = trained(folder)
        tested = {"weights": files["weights"], "predictions": folder / "p.csv"}
        tested |= {"stores": data["store"], "split": data["split"]}
        for words in (stage("train", settings, folder, data | files), stage("predict", test, folder, tested)):
            status, out, errors = ask(workflow, *words, code=CLI, GAZEPIPE_FORKS=forks)
            assert (status, out) == (0, f"{forks == forking.OFF}\n"), errors
        facts = json.loads(files["facts"].read_text())
        for name in ("wall_seconds", "training_seconds", "peak_memory_mb"):
            del facts[name]
        contents = [path.read_bytes() for path in (files["weights"], files["history"], folder / "p.csv")]
        made[forks] = [facts, *contents]
        costs = [json.loads((folder / f".costs/{name}/toy.json").read_text()) for name in ("train", "predict")]
        assert all(each["processor_seconds"] > 0 and 100 < each["memory_mb"] < 2000 for each in costs)
        folder.rename(tmp_path / f"results-{forks == forking.OFF}")
    assert made[str(workflow.folder)] == made[forking.OFF]
    assert facts["settings"]["training"]["threads"] == threads
    assert PATCH["height"] == settings.model["input"][1]


def test_a_training_told_to_stop_saves_its_state(workflow, tmp_path, data):
    settings = toy_training.settings(training={"epochs": 100_000})
    words = stage("train", settings, tmp_path, data | trained(tmp_path), state=True)
    process = start(workflow, *words, code=CLI, GAZEPIPE_SAVE_SECONDS="0")
    assert ended((tmp_path / ".state/toy").exists)
    process.terminate()
    out, errors = process.communicate()
    assert (process.returncode, out) == (143, "False\n")
    assert f"{tmp_path}/.state/toy: stopped by SIGTERM; run again to continue\n" in errors
    assert (tmp_path / ".state/toy").exists()


def test_what_a_user_caused_is_one_line(workflow, tmp_path, data):
    words = stage("train", toy_training.settings(), tmp_path, data | trained(tmp_path) | {"store": tmp_path / "no.h5"})
    forked, alone = (ask(workflow, *words, code=CLI, GAZEPIPE_FORKS=forks) for forks in (str(workflow.folder), "off"))
    assert (forked[0], forked[1]) == (2, "False\n")
    assert forked[2] == alone[2]
    began, told = forked[2].splitlines()
    assert began == f"gazepipe train: {cores.HELD}"
    assert told.startswith(f"gazepipe train: {tmp_path}/no.h5: ")
