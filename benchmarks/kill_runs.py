"""Kill a workflow again and again, go on, and compare the end with a run that nobody killed.

    python benchmarks/kill_runs.py --kills 24 --out docs/results

The workflow runs once to its end in a copy of the repository: the reference. In a second copy it is started, killed
(SIGKILL) at a random moment, and started again, until it has been killed so often; then it may end. Half of the kills
wait until a stage of some kind is at work, the others come at any time. They hit Snakemake's own process, one stage, or
the whole process group. What both copies hold is compared byte by byte, and the log of every start tells how often each
job ran to its end: no more than once. Ends with status 1 where anything differs. Linux only: it looks at /proc.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from bench_dag import jobs_of
from same_results import differences, files_of, is_timed
from tabulate import tabulate

from gazepipe.common.files import write_text
from gazepipe.common.machine import machine
from gazepipe.config import load as configuration
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import filled
from gazepipe.provenance.records import record_path

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = ("Snakefile", "workflow", "profiles", "gazepipe", "envs", "config", "config.yaml")
FOLDERS = ("results", "data")
KINDS = {
    "fetch": ("fetch",),
    "prepare": ("prepare-part", "prepare"),
    "train": ("train",),
    "predict": ("predict", "predict-control", "profile"),
    "tables": ("tables",),
}
"""The kinds of stages of which each must be hit, in the order in which a workflow comes to them."""
TARGETS = ("main", "stage", "group")
LONGEST_DELAY = {"fetch": 1.2, "prepare": 0.5, "train": 0.2, "predict": 0.3, "tables": 0.8}
ANY_TIME = (0.3, 3.5)
"""Delays in units of the time from the start of Snakemake to its first job: a busy machine is killed later."""
FIRST_JOB = "Select jobs to execute..."
PACE_SECONDS = 3.0
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 3600
SHOWN = 20


@dataclass(frozen=True)
class Planned:
    """A kill to come: of whom, and its `delay` after a stage of the kind `at` was seen, or after the start."""

    target: str
    at: str
    delay: float


@dataclass(frozen=True)
class Kill:
    """A kill: `moment` in seconds since that start of the workflow, `first_job` the same (none: not yet); the stages at
    work, the one that was hit in asterisks; how many of them were `left` behind; the jobs that this start `finished`.
    """

    kill: int
    planned: str
    first_job: float | None
    moment: float
    target: str
    running: str
    left: int
    finished: int


def schedule(kills: int, seed: int) -> list[Planned]:
    """Targets in turn by chance; every other kill waits for a kind of stage, from the first kinds to the last."""
    draws = np.random.default_rng(seed)
    targets = draws.permutation(np.resize(TARGETS, kills))
    count = min(kills, max(len(KINDS), -(-kills // 2)))
    waiting = sorted(np.resize(list(KINDS), count), key=list(KINDS).index)
    places = [kill * kills // len(waiting) for kill in range(len(waiting))]
    planned = []
    for number, target in enumerate(targets):
        at = waiting[places.index(number)] if number in places else ""
        low, high = (0.0, LONGEST_DELAY[at]) if at else ANY_TIME
        planned.append(Planned(str(target), str(at), float(draws.uniform(low, high))))
    return planned


# ---- workflows


def copy_source(folder: Path) -> Path:
    """A folder with what the workflow needs, and nothing that it made."""
    folder.mkdir(parents=True)
    for name in SOURCE:
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, folder / name)
    return folder


def start(folder: Path, args: argparse.Namespace, number: int) -> subprocess.Popen:
    """Snakemake, as the leader of a process group of its own; its log is `number`.log beside the folder."""
    command = [sys.executable, "-m", "snakemake", "--cores", str(args.cores), "--configfile", str(args.configfile)]
    slots = folder.parent / "slots"
    slots.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GAZEPIPE_SAVE_SECONDS": str(args.save_seconds),
        # Core slots of its own: who else computes on this machine is not waited for.
        "TMPDIR": str(slots),
    }
    environment.pop("PYTHONPATH", None)
    with open(log_of(folder, number), "w") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def log_of(folder: Path, number: int) -> Path:
    """What the workflow said when it was started for the `number`th time."""
    return folder.with_name(f"{folder.name}-{number:02d}.log")


def stages(folder: Path) -> dict[int, str]:
    """The stages at work in a folder, by process id: those of killed workflows, too."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"--settings" in words[2:4] and os.readlink(entry / "cwd") == str(folder):
                    found[int(entry.name)] = words[2].decode()
            except OSError:
                continue
    return found


