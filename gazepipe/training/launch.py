"""Start the processes of one training, as torchrun does, and say in one line why they ended.

Only the first process prints. The output of another one is printed where its failure ended the run.
"""

import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import LaunchConfig, elastic_launch

from gazepipe.errors import UserError
from gazepipe.training.state import SIGNALS, STOPPED_STATUS

LAST_WORDS_SECONDS = 5.0  # for the process that knows why the run ends to say so
SAID_LINES = 40


def launch(entry: Callable[[list[str]], int], arguments: list[str], processes: int) -> None:
    """Run `entry(arguments)`, which returns an exit status, as each rank of one training, until all have ended.

    SIGTERM, SIGINT and SIGUSR1 go to all. Raises SystemExit with the status of the one that failed first (143 where a
    signal came here), and UserError where a process was killed.
    """
    with tempfile.TemporaryDirectory(prefix="gazepipe-train-") as folder, _quiet():
        others = dict.fromkeys(range(1, processes), Std.ALL)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=Path(folder).name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            signals_to_handle=",".join(number.name for number in SIGNALS),
            logs_specs=DefaultLogsSpecs(folder, redirects=others),
        )
        try:
            elastic_launch(config, _rank)(entry, arguments)
        except SignalException:
            raise SystemExit(STOPPED_STATUS) from None
        except ChildFailedError as failed:
            rank, failure = failed.get_first_failure()
            judge(rank, processes, failure.exitcode, Path(failure.error_file).with_name("stderr.log"))


def judge(rank: int, processes: int, code: int, said: Path) -> NoReturn:
    """Leave as the process that failed first, with the exit `code`; what it `said` is a file where it is not rank 0."""
    if code == os.EX_TEMPFAIL:
        raise UserError(f"training.processes: the {processes} processes lost their connection; run again to continue")
    if code < 0:
        raise UserError(
            f"training.processes: process {rank + 1} of {processes} was ended by {signal.Signals(-code).name}; "
            "check the memory, and run again to continue from the last saved state"
        )
    if rank > 0:
        lines = said.read_text(errors="replace").splitlines()
        print("\n".join(lines[-1 if code == 2 else -SAID_LINES :]), file=sys.stderr, flush=True)
    raise SystemExit(code)


def _rank(entry: Callable[[list[str]], int], arguments: list[str]) -> None:
    """What each process does."""
    try:
        status = entry(arguments)
    except SystemExit as end:
        status = end.code
    except Exception:
        traceback.print_exc()
        status = 1
    if status == 0:
        return
    if status == os.EX_TEMPFAIL or (status == 2 and int(os.environ["RANK"]) > 0):
        # Who started the processes ends this one as soon as another fails, which knows more, or says it for all.
        time.sleep(LAST_WORDS_SECONDS)
    sys.exit(status)


@contextmanager
def _quiet() -> Iterator[None]:
    """The launcher logs what it does about a failure, and a traceback; one line says why. The processes would warn that
    no parameter is unused, which nobody said.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
