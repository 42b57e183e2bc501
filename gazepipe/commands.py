"""The commands of `gazepipe` for people: each function adds the arguments of one to a parser, and sets what it runs."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from gazepipe.errors import UserError


def _predict(command: argparse.ArgumentParser) -> None:
    """Print the gaze of all faces in an image, as JSON."""
    command.add_argument("image", type=Path, help="JPEG or PNG file")
    _bundle_arguments(command)

    def run(args: argparse.Namespace) -> None:
        from gazepipe.live.gaze import given_camera
        from gazepipe.live.image import look_at_image

        camera = given_camera(args.focal, args.camera)
        print(json.dumps(look_at_image(args.image, args.bundle, args.runtime, args.int8, camera), indent=2))

    command.set_defaults(run=run)


def _errors(command: argparse.ArgumentParser) -> None:
    """Print each subject's error and the mean over subjects with its interval, from prediction files."""
    command.add_argument(
        "file",
        nargs="+",
        help="CSV with subject, pitch, yaw, pitch_pred, yaw_pred (radians), or subject, x, y, x_pred, y_pred (pixels); "
        "a column test tells test sets apart; several are trainings of one method; {seed} and {fold} in a quoted name "
        "stand for those of many files",
    )
    command.add_argument(
        "--calibration",
        action="store_true",
        help="print the error after personal calibration with 1 to 16 samples of each subject instead",
    )

    def run(args: argparse.Namespace) -> None:
        if args.calibration:
            from gazepipe.evaluation.calibration import format_calibration

            if len(args.file) > 1:
                raise UserError(f"{args.file[1]}: is a second file; --calibration takes one")
            print(format_calibration(args.file[0]))
            return
        from gazepipe.evaluation.trainings import format_trainings

        print(format_trainings(args.file))

    command.set_defaults(run=run)


def _compare(command: argparse.ArgumentParser) -> None:
    """Compare the networks of results folders with each other, or with predictions of others: difference of mean
    errors, its interval over subjects and trainings, p-values, equivalence, and what differs between the runs."""
    command.add_argument(
        "side",
        nargs="+",
        metavar="SIDE",
        help="two or more; each is compared with the first. FOLDER of results, FOLDER:DATASET/MODEL/METHOD, or a "
        "prediction CSV (as for `gazepipe errors`; a column seed tells trainings apart, too), or a quoted name of many "
        "with {seed}, {fold} in it",
    )
    command.add_argument("--test", nargs="+", action="extend", default=[], help="only these test sets")
    command.add_argument(
        "--unit", choices=["deg", "percent"], help="of differences; percent: of the first side's error"
    )
    command.add_argument(
        "--margin", type=_positive, help="largest difference that does not matter (default: 0.5 or 10 %%)"
    )
    command.add_argument(
        "--trainings",
        choices=["separate", "paired", "same"],
        default="separate",
        help="of both sides: separate (the default), their chance adds up; paired, those of one seed share a network, "
        "such as a teacher; same, the networks are the same, and what was done with them differs",
    )
    command.add_argument("--shared", action="store_true", help="compare on the subjects and samples that both have")
    for name, what in (("csv", "all numbers"), ("json", "all numbers, sides, runs"), ("latex", "the table, booktabs")):
        command.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"file to write: {what}")

    def run(args: argparse.Namespace) -> None:
        from gazepipe.dag.places import predictions_in, run_in
        from gazepipe.report.across import Options, compare

        options = Options(
            tests=tuple(args.test),
            unit=args.unit,
            margin=args.margin,
            trainings=args.trainings,
            shared=args.shared,
            csv=args.csv,
            json=args.json,
            latex=args.latex,
        )
        print(compare(args.side, options, predictions_in, run_in))

    command.set_defaults(run=run)


