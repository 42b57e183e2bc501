"""The commands of `gazepipe` that only a person uses: each function adds one to a parser, and names what it runs."""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from gazepipe.errors import UserError


def _predict(command: argparse.ArgumentParser) -> None:
    """tell the gaze in an image as JSON"""
    command.add_argument("image", type=Path, help="JPEG or PNG: print its faces and their gaze as JSON")
    _bundle_arguments(command)

    def run(args: argparse.Namespace) -> None:
        from gazepipe.live.gaze import given_camera
        from gazepipe.live.image import look_at_image

        camera = given_camera(args.focal, args.camera)
        print(json.dumps(look_at_image(args.image, args.bundle, args.runtime, args.int8, camera), indent=2))

    command.set_defaults(run=run)


def _errors(command: argparse.ArgumentParser) -> None:
    """print the error per subject and in the mean of a prediction file"""
    command.add_argument("file", type=Path, help="subject, pitch, yaw, pitch_pred, yaw_pred")

    def run(args: argparse.Namespace) -> None:
        from gazepipe.evaluation.metrics import format_errors

        print(format_errors(args.file))

    command.set_defaults(run=run)


def _near_eye_video(command: argparse.ArgumentParser) -> None:
    """draw what a near-eye network sees of a subject, its gaze point, the true one, and the error, as a video"""
    command.add_argument("weights", metavar="RUN", type=Path, help="folder of a near-eye run, or its weights")
    command.add_argument("subject", metavar="SUBJECT", help="a subject of the data set, such as test-19")
    command.add_argument("--output", type=Path, help="MP4 to write (SUBJECT.mp4)")
    command.add_argument("--frames", type=count, help="stop after so many frames")
    command.add_argument("--rate", type=_rate, default=12.0, help="frames per second (12)")
    command.add_argument("--store", type=Path, help="store of the data set, where it is not in the run's results")
    command.add_argument("--receipt", type=Path, help="receipt of the data set, where it is not in the run's project")

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
    """draw the gaze of all faces into a video, a folder of images, or what a camera sees"""
    _bundle_arguments(command)
    command.add_argument("input", help="a video file, a folder of images, or a camera's number")
    command.add_argument("--output", type=Path, help="MP4 with the faces and their gaze drawn in")
    command.add_argument("--csv", type=Path, help="table of every face in every frame")
    command.add_argument("--smooth", action="store_true", help="steady the gaze with a One-Euro filter")
    command.add_argument("--show", action="store_true", help="open a window, where there is a display")
    command.add_argument("--rate", type=_rate, help="frames per second of a folder of images (25)")
    command.add_argument("--frames", type=count, help="stop after so many frames")

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
    """list the catalogue's data sets, show one, or check it for problems; writes nothing"""
    command.add_argument("action", choices=["list", "show", "check"])
    command.add_argument("name", nargs="?", help="a data set of the catalogue: for show and check")
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
    """tell what a result depends on, and what would run again now and because of which change"""
    command.add_argument("path", type=Path, help="a result file, or a run's folder")
    _configuration_argument(command)

    def run(args: argparse.Namespace) -> None:
        from gazepipe.config.load import load_files
        from gazepipe.dag.plan import Plan
        from gazepipe.provenance.why import explain

        print(explain(Plan(load_files(args.configfile)), args.path))

    command.set_defaults(run=run)


def _diff(command: argparse.ArgumentParser) -> None:
    """compare the records of two runs: configuration, source, data, versions, machine, results"""
    for name in ("run_a", "run_b"):
        command.add_argument(name, type=Path, help="a run's folder, which holds run.json")

    def run(args: argparse.Namespace) -> None:
        from gazepipe.provenance.diff import compare

        print(compare(args.run_a, args.run_b))

    command.set_defaults(run=run)


def _check(command: argparse.ArgumentParser) -> None:
    """compare every result with its checksum"""
    command.add_argument("root", type=Path, nargs="?", default=Path("results"), help="results, or results/RUN")

    def run(args: argparse.Namespace) -> None:
        from gazepipe.provenance.checksums import problems

        _report(args.root, problems(args.root))

    command.set_defaults(run=run)


def _stages(command: argparse.ArgumentParser) -> None:
    """print what each stage runs, reads and writes"""
    _configuration_argument(command)

    def run(args: argparse.Namespace) -> None:
        from gazepipe.config.load import load_files
        from gazepipe.dag.overview import overview
        from gazepipe.dag.plan import Plan

        print(overview(Plan(load_files(args.configfile))))

    command.set_defaults(run=run)


COMMANDS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "predict": _predict,
    "video": _video,
    "near-eye-video": _near_eye_video,
    "errors": _errors,
    "data": _data,
    "stages": _stages,
    "why": _why,
    "diff": _diff,
    "check": _check,
}
"""Each command by its name."""


def _configuration_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--configfile", type=Path, nargs="+", default=[], help="on top of config.yaml, as for snakemake"
    )


def _bundle_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--bundle", type=Path, required=True, help="folder of an exported network")
    command.add_argument("--runtime", choices=["openvino", "onnxruntime"], default="openvino")
    command.add_argument("--int8", action="store_true", help="use the int8 model")
    command.add_argument("--focal", type=float, help="focal length in pixels (the picture's longer side)")
    command.add_argument("--camera", metavar="FX,FY,CX,CY", help="intrinsics in pixels")


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


def count(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)
