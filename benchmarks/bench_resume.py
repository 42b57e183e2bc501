"""A training that is killed again and again, beside one that is not: docs/results/resumed-curves.png.

    snakemake --cores 2 --configfile config/smoke.yaml     # whose store and split it takes
    python benchmarks/bench_resume.py --epochs 16 --kills 6

Both are `gazepipe train` with the block of one run of the configuration, and more epochs. SIGKILL comes at random
moments. The curves are drawn from the history.csv of both. Ends with status 1 where history or weights differ.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from by_hand import files, words
from matplotlib.figure import Figure

from gazepipe.common.plotting import FAINT, INK, save, styled
from gazepipe.config import load as configuration
from gazepipe.config import select
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job
from gazepipe.training.state import DIGEST_SIZE, HEADER

REPOSITORY = Path(__file__).resolve().parents[1]
MAIN = "import sys; from gazepipe.cli import main; sys.exit(main())"
WHOLE, RESUMED, KILLED = "#9fc5e8", "#b03a2e", "#b9770e"
PANELS = {"train_loss": "training loss", "validation_error": "validation error"}


def command(plan: Plan, run: dict[str, str], args: argparse.Namespace, folder: Path) -> list[str]:
    """The training of a `run` for more epochs, with its results in `folder`."""
    job = Job.of("train", **run)
    settings = plan.settings(job)
    longer = settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": args.epochs})})
    given = {name: [str(args.folder / path) for path in paths] for name, paths in files(plan, job).items()}
    given |= {name: [str(folder / Path(path).name)] for name, path in plan.outputs(job).items()}
    given |= {"state": [str(folder.with_name(f"{folder.name}-state"))], "key": ["bench"]}
    return [sys.executable, "-c", MAIN, *words("train", longer.model_dump_json(), given)]


def start(words: list[str], seconds: float) -> subprocess.Popen:
    """The process, which saves its state every so many `seconds`."""
    environment = {**os.environ, "GAZEPIPE_SAVE_SECONDS": str(seconds)}
    return subprocess.Popen(words, env=environment, cwd=REPOSITORY, stderr=subprocess.DEVNULL)


def place(state: Path, steps: int) -> float:
    """How far the saved training is, in epochs of so many `steps`; 0 without a state."""
    if not state.exists():
        return 0.0
    content = state.read_bytes()[DIGEST_SIZE:]
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    epochs = len(json.loads(header["__metadata__"][HEADER])["history"])
    return epochs + header["epoch/losses"]["shape"][0] / steps


def killed_at(words: list[str], args: argparse.Namespace, seconds: float) -> list[float]:
    """Train, with SIGKILL at moments of the `seconds` that a whole training takes; the places of the states, in
    epochs, from which it went on."""
    draws, state, places = np.random.default_rng(args.seed), Path(words[words.index("--state") + 1]), []
    for number in range(args.kills):
        began, before = start(words, args.save_seconds), state.stat().st_mtime_ns if state.exists() else 0
        # Its first state first, so that it gets on.
        while began.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
            time.sleep(0.02)
        time.sleep(draws.uniform(0, 1.6) * seconds / args.kills)
        if began.poll() is not None:
            raise SystemExit(f"the training ended before kill {number + 1}: ask for more epochs or fewer kills")
        began.send_signal(signal.SIGKILL)
        began.wait()
        places.append(place(state, args.steps))
        print(f"kill {number + 1}: goes on from epoch {places[-1]:.2f}", flush=True)
    run(words, args.save_seconds)
    return places


def run(words: list[str], seconds: float) -> float:
    """Train to the end; the seconds that it took."""
    began = time.monotonic()
    if start(words, seconds).wait() != 0:
        raise SystemExit(f"the training failed: {' '.join(words[3:])}")
    return time.monotonic() - began


@styled
def draw(whole: pd.DataFrame, resumed: pd.DataFrame, places: list[float], unit: str) -> Figure:
    """Loss and error by epoch of both, one on the other, and the moments of the kills."""
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    for axis, (column, label) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        axis.plot(whole.epoch, whole[column], color=WHOLE, linewidth=7, solid_capstyle="round", label="not killed")
        axis.plot(resumed.epoch, resumed[column], "o-", color=RESUMED, linewidth=1.4, markersize=3.5, label="killed")
        for number, epoch in enumerate(places):
            # A row of the history is an epoch's end: what is saved within epoch 3 lies between 2 and 3.
            axis.axvline(epoch, color=KILLED, linewidth=1, linestyle=(0, (4, 3)), label=None if number else "SIGKILL")
        axis.set(xlabel="epochs", ylabel=f"{label} ({unit})" if column == "validation_error" else label)
        axis.set_xlim(0, whole.epoch.max() + 0.4)
        axis.grid(True, axis="y", alpha=0.25, color=FAINT)
        axis.tick_params(colors=INK)
    figure.axes[0].legend()
    return figure


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", type=Path, default=REPOSITORY / "config/smoke.yaml")
    parser.add_argument("--folder", type=Path, default=REPOSITORY, help="where the configuration has run")
    for name, value in {"dataset": "columbia-drawn", "model": "resnet18", "method": "base"}.items():
        parser.add_argument(f"--{name}", default=value)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--save-seconds", type=float, default=0.5, help="between states")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs/results/resumed-curves.png")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    layers = (configuration.read(path) for path in (REPOSITORY / "config.yaml", args.configfile))
    plan = Plan(configuration.load(configuration.merged(*layers)))
    wildcards = {name: getattr(args, name) for name in ("dataset", "model", "method")}
    chosen = {**wildcards, "fold": str(select.folds(plan.config, args.dataset)[0]), "seed": "0"}
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        seconds = run(command(plan, chosen, args, whole), args.save_seconds)
        record = json.loads((whole / "run.json").read_text())
        batch = plan.settings(Job.of("train", **chosen)).training.batch_size
        args.steps = max(1, record["samples"]["train"] // batch)
        print(f"not killed: {seconds:.0f} s, {args.epochs} epochs of {args.steps} steps", flush=True)
        places = killed_at(command(plan, chosen, args, killed), args, seconds)
        same = [
            (whole / name).read_bytes() == (killed / name).read_bytes() for name in ("model.safetensors", "history.csv")
        ]
        resumes = json.loads((killed / "run.json").read_text())["resumes"]
        print(f"resumed {resumes} times; weights the same: {same[0]}; history the same: {same[1]}")
        histories = [pd.read_csv(run_folder / "history.csv") for run_folder in (whole, killed)]
    save(draw(*histories, places, {"deg": "degrees"}.get(record["unit"], record["unit"])), args.out)
    return int(not all(same))


if __name__ == "__main__":
    sys.exit(main())
