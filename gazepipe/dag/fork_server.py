"""The process that stages are forked from: see `gazepipe.dag.forking`, which starts it.

It imports the modules of the stages that are asked for, and computes nothing: a fork of a process that has begun to
compute would lack the threads of its libraries. A fork is killed when the process that asked for it is gone, or this
one.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from gazepipe.dag import cores
from gazepipe.dag.forking import FORKS, OFF, SIZE_BYTES, STREAMS

LATE = "torch._dynamo"  # torch imports it late, at the first optimiser, with sympy and much else
PATIENCE_SECONDS = 10.0  # for the rest of a request
SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def serve(listener: int, workflow: int, entry: Callable[[], int], folder: str) -> None:
    """Fork for all who ask at `listener`, until the process of descriptor `workflow` and the last fork have ended."""
    if os.fork():
        os._exit(0)
    asked = socket.socket(fileno=listener)
    poll = select.poll()
    for descriptor in (listener, workflow):
        poll.register(descriptor, select.POLLIN)
    askers: dict[int, socket.socket] = {}  # by the descriptor of the fork
    forks: dict[int, int] = {}  # by the descriptor of the asker's connection
    listening = True
    while listening or askers:
        event = poll.poll()[0][0]
        if event == workflow:
            listening = False
            for descriptor in (listener, workflow):
                poll.unregister(descriptor)
            asked.close()
            shutil.rmtree(folder, ignore_errors=True)
        elif event == listener:
            asker = asked.accept()[0]
            fork = _fork(asker, entry, [asked, *askers.values()], [workflow, *askers])
            if fork is None:
                asker.close()
                continue
            askers[fork], forks[asker.fileno()] = asker, fork
            poll.register(fork, select.POLLIN)
            poll.register(asker, 0)  # its end alone
        elif event in askers:
            asker = askers.pop(event)
            del forks[asker.fileno()]
            poll.unregister(event)
            with suppress(KeyError):
                poll.unregister(asker)
            _tell_end(event, asker)
        else:
            signal.pidfd_send_signal(forks[event], signal.SIGKILL)
            poll.unregister(event)


def _fork(
    asker: socket.socket, entry: Callable[[], int], connections: list[socket.socket], descriptors: list[int]
) -> int | None:
    """The descriptor of a fork that does what is asked; None where this cannot be done. The fork closes the others."""
    streams: list[int] = []
    try:
        module, *arguments = _request(asker, streams)
        with suppress(Exception):  # the fork, which tries again, says what was wrong
            importlib.import_module(module)
            if "torch" in sys.modules:
                importlib.import_module(LATE)
        if len(os.listdir("/proc/self/task")) > 1:
            return None  # a library started threads, which a fork would not have
        gc.freeze()  # else the first collection of a fork would copy every page
        server, pid = os.getpid(), os.fork()
        if pid == 0:
            try:
                _end_with(server)
                for connection in [asker, *connections]:
                    connection.close()
                for descriptor in descriptors:
                    os.close(descriptor)
                _do(entry, arguments, streams)
            finally:
                os._exit(1)  # never back to the server's loop
        fork = os.pidfd_open(pid)
        with suppress(OSError):  # it is noticed that the asker has ended
            socket.send_fds(asker, [b"+"], [fork])
        return fork
    except (OSError, ValueError):
        return None
    finally:
        for stream in streams:
            os.close(stream)


def _request(asker: socket.socket, streams: list[int]) -> list[str]:
    """What is asked; the descriptors of its streams are added to `streams`."""
    asker.settimeout(PATIENCE_SECONDS)
    size, received, *_ = socket.recv_fds(asker, SIZE_BYTES, len(STREAMS))
    streams += received
    with asker.makefile("rb") as file:
        request = json.loads(file.read(int.from_bytes(size)))
    asker.settimeout(None)
    return request


def _end_with(server: int) -> None:
    """Have this process killed when its parent, the server, is gone."""
    ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)


def _do(entry: Callable[[], int], arguments: list[str], streams: list[int]) -> NoReturn:
    """Be the process that asked: do what it would do, and end as Python does, but for what the server would do."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    sys.argv[:] = arguments
    # The asker holds the slots.
    os.environ |= {FORKS: OFF, cores.DISABLE: "off"}
    atexit._clear()
    try:
        sys.exit(entry())
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _tell_end(fork: int, asker: socket.socket) -> None:
    end = os.waitid(os.P_PIDFD, fork, os.WEXITED)
    status = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
    with suppress(OSError):
        asker.sendall(str(status).encode())
    asker.close()
    os.close(fork)
