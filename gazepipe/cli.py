"""`gazepipe <stage>`: the same entry for a Snakemake rule and for a person.

Heavy stages wait for their core slots before they import anything large. What a user can cause ends as one line on
stderr and exit status 2.
"""

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext
from pathlib import Path

from gazepipe import __version__
from gazepipe.dag import cores as slots
from gazepipe.dag import orphans as lifeline
from gazepipe.dag import paths
from gazepipe.errors import StorageError, UserError


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status (0, or 2 for bad input)."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        told = _block(args).pop("record", None)
        with ExitStack() as held:
            if told:
                held.enter_context(lifeline.at_work(Path(paths.root_of_record(told["planned"]))))
            if _rank(args) is None:
                # First the GPU: who has one may wait for cores, who has cores never waits for a GPU.
                held.enter_context(slots.hold_gpus(_gpus(args)))
                if args.slots:
                    count = args.slots(args)
                    held.enter_context(nullcontext() if count is None else slots.hold(count))
            args.run(args)
        if told and not _rank(args):
            from gazepipe.provenance.records import finish

            finish(told)
    except UserError as error:
        print(f"gazepipe {args.stage}: {error}", file=sys.stderr, flush=True)
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
        print(f"gazepipe {args.stage}: {place} and run again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"gazepipe {args.stage}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gazepipe", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"gazepipe {__version__}")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")

    def stage(
        run: Callable[[argparse.Namespace], None],
        *files: str,
        slots: Callable[[argparse.Namespace], int | None] | None = None,
        block: bool = True,
    ) -> argparse.ArgumentParser:
        name = run.__name__.strip("_").replace("_", "-")
        sub = stages.add_parser(name, help=run.__doc__, description=run.__doc__)
        sub.set_defaults(run=run, slots=slots)
        if block:
            sub.add_argument("--block", type=_json, required=True, help="the stage's configuration, as JSON")
        for file in files:
            sub.add_argument(f"--{file}", type=Path, required=True)
        return sub

    fetch = stage(_fetch, "out", slots=lambda args: args.workers if "drawn" in args.block["source"] else None)
    fetch.add_argument("--workers", type=int, default=1, help="processes that draw")
    stage(_prepare_part, "receipt", "out", slots=_one)
    stage(_prepare, "out", "rejected", slots=_one).add_argument("parts", type=Path, nargs="+")
    stage(_split, "store", "out")
    stage(_sheet, "receipt", "store", "out", slots=_one)
    train = stage(_train, *TRAIN_FILES, slots=lambda args: _processes(args) * args.block["training"]["threads"])
    for name, text in TRAIN_OPTIONS.items():
        train.add_argument(f"--{name}", type=str if name == "source" else Path, help=text)
    train.set_defaults(source="")
    _state_arguments(train)
    predict = stage(_predict, block=False, slots=lambda args: args.block["threads"] if args.block else None)
    _predict_arguments(predict)
    stage(_predict_mean, "train-store", "split", "store", "out", slots=_one)
    # All slots: nothing else computes while a network is timed.
    profile = stage(_profile, "out", slots=lambda _: 0)
    profile.add_argument("--weights", type=Path, help="weights that tell the network's shape")
    stage(_explain, "weights", "store", "split", "out", slots=lambda args: args.block["threads"])
    stage(_explain_seeds, "out", slots=_one).add_argument("explanations", type=Path, nargs="+")
    for run in (_export, _export_errors):
        files = ("weights", "store", "split", "predicted", "out")
        _state_arguments(stage(run, *files, slots=lambda args: args.block["threads"]))
    speed = stage(_speed, "out", slots=lambda _: 0)
    for kind in ("bundles", "weights"):
        speed.add_argument(f"--{kind}", type=Path, nargs="+", required=True, help="in the order of the networks")
    tables = stage(_tables, "out", slots=_one)
    tables.add_argument("--elsewhere", action="store_true", help="results are kept elsewhere: only some are here")
    stage(_errors, block=False).add_argument("file", type=Path, help="subject, pitch, yaw, pitch_pred, yaw_pred")
    near_eye = stage(_near_eye_video, slots=_one, block=False)
    near_eye.add_argument("weights", metavar="RUN", type=Path, help="folder of a near-eye run, or its weights")
    near_eye.add_argument("subject", metavar="SUBJECT", help="a subject of the data set, such as test-19")
    near_eye.add_argument("--output", type=Path, help="MP4 to write (SUBJECT.mp4)")
    near_eye.add_argument("--frames", type=_count, help="stop after so many frames")
    near_eye.add_argument("--rate", type=_rate, default=12.0, help="frames per second (12)")
    near_eye.add_argument("--store", type=Path, help="store of the data set, where it is not in the run's results")
    near_eye.add_argument("--receipt", type=Path, help="receipt of the data set, where it is not in the run's project")
    video = stage(_video, block=False)
    _deployed_arguments(video)
    video.add_argument("input", help="a video file, a folder of images, or a camera's number")
    video.add_argument("--output", type=Path, help="MP4 with the faces and their gaze drawn in")
    video.add_argument("--csv", type=Path, help="table of every face in every frame")
    video.add_argument("--smooth", action="store_true", help="steady the gaze with a One-Euro filter")
    video.add_argument("--show", action="store_true", help="open a window, where there is a display")
    video.add_argument("--rate", type=_rate, help="frames per second of a folder of images (25)")
    video.add_argument("--frames", type=_count, help="stop after so many frames")
    data = stage(_data, block=False)
    data.add_argument("action", choices=["list", "show", "check"])
    data.add_argument("name", nargs="?", help="a data set of the catalogue: for show and check")
    why = stage(_why, block=False)
    why.add_argument("path", type=Path, help="a result file, or a run's folder")
    for sub in (data, why):
        sub.add_argument(
            "--configfile", type=Path, nargs="+", default=[], help="on top of config.yaml, as for snakemake"
        )
    compared = stage(_diff, block=False)
    for name in ("run_a", "run_b"):
        compared.add_argument(name, type=Path, help="a run's folder, which holds run.json")
    check = stage(_check, block=False)
    check.add_argument("root", type=Path, nargs="?", default=Path("results"), help="results, or results/RUN")
    return parser


