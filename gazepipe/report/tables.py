"""Benchmark, Cross-dataset, Inference speed and Near-eye: from predictions and profiles to CSV and Markdown.

The unit of replication is the subject: seeds (and, across data sets, the networks of the folds) are averaged within a
subject first, an error is the mean over subjects, and the spread is the standard deviation over folds.
"""

from pathlib import Path

import pandas as pd

from gazepipe.common.files import atomic, read_json, write_text
from gazepipe.dag import paths
from gazepipe.evaluation.metrics import per_subject_errors, read_predictions
from gazepipe.evaluation.statistics import bootstrap_mean, holm, paired_comparison, seed_spread, subject_means
from gazepipe.near_eye import tables as near_eye
from gazepipe.report import compression, deployed
from gazepipe.report.markdown import angle_sections, page
from gazepipe.report.pareto import pareto

MEAN, NONE = "mean", "none"
ROW = ["model", "method"]


def write_tables(block: dict, out: Path) -> None:
    """Write `out` (Markdown) and the CSV files in `tables/` beside it from the results below the same folder.

    `block` is what `Plan.block("tables")` gives. Raises UserError for a prediction or profile that is missing or
    damaged.
    """
    root = out.parent
    angles, points = of_task(block, "angles"), of_task(block, "point")
    frames, sections = {}, []
    if angles["datasets"]:
        errors = collect_errors(angles, root)
        frames |= {
            "benchmark": benchmark(errors),
            "cross_dataset": cross_dataset(errors),
            "efficiency": efficiency(angles, root, "paper"),
            "efficiency_run_size": efficiency(angles, root, "run"),
            "comparisons": comparisons(errors, angles),
        }
        profile = read_json(_profiles(angles, root)[0][0])
        sections += angle_sections(angles, frames, intervals(errors, angles), profile)
        pruned = compression.frame(errors, angles, root)
        used = (angles["methods"][network["method"]] for network in angles["networks"])
        frames |= {"compression": pruned} if any(method["structural"] for method in used) else {}
        sections += compression.sections(angles, pruned, root)
    if points["datasets"]:
        frames |= near_eye.frames(points, root)
        sections += near_eye.sections(points, frames, root)
    if block["deployed"]:
        frames["deployed"] = deployed.frame(block, root)
        sections += deployed.sections(frames["deployed"], root)
        for dataset, rows in frames["deployed"].groupby("dataset"):
            pareto(rows, Path(paths.pareto(str(root), dataset)))
    for name, frame in frames.items():
        with atomic(root / "tables" / f"{name}.csv") as partial:
            frame.to_csv(partial, index=False, float_format="%.4f")
    write_text(out, page(block, sections))


def of_task(block: dict, task: str) -> dict:
    """The block with the data sets, models and networks of one task only."""
    names = {name for name, model in block["models"].items() if model["task"] == task}
    return {
        **block,
        "datasets": {name: entry for name, entry in block["datasets"].items() if entry["task"] == task},
        "models": {name: entry for name, entry in block["models"].items() if name in names},
        "networks": [network for network in block["networks"] if network["model"] in names],
    }


def collect_errors(block: dict, root: Path) -> pd.DataFrame:
    """Error (degrees or pixels) of every subject in every prediction file: columns train, model, method, fold, seed,
    test, subject, error."""
    rows = []
    for train, model, method, fold, seed, test in predictions(block):
        path = paths.prediction(str(root), train, model, method, fold, seed, test)
        errors = per_subject_errors(read_predictions(path))
        rows += [(train, model, method, fold, seed, test, str(s), e) for s, e in errors.items()]
    columns = ["train", "model", "method", "fold", "seed", "test", "subject", "error"]
    return pd.DataFrame(rows, columns=columns)


def predictions(block: dict) -> list[tuple]:
    """(train, model, method, fold, seed, test) of every prediction file."""
    return [
        (train, model, method, fold, seed, test)
        for train, summary in block["datasets"].items()
        for model, method, seeds in _rows(block)
        for fold in summary["folds"]
        for seed in seeds
        for test in summary["tests"]
    ]


