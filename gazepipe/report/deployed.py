"""Exported networks: the error through every file over all folds and seeds, beside its speed and size."""

import pandas as pd

from gazepipe.common.files import read_json
from gazepipe.common.markdown import count, interval_text, label, percent_text, table
from gazepipe.errors import UserError
from gazepipe.evaluation.results import Results
from gazepipe.evaluation.settings import Statistics
from gazepipe.evaluation.statistics import bootstrap_mean, subject_means
from gazepipe.report.compression import CHANGES, relative_change

VARIANT = ["runtime", "precision"]
RUNTIMES = {"eager": "PyTorch, eager", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
KEPT = ("params", "macs", "bytes", "units", "batch", "latency_ms", "latency_ms_p95", "images_per_second", "ratio")


def deployed(results: Results) -> pd.DataFrame:
    """One row per data set, network, runtime, precision and batch size.

    Columns: dataset, network, model, method, runtime, precision, those of `speed` in KEPT, threads; error, low, high
    (mean over the test subjects of all folds, seeds averaged within a subject, 95 % bootstrap interval), n_subjects,
    is_reference; change_percent with low_percent and high_percent against the same network's eager error, and the same
    with `total_` before them against the first network's.
    """
    statistics, rows = results.settings.statistics, []
    for dataset, pairs in results.settings.deployed.items():
        subjects = {pair: _subjects(results, dataset, *pair) for pair in pairs}
        speed = pd.read_csv(results.file("speed", "table", dataset=dataset))
        reference = subjects[pairs[0]]["eager", "fp32"]
        for row in speed[speed.network != "reference"].to_dict("records"):
            model, method = row["network"].split("/")
            variants = subjects[model, method]
            mine = variants[row["runtime"], row["precision"]]
            low, high = bootstrap_mean(mine.to_numpy(), **dict(statistics))
            own = _changes(mine, variants["eager", "fp32"], statistics)
            total = _changes(mine, reference, statistics)
            rows.append(
                {
                    **{"dataset": dataset, "network": label(model, method), "model": model, "method": method},
                    **{name: row[name] for name in (*VARIANT, *KEPT, "threads")},
                    **{"error": mine.mean(), "low": low, "high": high, "n_subjects": len(mine)},
                    "is_reference": (model, method) == pairs[0] and row["runtime"] == "eager",
                    **own,
                    **{f"total_{name}": value for name, value in total.items()},
                }
            )
    return pd.DataFrame(rows)


def _changes(mine: pd.Series, theirs: pd.Series, statistics: Statistics) -> dict:
    found = relative_change(mine, theirs, statistics)
    return {name: found[name] for name in CHANGES[:3]}


def _subjects(results: Results, dataset: str, model: str, method: str) -> dict[tuple[str, str], pd.Series]:
    """By runtime and precision, the error of each subject, a mean over seeds."""
    parts = []
    network = {"dataset": dataset, "model": model, "method": method}
    for fold in results.settings.datasets[dataset].folds:
        for seed in results.settings.seeds:
            path = results.file("export_errors", "errors", **network, fold=fold, seed=seed)
            try:
                parts.append(pd.read_csv(path, dtype={"subject": str})[[*VARIANT, "subject", "error"]])
            except (OSError, ValueError, KeyError) as error:
                raise UserError(
                    f"{path}: cannot be read ({str(error).splitlines()[0]}); delete it, run again"
                ) from None
    return {names: subject_means(group) for names, group in pd.concat(parts).groupby(VARIANT, sort=False)}


def deployed_section(results: Results, frame: pd.DataFrame) -> list[str]:
    """One table per data set, with its figure."""
    parts = ["## Deployed"]
    for number, (dataset, rows) in enumerate(frame.groupby("dataset", sort=False)):
        facts = read_json(results.file("speed", "machine", dataset=dataset))
        reference = "×".join(map(str, facts["reference"]["input"]))
        first = rows.iloc[0].network
        parts += [
            f"Trained and tested on {dataset} ({rows.n_subjects.iloc[0]} test subjects of all folds), **through the"
            f" exported files**. Timed in one interleaved run on {facts['machine']['cpu']}, {facts['threads']}"
            f" thread(s); × is the speed over eager fp32 ResNet-18 at {reference}, timed in the same run. Changes of"
            " the error in percent, with 95 % bootstrap intervals over subjects: of int8 alone against the same network"
            f" in eager PyTorch, and in all against {first} in eager PyTorch.",
            table(pd.DataFrame([_cells(group) for _, group in rows.groupby(["network", *VARIANT], sort=False)])),
            f"![Error against latency and size]({results.link('tables', f'pareto{number}')})",
        ]
    return parts


def _cells(group: pd.DataFrame) -> dict[str, str]:
    single, most = group.sort_values("batch").iloc[0], group.sort_values("batch").iloc[-1]
    unit = {"deg": "degrees", "px": "px"}[single.units]
    eager = single.runtime == "eager"
    return {
        "Model": single.network,
        "Runtime": f"{RUNTIMES[single.runtime]}{'' if eager else f', {single.precision}'}",
        "Params": count(single.params),
        "FLOPs": count(single.macs),
        "Size (MB)": f"{single.bytes / 1e6:.2f}",
        f"Error ({unit})": f"{single.error:.2f}{interval_text(single.low, single.high, '.2f')}",
        "int8 alone (%)": percent_text(single) if single.precision == "int8" else "",
        "in all (%)": "" if single.is_reference else percent_text(single, "total_"),
        f"Latency, batch {single.batch}: median, p95 (ms)": f"{single.latency_ms:.2f}, {single.latency_ms_p95:.2f}",
        f"×, batch {single.batch}": f"{single.ratio:.1f}",
        f"Throughput, batch {most.batch} (frames/s)": f"{most.images_per_second:.0f}",
    }
