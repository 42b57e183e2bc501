"""Two real processes (gloo) train as one does, survive what one survives, and end together."""

import copy
import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_store import HEIGHT, WIDTH, write_toy_split, write_toy_store

from gazepipe import cli
from gazepipe.dag import cores as slots
from gazepipe.errors import UserError
from gazepipe.methods.train import train
from gazepipe.models.registry import build
from gazepipe.training import launch
from gazepipe.training.distributed import ALONE, Group, joined
from tests.training.test_resume import KD, REBIRTH, STRUCTURAL

CPU = torch.device("cpu")
# Adam divides by the size of gradients, small ones too: at a high rate, rounding alone moves the curves apart.
TRAINING = {
    "epochs": 3,
    "batch_size": 50,
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup_epochs": 1.0,
    "step_epochs": 2,
    "step_factor": 0.1,
    "clip_norm": 5.0,
    "ema": 0.0,
    "precision": "fp32",
    "loss": "smooth_l1",
    "threads": 1,
    "tensorboard": False,
    "augmentation": {"crop": 0.2, "blur": 0.1, "mixup": 0.1, "pairs": 0.2, "contrast": 0.1, "noise": 0.02},
}
BASE = {
    "model": {"arch": "resnet18", "width": 0.125, "input": [1, HEIGHT, WIDTH]},
    "training": TRAINING,
    "kd": None,
    "rebirth": None,
    "device": "cpu",
    "fold": 0,
    "seed": 0,
}


def block(**changes) -> dict:
    training = {name: changes.pop(name) for name in list(changes) if name not in {*BASE, "structural"}}
    return {**BASE, **changes, "training": {**TRAINING, **training}}


def network(**changes) -> dict:
    return {**BASE["model"], **changes}


RUNS = {
    "base": block(),
    "uneven shares, clipped, averaged": block(batch_size=33, clip_norm=1.0, ema=0.9),
    "fewer samples than a batch": block(batch_size=500, early_stopping={"patience": 1, "delta": 1e3}),
    "half": block(precision="fp16"),
    "kd": block(kd=KD, batch_size=33),
    "kd and rebirth": block(kd=KD, rebirth=REBIRTH, epochs=1),
    # Channels by their weights: by "taylor" two are so near each other that rounding decides.
    "pruned": block(structural={**STRUCTURAL, "criterion": "l2"}, epochs=1),
    "dropout": block(model=network(arch="resnet10_wide"), epochs=2),
    "dropped paths": block(model=network(arch="simvit"), epochs=1, batch_size=33),
    "other norms": block(model=network(arch="test_distributed:other_norms")),
}
LONG = block(epochs=8)
STEPS = {"resnet": BASE["model"], "norms": network(arch="test_distributed:other_norms")}
# The toy's images are nearly even: norms take small differences of large numbers.
TOLERANCE = {"half": 1e-2, "other norms": 1e-3}


class OtherNorms(nn.Module):
    """Batch norms of every make: without weights, without running statistics, with their plain mean; and the views of
    an image as a batch of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4, affine=False), nn.Dropout2d(0.2))
        self.views = nn.BatchNorm1d(4, momentum=None)
        self.head = nn.Sequential(nn.LazyLinear(8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.stem(x)
        places = maps.flatten(2).transpose(1, 2)
        every = self.views(places.reshape(-1, 4)).reshape(places.shape)
        return self.head(every.flatten(1))


def other_norms(width: float, input_shape: tuple[int, int, int]) -> nn.Module:
    model = OtherNorms()
    model(torch.zeros(2, *input_shape))
    return model


class Drawing(nn.Module):
    """A network that draws by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1)) + torch.rand(len(x), 2)


# ---- the two processes


def as_rank(rank: int, place: Path) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", GAZEPIPE_RENDEZVOUS=str(place))


def run(folder: Path, out: Path, chosen: dict) -> None:
    base = folder / "base.safetensors"
    parent = base if chosen["rebirth"] or chosen.get("structural") else None
    train(chosen, folder / "toy.h5", folder / "toy.csv", out, parent, base if chosen["kd"] else None)