def _rows(block: dict) -> list[tuple[str, str, list[int]]]:
    networks = [(network["model"], network["method"], block["seeds"]) for network in block["networks"]]
    return [(MEAN, NONE, [0]), *networks]


def benchmark(errors: pd.DataFrame) -> pd.DataFrame:
    """In-dataset error: dataset, model, method, error_deg, std_deg (over folds), n_subjects."""
    own = errors[errors.train == errors.test].rename(columns={"train": "dataset"})
    return _summary(own, ["dataset", *ROW])


def cross_dataset(errors: pd.DataFrame) -> pd.DataFrame:
    """Error on the data set not trained on: train, test, model, method, error_deg, std_deg, n_subjects."""
    return _summary(errors[errors.train != errors.test], ["train", "test", *ROW])


def _summary(errors: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    rows = []
    for names, group in errors.groupby(by, sort=False):
        subjects = subject_means(group)
        folds = group.groupby(["fold", "subject"]).error.mean().groupby("fold").mean()
        rows.append((*names, subjects.mean(), folds.std(ddof=1), len(subjects)))
    return pd.DataFrame(rows, columns=[*by, "error_deg", "std_deg", "n_subjects"])


def intervals(errors: pd.DataFrame, block: dict) -> pd.DataFrame:
    """95 % bootstrap interval over subjects of every error, and the spread over seeds: train, test, model, method,
    low_deg, high_deg, seed_std_deg."""
    rows = [
        (*names, *bootstrap_mean(subject_means(group).to_numpy(), **block["statistics"]), seed_spread(group))
        for names, group in errors.groupby(["train", "test", *ROW], sort=False)
    ]
    return pd.DataFrame(rows, columns=["train", "test", *ROW, "low_deg", "high_deg", "seed_std_deg"])


def efficiency(block: dict, root: Path, size: str) -> pd.DataFrame:
    """Cost and speed: model, method, params, macs, runtime, batch, images_per_second, latency_ms."""
    rows = []
    for path, network in _profiles(block, root):
        profile = read_json(path)["sizes"].get(size)
        if profile is None:
            continue  # a pruned network's shape is that of its run
        names = {"model": network["model"], "method": network["method"]}
        rows += [{**names, "params": profile["params"], "macs": profile["macs"], **row} for row in profile["rows"]]
    columns = ["model", "method", "params", "macs", "runtime", "batch", "images_per_second", "latency_ms"]
    return pd.DataFrame(rows)[columns]


def _profiles(block: dict, root: Path) -> list[tuple[str, dict]]:
    methods = block["methods"]
    return [
        (paths.profile(str(root), network["model"], methods[network["method"]]["profiled"]), network)
        for network in block["networks"]
    ]


def comparisons(errors: pd.DataFrame, block: dict) -> pd.DataFrame:
    """Each method against the first one listed, paired over subjects: train, test, model, method, baseline,
    difference_deg, low_deg, high_deg (95 % bootstrap interval), p_wilcoxon, p_holm (over the table), n_subjects."""
    baseline, *others = block["methods"]
    rows = []
    networks = errors[errors.model != MEAN]
    for (train, test, model), group in networks.groupby(["train", "test", "model"], sort=False):
        subjects = {name: subject_means(part) for name, part in group.groupby("method")}
        for method in others if baseline in subjects else []:
            if method not in subjects:
                continue
            result = paired_comparison(subjects[method], subjects[baseline], **block["statistics"])
            rows.append(
                {
                    "train": train,
                    "test": test,
                    "model": model,
                    "method": method,
                    "baseline": baseline,
                    "difference_deg": result["difference"],
                    "low_deg": result["low"],
                    "high_deg": result["high"],
                    "p_wilcoxon": result["p_wilcoxon"],
                    "n_subjects": result["n_subjects"],
                }
            )
    columns = ["train", "test", "model", "method", "baseline", "difference_deg", "low_deg", "high_deg"]
    frame = pd.DataFrame(rows, columns=[*columns, "p_wilcoxon", "n_subjects"])
    frame.insert(len(columns) + 1, "p_holm", holm(frame.p_wilcoxon.to_numpy()))
    return frame