def _near_eye_video(command: argparse.ArgumentParser) -> None:
    """Write a video of a subject of a near-eye run: eye images, scene, predicted and true gaze point, error."""
    command.add_argument("weights", metavar="RUN", type=Path, help="folder of a near-eye run, or its weights file")
    command.add_argument("subject", metavar="SUBJECT", help="a subject of the data set, such as test-19")
    command.add_argument("--output", type=Path, help="MP4 to write (default: SUBJECT.mp4)")
    command.add_argument("--frames", type=count, help="stop after this number of frames")
    command.add_argument("--rate", type=_rate, default=12.0, help="frames per second (default: 12)")
    command.add_argument("--store", type=Path, help="store of the data set (default: that of the run)")
    command.add_argument("--receipt", type=Path, help="receipt of the data set (default: that of the run)")

    def run(args: argparse.Namespace) -> None:
        from gazepipe.dag.cores import hold
        from gazepipe.dag.places import data_of_run, weights_of_run
        from gazepipe.near_eye.video import near_eye_video

        weights = weights_of_run(args.weights)
        found = data_of_run(weights) or (None, None)
        store, receipt = args.store or found[0], args.receipt or found[1]
        if store is None or receipt is None:
            raise UserError(f"{args.weights}: is in no folder results/runs/DATASET/...; give --store and --receipt")
        out = args.output or Path(f"{args.subject}.mp4")
        with hold(1):
            print(near_eye_video(weights, store, receipt, args.subject, out, args.frames, args.rate))

    command.set_defaults(run=run)


def _video(command: argparse.ArgumentParser) -> None:
    """Estimate the gaze of all faces in a video, a folder of images, or the pictures of a camera."""
    _bundle_arguments(command)
    command.add_argument("input", help="video file, folder of images, or number of a camera")
    command.add_argument("--output", type=Path, help="MP4 to write, with faces and gaze drawn in")
    command.add_argument("--csv", type=Path, help="CSV to write, one row per face and frame")
    command.add_argument("--smooth", action="store_true", help="smooth the gaze with a One-Euro filter")
    command.add_argument("--show", action="store_true", help="show the frames in a window")
    command.add_argument("--rate", type=_rate, help="frames per second of a folder of images (default: 25)")
    command.add_argument("--frames", type=count, help="stop after this number of frames")

    def run(args: argparse.Namespace) -> None:
        from gazepipe.live.gaze import given_camera
        from gazepipe.live.video import Options, run_video

        options = Options(
            output=args.output,
            csv=args.csv,
            runtime=args.runtime,
            int8=args.int8,
            camera=given_camera(args.focal, args.camera),
            smooth=args.smooth,
            show=args.show,
            rate=args.rate,
            frames=args.frames,
        )
        print(run_video(args.input, args.bundle, options))

    command.set_defaults(run=run)


def _data(command: argparse.ArgumentParser) -> None:
    """List the data sets of the catalogue, show one, or check one for problems. Writes nothing."""
    command.add_argument("action", choices=["list", "show", "check"])
    command.add_argument("name", nargs="?", help="data set to show or check")
    _configuration_argument(command)

    def run(args: argparse.Namespace) -> None:
        from gazepipe.config import catalogue
        from gazepipe.config.load import load_files
        from gazepipe.dag.places import files_of_data

        config = load_files(args.configfile)
        if args.action == "list":
            print(catalogue.listing(config, files_of_data(config.run)))
            return
        if args.name is None:
            raise UserError(f"{args.action}: names no data set; the catalogue holds {', '.join(config.datasets)}")
        if args.action == "show":
            print(catalogue.details(config, args.name, files_of_data(config.run)))
            return
        _report(args.name, catalogue.problems(config, args.name, files_of_data(config.run)))

    command.set_defaults(run=run)


def _why(command: argparse.ArgumentParser) -> None:
    """Show what a result depends on, what would run again now, and because of which change."""
    command.add_argument("path", type=Path, help="result file, or folder of a run")
    _configuration_argument(command)

    def run(args: argparse.Namespace) -> None:
        from gazepipe.config.load import load_files
        from gazepipe.dag.plan import Plan
        from gazepipe.provenance.why import explain

        print(explain(Plan(load_files(args.configfile)), args.path))

    command.set_defaults(run=run)


def _diff(command: argparse.ArgumentParser) -> None:
    """Compare two runs: configuration, source, data, versions, machine, results."""
    for name in ("run_a", "run_b"):
        command.add_argument(name, type=Path, help="folder of a run, with its run.json")

    def run(args: argparse.Namespace) -> None:
        from gazepipe.provenance.diff import compare

        print(compare(args.run_a, args.run_b))

    command.set_defaults(run=run)


