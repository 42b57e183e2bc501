"""Two real processes (gloo) learn what one learns, survive what one survives, and end together."""

import csv
import gc
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from toy_store import HEIGHT, WIDTH, write_toy_split, write_toy_store
from toy_training import KD, OFF, REBIRTH, SPEC, STRUCTURAL, settings
from toy_training import run as run_stage

from gazepipe import cli
from gazepipe.dag import cores as slots
from gazepipe.errors import UserError
from gazepipe.methods import train as stage
from gazepipe.methods.settings import TrainSettings
from gazepipe.models.network import GazeNetwork
from gazepipe.models.registry import build
from gazepipe.training import launch
from gazepipe.training.distributed import ALONE, Group, joined
from gazepipe.training.samples import Samples, batches
from gazepipe.training.settings import Augmentation
from gazepipe.training.state import State

CPU = torch.device("cpu")
AUGMENTATION = OFF.model_copy(
    update={"crop": 0.2, "blur": 0.1, "mixup": 0.1, "pairs": 0.2, "contrast": 0.1, "noise": 0.02}
)
EVEN = {**SPEC, "arch": f"{__name__}:even", "width": 1.0}
NORMED = SPEC


def chosen(
    model: dict = EVEN, kinds: dict | None = None, augmentation: Augmentation = OFF, **training
) -> TrainSettings:
    """Adam divides by the size of gradients, small ones too: at a high rate, rounding alone moves the curves apart."""
    return settings({"batch_size": 50, "learning_rate": 1e-4, **training}, augmentation, kinds, model=model)


def network(**changes) -> dict:
    return {**NORMED, **changes}


# No draw for single rows, and no statistics of a batch: the two learn what one learns.
UNDRAWN = {**KD, "random_target": False}
EQUAL = {
    "base": chosen(epochs=3),
    "uneven shares, clipped, averaged": chosen(batch_size=33, clip_norm=1.0, ema=0.9),
    "fewer samples than a batch": chosen(batch_size=500, epochs=3, early_stopping={"patience": 1, "delta": 1e3}),
    "half": chosen(precision="fp16", epochs=5),  # the first steps only find the scale
    "kd": chosen(kinds={"kd": UNDRAWN}, batch_size=33),
    "kd and rebirth": chosen(kinds={"kd": UNDRAWN, "rebirth": REBIRTH}, epochs=1),
}
TOLERANCE = {"half": 1e-2}
# Draws and batch statistics of each process's own.
OWN = {
    "norms, augmented": chosen(model=NORMED, augmentation=AUGMENTATION, batch_size=33, ema=0.9),
    "dropout": chosen(model=network(arch="resnet10_wide"), augmentation=AUGMENTATION),
    "dropped paths": chosen(model=network(arch="simvit"), epochs=1, batch_size=33),
    "kd, rebirth, norms": chosen(NORMED, {"kd": KD, "rebirth": REBIRTH}, AUGMENTATION, ema=0.9),
    "pruned": chosen(NORMED, {"structural": STRUCTURAL}, AUGMENTATION, epochs=1),
}
RUNS = {**EQUAL, **OWN}
KILLED = ("dropout", "kd, rebirth, norms", "pruned")
LONG = chosen(model=NORMED, augmentation=AUGMENTATION, epochs=8)


