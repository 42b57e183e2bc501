"""Killed and continued runs are the runs that were never killed, to the byte; no other state is used."""

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_points import write_toy_points
from toy_store import write_toy_split, write_toy_store
from toy_training import KD, OFF, POINT_SPEC, REBIRTH, SPEC, STRUCTURAL, settings
from toy_training import run as stage

from gazepipe.common.files import read_json
from gazepipe.methods.settings import TrainSettings
from gazepipe.training.state import SIGNALS, State, Stopped

AUGMENTATION = OFF.model_copy(
    update={"crop": 0.2, "blur": 0.1, "pairs": 0.2, "shift": 0.1, "contrast": 0.1, "noise": 0.02}
)
STOPPING = {"patience": 1, "delta": 1e3}


def chosen(model: dict = SPEC, kinds: dict | None = None, **training) -> TrainSettings:
    return settings({"batch_size": 50, **training}, AUGMENTATION, kinds, model=model)


RUNS = {
    "plain": chosen(),
    "averaged": chosen(ema=0.9),
    "sgd": chosen(optimizer="sgd", learning_rate=1e-3),
    "half": chosen(precision="fp16", epochs=6),
    "dropout": chosen({**SPEC, "arch": "toy_network:forgetful"}),
    "stopped early": chosen(early_stopping=STOPPING, epochs=4),
    "kd": chosen(kinds={"kd": KD}),
    "kd on mixed": chosen(kinds={"kd": {"mixed": 0.5}}),
    "pseudo-labels": chosen(kinds={"pseudo_labels": {"share": 0.5}}),
    "rebirth": chosen(kinds={"rebirth": REBIRTH}),
    "kd and rebirth": chosen(kinds={"kd": KD, "rebirth": REBIRTH}, ema=0.9),
    "pruned": chosen(kinds={"structural": STRUCTURAL}, epochs=1),
    "kd and pruned": chosen(kinds={"structural": {**STRUCTURAL, "steps": 3}, "kd": KD}, ema=0.9),
    "shuffled": chosen(kinds={"placebo": {}}),
    "points": chosen(POINT_SPEC, normalise="training", loss="l1"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Both toy stores, a split, and the weights of a parent and teacher."""
    folder = tmp_path_factory.mktemp("resume")
    write_toy_store(folder / "toy.h5", 20)
    write_toy_points(folder / "points.h5", 20)
    write_toy_split(folder / "toy.csv")
    stage(RUNS["plain"], folder / "toy.h5", folder / "toy.csv", folder / "base")
    return folder


def run(folder: Path, name: str, out: Path, state: Path | None = None, key: str = "k") -> None:
    kinds, base = RUNS[name].kinds, folder / "base" / "model.safetensors"
    store = folder / ("points.h5" if name == "points" else "toy.h5")
    parent = base if kinds.rebirth or kinds.structural else None
    teacher = base if kinds.kd or kinds.pseudo_labels else None
    pool = [store] if name == "pseudo-labels" else None
    stage(RUNS[name], store, folder / "toy.csv", out, parent, teacher, unlabelled=pool, state=state, key=key)


def result(out: Path) -> tuple[bytes, bytes]:
    return (out / "model.safetensors").read_bytes(), (out / "history.csv").read_bytes()


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def deadly(monkeypatch):
    """Every offer of a state is taken, and each process 'dies' after one: of a step, or once while it validates."""
    monkeypatch.setenv("GAZEPIPE_SAVE_SECONDS", "0")
    offer, visits = State.offer, Counter()

    def offer_and_die(self, snapshot) -> None:
        offer(self, snapshot)
        tensors, facts = snapshot()
        size = sum(tensor.numel() for name, tensor in tensors.items() if name.startswith("model/"))
        place = size, len(facts["history"]), tensors["epoch/losses"].shape[1]
        visits[place] += 1
        if visits[place] <= 2:
            raise Killed

    monkeypatch.setattr(State, "offer", offer_and_die)


@pytest.mark.parametrize("name", RUNS)
def test_killed_after_every_step_and_every_batch_of_validation(folder, tmp_path, deadly, name):
    run(folder, name, tmp_path / "whole")
    state, out = tmp_path / "states" / "one", tmp_path / "killed"
    for kills in range(100):
        torch.manual_seed(kills)
        try:
            run(folder, name, out, state)
            break
        except Killed:
            assert list(state.parent.glob("one*"))
            assert not out.exists()
    steps, epochs = 2, len((out / "history.csv").read_text().splitlines()) - 1
    assert kills == epochs * (steps + 1)
    assert result(out) == result(tmp_path / "whole")
    told, whole = (read_json(path / "run.json")["cycles"] for path in (out, tmp_path / "whole"))
    assert told == whole
    assert any(told) == ("rebirth" in name)
    assert list(state.parent.iterdir()) == []


def test_the_record_counts_what_went_before(folder, tmp_path, deadly):
    import json

    with pytest.raises(Killed):
        run(folder, "plain", tmp_path / "run", tmp_path / "state")
    with pytest.raises(Killed):
        run(folder, "plain", tmp_path / "run", tmp_path / "state")
    State.offer = lambda *_: None
    run(folder, "plain", tmp_path / "run", tmp_path / "state")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["resumes"] == 2
    assert record["training_seconds"] > 0


def in_a_process(folder: Path, name: str, out: Path, state: Path) -> None:
    os.environ["GAZEPIPE_SAVE_SECONDS"] = "0"
    run(folder, name, out, state)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "averaged", "kd", "kd and rebirth"])
def test_killed_at_random_moments(folder, tmp_path, name):
    """Real processes and signals; a process also dies while it reads, writes a state, or writes its results."""
    context = multiprocessing.get_context("forkserver")
    # What is slow to import, among it what an optimizer imports when it is first used.
    context.set_forkserver_preload(["gazepipe.methods.train", "gazepipe.methods.rebirth", "torch._dynamo"])

    def process(out: Path) -> multiprocessing.Process:
        started = context.Process(target=in_a_process, args=(folder, name, out, tmp_path / "state"))
        started.start()
        return started

    process(tmp_path / "first").join()  # the server imports
    began = time.monotonic()
    whole = process(tmp_path / "whole")
    whole.join()
    duration = time.monotonic() - began
    assert whole.exitcode == 0
    moments = np.random.default_rng(sorted(RUNS).index(name))
    for attempt in range(4):
        killed = process(tmp_path / "killed")
        time.sleep(moments.uniform(0.1, 0.9) * duration)
        end = killed.terminate if attempt % 2 else killed.kill
        end()
        killed.join()
        # 143: it saved and left; -15: it had not begun to learn; 0: it had finished.
        assert killed.exitcode in ({143, -15, 0} if attempt % 2 else {-9, 0})
    last = process(tmp_path / "killed")
    last.join()
    assert last.exitcode == 0
    assert result(tmp_path / "killed") == result(tmp_path / "whole")
    assert not any("state" in path.name for path in tmp_path.iterdir())


# ---- signals


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_finishes_the_step_saves_and_leaves_with_143(folder, tmp_path, monkeypatch, number):
    monkeypatch.setenv("GAZEPIPE_SAVE_SECONDS", "1e9")
    before = [signal.getsignal(each) for each in SIGNALS]
    run(folder, "plain", tmp_path / "whole")
    offer, offers = State.offer, count(1)

    def signalled(self, snapshot) -> None:
        if next(offers) == 2:
            os.kill(os.getpid(), number)
        offer(self, snapshot)

    with monkeypatch.context() as patched:
        patched.setattr(State, "offer", signalled)
        with pytest.raises(Stopped) as stopped:
            run(folder, "plain", tmp_path / "run", tmp_path / "state")
    assert stopped.value.code == 143
    assert not (tmp_path / "run").exists()
    assert [signal.getsignal(each) for each in SIGNALS] == before
    run(folder, "plain", tmp_path / "run", tmp_path / "state")
    assert result(tmp_path / "run") == result(tmp_path / "whole")


def test_another_thread_trains_without_listening(tmp_path):
    inside = []

    def listen() -> None:
        with State(tmp_path / "state", "k").listening():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert inside == [signal.getsignal(signal.SIGTERM)]


# ---- the file


TENSORS = {
    "channels last": torch.randn(4, 3, 5, 2).to(memory_format=torch.channels_last),
    "turned": torch.arange(6, dtype=torch.float64).reshape(2, 3).T,
    "scalar": torch.tensor(7.0),
    "empty": torch.empty(0, 3),
    "whole": torch.tensor([2**40, -1]),
    "bytes": torch.get_rng_state(),
    "half": torch.tensor([1.5], dtype=torch.bfloat16),
}
FACTS = {"history": [{"epoch": 1, "error": 0.1 + 0.2}], "none": None}


def saved(path: Path, monkeypatch, key: str = "k", identity: str = "i") -> State:
    monkeypatch.setenv("GAZEPIPE_SAVE_SECONDS", "0")
    state = State(path, key)
    assert state.load(identity) is None
    state.offer(lambda: (TENSORS, FACTS))
    return state


def test_tensors_come_back_with_values_types_and_strides(tmp_path, monkeypatch):
    saved(tmp_path / "state", monkeypatch)
    tensors, facts = State(tmp_path / "state", "k").load("i")
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
        assert (tensors[name].dtype, tensors[name].stride()) == (tensor.dtype, tensor.stride())


@pytest.mark.parametrize(("key", "identity"), [("other", "i"), ("k", "other")])
def test_the_state_of_another_run_is_not_used(tmp_path, monkeypatch, capsys, key, identity):
    saved(tmp_path / "state", monkeypatch)
    assert State(tmp_path / "state", key).load(identity) is None
    said = capsys.readouterr().err
    assert said == f"{tmp_path / 'state'}: state not used (it is another run's); starting anew\n"


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "text", "folder"])
def test_a_damaged_state_is_not_used(tmp_path, monkeypatch, capsys, damage):
    path = tmp_path / "state"
    saved(path, monkeypatch)
    whole = path.read_bytes()
    changed = whole[:-1] + bytes([whole[-1] ^ 1])
    path.write_bytes({"cut": whole[:-9], "empty": b"", "changed": changed}.get(damage, b"no state"))
    if damage == "folder":
        path.unlink()
        path.mkdir()
    assert State(path, "k").load("i") is None
    said = capsys.readouterr().err
    assert said == ("" if damage == "folder" else f"{path}: state not used (it is damaged); starting anew\n")


@pytest.mark.parametrize(("name", "key"), [("averaged", "k"), ("plain", "another key")])
def test_a_run_with_another_states_file_is_the_run_without(folder, tmp_path, deadly, capsys, name, key):
    """The same key with another configuration, then another key: both start anew."""
    run(folder, "plain", tmp_path / "whole")
    with pytest.raises(Killed):
        run(folder, name, tmp_path / "run", tmp_path / "state", key)
    State.offer = lambda *_: None
    capsys.readouterr()
    run(folder, "plain", tmp_path / "run", tmp_path / "state")
    assert "starting anew" in capsys.readouterr().err
    assert result(tmp_path / "run") == result(tmp_path / "whole")
    assert not (tmp_path / "state").exists()


def test_a_state_that_cannot_be_written_costs_no_run(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GAZEPIPE_SAVE_SECONDS", "0")
    (tmp_path / "state").mkdir()
    run(folder, "plain", tmp_path / "run", tmp_path / "state")
    assert "state not saved" in capsys.readouterr().err
    assert (tmp_path / "run" / "run.json").is_file()


def test_what_a_killed_process_left_half_written_goes_with_the_state(tmp_path, monkeypatch):
    state = saved(tmp_path / "state", monkeypatch)
    (tmp_path / ".partial-1-state").write_bytes(b"half")
    (tmp_path / ".partial-1-other").write_bytes(b"another run's")
    state.remove()
    assert [path.name for path in tmp_path.iterdir()] == [".partial-1-other"]


def test_states_are_saved_as_often_as_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("GAZEPIPE_SAVE_SECONDS", "60")
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    state, taken = State(tmp_path / "state", "k"), []
    for second in range(0, 200, 7):
        now[0] = 1000.0 + second
        state.offer(lambda second=second: (taken.append(second), ({}, {}))[1])
    assert taken == [63, 126, 189]


def test_seconds_that_are_no_number_are_named(tmp_path, monkeypatch):
    from gazepipe.errors import UserError

    monkeypatch.setenv("GAZEPIPE_SAVE_SECONDS", "often")
    with pytest.raises(UserError, match=r"GAZEPIPE_SAVE_SECONDS: 'often' is no number"):
        State(tmp_path / "state", "k")
