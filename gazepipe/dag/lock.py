"""One workflow at a time on one folder of results.

Snakemake's own lock stays behind when its process is killed, and must then be removed by hand; the kernel releases this
one. It is taken before the DAG is built, since a DAG that is built while another workflow runs is out of date when
that one ends. It is required only when the first job starts, so that a report works beside a workflow. It also waits
for the stages of a killed workflow.
"""

import fcntl
import os
import sys
import time
from pathlib import Path

from gazepipe.common.files import storage_error
from gazepipe.dag import orphans as lifeline
from gazepipe.errors import UserError


class Lock:
    """The lock of the results folder `root`, from now on and for as long as this object lives, if it is free."""

    def __init__(self, root: str | Path) -> None:
        self.root, self.error = Path(root), None
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.file = open(self.root / ".lock", "a+")  # noqa: SIM115 -- locked while it is open
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.file.truncate(0)
            self.file.write(f"process {os.getpid()} on {os.uname().nodename} since {time.strftime('%Y-%m-%d %H:%M')}")
            self.file.flush()
            lifeline.wait_for_stages(self.root)
        except BlockingIOError:
            self.error = UserError(
                f"{self.root}: another workflow is at work here ({self._holder()}); wait for its end, or give this one "
                "a `run` name of its own"
            )
        except OSError as error:
            self.error = storage_error(error, self.root)
            if self.error is None:
                print(f"{self.root}: not locked ({error.strerror}); start no second workflow here", file=sys.stderr)

    def require(self) -> None:
        """Raise UserError where another workflow has the lock, or had it when this one looked, and where the folder
        cannot be written."""
        if self.error is not None:
            raise self.error

    def _holder(self) -> str:
        self.file.seek(0)
        return self.file.read() or "it has only begun"
