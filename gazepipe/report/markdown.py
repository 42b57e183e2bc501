"""The Markdown page of tables, with what was measured, on which data and which machine."""

from gazepipe.common.machine import machine, versions
from gazepipe.common.markdown import Block, label, table
from gazepipe.datasets.settings import Patch
from gazepipe.report.settings import DatasetSummary, TablesSettings

WHAT_WAS_RUN = "What was run"
"""The heading of the last section."""


def page(settings: TablesSettings, said: list[Block], blocks: list[Block]) -> str:
    """The whole page: what data, what the numbers say (`said`), the tables (`blocks`), what was run."""
    found = ["## What the numbers say", *said] if said else []
    sections = [block if isinstance(block, str) else table(block) for block in [*found, *blocks]]
    whole = ["# gazepipe benchmark", _data_note(settings), *sections, f"## {WHAT_WAS_RUN}", _what_was_run(settings)]
    return "\n\n".join(section for section in whole if section) + "\n"


def _data_note(settings: TablesSettings) -> str:
    drawn = [name for name, entry in settings.datasets.items() if entry.drawn]
    if not drawn:
        return ""
    names = " and ".join(f"`{name}`" for name in drawn)
    return (
        f"> **Drawn data.** {names} {'is' if len(drawn) == 1 else 'are'} rendered,"
        " not photographed: the numbers show that the pipeline works and how methods rank on drawn faces. They say"
        " nothing about accuracy on real people."
    )


def _what_was_run(settings: TablesSettings) -> str:
    networks = [(label(network.model, network.method), network) for network in settings.networks]
    patches = dict.fromkeys(_patch_text(entry.patch) for entry in settings.datasets.values())
    epochs = ", ".join(f"{name} {'/'.join(map(str, network.epochs))}" for name, network in networks)
    seeds = ", ".join(map(str, settings.seeds))
    here = machine()
    lines = [
        f"- **Run**: {settings.run or 'default'}",
        *(f"- **{name}**: {_dataset_text(entry)}" for name, entry in settings.datasets.items()),
        f"- **Patch**: {'; '.join(patches)}; grayscale",
        f"- **Epochs** (per data set, where they differ): {epochs}; **seeds**: {seeds}",
        f"- **Machine**: {here['cpu']}, {here['cores']} cores, {here['system']}",
        "- **Versions**: " + ", ".join(f"{name} {version}" for name, version in versions().items()),
        "- **Fingerprints of the training source**: "
        + ", ".join(f"{name} `{network.source}`" for name, network in networks),
    ]
    return "\n".join(lines)


def _dataset_text(entry: DatasetSummary) -> str:
    subjects = f"{entry.subjects} subject{'' if entry.subjects == 1 else 's'}"
    held_out = f"protocol {entry.protocol}, {_held_out(entry)}; the test fold touched once"
    return f"{'drawn' if entry.drawn else 'real'}, {subjects}; {held_out}"


def _held_out(entry: DatasetSummary) -> str:
    if entry.protocol == "given":
        return f"the {entry.unit}s of the folder val chose the epoch"
    folds = ", ".join(map(str, entry.folds))
    held_out = f"{entry.validation:.0%} of the training {entry.unit}s held out to choose the epoch"
    return f"folds {folds} of {entry.fold_count}; {held_out}"


def _patch_text(patch: Patch) -> str:
    return f"{patch.kind}, {patch.height}×{patch.width} px"
