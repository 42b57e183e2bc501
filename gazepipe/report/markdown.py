"""The Markdown page of tables: what a reader meets first, so it says what was measured on what."""

import pandas as pd

from gazepipe.common.machine import machine, versions
from gazepipe.common.markdown import count, interval_text, label, table
from gazepipe.report import published

REAL_DATA = (
    "*Published by the earlier prototype, measured on **real** Columbia Gaze and MPIIFaceGaze images with other"
    " protocols; shown for orientation, not to be compared with the rows above.*"
)


def page(block: dict, sections: list[str]) -> str:
    """The whole page: what data, the tables, what was run."""
    whole = ["# gazepipe benchmark", _data_note(block), *sections, "## What was run", _what_was_run(block)]
    return "\n\n".join(section for section in whole if section) + "\n"


def angle_sections(block: dict, frames: dict[str, pd.DataFrame], intervals: pd.DataFrame, profile: dict) -> list[str]:
    """The tables of gaze angles. `frames` are the CSV tables by name, `intervals` those of `tables.intervals`,
    `profile` any of the run's profiles (for its machine and threads)."""
    return [
        "## Benchmark",
        "Mean angular error in degrees on subjects never trained on, ± standard deviation over folds,"
        " [95 % bootstrap interval over subjects]. Lower is better.",
        _benchmark(block, frames["benchmark"], intervals),
        REAL_DATA,
        table(published.BENCHMARK),
        *_cross_dataset(block, frames["cross_dataset"], intervals),
        "## Inference speed",
        _speed_note(profile),
        _speed(frames["efficiency"], block, "1×224×224, width 1"),
        _speed_run_size_title(block),
        _speed(frames["efficiency_run_size"], block, None),
        REAL_DATA,
        table(published.INFERENCE_SPEED),
        *_comparisons(frames["comparisons"]),
    ]


def _data_note(block: dict) -> str:
    drawn = [name for name, entry in block["datasets"].items() if entry["drawn"]]
    if not drawn:
        return ""
    names = " and ".join(f"`{name}`" for name in drawn)
    return (
        f"> **Drawn data.** {names} {'is' if len(drawn) == 1 else 'are'} rendered,"
        " not photographed: the numbers show that the pipeline works and how methods rank on drawn faces. They say"
        " nothing about accuracy on real people."
    )


def _cell(row: pd.Series, interval: pd.Series) -> str:
    spread = "" if pd.isna(row.std_deg) else f" ± {row.std_deg:.2f}"
    return f"{row.error_deg:.2f}{spread}{interval_text(interval.low_deg, interval.high_deg, '.2f')}"


def _wide(frame: pd.DataFrame, intervals: pd.DataFrame, columns: dict[tuple[str, str], str]) -> pd.DataFrame:
    """One row per network, one column per (train, test); `frame` has the columns train and test."""
    found = intervals.set_index(["train", "test", "model", "method"])
    rows: dict[tuple[str, str], dict] = {}
    for _, row in frame.iterrows():
        cells = rows.setdefault((row.model, row.method), {"Model": _row_name(row.model, row.method)})
        cells[columns[row.train, row.test]] = _cell(row, found.loc[row.train, row.test, row.model, row.method])
    return pd.DataFrame(rows.values())


def _row_name(model: str, method: str) -> str:
    return "*predict the mean*" if model == "mean" else label(model, method)


def _benchmark(block: dict, frame: pd.DataFrame, intervals: pd.DataFrame) -> str:
    counts = frame.groupby("dataset").n_subjects.first()
    columns = {(name, name): f"{name} ({_tested(counts[name], entry)})" for name, entry in block["datasets"].items()}
    return table(_wide(frame.assign(train=frame.dataset, test=frame.dataset), intervals, columns))


def _tested(count: int, dataset: dict) -> str:
    return f"{count} test {dataset['unit']}{'' if count == 1 else 's'}"


def _cross_dataset(block: dict, frame: pd.DataFrame, intervals: pd.DataFrame) -> list[str]:
    if frame.empty:
        return []
    names = list(block["datasets"])
    columns = {(a, b): f"{a} → {b}" for a in names for b in names if a != b}
    return [
        "## Cross-dataset",
        "Trained on the left data set, tested on every subject of the right one. Degrees; the networks of all folds"
        " are averaged within a subject first, ± is the standard deviation over folds.",
        table(_wide(frame, intervals, columns)),
        REAL_DATA,
        table(published.CROSS_DATASET),
    ]