TRAIN_FILES = ("store", "split", "out")
TRAIN_OPTIONS = {
    "parent": "weights to start from",
    "teacher": "weights of the teacher",
    "shape": "weights of the network whose shape this one has",
    "width": "width.json of the parent's explanation",
    "source": "source fingerprint, for the record",
}
PREDICT_FILES = ("weights", "store", "split", "out")


def _predict_arguments(predict: argparse.ArgumentParser) -> None:
    """`gazepipe predict IMAGE --bundle DIR` for a person; without an image it is the stage of the workflow."""
    predict.add_argument("image", type=Path, nargs="?", help="JPEG or PNG: print its faces and their gaze as JSON")
    _deployed_arguments(predict, required=False)
    predict.add_argument("--block", type=_json, help="without IMAGE: the stage's configuration, as JSON")
    for file in PREDICT_FILES:
        predict.add_argument(f"--{file}", type=Path, help="without IMAGE: a file of the stage")
    predict.set_defaults(error=predict.error)


def _state_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--state", type=Path, help="where to keep what is needed to go on after a kill")
    command.add_argument("--key", default="", help="key of the job: a state of another key is not used")


def _deployed_arguments(command: argparse.ArgumentParser, required: bool = True) -> None:
    command.add_argument("--bundle", type=Path, required=required, help="folder of an exported network")
    command.add_argument("--runtime", choices=["openvino", "onnxruntime"], default="openvino")
    command.add_argument("--int8", action="store_true", help="the network in whole numbers")
    command.add_argument("--focal", type=float, help="focal length in pixels (the picture's longer side)")
    command.add_argument("--camera", metavar="FX,FY,CX,CY", help="intrinsics in pixels")


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is no number above 0 and up to 1000")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def _one(_: argparse.Namespace) -> int:
    return 1


def _gpus(args: argparse.Namespace) -> int:
    """Stages that compute on a device ask for a GPU, and each process of a training for its own, unless the
    configuration says cpu.
    """
    if _block(args).get("device") not in ("auto", "cuda"):
        return 0
    wanted = _processes(args)
    if wanted > 1 and 0 < (there := len(slots.gpus())) < wanted:
        raise UserError(f"training.processes: {wanted} need a GPU each, but {there} are here; use fewer, or the cpu")
    return wanted


def _processes(args: argparse.Namespace) -> int:
    """How many processes the stage computes in, each with a GPU and threads of its own."""
    return int(_block(args).get("training", {}).get("processes", 1)) if args.stage == "train" else 1