def as_two(chosen: dict) -> dict:
    return {**chosen, "training": {**chosen["training"], "processes": 2}}


def work(rank: int, folder: Path) -> None:
    """All that the two have to do, in one go: starting them takes longer than the work."""
    for number, (name, chosen) in enumerate({**RUNS, "long": LONG}.items()):
        as_rank(rank, folder / f"rendezvous{number}")
        run(folder, folder / "two" / name, as_two(chosen))
    for name, spec in STEPS.items():
        as_rank(rank, folder / f"rendezvous {name}")
        torch.save(step_of_two(spec), folder / f"{name}{rank}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Every run by two processes, beside the store and the weights of a parent and teacher."""
    folder = tmp_path_factory.mktemp("distributed")
    write_toy_store(folder / "toy.h5", 20)
    write_toy_split(folder / "toy.csv")
    train(block(learning_rate=2e-3), folder / "toy.h5", folder / "toy.csv", folder / "parent", None, None)
    (folder / "parent" / "model.safetensors").rename(folder / "base.safetensors")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gazepipe.methods.train", "gazepipe.methods.structural.steps", "torch._dynamo"])
    ranks = [context.Process(target=work, args=(rank, folder)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]
    return folder


def history(out: Path) -> np.ndarray:
    with open(out / "history.csv", newline="") as file:
        return np.array([[float(value) for value in row.values()] for row in csv.DictReader(file)])


def result(out: Path) -> tuple[bytes, bytes]:
    return (out / "model.safetensors").read_bytes(), (out / "history.csv").read_bytes()


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_learn_what_one_learns(folder, tmp_path, name):
    run(folder, tmp_path / "one", RUNS[name])
    one, two = history(tmp_path / "one"), history(folder / "two" / name)
    assert one.shape == two.shape
    assert len(set(one[:, 2])) == len(one), "something is learnt"
    np.testing.assert_allclose(two, one, rtol=TOLERANCE.get(name, 1e-4))
    found, expected = (json.loads((out / "run.json").read_text()) for out in (folder / "two" / name, tmp_path / "one"))
    assert found["best_epoch"] == expected["best_epoch"]
    assert found["validation_errors"] == pytest.approx(expected["validation_errors"], rel=TOLERANCE.get(name, 1e-4))


def batch_of_step(spec: dict) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = build(spec).double().train()
    return model, torch.randn(33, 1, HEIGHT, WIDTH).double(), torch.randn(33, 2).double()


def squared_error(model: nn.Module, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (model(images) - target).square().mean()


def step_of_two(spec: dict) -> dict[str, torch.Tensor]:
    """Loss, gradients, and statistics of a batch of 33 in double precision."""
    model, images, target = batch_of_step(spec)
    with joined(2, CPU) as group:
        group.adopt(model, None, images[:1], len(images))
        loss = group.weighted(squared_error(model, group.mine(images), group.mine(target)))
        loss.backward()
        group.add_gradients([model])
        total = group.total(loss.detach())
    gradients = {f"{name} gradient": parameter.grad for name, parameter in model.named_parameters()}
    return {"loss": total, **gradients, **dict(model.named_buffers())}


@pytest.mark.parametrize("name", STEPS)
def test_the_gradient_is_exactly_that_of_the_whole_batch(folder, name):
    model, images, target = batch_of_step(STEPS[name])
    loss = squared_error(model, images, target)
    loss.backward()
    first, second = (torch.load(folder / f"{name}{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[each], second[each]) for each in first)
    expected = {"loss": loss.detach(), **dict(model.named_buffers())}
    expected |= {f"{name} gradient": parameter.grad for name, parameter in model.named_parameters()}
    assert first.keys() == expected.keys()
    for each, value in expected.items():
        torch.testing.assert_close(first[each], value, rtol=1e-10, atol=1e-12)


# ---- the command: kills, signals, what goes on


class Command:
    """`gazepipe train` with two processes under way."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.out, self.state = out / "run", out / "state"
        files = [f"--store={folder / 'toy.h5'}", f"--split={folder / 'toy.csv'}", f"--out={self.out}"]
        main = "import sys; from gazepipe.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", main, "train", "--block", json.dumps(as_two(LONG)), "--key=k"]
        path = os.pathsep.join(sys.path)
        environment = {**os.environ, "GAZEPIPE_SAVE_SECONDS": "0", "GAZEPIPE_SLOTS": "off", "PYTHONPATH": path}
        self.process = subprocess.Popen(
            [*command, *files, f"--state={self.state}"], env=environment, stderr=subprocess.PIPE, text=True
        )

    def under_way(self) -> list[int]:
        """The two processes' ids, once a state of this command is there."""
        before = self.state.stat().st_mtime_ns if self.state.exists() else 0
        while not self.state.exists() or self.state.stat().st_mtime_ns == before:
            assert self.process.poll() is None
            time.sleep(0.01)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        assert len(children) == 2
        return [int(child) for child in children]

    def ended(self) -> tuple[int, list[str]]:
        """Exit status and what it said beside its progress."""
        said = self.process.communicate(timeout=600)[1].splitlines()
        return self.process.returncode, [line for line in said if " batch" not in line and "continuing" not in line]


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "an orphan is left"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")
def test_killed_in_every_way_it_ends_as_if_it_never_was(folder, tmp_path):
    for rank in (1, 0):
        command = Command(folder, tmp_path)
        ranks = command.under_way()
        os.kill(ranks[rank], signal.SIGKILL)
        status, said = command.ended()
        assert status == 2
        line = f"gazepipe train: training.processes: process {rank + 1} of 2 was ended by SIGKILL; "
        assert [each.startswith(line) for each in said] == [True]
        wait_until_gone(ranks)

    command = Command(folder, tmp_path)
    ranks = command.under_way()
    command.process.kill()
    command.ended()
    wait_until_gone(ranks)

    command = Command(folder, tmp_path)
    ranks = command.under_way()
    command.process.terminate()
    assert command.ended() == (143, [f"{command.state}: stopped by SIGTERM; run again to continue"])
    wait_until_gone(ranks)
    assert not command.out.exists()

    command = Command(folder, tmp_path)
    assert command.ended() == (0, [])
    assert result(command.out) == result(folder / "two" / "long")
    assert json.loads((command.out / "run.json").read_text())["resumes"] == 4
    assert not command.state.exists()


@pytest.mark.parametrize(
    ("codes", "status", "line"),
    [
        ([2, os.EX_TEMPFAIL], 2, ""),  # the first has said why
        ([os.EX_TEMPFAIL, 2], 2, "gazepipe train: no good\n"),
        ([None, 1], 1, "Traceback\ngazepipe train: no good\n"),
        ([143, None], 143, ""),
        ([0, 1], 0, ""),
    ],
)
def test_the_process_that_failed_first_tells_why(tmp_path, capsys, codes, status, line):
    (tmp_path / "1.txt").write_text("Traceback\ngazepipe train: no good\n")
    try:
        launch._judge(codes, tmp_path, stopped=False)
        left = 0
    except SystemExit as end:
        left = end.code
    assert (left, capsys.readouterr().err) == (status, line)


@pytest.mark.parametrize(
    ("codes", "match"), [([None, -9], "process 2 of 2 was ended by SIGKILL"), ([75, 75], "the 2 lost each other")]
)
def test_what_no_process_could_tell_is_told(tmp_path, codes, match):
    with pytest.raises(UserError, match=match):
        launch._judge(codes, tmp_path, stopped=False)


@pytest.mark.parametrize(("code", "status"), [(143, 143), (-15, 143), (130, 130)])
def test_a_signal_that_came_decides_the_status(tmp_path, code, status):
    with pytest.raises(SystemExit) as end:
        launch._judge([code, 75], tmp_path, stopped=True)
    assert end.value.code == status


# ---- shares, slots and bad input


@pytest.mark.parametrize("size", [2, 3, 5])
def test_shares_are_all_rows_once(size):
    rows, groups = torch.arange(33.0), [Group(rank, size) for rank in range(size)]
    shares = [group.mine(rows) for group in groups]
    assert torch.equal(torch.cat(shares), rows)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert sum(group.weighted(share.mean()) for group, share in zip(groups, shares, strict=True)) == pytest.approx(16)
    drawn = [group.drawn(torch.arange, 2 * len(share)) for group, share in zip(groups, shares, strict=True)]
    assert torch.equal(torch.cat(drawn), torch.arange(66))


def test_alone_nothing_is_touched():
    rows = torch.arange(5.0)
    assert ALONE.mine(rows) is rows
    assert ALONE.weighted(rows) is rows
    assert ALONE.total(rows) is rows
    model = build(BASE["model"])
    kinds = [type(module) for module in model.modules()]
    ALONE.adopt(model, None, torch.zeros(1, 1, HEIGHT, WIDTH), 1)
    assert [type(module) for module in model.modules()] == kinds


def test_a_batch_has_a_row_for_each():
    with pytest.raises(UserError, match=r"training\.processes: 4 share a batch of 3 samples; use 3 at most"):
        Group(0, 4).adopt(build(BASE["model"]), None, torch.zeros(1, 1, HEIGHT, WIDTH), 3)


def test_a_network_that_draws_by_itself_is_refused():
    model, before = Drawing(), torch.get_rng_state()
    with pytest.raises(UserError, match="2, but Drawing draws random numbers in its own way"):
        Group(0, 2).adopt(model, None, torch.zeros(1, 1, 2, 2), 32)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_process_that_nobody_joins_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match=r"training\.processes: 2, but 1 started; use gazepipe train"):
        run(folder, tmp_path, as_two(RUNS["base"]))


def test_only_cpu_and_cuda(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2, but the device is mps"), joined(2, torch.device("mps")):
        pass


def given(**changes) -> list[str]:
    chosen = copy.deepcopy({**BASE, "device": "cuda"})
    chosen["training"].update(changes)
    return ["train", "--block", json.dumps(chosen), "--store=s", "--split=p", "--out=o", "--key=k"]


def test_more_processes_than_gpus(monkeypatch, capsys):
    monkeypatch.delenv(slots.VISIBLE, raising=False)
    monkeypatch.setenv(slots.GPUS, "1")
    assert cli.main(given(processes=2)) == 2
    line = "gazepipe train: training.processes: 2 need a GPU each, but 1 are here; use fewer, or the cpu\n"
    assert capsys.readouterr().err == line


def test_the_command_holds_what_all_processes_need(tmp_path, monkeypatch):
    monkeypatch.delenv(slots.VISIBLE, raising=False)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv(slots.GPUS, "3")
    monkeypatch.setattr(slots, "gpu_folder", lambda: tmp_path / "gpus")
    monkeypatch.setattr(slots, "slot_folder", lambda: tmp_path / "cores")
    monkeypatch.setattr(slots, "available_cores", lambda: 8)
    seen = []

    def launched(arguments: list[str], processes: int) -> None:
        free = [slots._try_lock(tmp_path / "cores" / f"core{core}.lock") for core in range(8)]
        seen.append((processes, os.environ[slots.VISIBLE], free.count(None), arguments))

    monkeypatch.setattr(launch, "launch", launched)
    arguments = given(processes=2, threads=3)
    assert cli.main(arguments) == 0
    assert [each[:3] for each in seen] == [(2, "0,1", 6)]
    passed_on, asked = (vars(cli._parser().parse_args(each)) for each in (seen[0][3], arguments))
    assert all(passed_on[name] == asked[name] for name in ("block", *cli.TRAIN_FILES, *cli.TRAIN_OPTIONS))
