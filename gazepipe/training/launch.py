"""Start the processes of one training, watch them, and end all when one ends. No torch here: it only waits.

The first process is the one that speaks, keeps the state and listens to signals; what the others say is heard where one
of them is why the run ended.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gazepipe.errors import UserError

PROGRAM = "import sys; from gazepipe.training.launch import die_with_parent; die_with_parent(); "
PROGRAM += "from gazepipe.cli import main; sys.exit(main())"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
POLL_SECONDS = 0.05
LAST_WORDS_SECONDS = 5.0  # for processes that have lost one to say why they end
SAID_LINES = 40


def launch(arguments: list[str], processes: int) -> None:
    """Run `gazepipe ARGUMENTS` in so many processes as the ranks of one training, until all have ended.

    SIGTERM, SIGINT and SIGUSR1 go to the first. Raises SystemExit with the status of the one that failed first (128 and
    its number where a signal that came here ended it), and UserError where a process was killed.
    """
    with tempfile.TemporaryDirectory(prefix="gazepipe-train-") as folder, _signals() as caught, ExitStack() as ended:
        ranks = [ended.enter_context(_rank(arguments, rank, processes, Path(folder))) for rank in range(processes)]
        codes = _watched(ranks, caught)
        _judge(codes, Path(folder), stopped=bool(caught.passed))


def die_with_parent() -> None:
    """End this process, which `launch` started, when the one that started it has ended, however that happened."""

    def wait() -> None:
        os.read(0, 1)  # the other end of stdin closes with the parent
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class _Caught(list):
    """Signals that came and are still to be passed on, and those that were."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[int] = []


@contextmanager
def _signals() -> Iterator[_Caught]:
    caught = _Caught()
    before = {number: signal.signal(number, lambda number, _: caught.append(number)) for number in SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _rank(arguments: list[str], rank: int, processes: int, folder: Path) -> Iterator[subprocess.Popen]:
    """One process, killed when the block ends; in a session of its own, so that Ctrl-C comes here only."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "GAZEPIPE_RENDEZVOUS": folder / "rendezvous"}
    with open(folder / f"{rank}.txt", "wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            env={**os.environ, **{name: str(value) for name, value in places.items()}},
            stdin=subprocess.PIPE,
            stdout=said if rank else None,
            stderr=said if rank else None,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()


def _watched(ranks: list[subprocess.Popen], caught: _Caught) -> list[int | None]:
    """The exit codes, once all processes have ended or one has failed and the others had time to say why they end."""
    deadline = None
    while True:
        while caught:
            caught.passed.append(caught.pop(0))
            ranks[0].send_signal(caught.passed[-1])
        codes = [process.poll() for process in ranks]
        if None not in codes or (deadline is not None and time.monotonic() > deadline):
            return codes
        if deadline is None and (codes[0] is not None or any(codes)):
            deadline = time.monotonic() + LAST_WORDS_SECONDS
        time.sleep(POLL_SECONDS)


def _judge(codes: list[int | None], folder: Path, stopped: bool) -> None:
    """Leave as the process that failed first; those that only lost it end with EX_TEMPFAIL, or not at all."""
    if codes[0] == 0:
        return
    if stopped and codes[0] is not None:
        raise SystemExit(codes[0] if codes[0] > 0 else 128 - codes[0])
    failed = [rank for rank, code in enumerate(codes) if code not in (0, None, os.EX_TEMPFAIL)]
    if not failed:
        raise UserError(f"training.processes: the {len(codes)} lost each other; run again, which goes on where it was")
    rank, code = failed[0], codes[failed[0]]
    if code < 0:
        raise UserError(
            f"training.processes: process {rank + 1} of {len(codes)} was ended by {signal.Signals(-code).name}; "
            "see whether memory was short, and run again, which goes on from the last saved state"
        )
    if rank > 0:
        said = (folder / f"{rank}.txt").read_text(errors="replace").splitlines()
        print("\n".join(said[-1 if code == 2 else -SAID_LINES :]), file=sys.stderr, flush=True)
    raise SystemExit(code)
