"""`card.md`: what the user of a bundle must know."""

import textwrap

from gazepipe.export.int8 import TUNED
from gazepipe.export.settings import About, ExportSettings

UNIT = {"rad": "degrees", "px": "pixels"}
RUNTIME = {"eager": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
DRAWN_LIMIT = (
    "It was trained and tested on drawn images. What it sees in photographs of people, nobody has measured: train it "
    "on real data before you rely on it."
)
REAL_LIMIT = "Errors are those of people who were not in its training set, recorded as the data set was, and not wider."
LIMITS = (
    "It sees grayscale patches, cut out and normalised as `preprocess.json` says. Another cut, size or brightness "
    "scale gives a number, and a wrong one.",
    "It always answers: it has no notion of a closed eye, of a hidden face, or of doubt.",
    "int8 on ONNX Runtime needs a processor with VNNI or its like: without, sums of products may overflow, and errors "
    "are not those above.",
    "Do not infer from it who a person is, or what a person feels or intends.",
)


def card(settings: ExportSettings, content: dict) -> str:
    """The model card in Markdown; `content` is that of preprocess.json."""
    about = settings.about
    sections = {
        "What it is": _what(about, content),
        "Trained on": _trained_on(settings, content),
        "Error": _error(content),
        "int8": _int8(settings, content),
        "Cost": _cost(content),
        "Limits": _list([DRAWN_LIMIT if about.drawn else REAL_LIMIT, *LIMITS]),
        "Licence of the data": _wrapped(about.licence),
        "How to run it": _how(content),
    }
    title = f"# Gaze network {about.model} / {about.method}, trained on {about.dataset}"
    return "\n\n".join([title, *(f"## {name}\n\n{text}" for name, text in sections.items())]) + "\n"


def _what(about: About, content: dict) -> str:
    views, height, width = content["input"]
    seen = f"{views} grayscale images" if views > 1 else "one grayscale image"
    patch = content["patch"]["kind"]
    return _wrapped(
        f"The network `{about.model}`, method `{about.method}`: from {seen} of {height} x {width} px (the patch "
        f"`{patch}`) to {content['task']}: {content['output']}. Geometry: {content['geometry']}. It sees "
        f"(pixel / 255 - {content['mean']:g}) / {content['std']:g}, as f32 [batch, {views}, {height}, {width}], under "
        "the name `image`, and answers `gaze` [batch, 2]."
    )


def _trained_on(settings: ExportSettings, content: dict) -> str:
    calibration = content["calibration"]
    kind = "drawn images" if settings.about.drawn else "recorded images"
    return _wrapped(
        f"Data set `{settings.about.dataset}` ({kind}), training subjects of fold {settings.fold}, seed "
        f"{settings.seed}. The ranges of int8 come from {calibration['samples']} samples of "
        f"{len(calibration['subjects'])} of these subjects."
    )


def _error(content: dict) -> str:
    unit = UNIT[content["units"]]
    head = ["runtime", "precision", f"error, {unit}", "95 % interval", "against PyTorch", "largest difference", "MB"]
    rows = [
        [
            RUNTIME[row["runtime"]],
            row["precision"],
            f"{row['error']:.3f}",
            _interval(row["low"], row["high"], ".3f", ""),
            f"{row['change_percent']:+.2f} %" + _interval(row["change_low"], row["change_high"], "+.2f", " (", ")"),
            f"{row['max_difference']:.2g}",
            f"{row['bytes'] / 1e6:.2f}",
        ]
        for row in content["error"]
    ]
    subjects = content["error"][0]["n_subjects"]
    text = (
        f"Mean over {subjects} test subjects, none of them in the training set, of each one's mean error; each row "
        f"computed through the file that is in this folder. {_intervals(subjects)} The largest difference is that of "
        f"any one test sample from PyTorch's prediction, in {unit}."
    )
    return f"{_wrapped(text)}\n\n{_table(head, rows)}"


def _intervals(subjects: int) -> str:
    """What the intervals are of."""
    if subjects < 2:
        return "Of one subject there is no interval."
    return (
        "Intervals are t intervals over subjects, **for this training only**: another training of the same method has "
        "another error, and how much it differs is not known from one."
    )


def _int8(settings: ExportSettings, content: dict) -> str:
    head = ["runtime", "what is in int8", "validation error", "loss"]
    rows = [
        [
            RUNTIME[runtime],
            one["recipe"] + (" (kept)" if one["kept"] else ""),
            f"{one['validation_error']:.3f}",
            f"{100 * one['loss']:+.2f} %",
        ]
        for runtime, tried in content["quantisation"].items()
        for one in tried
    ]
    kept = [one for tried in content["quantisation"].values() for one in tried if one["kept"]]
    text = (
        "Activations u8, weights s8 per output channel. Tried in this order on the validation subjects, until one "
        f"loses at most {100 * settings.tolerance:g} %; else the best is kept."
    )
    if max(one["loss"] for one in kept) > settings.tolerance:
        text += " **The best that was found loses more.**"
    if any(one["recipe"].startswith(TUNED) for one in kept):
        text += " A fine-tuned network was trained for longer than the one in fp32, and may be the better for it."
    return f"{_wrapped(text)}\n\n{_table(head, rows)}"


def _cost(content: dict) -> str:
    cost = content["cost"]
    return f"{cost['params']:,} parameters, {cost['macs'] / 1e6:.1f} M multiply-adds for one sample. File sizes: above."


def _how(content: dict) -> str:
    views, height, width = content["input"]
    example = f"""\
    ```python
    import numpy, onnxruntime
    session = onnxruntime.InferenceSession("model.onnx")
    pixels = numpy.zeros((1, {views}, {height}, {width}), numpy.uint8)  # your patches
    image = (pixels.astype(numpy.float32) / 255 - {content["mean"]!r}) / {content["std"]!r}
    gaze = session.run(None, {{"image": image.astype(numpy.float32)}})[0] * {content["target_scale"]!r}
    ```"""
    raw = f"Or without gazepipe:\n\n{textwrap.dedent(example)}"
    if content["units"] != "rad":
        return raw.removeprefix("Or without gazepipe:\n\n")
    commands = "```\ngazepipe video INPUT --bundle THIS_FOLDER --output out.mp4 --csv gaze.csv\n"
    return f"{commands}gazepipe predict IMAGE --bundle THIS_FOLDER\n```\n\nAdd `--int8` for int8. {raw}"


def _interval(low: float | None, high: float | None, form: str, before: str, after: str = "") -> str:
    return "" if low is None or high is None else f"{before}{low:{form}} to {high:{form}}{after}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def _list(items: list[str]) -> str:
    return "\n".join(textwrap.fill(item, 110, initial_indent="- ", subsequent_indent="  ") for item in items)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)