def wait_for(condition, what: str):
    """The first true value of `condition`, asked again and again."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (value := condition()):
        if time.monotonic() > end:
            raise SystemExit(f"waited {PATIENCE_SECONDS} s in vain for {what}")
        time.sleep(POLL_SECONDS)
    return value


def finish(folder: Path, args: argparse.Namespace, number: int) -> float:
    """Let the workflow end; the seconds that it took."""
    began = time.monotonic()
    status = start(folder, args, number).wait()
    if status != 0:
        raise SystemExit(f"{log_of(folder, number)}: ended with status {status}")
    return time.monotonic() - began


# ---- kills


def kill_once(folder: Path, args: argparse.Namespace, number: int, planned: Planned, pace: float) -> Kill | None:
    """Start the workflow and kill it as planned, by the `pace` of the start before; None where it ended itself."""
    began, first_job = time.monotonic(), None
    main = start(folder, args, number)

    def has_come() -> bool:
        nonlocal first_job
        if first_job is None and FIRST_JOB in log_of(folder, number).read_text(errors="replace"):
            first_job = time.monotonic() - began
        if planned.at:
            # A kind that is over no longer comes; the last one does.
            return any(name in (*KINDS[planned.at], *KINDS["tables"]) for name in stages(folder).values())
        return time.monotonic() - began >= planned.delay * (first_job or pace)

    wait_for(lambda: main.poll() is not None or has_come(), f"kill {number}")
    if planned.at:
        time.sleep(planned.delay * (first_job or pace))
    if main.poll() is not None:
        if main.returncode != 0:
            raise SystemExit(f"{log_of(folder, number)}: ended with status {main.returncode}, and nobody killed it")
        return None
    running = stages(folder)
    moment = time.monotonic() - began
    target, hit = _send(main, planned.target, running, moment)
    main.wait()
    return Kill(
        kill=number,
        planned=f"{planned.at or 'any time'} + {planned.delay:.1f}",
        first_job=first_job and round(first_job, 2),
        moment=round(moment, 2),
        target=target,
        running=", ".join(f"*{name}*" if pid == hit else name for pid, name in sorted(running.items())),
        left=len(stages(folder)),
        finished=finished_jobs(folder, number).total(),
    )


def _send(main: subprocess.Popen, target: str, running: dict[int, str], moment: float) -> tuple[str, int | None]:
    """Send SIGKILL; returns who was hit: `main` where no stage is running."""
    if target == "group":
        os.killpg(main.pid, signal.SIGKILL)
        return "group", None
    if target == "stage" and running:
        pid = sorted(running)[int(moment * 1000) % len(running)]
        try:
            os.kill(pid, signal.SIGKILL)
            return "stage", pid
        except ProcessLookupError:
            pass
    main.kill()
    return "main", None


def finished_jobs(folder: Path, number: int) -> Counter:
    """How often Snakemake said of each job, by the name of its log, that it had finished, in the `number`th start."""
    names, finished = {}, Counter()
    name = ""
    for line in log_of(folder, number).read_text(errors="replace").splitlines():
        if found := re.fullmatch(r"    log: \S*?/logs/(\S+)\.log", line):
            name = found[1]
        elif found := re.fullmatch(r"    jobid: (\d+)", line):
            names[found[1]], name = name, ""
        elif found := re.match(r"Finished jobid: (\d+) ", line):
            finished[names.get(found[1], "")] += 1
    del finished[""]
    return finished


def kinds_hit(kills: list[Kill]) -> dict[str, int]:
    """The number of kills during which stages of each kind were at work."""
    return {
        kind: sum(any(name.strip("* ") in names for name in kill.running.split(",")) for kill in kills)
        for kind, names in KINDS.items()
    }


# ---- what came of it


def counts_of(folder: Path, starts: int) -> Counter:
    """How often Snakemake said of each job that it had finished, in all the starts of a folder."""
    return sum((finished_jobs(folder, number) for number in range(starts)), Counter())


def hit_stages(kills: list[Kill]) -> set[str]:
    """The stages of processes that were killed themselves: one that had just written its record has not ended."""
    names = (name.strip() for kill in kills for name in kill.running.split(","))
    return {name.strip("*").replace("-", "_") for name in names if name.startswith("*")}


def ended_twice(folder: Path, configfile: Path) -> list[str]:
    """Jobs that ran to their end and then again: their log is younger than their record, a stage's last act, which is
    not written anew for the same key."""
    layers = (configuration.read(path) for path in (folder / "config.yaml", configfile))
    plan = Plan(configuration.load(configuration.merged(*layers)))
    twice = []
    for job in jobs_of(plan):
        record = folder / record_path(plan.root, str(job))
        log = folder / filled(plan.log(job.stage), dict(job.wildcards))
        if log.stat().st_mtime_ns > record.stat().st_ctime_ns:
            twice.append(str(job))
    return twice


def resumes(folder: Path) -> tuple[int, int]:
    """How many trainings went on where they were, and how often."""
    counts = [json.loads(path.read_text())["resumes"] for path in folder.rglob("runs/**/run.json")]
    return sum(count > 0 for count in counts), sum(counts)


def checks(reference: Path, killed: Path, kills: list[Kill], args: argparse.Namespace) -> dict[str, list[str]]:
    """What was asked for, and for each the cases where it does not hold."""
    whole, counted = counts_of(reference, 1), counts_of(killed, len(kills) + 1)
    return {
        "every result is there, with the same bytes": [
            line for name in FOLDERS for line in differences(reference / name, killed / name)
        ],
        # A kill may come between the end of a job and Snakemake's line of it: not even once is right, then.
        "no job finished twice, and none that the reference does not have": [
            f"{name}: {whole[name]} time in the reference, {counted[name]} here"
            for name in sorted(whole | counted)
            if whole[name] != 1 or counted[name] > 1
        ],
        "no job that had ended was computed again": [
            job for job in ended_twice(killed, args.configfile) if job.split()[0] not in hit_stages(kills)
        ],
        "kills hit every kind of stage": [kind for kind in list(KINDS)[: args.kills] if not kinds_hit(kills)[kind]],
        "nothing is left to do": [] if nothing_to_do(killed, args) else ["a further start would run jobs"],
    }


def nothing_to_do(folder: Path, args: argparse.Namespace) -> bool:
    """Whether Snakemake would run no job."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", str(args.configfile), "--dry-run"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return "Nothing to be done" in done.stdout + done.stderr