def _rank(args: argparse.Namespace) -> int | None:
    """Which of a training's processes this is; None for one that starts them, and for all that is one process."""
    rank = os.environ.get("RANK") if _processes(args) > 1 else None
    return None if rank is None else int(rank)


def _block(args: argparse.Namespace) -> dict:
    """The stage's block; empty for a person's command."""
    return getattr(args, "block", None) or {}


def _json(text: str) -> dict:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error})") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"a JSON {type(value).__name__}, expected an object")
    return value


def _fetch(args: argparse.Namespace) -> None:
    """get a data set in its native layout: draw it, load it, or look at what is there"""
    from gazepipe.datasets.fetch.fetch import fetch

    fetch(args.block, args.out, args.workers)


def _prepare_part(args: argparse.Namespace) -> None:
    """detect, normalise and cut the images of some subjects"""
    from gazepipe.datasets.fetch.fetch import raw_folder
    from gazepipe.datasets.prepare import expected_subjects, prepare_part

    block = args.block
    layout, options = block["layout"], block["options"]
    folder = raw_folder(args.receipt)
    subjects = expected_subjects(folder, layout, block["subjects"], options)
    prepare_part(folder, layout, block["patch"], subjects, block["part"], block["parts"], args.out, options)


def _prepare(args: argparse.Namespace) -> None:
    """merge prepared parts into the store of a data set"""
    from gazepipe.datasets.prepare import merge

    block = args.block
    attrs = {"dataset": block["dataset"]}
    merge(args.parts, args.out, args.rejected, attrs, block["max_rejected"], by_day=block["by"] == "day")


def _split(args: argparse.Namespace) -> None:
    """assign subjects to folds and roles"""
    from gazepipe.datasets.splits import make_split, write_split
    from gazepipe.datasets.store import open_store

    write_split(make_split(set(open_store(args.store).subject), args.block), args.out)


def _sheet(args: argparse.Namespace) -> None:
    """draw the contact sheet of a data set"""
    from gazepipe.datasets.fetch.fetch import raw_folder
    from gazepipe.datasets.overview import write_overview

    write_overview(args.block, raw_folder(args.receipt), args.store, args.out)


def _train(args: argparse.Namespace) -> None:
    """train one network on one fold"""
    if _processes(args) > 1 and _rank(args) is None:
        from gazepipe.training.launch import launch

        given = [(name, getattr(args, name)) for name in (*TRAIN_FILES, *TRAIN_OPTIONS, "state", "key")]
        options = [f"--{name}={value}" for name, value in given if value]
        launch(["train", "--block", json.dumps(args.block), *options], _processes(args))
        return
    from gazepipe.common.machine import machine, versions
    from gazepipe.methods.train import train

    record = {"block": args.block, "source": args.source, "machine": machine(), "packages": versions()}
    train(
        args.block,
        args.store,
        args.split,
        args.out,
        args.parent,
        args.teacher,
        record,
        shape=args.shape,
        width=args.width,
        state=args.state,
        key=args.key,
    )


def _predict(args: argparse.Namespace) -> None:
    """tell the gaze in an image as JSON; as a stage, predict one data set with one trained network"""
    if args.image is not None:
        _look(args)
        return
    missing = [name for name in ("block", *PREDICT_FILES) if getattr(args, name) is None]
    if missing:
        args.error(f"give an image, or, for the stage, --{', --'.join(missing)}")
    from gazepipe.evaluation.predict import predict

    predict(args.block, args.weights, args.store, args.split, args.out)


def _look(args: argparse.Namespace) -> None:
    if args.bundle is None:
        args.error("--bundle: needed to look at an image")
    from gazepipe.live.gaze import given_camera
    from gazepipe.live.image import look_at_image

    camera = given_camera(args.focal, args.camera)
    print(json.dumps(look_at_image(args.image, args.bundle, args.runtime, args.int8, camera), indent=2))


def _predict_mean(args: argparse.Namespace) -> None:
    """predict the mean gaze of the training subjects, the least that a network must beat"""
    from gazepipe.evaluation.mean import predict_mean

    predict_mean(args.block, args.train_store, args.split, args.store, args.out)


def _profile(args: argparse.Namespace) -> None:
    """count parameters and multiply-adds, and time the network"""
    from gazepipe.profiling.stage import profile

    profile(args.block, args.out, args.weights)