class Even(GazeNetwork):
    """A network that looks at each sample by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stages = ["first", "second"]
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, stride=2, bias=False), nn.GroupNorm(2, 8), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 8, 1), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2))


def even(width: float, input_shape: tuple[int, int, int]) -> nn.Module:
    return Even(input_shape[0])


# ---- the two processes


def run(folder: Path, out: Path, given: TrainSettings, state: Path | None = None) -> None:
    base = folder / f"{'normed' if given.model == NORMED else 'even'}.safetensors"
    parent = base if given.kinds.rebirth or given.kinds.structural else None
    teacher = base if given.kinds.kd else None
    run_stage(given, folder / "toy.h5", folder / "toy.csv", out, parent, teacher, state=state, key="k")


def as_two(given: TrainSettings) -> TrainSettings:
    return given.model_copy(update={"training": given.training.model_copy(update={"processes": 2})})


class Killed(BaseException):
    """Stands for the end of a process."""


def killed_everywhere(folder: Path, name: str) -> int:
    """The run, ended once after each of its steps, and continued; returns how often."""
    offer, seen = State.offer, set()

    def offer_and_die(self, snapshot: Callable) -> None:
        offer(self, snapshot)
        tensors, facts = snapshot()
        size = sum(tensor.numel() for each, tensor in tensors.items() if each.startswith("model/"))
        place = size, len(facts["history"]), tensors["epoch/losses"].shape[1]
        if place not in seen:
            seen.add(place)
            raise Killed

    State.offer = offer_and_die
    while True:
        try:
            run(folder, folder / "killed" / name, as_two(RUNS[name]), folder / "states" / name)
            State.offer = offer
            return len(seen)
        except Killed:
            pass
        # What a new process would not have: the old network, the group, and generators in this state.
        gc.collect()
        dist.destroy_process_group()
        torch.manual_seed(len(seen))


def work(rank: int, folder: Path, port: int) -> None:
    """All that the two have to do, in one go: starting them takes longer than the work."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", GAZEPIPE_SAVE_SECONDS="0")
    join_again(dist.TCPStore("localhost", port))
    fit, ends = stage.fit, []

    def watched_fit(model: nn.Module, *arguments, **options):
        fitted = fit(model, *arguments, **options)
        ends.append([digest(model), fitted.history, fitted.validation_errors])
        return fitted

    stage.fit, told = watched_fit, {}
    for name, given in {**RUNS, "long": LONG}.items():
        run(folder, folder / "two" / name, as_two(given))
        told[name] = ends.copy()
        ends.clear()
    for name in KILLED:
        told[f"kills {name}"] = killed_everywhere(folder, name)
    for name in STEPS:
        torch.save(step_of_two(name), folder / f"{name}{rank}.pt")
    (folder / f"told{rank}.json").write_text(json.dumps(told))


def join_again(store: dist.Store) -> None:
    """Processes join once in their life, by a store of that time; these do it again and again."""
    join, times = dist.init_process_group, count()
    dist.init_process_group = lambda *given, **options: join(
        *given, **options, store=dist.PrefixStore(str(next(times)), store)
    )


def digest(model: nn.Module) -> str:
    found = hashlib.sha256()
    for value in model.state_dict().values():
        found.update(value.contiguous().numpy().tobytes())
    return found.hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Every run by two processes, beside the store and the weights of parents and teachers."""
    folder = tmp_path_factory.mktemp("distributed")
    write_toy_store(folder / "toy.h5", 20)
    write_toy_split(folder / "toy.csv")
    for name, model in {"even": EVEN, "normed": NORMED}.items():
        run(folder, folder / name, chosen(model=model, epochs=3, learning_rate=2e-3))
        (folder / name / "model.safetensors").rename(folder / f"{name}.safetensors")
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "gazepipe.methods.structural.steps", "torch._dynamo"])
    ranks = [context.Process(target=work, args=(rank, folder, store.port)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=300)
        process.kill()
    assert [process.exitcode for process in ranks] == [0, 0]
    return folder


def told(folder: Path, rank: int) -> dict:
    return json.loads((folder / f"told{rank}.json").read_text())


def history(out: Path) -> np.ndarray:
    with open(out / "history.csv", newline="") as file:
        return np.array([[float(value) for value in row.values()] for row in csv.DictReader(file)])


def result(out: Path) -> tuple[bytes, bytes]:
    return (out / "model.safetensors").read_bytes(), (out / "history.csv").read_bytes()


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_learn_what_one_learns(folder, tmp_path, name):
    run(folder, tmp_path / "one", RUNS[name])
    one, two = history(tmp_path / "one"), history(folder / "two" / name)
    assert one.shape == two.shape
    assert len(set(one[-2:, 2])) == min(2, len(one)), "something is learnt"
    np.testing.assert_allclose(two, one, rtol=TOLERANCE.get(name, 1e-4))
    found, expected = (json.loads((out / "run.json").read_text()) for out in (folder / "two" / name, tmp_path / "one"))
    assert found["best_epoch"] == expected["best_epoch"]
    assert found["validation_errors"] == pytest.approx(expected["validation_errors"], rel=TOLERANCE.get(name, 1e-4))


@pytest.mark.parametrize("name", RUNS)
def test_both_end_with_the_same_weights_and_statistics(folder, name):
    first, second = (told(folder, rank)[name] for rank in range(2))
    assert first == second
    assert len(first) == (2 if name == "pruned" else 1)


@pytest.mark.parametrize("name", KILLED)
def test_killed_at_every_step_it_ends_as_if_it_never_was(folder, name):
    assert told(folder, 0)[f"kills {name}"] == told(folder, 1)[f"kills {name}"] == 4
    assert result(folder / "killed" / name) == result(folder / "two" / name)
    assert not list((folder / "states").glob(f"{name}*"))


# ---- one step, in double precision


class Spare(nn.Module):
    """A network with a parameter that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.spare = nn.Linear(HEIGHT * WIDTH, 2), nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1))