def _check(command: argparse.ArgumentParser) -> None:
    """Compare every result with its checksum in checksums.json."""
    command.add_argument(
        "root", type=Path, nargs="?", default=Path("results"), help="results (the default) or results/RUN"
    )

    def run(args: argparse.Namespace) -> None:
        from gazepipe.provenance.checksums import problems

        _report(args.root, problems(args.root))

    command.set_defaults(run=run)


def _stages(command: argparse.ArgumentParser) -> None:
    """Print what each stage runs, reads and writes."""
    _configuration_argument(command)

    def run(args: argparse.Namespace) -> None:
        from gazepipe.config.load import load_files
        from gazepipe.dag.overview import overview
        from gazepipe.dag.plan import Plan

        print(overview(Plan(load_files(args.configfile))))

    command.set_defaults(run=run)


def _plan(command: argparse.ArgumentParser) -> None:
    """Print the jobs of a configuration, their hours and memory, and how long all of it takes, before it runs. Writes
    nothing but the file of --csv."""
    _configuration_argument(command)
    command.add_argument("--cores", type=count, help="cores that jobs share (default: those of this machine)")
    command.add_argument("--csv", type=Path, metavar="FILE", help="file to write: a row for each job")
    command.add_argument(
        "--check",
        metavar="RESULTS",
        help="compare with what the jobs in a folder of results of this configuration took",
    )
    command.add_argument(
        "--scaled", action="store_true", help="with --check: each stage scaled by what its other jobs took"
    )

    def run(args: argparse.Namespace) -> None:
        from gazepipe.common.machine import available_cores
        from gazepipe.dag.planning import Planned, checked, overview, plan_of, write_jobs

        if args.scaled and args.check is None:
            raise UserError("--scaled: goes with --check RESULTS; add it, or leave --scaled out")
        plan = plan_of(args.configfile)
        if args.check is not None:
            print(checked(plan, args.check, args.scaled))
            return
        planned = Planned(plan)
        print(overview(planned, args.cores or available_cores()))
        if args.csv is not None:
            write_jobs(planned, args.csv)

    command.set_defaults(run=run)


def _run(command: argparse.ArgumentParser) -> None:
    """Run the workflow as `snakemake` does, with one line on how far it is in place of Snakemake's log, which goes to
    its file."""
    command.add_argument("arguments", nargs=argparse.REMAINDER, help="the arguments of snakemake")
    # None of them is an option of this command.
    command.prefix_chars = "\0"

    def run(args: argparse.Namespace) -> None:
        # As a module of this folder: the package beside the Snakefile runs, wherever another clone is installed.
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "gazepipe.dag.watch", *args.arguments])

    command.set_defaults(run=run)


def _trace(command: argparse.ArgumentParser) -> None:
    """Write what ran when on which core in the last run, and how much stood idle: trace.svg, .png and .csv."""
    command.add_argument("results", nargs="?", default="results", help="folder of results (default: results)")

    def run(args: argparse.Namespace) -> None:
        from gazepipe.dag.trace import told_of, trace, write_trace

        found = trace(args.results)
        print("\n".join([told_of(found), *map(str, write_trace(found, args.results))]))

    command.set_defaults(run=run)


COMMANDS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "predict": _predict,
    "video": _video,
    "near-eye-video": _near_eye_video,
    "errors": _errors,
    "compare": _compare,
    "data": _data,
    "stages": _stages,
    "run": _run,
    "trace": _trace,
    "plan": _plan,
    "why": _why,
    "diff": _diff,
    "check": _check,
}
"""Each command by its name."""


def _configuration_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--configfile", type=Path, nargs="+", default=[], help="files on top of config.yaml, as for snakemake"
    )


def _bundle_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--bundle", type=Path, required=True, help="folder of an exported network")
    command.add_argument("--runtime", choices=["openvino", "onnxruntime"], default="openvino", help="default: openvino")
    command.add_argument("--int8", action="store_true", help="use the int8 model")
    command.add_argument("--focal", type=float, help="focal length, px (default: the longer side of the image)")
    command.add_argument("--camera", metavar="FX,FY,CX,CY", help="intrinsics, px")


def _report(name: object, problems: Iterable[str]) -> None:
    found = 0
    for problem in problems:
        print(problem, flush=True)
        found += 1
    if found:
        raise UserError(f"{name}: problems found: {found}, listed above")
    print(f"{name}: no problem found")


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is no number above 0 and up to 1000")
    return value


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return value


def count(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)