def _explain(args: argparse.Namespace) -> None:
    """read from a near-eye network which parts matter, and how small it could be"""
    from gazepipe.near_eye.explain.stage import explain

    explain(args.block, args.weights, args.store, args.split, args.out)


def _explain_seeds(args: argparse.Namespace) -> None:
    """compare the explanations (explain.json) of one network over its seeds"""
    from gazepipe.near_eye.explain.stage import stability_over_runs

    stability_over_runs([path.parent for path in args.explanations], args.out)


def _export(args: argparse.Namespace) -> None:
    """write a run as a bundle: ONNX and OpenVINO, fp32 and int8, each checked against torch"""
    from gazepipe.export.stage import export

    files = (args.weights, args.store, args.split, args.predicted, args.out)
    export(args.block, *files, state=args.state, key=args.key)


def _export_errors(args: argparse.Namespace) -> None:
    """export a run, and keep only what its files predict wrong"""
    from gazepipe.export.stage import export_errors

    files = (args.weights, args.store, args.split, args.predicted, args.out)
    export_errors(args.block, *files, state=args.state, key=args.key)


def _speed(args: argparse.Namespace) -> None:
    """time exported networks against each other"""
    from gazepipe.export.speed import speed

    names = args.block["networks"]
    bundles, weights = (dict(zip(names, files, strict=True)) for files in (args.bundles, args.weights))
    speed(args.block, bundles, weights, args.out)


def _tables(args: argparse.Namespace) -> None:
    """write the tables from predictions and profiles"""
    from gazepipe.provenance.checksums import write_checksums
    from gazepipe.report.tables import write_tables

    write_tables(args.block, args.out)
    write_checksums(args.out.parent, args.elsewhere)


def _errors(args: argparse.Namespace) -> None:
    """print the error per subject and in the mean of a prediction file"""
    from gazepipe.evaluation.metrics import format_errors

    print(format_errors(args.file))


def _near_eye_video(args: argparse.Namespace) -> None:
    """draw what a near-eye network sees of a subject, its gaze point, the true one, and the error, as a video"""
    from gazepipe.dag.paths import data_of_run
    from gazepipe.near_eye.video import near_eye_video

    weights = args.weights if args.weights.suffix == ".safetensors" else args.weights / "model.safetensors"
    found = data_of_run(weights.parent) or (None, None)
    store, receipt = args.store or found[0], args.receipt or found[1]
    if store is None or receipt is None:
        raise UserError(f"{args.weights}: is in no folder results/runs/DATASET/...; give --store and --receipt")
    out = args.output or Path(f"{args.subject}.mp4")
    print(near_eye_video(weights, store, receipt, args.subject, out, args.frames, args.rate))


def _video(args: argparse.Namespace) -> None:
    """draw the gaze of all faces into a video, a folder of images, or what a camera sees"""
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


def _data(args: argparse.Namespace) -> None:
    """list the catalogue's data sets, show one, or check it for problems; writes nothing"""
    from gazepipe.config import catalogue

    config = catalogue.load(args.configfile)
    if args.action == "list":
        print(catalogue.listing(config))
        return
    if args.name is None:
        raise UserError(f"{args.action}: names no data set; the catalogue holds {', '.join(config.datasets)}")
    if args.action == "show":
        print(catalogue.details(config, args.name))
        return
    _report(args.name, catalogue.problems(config, args.name))


def _report(name: object, problems: Iterable[str]) -> None:
    found = 0
    for problem in problems:
        print(problem, flush=True)
        found += 1
    if found:
        raise UserError(f"{name}: problems found: {found}, listed above")
    print(f"{name}: no problem found")


def _why(args: argparse.Namespace) -> None:
    """tell what a result depends on, and what would run again now and because of which change"""
    from gazepipe.config.load import load_files
    from gazepipe.dag.plan import Plan
    from gazepipe.provenance.why import explain

    print(explain(Plan(load_files(args.configfile)), args.path))


def _diff(args: argparse.Namespace) -> None:
    """compare the records of two runs: configuration, source, data, versions, machine, results"""
    from gazepipe.provenance.diff import compare

    print(compare(args.run_a, args.run_b))


def _check(args: argparse.Namespace) -> None:
    """compare every result with its checksum in checksums.json"""
    from gazepipe.provenance.checksums import problems

    _report(args.root, problems(args.root))
