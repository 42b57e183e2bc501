"""The command `gazepipe`: the stages, as Snakemake rules and people run them, and the commands for people alone.

The subcommands of stages are made from their declarations (`gazepipe.dag.stages`) and the signatures of their
functions. Heavy stages wait for their core slots before they import anything large. What a user can cause ends as one
line on stderr and exit status 2.
"""

import argparse
import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from gazepipe import __version__
from gazepipe.commands import COMMANDS, count
from gazepipe.dag import cores, forking, orphans
from gazepipe.dag.signature import LIST, OPTIONAL, OPTIONAL_LIST, signature
from gazepipe.dag.stage import Stage
from gazepipe.dag.stages import STAGES
from gazepipe.errors import StorageError, UserError

DESCRIPTION = "Compress gaze-estimation networks: run a stage of the workflow, look at its results, or use a network."
EPILOG = """Snakemake runs the stages, fetch to tables; `gazepipe stages` prints what each of them reads and writes.
The other commands are for people."""

TOLD = {
    "state": "file for the state from which a killed job continues",
    "key": "key of the job; a state with another key is not used",
    "source": "fingerprint of the source, written to the facts",
}
"""What a function may be told beside its settings and files: by these options, or by the workflow in `--job`."""


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status (0, or 2 for bad input)."""
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser(argv)
    args = parser.parse_args(argv)
    args.argv = argv
    try:
        args.run(args)
    except UserError as error:
        print(f"gazepipe {args.command}: {error}", file=sys.stderr, flush=True)
        if isinstance(error, StorageError) and "h5py" in sys.modules:
            # HDF5 crashes where it clears away the file that it could not write.
            os._exit(2)
        return 2
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; point stdout elsewhere so that the exit stays silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = f"{error.filename}: {error.strerror}; check the path" if error.filename else "disk full: free space"
        print(f"gazepipe {args.command}: {place} and run again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"gazepipe {args.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gazepipe", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"gazepipe {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = argv[0] if argv else ""
    for name, stage in STAGES.items():
        # `predict` is a stage, and without the settings of one a person's command.
        if name not in COMMANDS or "--settings" in argv:
            _add_stage(commands, name.replace("_", "-"), stage, asked)
    for name, add in COMMANDS.items():
        if name not in commands.choices:
            add(commands.add_parser(name, help=add.__doc__, description=add.__doc__))
    return parser


# ---- stages


def _add_stage(commands: Any, name: str, stage: Stage, asked: str) -> None:
    """The subcommand of a stage; only its name where another one is asked for, to save reading the stage's source."""
    if not asked.startswith("-") and asked != name:
        commands.add_parser(name)
        return
    takes = signature(stage.run)
    sub = commands.add_parser(name, help=takes.summary, description=takes.summary)
    sub.set_defaults(run=lambda args: _run_stage(stage, args))
    sub.add_argument("--settings", type=_json, required=True, help="the stage's settings, as JSON")
    sub.add_argument("--job", type=_job, default={}, help="job of the workflow, as JSON: name, results folder, key")
    if stage.whole_folder:
        sub.add_argument("--folder", type=Path, required=True, help="folder to write the results to")
    for file, kind in takes.files.items():
        many, required = kind in (LIST, OPTIONAL_LIST), kind not in (OPTIONAL, OPTIONAL_LIST)
        use = "file to write" if file in stage.outputs else "files to read" if many else "file to read"
        option, number = f"--{file.replace('_', '-')}", "+" if many else None
        sub.add_argument(option, type=Path, nargs=number, required=required, help=use)
    for option in (each for each in TOLD if each in takes.parameters):
        sub.add_argument(f"--{option}", type=Path if option == "state" else str, help=TOLD[option])
    if "workers" in takes.parameters:
        sub.add_argument("--workers", type=count, default=1, help="number of processes that draw")
    if "elsewhere" in takes.parameters:
        sub.add_argument("--elsewhere", action="store_true", help="results are in a bucket; only some of them are here")


def _run_stage(stage: Stage, args: argparse.Namespace) -> None:
    """Hold the stage's GPUs and core slots, call its function, and write the record of the job and what it took."""
    takes, job = signature(stage.run), args.job
    settings = _typed(takes, args.settings)
    names = takes.parameters.keys() - {"settings"}
    given = {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    given |= {name: Path(value) if name == "state" else value for name, value in job.items() if name in names}
    processes, rank = stage.processes(settings), os.environ.get("RANK")
    if processes > 1 and rank is not None:
        takes.call(settings, **given)
        return
    with orphans.at_work(Path(job["root"])) if job else nullcontext(), _held(stage, settings, args) as (gpus, slots):
        if job and processes == 1 and not gpus:
            status = forking.forked(main, [sys.argv[0], *args.argv], takes.module)
            if status is not None:
                forking.end_as(status)
        began, continues = time.monotonic(), os.path.exists(job.get("state", ""))
        if job:
            # The one who watches the workflow tells by it who waits and who works.
            print(f"gazepipe {args.command}: {cores.HELD}", file=sys.stderr, flush=True)
        if processes > 1:
            from gazepipe.training.launch import launch

            launch(main, args.argv, processes)
        else:
            takes.call(settings, **given)
        ended = time.monotonic()
    if job:
        from gazepipe.dag.measured import note
        from gazepipe.provenance.fingerprint import digest
        from gazepipe.provenance.records import finish

        note(job["root"], job["name"], digest(settings.deciding()), began, ended, slots, continues)
        finish(job["root"], job["name"], job["key"])


def _typed(takes: Any, settings: dict) -> Any:
    from pydantic import ValidationError

    try:
        return takes.typed(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise UserError(f"settings: {place}: {first['msg']}; `gazepipe why` shows the settings of a job") from None


@contextmanager
def _held(stage: Stage, settings: Any, args: argparse.Namespace) -> Iterator[tuple[list[str], int]]:
    """Hold the GPUs and core slots of a stage, for all its processes; yields the GPUs and the number of slots.

    GPUs first: a job that holds a GPU may wait for cores, one that holds cores never waits for a GPU.
    """
    processes = stage.processes(settings)
    gpus = stage.gpus(settings) * processes
    if processes > 1 and gpus and 0 < (there := len(cores.gpus())) < gpus:
        raise UserError(f"training.processes: {gpus} need a GPU each, but {there} are here; use fewer, or the cpu")
    slots = stage.cores(settings)
    if slots and getattr(args, "workers", 1) > 1:
        slots = args.workers
    with cores.hold_gpus(gpus) as held, nullcontext(0) if slots is None else cores.hold(slots) as number:
        yield held, number


def _json(text: str) -> dict:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error})") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"a JSON {type(value).__name__}, expected an object")
    return value


def _job(text: str) -> dict:
    job = _json(text)
    missing = [name for name in ("name", "root", "key") if not isinstance(job.get(name), str)]
    if missing:
        raise argparse.ArgumentTypeError(f"has no {missing[0]}; leave --job out when you run a stage by hand")
    return job
