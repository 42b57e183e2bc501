"""`gazepipe data`: what the catalogue holds, where it lies, what it looks like, and what is wrong with it.

Nothing is written. Folders and names are those of the workflow, so paths are relative to the repository.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from gazepipe.common.files import read_json
from gazepipe.common.progress import track
from gazepipe.config import select
from gazepipe.config.schema import Config, Dataset
from gazepipe.datasets.fetch.receipt import raw_folder
from gazepipe.datasets.layouts.layout import Prepared, reader
from gazepipe.datasets.layouts.manifest import checked_rows
from gazepipe.datasets.layouts.settings import LAYOUTS
from gazepipe.datasets.prepare import expected_subjects
from gazepipe.datasets.settings import Patch
from gazepipe.datasets.store import Store, open_store
from gazepipe.errors import UserError
from gazepipe.geometry import EYE_HEIGHT_PX, EYE_WIDTH_PX

BINS, BAR_WIDTH = 12, 40
SHOWN_FAULTS = 20
FEWEST_IMAGES = 10
LEAST_CONTRAST = 3.0  # grey levels, standard deviation: below it nothing can be seen
LEAST_SPREAD_PX = 5.0
USUAL_PATCHES = {
    "eyes": Patch(),
    "eye": Patch(kind="eye", height=EYE_HEIGHT_PX, width=EYE_WIDTH_PX),
    "near-eye": Patch(kind="near-eye", height=288, width=360),
}
LEAST_SPREAD_DEG = 0.5
WIDEST_DEG = 70.0


@dataclass(frozen=True)
class DataFiles:
    """What a data set leaves: its native folder, the receipt of that, store, rejected images and contact sheet."""

    raw: Path
    receipt: Path
    store: Path
    rejected: Path
    sheet: Path


FilesOf = Callable[[str], DataFiles]
"""What a data set of this name leaves on the disk."""


def listing(config: Config, files: FilesOf) -> str:
    """A table of the catalogue; `*` marks what the benchmark uses."""
    header = ("", "name", "layout", "source", "licence", "subjects", "size", "where", "state")
    rows = [header]
    for name, entry in config.datasets.items():
        chosen = "*" if name in config.benchmark.datasets else ""
        facts = (
            _kind(entry),
            _licence(entry),
            str(entry.subjects),
            _size(config, name, files(name)),
            str(_place(config, name, files(name))),
        )
        rows.append((chosen, name, entry.layout, *facts, _state(config, name, files(name))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def details(config: Config, name: str, files: FilesOf) -> str:
    """All that is known of a data set: its source, and, once it is prepared, its numbers and label histograms."""
    entry = _entry(config, name)
    facts = {
        "layout": entry.layout,
        "source": _kind(entry),
        "licence": _licence(entry),
        **_url_facts(entry),
        "subjects": entry.subjects,
        "folds": f"{len(select.fold_numbers(entry))}, {entry.split.protocol} by {entry.split.by}",
        "size": _size(config, name, files(name)),
        "where": _place(config, name, files(name)),
        "state": _state(config, name, files(name)),
    }
    lines = [name, *(f"  {key:<10}{value}" for key, value in facts.items())]
    store = files(name).store
    if not store.exists():
        return "\n".join([*lines, f"  labels and pictures: prepare it first, with\n    snakemake --cores 2 -- {store}"])
    return "\n".join([*lines, "", *_prepared_facts(config, name, files(name), open_store(store))])


def problems(config: Config, name: str, files: FilesOf) -> Iterator[str]:
    """What is wrong with a data set, one line each: read whole, as `prepare` does, without writing anything."""
    entry = _entry(config, name)
    try:
        folder = _native_folder(config, name, files(name))
        faults = list(_manifest_faults(folder, entry))
        yield from faults
        if faults:
            return
        options = select.layout_options(entry)
        expected = expected_subjects(folder, entry.layout, entry.subjects, options)
        present = reader(entry.layout).subjects(folder, **options)
    except UserError as error:
        yield str(error)
        return
    if set(present) - set(expected):
        others = ", ".join(sorted(set(present) - set(expected))[:3])
        yield f"{folder}: holds {len(present)} subjects, the configuration says {entry.subjects}: leaves out {others}"
    patch = _patch(config, entry)
    labels, seen = [], Counter()
    for subject in track(expected, f"check {name}", unit="subject"):
        try:
            prepared = reader(entry.layout).prepare_subject(folder, subject, patch, **options)
        except UserError as error:
            yield str(error)
            continue
        labels.append(prepared.target)
        seen.update(sha256(image).digest() for image in prepared.image)
        yield from _subject_problems(subject, prepared)
    yield from _label_problems(entry, np.concatenate([np.empty((0, 2)), *labels]))
    copies = sum(count - 1 for count in seen.values())
    if copies:
        yield f"{folder}: {copies} of {sum(seen.values())} patches are copies of others; remove the doubles"
    yield from _store_problems(files(name).store)


# ---- facts


def _entry(config: Config, name: str) -> Dataset:
    if name not in config.datasets:
        raise UserError(f"{name}: is not in the catalogue; it holds {', '.join(config.datasets)}")
    return config.datasets[name]


def _kind(entry: Dataset) -> str:
    return "drawn" if entry.source.drawn else "url" if entry.source.url else "path"


def _licence(entry: Dataset) -> str:
    if entry.source.url:
        return entry.source.url.licence
    return "none needed" if entry.source.drawn else entry.licence or "not stated"


def _url_facts(entry: Dataset) -> dict[str, object]:
    url = entry.source.url
    if url is None:
        return {}
    needed = "not needed" if not url.consent_required else "given" if entry.source.consent else "needed, not given"
    return {
        "consent": needed,
        "terms": url.terms or "-",
        "citation": url.citation or "-",
        "archives": ", ".join(archive.url for archive in url.archives),
    }


def _place(config: Config, name: str, files: DataFiles) -> Path:
    source = config.datasets[name].source
    return Path(source.path).expanduser() if source.path else files.raw


def _size(config: Config, name: str, files: DataFiles) -> str:
    receipt, url = files.receipt, config.datasets[name].source.url
    if receipt.exists():
        return _human(read_json(receipt).get("bytes", 0))
    if url and all(archive.size for archive in url.archives):
        return f"{_human(sum(archive.size or 0 for archive in url.archives))} to load"
    return "-"


def _human(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _state(config: Config, name: str, files: DataFiles) -> str:
    if files.store.exists():
        return "prepared"
    if files.receipt.exists():
        return "fetched"
    if config.datasets[name].source.path:
        return "there" if _place(config, name, files).exists() else "missing"
    return "not fetched"


def _prepared_facts(config: Config, name: str, files: DataFiles, store: Store) -> Iterator[str]:
    counts = sorted(Counter(store.subject.tolist()).values())
    kind = "days" if config.datasets[name].split.by == "day" else "subjects"
    yield f"  {len(store)} images of {len(counts)} {kind}, {counts[0]} to {counts[-1]} each"
    for word, values, unit in _labels(store):
        if not values.any():
            yield f"\n  {word}: not known"
            continue
        yield f"\n  {word}: mean {values.mean():.1f}, standard deviation {values.std():.1f}, in {unit}"
        yield from histogram(values)
    rejected = files.rejected
    if rejected.exists():
        count = len(rejected.read_text(encoding="utf-8").splitlines()) - 1
        yield f"\n  {count} images could not be used: {rejected}"
    sheet = files.sheet
    yield f"  sample pictures: {sheet}" + ("" if sheet.exists() else f" (snakemake --cores 2 -- {sheet})")


def _labels(store: Store) -> Iterator[tuple[str, np.ndarray, str]]:
    """Word, numbers and unit of each column of labels."""
    if store.attrs["units"] == "px":
        yield from ((f"gaze {'xy'[column]}", store.target[:, column], "scene pixels") for column in (0, 1))
        return
    for what, table in (("gaze", store.target), ("head", store.head_pose)):
        yield from ((f"{what} {word}", np.degrees(table[:, k]), "degrees") for k, word in enumerate(("pitch", "yaw")))


def histogram(values: np.ndarray) -> Iterator[str]:
    """Lines of a histogram: the range of each bin, a bar, the count."""
    counts, edges = np.histogram(values, BINS)
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        bar = "#" * round(BAR_WIDTH * count / counts.max())
        yield f"    {low:7.1f} to {high:6.1f}  {bar:<{BAR_WIDTH}} {count}"


# ---- problems


def _native_folder(config: Config, name: str, files: DataFiles) -> Path:
    if files.receipt.exists():
        return raw_folder(files.receipt)
    source, place = config.datasets[name].source, _place(config, name, files)
    if source.path and place.is_dir():
        return place
    if source.path and not place.exists():
        raise UserError(f"{place}: is not there; correct datasets.{name}.source.path")
    raise UserError(f"{name}: is not fetched yet; run snakemake --cores 2 -- {files.receipt}")


def _patch(config: Config, entry: Dataset) -> dict:
    """The data set's patch or the configuration's, or, for a layout that it does not go with, the layout's own."""
    patch, kinds = entry.patch or config.patch, LAYOUTS[entry.layout].patches
    fits = entry.patch or entry.manifest or patch.kind in kinds
    return (patch if fits else USUAL_PATCHES[kinds[0]]).model_dump()


