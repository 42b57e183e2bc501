"""Exported networks: the error through every file over all folds and seeds, beside its speed and size."""

import numpy as np
import pandas as pd

from gazepipe.common.files import read_json
from gazepipe.common.markdown import Block, Notes, count, label
from gazepipe.errors import UserError
from gazepipe.evaluation.comparisons import (
    PERCENT,
    Network,
    between,
    comparison_cells,
    corrected,
    legend,
    same_runs,
)
from gazepipe.evaluation.means import INTERVAL, introduction, mean_columns, mean_text
from gazepipe.evaluation.results import Results
from gazepipe.evaluation.sentences import NAMES, sentences

VARIANT = ["runtime", "precision"]
EAGER = ("eager", "fp32")
RUNTIMES = {"eager": "PyTorch, eager", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
KEPT = ("params", "macs", "bytes", "units", "batch", "latency_ms", "latency_ms_p95", "images_per_second", "ratio")
COMPARED = ["dataset", "model", "method", *VARIANT, "against", "change"]
EAGER_FILE = "the same network in PyTorch, eager"
CHANGES = {"int8": "int8 alone", "all": "in all"}
"""What a comparison is of, and how the page says it."""

Variant = tuple[str, str]
"""Runtime and precision."""


def deployed(results: Results) -> pd.DataFrame:
    """One row per data set, network, runtime, precision and batch size.

    Columns: dataset, network, model, method, runtime, precision, those of `speed` in KEPT, threads; error, low, high
    (mean over the test subjects of all folds, seeds averaged within a subject, 95 % interval), n_subjects, n_seeds,
    reason; is_reference (the first network in eager PyTorch).
    """
    rows = []
    for dataset, pairs in results.settings.deployed.items():
        means = {
            (network, variant): mean_columns(errors, "", network)
            for network in pairs
            for variant, errors in _variants(results, dataset, network).items()
        }
        speed = pd.read_csv(results.file("speed", "table", dataset=dataset))
        for row in speed[speed.network != "reference"].to_dict("records"):
            model, _, method = row["network"].partition("/")
            variant = (row["runtime"], row["precision"])
            rows.append(
                {
                    **{"dataset": dataset, "network": label(model, method), "model": model, "method": method},
                    **{name: row[name] for name in (*VARIANT, *KEPT, "threads")},
                    **means[(model, method), variant],
                    "is_reference": ((model, method), variant) == (pairs[0], EAGER),
                }
            )
    return pd.DataFrame(rows)


def deployed_comparisons(results: Results) -> pd.DataFrame:
    """What int8 alone costs, each network against itself in eager PyTorch; and what there is in all, each file of a
    network against the first network in eager PyTorch: COMPARED and `evaluation.comparisons.columns`, in percent.

    int8 is compared run by run: see `evaluation.comparisons.same_runs`. Files in fp32 predict what PyTorch does, so
    that against their own network there is nothing to compare.
    """
    rows = []
    for dataset, pairs in results.settings.deployed.items():
        networks = {network: _variants(results, dataset, network) for network in pairs}
        for network, variants in networks.items():
            for variant in variants:
                names = dict(zip(COMPARED, (dataset, *network, *variant), strict=False))
                rows += [{**names, **found} for found in _changes(results, networks, network, variant)]
    return corrected(rows, COMPARED, PERCENT)


def _changes(
    results: Results, networks: dict[Network, dict[Variant, pd.DataFrame]], network: Network, variant: Variant
) -> list[dict]:
    """The comparisons of one file; those of the first network in all are those of int8 alone."""
    mine, first, settings = networks[network][variant], next(iter(networks)), results.settings
    found = []
    if variant[1] == "int8":
        names = (f"{label(*network)}, {RUNTIMES[variant[0]]}, int8", label(*network))
        change = same_runs(mine, networks[network][EAGER], PERCENT, settings.statistics, names=names)
        found.append({"against": "/".join(network), "change": "int8", **change})
    if network != first:
        change = between(mine, networks[first][EAGER], network, first, PERCENT, settings)
        found.append({"against": "/".join(first), "change": "all", **change})
    return found


def _variants(results: Results, dataset: str, network: Network) -> dict[Variant, pd.DataFrame]:
    """By runtime and precision, the errors of a network through that file: fold, seed, subject, error."""
    parts = []
    names = {"dataset": dataset, "model": network[0], "method": network[1]}
    for fold in results.settings.datasets[dataset].folds:
        for seed in results.settings.seeds:
            path = results.file("export_errors", "errors", **names, fold=fold, seed=seed)
            try:
                errors = pd.read_csv(path, dtype={"subject": str})[[*VARIANT, "subject", "error"]]
            except (OSError, ValueError, KeyError) as error:
                raise UserError(
                    f"{path}: cannot be read ({str(error).splitlines()[0]}); delete it, run again"
                ) from None
            if not np.isfinite(pd.to_numeric(errors["error"], errors="coerce")).all():
                raise UserError(f"{path}: holds errors that are no finite numbers; delete it, run again")
            if errors.duplicated([*VARIANT, "subject"]).any():
                raise UserError(f"{path}: holds several errors of one subject; delete it, run again")
            if EAGER not in set(zip(errors["runtime"], errors["precision"], strict=True)):
                raise UserError(f"{path}: holds no errors of eager PyTorch; delete it, run again")
            parts.append(errors.assign(fold=fold, seed=seed))
    return dict(list(pd.concat(parts, ignore_index=True).groupby(VARIANT, sort=False)))


def deployed_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One table per data set, with its figure."""
    parts = ["## Deployed"]
    for dataset, rows in frame.groupby("dataset", sort=False):
        facts = read_json(results.file("speed", "machine", dataset=dataset))
        reference = "×".join(map(str, facts["reference"]["input"]))
        notes = Notes()
        cells = [_cells(group, notes) for _, group in rows.groupby(["network", *VARIANT], sort=False)]
        parts += [
            f"Trained and tested on {dataset} ({rows.n_subjects.iloc[0]} test subjects of all folds), **through the"
            f" exported files**. Timed in one interleaved run on {facts['machine']['cpu']}, {facts['threads']}"
            f" thread(s); × is the speed over eager fp32 ResNet-18 at {reference}, timed in the same run."
            f" Errors with their {INTERVAL}.",
            *introduction(rows, set()),
            pd.DataFrame(cells),
            *notes.paragraphs(),
            f"![Error against latency and size]({results.figure(f'pareto/{dataset}')})",
        ]
    return parts


def deployed_comparisons_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One row per file and change."""
    if frame.empty:
        return []
    notes = Notes()
    names = {
        **({"Trained on": frame["dataset"]} if frame["dataset"].nunique() > 1 else {}),
        "Model": [label(row.model, row.method) for row in frame.itertuples()],
        "Runtime": [_runtime_text(row.runtime, row.precision) for row in frame.itertuples()],
        "Change": frame["change"].map(CHANGES),
        "Against": [f"{label(*against.split('/'))}, eager" for against in frame["against"]],
    }
    return [
        "### What it costs to deploy",
        "Changes of the error in percent: of *int8 alone* against the same network in eager PyTorch, and *in all*"
        " against the first network in eager PyTorch. For int8 alone each run is compared with itself, subject by"
        " subject: the chance of its training is in both errors and cancels.",
        legend(frame, PERCENT, results.settings.statistics),
        pd.DataFrame({**names, **comparison_cells(frame, PERCENT, notes)}),
        *notes.paragraphs(),
    ]


def deployed_comparisons_sentences(results: Results, frame: pd.DataFrame) -> list[Block]:
    """What the comparisons say; nothing without any."""
    if frame.empty:
        return []
    names = pd.DataFrame([_names(row) for row in frame.itertuples()], index=frame.index)
    found = names.join(frame.drop(columns=[*names], errors="ignore"))
    return ["### Exported networks", *sentences(found, PERCENT, results.settings.statistics)]


def _names(row: tuple) -> dict[str, str]:
    """How sentences call what is compared: `evaluation.sentences.NAMES`."""
    network, place = label(row.model, row.method), f"on {row.dataset}"
    if row.change == "int8":
        names = (f"int8 in {RUNTIMES[row.runtime]}", network, place, EAGER_FILE, EAGER_FILE, "")
    else:
        first = f"{label(*row.against.split('/'))} in {RUNTIMES['eager']}"
        names = (f"{network} in {_runtime_text(row.runtime, row.precision)}", "", place, first, first, "")
    return dict(zip(NAMES, names, strict=True))


def _runtime_text(runtime: str, precision: str) -> str:
    return f"{RUNTIMES[runtime]}{'' if runtime == 'eager' else f', {precision}'}"


def _cells(group: pd.DataFrame, notes: Notes) -> dict[str, str]:
    single, most = group.sort_values("batch").iloc[0], group.sort_values("batch").iloc[-1]
    unit = {"deg": "degrees", "px": "px"}[single.units]
    return {
        "Model": single.network,
        "Runtime": _runtime_text(single.runtime, single.precision),
        "Params": count(single.params),
        "FLOPs": count(single.macs),
        "Size (MB)": f"{single.bytes / 1e6:.2f}",
        f"Error ({unit})": mean_text(single, "", np.nan, notes),
        f"Latency, batch {single.batch}: median, p95 (ms)": f"{single.latency_ms:.2f}, {single.latency_ms_p95:.2f}",
        f"×, batch {single.batch}": f"{single.ratio:.1f}",
        f"Throughput, batch {most.batch} (frames/s)": f"{most.images_per_second:.0f}",
    }