STEPS = {
    "even": lambda: build(EVEN),
    "layer norms": lambda: without_draws(build(network(arch="simvit"))),
    "spare": Spare,
    "batch norms": lambda: build(NORMED),
}
ROWS = 33


def without_draws(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if hasattr(module, "rate"):
            module.rate = 0
    return model


def batch_of_step(name: str) -> tuple[nn.Module, nn.Module, torch.Tensor, torch.Tensor]:
    """Network, adapter, images and target."""
    torch.manual_seed(0)
    model, adapter = STEPS[name]().double().train(), nn.Linear(2, 2).double()
    return model, adapter, torch.randn(ROWS, 1, HEIGHT, WIDTH).double(), torch.randn(ROWS, 2).double()


def squared_error(adapter: nn.Module) -> Callable:
    return lambda model, images, target: (adapter(model(images)) - target).square().mean()


def after_step(loss: torch.Tensor, model: nn.Module, adapter: nn.Module) -> dict[str, torch.Tensor | None]:
    trained = {**dict(model.named_parameters()), **{f"adapter.{k}": p for k, p in adapter.named_parameters()}}
    gradients = {f"{name} gradient": parameter.grad for name, parameter in trained.items()}
    return {"loss": loss, **gradients, **dict(model.named_buffers())}


def step_of_two(name: str) -> dict[str, torch.Tensor | None]:
    with joined(2, CPU) as group:
        return step_of(group, name)


def step_of(group: Group, name: str) -> dict[str, torch.Tensor | None]:
    model, adapter, images, target = batch_of_step(name)
    if not group.first:
        nn.init.zeros_(adapter.weight)  # the first one's counts
    objective = group.together(squared_error(adapter), model, adapter, ROWS)
    loss = objective(images[group.share], target[group.share])
    loss.backward()
    group.alike(model)
    return after_step(group.mean(loss.detach()), model, adapter)


@pytest.mark.parametrize("name", [name for name in STEPS if name != "batch norms"])
def test_the_gradient_is_that_of_the_whole_batch(folder, name):
    model, adapter, images, target = batch_of_step(name)
    loss = squared_error(adapter)(model, images, target)
    loss.backward()
    check_step(folder, name, after_step(loss.detach(), model, adapter))


def test_batch_norms_on_the_cpu_take_statistics_of_shares_and_keep_the_first(folder):
    model, adapter, images, target = batch_of_step("batch norms")
    shares = [slice(0, None, 2), slice(1, None, 2)]
    losses = [squared_error(adapter)(model, images[share], target[share]) for share in shares]
    loss = (17 * losses[0] + 16 * losses[1]) / ROWS
    loss.backward()
    first, _, _, _ = batch_of_step("batch norms")
    first(images[shares[0]])
    expected = after_step(loss.detach(), model, adapter)
    check_step(folder, "batch norms", {**expected, **dict(first.named_buffers())})


def check_step(folder: Path, name: str, expected: dict) -> None:
    first, second = (torch.load(folder / f"{name}{rank}.pt") for rank in range(2))
    assert first.keys() == second.keys() == expected.keys()
    for each, value in expected.items():
        if value is None:
            assert first[each] is second[each] is None
        else:
            assert torch.equal(first[each], second[each])
            torch.testing.assert_close(first[each], value, rtol=1e-10, atol=1e-12)


# ---- the command: kills, signals, what goes on


def outputs(out: Path | str) -> list[str]:
    names = {"weights": "model.safetensors", "history": "history.csv", "facts": "run.json"}
    return [f"--{name}={out}/{file}" for name, file in names.items()]


class Command:
    """`gazepipe train` with two processes under way."""

    def __init__(self, folder: Path, out: Path, store: str = "toy.h5") -> None:
        self.out, self.state = out / "run", out / "state"
        files = [f"--store={folder / store}", f"--split={folder / 'toy.csv'}", *outputs(self.out)]
        main = "import sys; from gazepipe.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", main, "train", f"--settings={as_two(LONG).model_dump_json()}", "--key=k"]
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
        ranks = [int(child) for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]
        assert len(ranks) == 2
        return ranks

    def ended(self) -> tuple[int, list[str]]:
        """Exit status and what it said beside its progress."""
        said = self.process.communicate(timeout=600)[1].splitlines()
        return self.process.returncode, [line for line in said if " batch" not in line and "continuing" not in line]


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "an orphan is left"
        time.sleep(0.02)


@pytest.mark.slow
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