def _speed_note(profile: dict) -> str:
    return (
        f"Eager PyTorch on {profile['machine']['cpu']}, {profile['threads']} thread(s), every core held while timing;"
        " median latency after warm-up. FLOPs are multiply-adds; params are those that take part in a forward pass."
        " KD and re-birth keep a network's size, so their rows share one measurement; a pruned network has no published"
        " size, only this run's."
    )


def _speed_run_size_title(block: dict) -> str:
    widths = ", ".join(f"{name} at width {entry['width']:g}" for name, entry in block["models"].items())
    patch = next(iter(block["datasets"].values()))["patch"]
    return f"The same at this run's own size, 1×{patch['height']}×{patch['width']} ({widths}):"


def _speed(frame: pd.DataFrame, block: dict, title: str | None) -> str:
    rows: dict[str, dict] = {}
    networks = {name: entry["profiled"] for name, entry in block["methods"].items()}
    for _, row in frame.iterrows():
        if networks[row.method] != row.method and networks[row.method] in networks:
            continue
        made = networks[row.method]
        name = row.model if made == next(iter(networks.values())) else label(row.model, made)
        cells = rows.setdefault(name, {"Model": name, "Params": count(row.params), "FLOPs": count(row.macs)})
        cells[f"Throughput, batch {row.batch} (frames/s)"] = f"{row.images_per_second:.1f}"
        cells[f"Latency, batch {row.batch} (ms)"] = f"{row.latency_ms:.2f}"
    text = table(pd.DataFrame(rows.values()))
    return f"{title}:\n\n{text}" if title else text


def _comparisons(frame: pd.DataFrame) -> list[str]:
    if frame.empty:
        return []
    shown = pd.DataFrame(
        {
            "Trained on": frame.train,
            "Tested on": frame.test,
            "Model": [label(row.model, row.method) for row in frame.itertuples()],
            "Against": [label(row.model, row.baseline) for row in frame.itertuples()],
            "Difference (degrees)": [
                f"{row.difference_deg:+.2f}{interval_text(row.low_deg, row.high_deg, '+.2f')}"
                for row in frame.itertuples()
            ],
            "p (Holm)": ["" if pd.isna(p) else f"{p:.3f}" for p in frame.p_holm],
            "Subjects": frame.n_subjects,
        }
    )
    return [
        "## Does it help? Paired over subjects",
        "Negative is better. 95 % bootstrap interval of the difference; p of the Wilcoxon signed-rank test,"
        " Holm-corrected over this table. With few subjects no p-value can be small: read the interval.",
        table(shown),
    ]


def _held_out(entry: dict) -> str:
    if entry["protocol"] == "given":
        return f"the {entry['unit']}s of the folder val chose the epoch"
    folds = ", ".join(map(str, entry["folds"]))
    held_out = f"{entry['validation']:.0%} of the training {entry['unit']}s held out to choose the epoch"
    return f"folds {folds} of {entry['fold_count']}; {held_out}"


def _patch_text(patch: dict) -> str:
    return f"{patch['kind']}, {patch['height']}×{patch['width']} px"


def _what_was_run(block: dict) -> str:
    lines = [f"- **Run**: {block['run'] or 'default'}"]
    for name, entry in block["datasets"].items():
        lines.append(
            f"- **{name}**: {'drawn' if entry['drawn'] else 'real'}, {entry['subjects']}"
            f" subject{'' if entry['subjects'] == 1 else 's'}; protocol"
            f" {entry['protocol']}, {_held_out(entry)}; the test fold touched once"
        )
    patches = dict.fromkeys(_patch_text(entry["patch"]) for entry in block["datasets"].values())
    lines.append(f"- **Patch**: {'; '.join(patches)}; grayscale")
    epochs = ", ".join(
        f"{label(row['model'], row['method'])} {'/'.join(map(str, row['epochs']))}" for row in block["networks"]
    )
    lines.append(
        f"- **Epochs** (per data set, where they differ): {epochs}; **seeds**: {', '.join(map(str, block['seeds']))}"
    )
    here = machine()
    lines.append(f"- **Machine**: {here['cpu']}, {here['cores']} cores, {here['system']}")
    lines.append("- **Versions**: " + ", ".join(f"{name} {version}" for name, version in versions().items()))
    sources = ", ".join(f"{label(row['model'], row['method'])} `{row['source']}`" for row in block["networks"])
    lines.append(f"- **Fingerprints of the training source**: {sources}")
    return "\n".join(lines)