def _manifest_faults(folder: Path, entry: Dataset) -> Iterator[str]:
    """Every faulty row, where `prepare` stops at the first."""
    if entry.manifest is None:
        return
    path = folder / entry.manifest.file
    faults = [row for row in checked_rows(path, entry.manifest.model_dump(exclude_none=True)) if isinstance(row, str)]
    for fault in faults[:SHOWN_FAULTS]:
        yield f"{path}: {fault}"
    if len(faults) > SHOWN_FAULTS:
        yield f"{path}: {len(faults) - SHOWN_FAULTS} more faulty rows"


def _subject_problems(subject: str, prepared: Prepared) -> Iterator[str]:
    for frame, reason in prepared.rejected:
        yield f"{prepared.place / frame}: {reason}"
    if len(prepared.frame) < FEWEST_IMAGES:
        yield f"{prepared.place}: only {len(prepared.frame)} usable images of subject {subject}"
    contrast = prepared.image.reshape(len(prepared.image), -1).std(axis=1)
    flat = [frame for frame, level in zip(prepared.frame, contrast, strict=True) if level < LEAST_CONTRAST]
    if flat:
        yield f"{prepared.place}: {len(flat)} images of {subject} have almost no contrast (first: {flat[0]})"


def _label_problems(entry: Dataset, target: np.ndarray) -> Iterator[str]:
    """Of all labels [n, 2] (rad or px) together: what the single ones do not show."""
    if len(target) < FEWEST_IMAGES:
        return
    if entry.task == "point":
        for axis, spread in zip("xy", target.std(axis=0), strict=True):
            if spread < LEAST_SPREAD_PX:
                yield f"gaze {axis} hardly varies: {spread:.2f} px standard deviation"
        return
    degrees = np.degrees(target)
    for column, word in enumerate(("pitch", "yaw")):
        spread, widest = degrees[:, column].std(), np.abs(degrees[:, column]).max()
        if spread < LEAST_SPREAD_DEG:
            hint = ""
            if entry.manifest and entry.manifest.units == "degrees" and widest < np.pi / 2:
                hint = "; are they radians?"
            yield f"gaze {word} hardly varies: {spread:.2f} degrees standard deviation{hint}"
        if widest > WIDEST_DEG:
            yield f"gaze {word} reaches {widest:.0f} degrees, farther than people look before a camera; check the units"


def _store_problems(path: Path) -> Iterator[str]:
    if path.exists():
        try:
            open_store(path)
        except UserError as error:
            yield str(error)