def test_what_all_processes_refuse_is_said_once(folder, tmp_path):
    status, said = Command(folder, tmp_path, store="none.h5").ended()
    assert status == 2
    assert [line.startswith(f"gazepipe train: {folder / 'none.h5'}") for line in said] == [True]


@pytest.mark.parametrize(
    ("rank", "code", "status", "line"),
    [
        (0, 2, 2, ""),  # the first has said why
        (1, 2, 2, "gazepipe train: no good\n"),
        (1, 1, 1, "Traceback\ngazepipe train: no good\n"),
        (0, 143, 143, ""),
    ],
)
def test_the_process_that_failed_first_tells_why(tmp_path, capsys, rank, code, status, line):
    (tmp_path / "said").write_text("Traceback\ngazepipe train: no good\n")
    with pytest.raises(SystemExit) as end:
        launch.judge(rank, 2, code, tmp_path / "said")
    assert (end.value.code, capsys.readouterr().err) == (status, line)


@pytest.mark.parametrize(
    ("rank", "code", "match"),
    [(1, -9, "process 2 of 2 was ended by SIGKILL"), (0, 75, "the 2 processes lost their connection")],
)
def test_what_no_process_could_tell_is_told(tmp_path, rank, code, match):
    with pytest.raises(UserError, match=match):
        launch.judge(rank, 2, code, tmp_path / "said")


# ---- shares, slots and bad input


class Read:
    """Images that remember which rows were read."""

    def __init__(self, count: int) -> None:
        self.shape, self.rows = (count, 1, 2, 2), []

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self.rows += rows.tolist()
        return np.broadcast_to(rows[:, None, None, None], (len(rows), 1, 2, 2)).astype(np.uint8)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("order", [None, np.random.default_rng(0).permutation(40)])
def test_shares_are_all_rows_once_and_nobody_reads_more(size, order):
    def read(share: slice) -> list[list[int]]:
        images = Read(40)
        samples = Samples(images, np.arange(40), np.zeros((40, 2), np.float32), np.repeat("s", 40), 0.0, 1.0)
        found = [batch[:, 0, 0, 0].tolist() for batch, _ in batches(samples, 33, order, share=share)]
        assert images.rows == list(chain(*found))
        return found

    whole, shares = read(slice(None)), [read(Group(rank, size).share) for rank in range(size)]
    assert [sorted(chain(*parts)) for parts in zip(*shares, strict=True)] == whole
    assert all(max(map(len, parts)) - min(map(len, parts)) <= 1 for parts in zip(*shares, strict=True))


def test_each_process_draws_for_itself():
    seeds = [Group(rank, 3).seed(5) for rank in range(3)]
    assert seeds[0] == 5
    assert len(set(seeds)) == 3
    assert seeds == [Group(rank, 3).seed(5) for rank in range(3)]


def test_alone_nothing_is_touched():
    rows = torch.arange(5.0)
    assert ALONE.total(rows) is rows
    assert torch.equal(rows[ALONE.share], rows)
    assert torch.equal(ALONE.whole(rows, 5), rows)
    assert torch.equal(ALONE.gathered(rows), rows[None])
    assert ALONE.together(lambda model, images, target: (model, images, target), 1, None, 1)(2, 3) == (1, 2, 3)


def test_a_batch_has_a_row_for_each():
    with pytest.raises(UserError, match=r"training\.processes: 4 share a batch of 3 samples; use 3 at most"):
        Group(0, 4).together(squared_error(nn.Identity()), build(EVEN), None, 3)


def test_a_process_that_nobody_joins_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match=r"training\.processes: 2, but 1 started; use gazepipe train"):
        run(folder, tmp_path, as_two(RUNS["base"]))


def test_only_cpu_and_cuda(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2, but the device is mps"), joined(2, torch.device("mps")):
        pass


def test_each_process_has_a_gpu(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="2 need a GPU each, but 1 are here"), joined(2, torch.device("cuda")):
        pass


def given(**changes) -> list[str]:
    asked = chosen(**changes).model_copy(update={"device": "cuda"})
    return ["train", f"--settings={asked.model_dump_json()}", "--store=s", "--split=p", *outputs("o"), "--key=k"]


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

    def launched(entry: object, arguments: list[str], processes: int) -> None:
        assert entry is cli.main
        free = [slots._try_lock(tmp_path / "cores" / f"core{core}.lock") for core in range(8)]
        seen.append((processes, os.environ[slots.VISIBLE], free.count(None), arguments))

    monkeypatch.setattr(launch, "launch", launched)
    arguments = given(processes=2, threads=3)
    assert cli.main(arguments) == 0
    assert [each[:3] for each in seen] == [(2, "0,1", 6)]
    assert seen[0][3] == arguments