def summary(
    reference: Path, killed: Path, kills: list[Kill], found: dict[str, list[str]], args: argparse.Namespace
) -> str:
    """The page: what was killed, what holds, what was compared."""
    files = [path for folder in FOLDERS for path in files_of(reference / folder).values()]
    timed = sum(is_timed(str(path.relative_to(reference))) for path in files)
    size = sum(path.stat().st_size for path in files)
    targets, trainings = Counter(kill.target for kill in kills), resumes(killed)
    hit = ", ".join(f"{kind} {count}" for kind, count in kinds_hit(kills).items())
    words = {"main": "of Snakemake's process", "stage": "of one stage", "group": "of the whole process group"}
    lines = [
        f"# {len(kills)} kills, the same bytes" if not any(found.values()) else "# Kills: something does not hold",
        "",
        f"`python benchmarks/kill_runs.py --configfile {os.path.relpath(args.configfile, REPOSITORY)}"
        f" --kills {args.kills} --seed {args.seed} --cores {args.cores} --save-seconds {args.save_seconds:g}`",
        "",
        f"{counts_of(reference, 1).total()} jobs; {machine()['cpu']}, {machine()['cores']} cores. {len(kills)} of"
        f" {args.kills} planned kills took place before the workflow had reached its end.",
        "",
        *(line for claim, cases in found.items() for line in _told(claim, cases)),
        f"- Compared: {len(files)} files, {size / 1e6:.1f} MB. {timed} of them hold times, and compared without them"
        " (`benchmarks/same_results.py`): run.json, profiles, tables of speed, checksums.json.",
        f"- SIGKILL {', '.join(f'{targets[name]} times {words[name]}' for name in words)}; kinds of stages at work at a"
        f" kill: {hit}.",
        f"- {trainings[0]} trainings went on where they were, {trainings[1]} times in all.",
        f"- Stages that were still there when Snakemake was gone: {sum(kill.left for kill in kills)}. They end by"
        " themselves, and the next start waits for that.",
        "",
        "*planned*: the delay in units of *first_job*. *first_job*, *moment*: seconds from that start to"
        " its first job and to the kill. *running*: stages at work, the one that was hit in"
        " asterisks. *left*: of these, still there when Snakemake was gone. *finished*: jobs that this start finished.",
        "",
        tabulate([asdict(kill) for kill in kills], headers="keys", tablefmt="github", floatfmt=".1f"),
    ]
    return "\n".join(lines) + "\n"


def _told(claim: str, cases: list[str]) -> list[str]:
    return [f"- {'**Does not hold**' if cases else 'Holds'}: {claim}.", *(f"  - {case}" for case in cases[:SHOWN])]


# ---- the program


def run(folder: Path, args: argparse.Namespace) -> bool:
    """Reference, kills, comparison; whether all holds."""
    reference, killed = (copy_source(folder / name) for name in ("whole", "killed"))
    print(f"reference: {finish(reference, args, 0):.0f} s", flush=True)
    kills, pace = [], PACE_SECONDS
    for planned in schedule(args.kills, args.seed):
        kill = kill_once(killed, args, len(kills), planned, pace)
        if kill is None:
            break
        kills.append(kill)
        pace = kill.first_job or pace
        print(" ".join(f"{name} {value};" for name, value in asdict(kill).items()), flush=True)
    print(f"the rest: {finish(killed, args, len(kills)):.0f} s", flush=True)
    found = checks(reference, killed, kills, args)
    page = summary(reference, killed, kills, found, args)
    print(page)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        write_text(args.out / "kills.md", page)
        pd.DataFrame(kills).to_csv(args.out / "kills.csv", index=False)
    return not any(found.values())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", type=Path, default=REPOSITORY / "config/smoke.yaml", help="(config/smoke.yaml)")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20, help="how many (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and targets (0)")
    parser.add_argument("--save-seconds", type=float, default=1.0, help="between states of a training (1)")
    parser.add_argument("--out", type=Path, help="folder for kills.md and kills.csv")
    parser.add_argument("--folder", type=Path, help="a new folder to work in, which is kept")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    args.configfile = args.configfile.resolve(strict=True)
    if args.folder:
        return int(not run(args.folder.resolve(), args))
    with tempfile.TemporaryDirectory() as folder:
        return int(not run(Path(folder).resolve(), args))


if __name__ == "__main__":
    sys.exit(main())
