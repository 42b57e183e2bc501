"""Stages are forked from a process of their workflow that has imported what they need.

Starting Python and importing torch, pandas and scipy takes seconds of processor time; many jobs compute for less. So a
job's own process imports nothing large. When it holds its core slots it asks the server, a process of this workflow,
for a fork that does the stage in its place, and it ends as the fork does. The first that asks starts the server; the
server (`gazepipe.dag.fork_server`) ends with the workflow.

What a fork inherits from the server (environment, folder, Python, source) is that of the process that asks, or another
server is asked. Where anything is amiss, the process does the stage itself.
"""

import fcntl
import hashlib
import json
import os
import select
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from gazepipe.dag import orphans

FORKS = "GAZEPIPE_FORKS"  # folder of the servers' sockets, set by the workflow; "off": each stage starts by itself
OFF = "off"
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
SERVER = """
import json, sys
listener, workflow, sys.path[:], module, function, folder = json.loads(sys.argv[1])
import importlib
from gazepipe.dag.fork_server import serve
serve(listener, workflow, getattr(importlib.import_module(module), function), folder)
"""
SIZE_BYTES = 8
"""Length of the number before a request, which says how long it is."""
STREAMS = (0, 1, 2)


def lead() -> None:
    """Have the stages forked that are started by this process from now on."""
    if os.environ.get(FORKS) != OFF:
        os.environ[FORKS] = os.path.join(tempfile.gettempdir(), f"gazepipe-forks-{os.urandom(8).hex()}")


def forked(entry: Callable[[], int], arguments: list[str], module: str) -> int | None:
    """Have `entry()`, which returns an exit status, called in a fork that has `arguments` (of sys.argv) and `module`.

    Until the fork ends, signals go to it; when this process ends first, it is killed. Returns its exit status, or minus
    the number of the signal that ended it; None where no fork has done it, and none is at it.
    """
    folder = os.environ.get(FORKS, "")
    if folder in ("", OFF):
        return None
    try:
        with _server(Path(folder), entry) as server:
            child = _ask(server, [module, *arguments])
            return None if child is None else _follow(child, server)
    except OSError:
        return None


def end_as(status: int) -> NoReturn:
    """End this process with this exit status, or by the signal of which it is minus the number."""
    if status < 0:
        with suppress(OSError):  # some cannot be caught
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    raise SystemExit(status)


def _server(folder: Path, entry: Callable[[], int]) -> socket.socket:
    """A connection to the server that is like this process; started where there is none."""
    folder.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as opened:
        place = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW)
        opened.callback(os.close, place)
        found = os.fstat(place)
        if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
            raise PermissionError(f"{folder}: not a folder of this user alone")
        near = Path(f"/proc/self/fd/{place}")  # since the path of a socket must be short
        path = near / _likeness()
        fcntl.flock(opened.enter_context(open(near / "lock", "a")), fcntl.LOCK_EX)
        try:
            return _connected(path)
        except (FileNotFoundError, ConnectionRefusedError):
            _start(path, entry, folder)
            return _connected(path)


def _connected(path: Path) -> socket.socket:
    with ExitStack() as opened:
        connection = opened.enter_context(socket.socket(socket.AF_UNIX))
        connection.connect(str(path))
        opened.pop_all()
    return connection


def _likeness() -> str:
    """A name for all that a fork has from its server, and could have been otherwise in this process."""
    os.umask(mask := os.umask(0))
    source = max(path.stat().st_mtime_ns for path in Path(__file__).parents[1].rglob("*.py"))
    python = [sys.executable, sys.path, tuple(sys.flags)]
    return hashlib.sha256(repr([python, os.getcwd(), mask, sorted(os.environ.items()), source]).encode()).hexdigest()[
        :16
    ]


def _start(path: Path, entry: Callable[[], int], folder: Path) -> None:
    """Start a server that listens at `path`; who connects from now on waits for it, or is told when it has ended."""
    import subprocess

    workflow = orphans.watched()
    if workflow is None:
        raise OSError("no workflow to end with")
    path.unlink(missing_ok=True)
    with ExitStack() as opened:
        opened.callback(os.close, workflow)
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(socket.SOMAXCONN)
        passed = listener.fileno(), workflow
        told = json.dumps([*passed, sys.path, entry.__module__, entry.__name__, str(folder)])
        nothing = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        command = [sys.executable, "-c", SERVER, told]
        # The process that is waited for here leaves the server to the system, so that no job counts it as its own.
        subprocess.run(command, pass_fds=passed, start_new_session=True, check=False, **nothing)


def _ask(server: socket.socket, request: list[str]) -> int | None:
    """Have a fork do the request with the streams of this process; its descriptor, None if the server does not."""
    content = json.dumps(request).encode()
    socket.send_fds(server, [len(content).to_bytes(SIZE_BYTES)], STREAMS)
    server.sendall(content)
    _, descriptors, *_ = socket.recv_fds(server, 1, 1)
    return descriptors[0] if descriptors else None


def _follow(child: int, server: socket.socket) -> int | None:
    """Wait for the end of a fork; its status, None where the server was killed, and the fork with it."""
    try:
        with _forwarding(child):
            try:
                status = server.recv(SIZE_BYTES)
            except OSError:
                status = b""
            ended = select.poll()
            ended.register(child, select.POLLIN)
            ended.poll()
    finally:
        os.close(child)
    return int(status) if status else None


@contextmanager
def _forwarding(child: int) -> Iterator[None]:
    def forward(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(child, number)

    # What is ignored here is ignored there.
    before = {each: signal.getsignal(each) for each in FORWARDED if signal.getsignal(each) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, forward)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
