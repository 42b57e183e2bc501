"""The near-eye tables: error in scene pixels against what a network costs, and what its explanation recommends."""

from pathlib import Path

import numpy as np
import pandas as pd

from gazepipe.common.files import read_json
from gazepipe.common.markdown import count, interval_text, label, table
from gazepipe.dag import paths
from gazepipe.evaluation.metrics import read_predictions
from gazepipe.evaluation.statistics import bootstrap_mean, holm, paired_comparison, seed_spread, subject_means

MEAN, NONE = "mean", "none"
ESTIMATORS = {
    "active_subspace_99": "active subspace, 99 % of the output's variance",
    "participation_ratio": "participation ratio",
    "pca_99": "PCA, 99 % of the embedding's variance",
    "two_nn": "TwoNN (intrinsic dimension)",
    "weights_99": "singular values of the weights, 99 %",
}


def frames(block: dict, root: Path) -> dict[str, pd.DataFrame]:
    """CSV tables by name. `near_eye`: one row per network, errors in px, cost; `near_eye_subjects`: the error of every
    test subject; `near_eye_comparisons`: each shrunk network against the full one and against its twin from scratch.

    `block` is the part of `Plan.block("tables")` that is about gaze points. An error is the mean over subjects of
    each subject's mean over seeds.
    """
    samples = _samples(block, root)
    by = ["dataset", "model", "method", "fold", "seed", "subject"]
    errors = samples.groupby(by, sort=False).error.mean().reset_index()
    return {
        "near_eye": _networks(block, root, samples, errors),
        "near_eye_subjects": _subjects(errors),
        "near_eye_comparisons": _comparisons(block, errors),
    }


def sections(block: dict, found: dict[str, pd.DataFrame], root: Path) -> list[str]:
    """The Markdown of `frames`, and of the explanations below `root`."""
    first = found["near_eye"].iloc[-1]
    profile = read_json(_profile(block, root, first.model, first.method))
    return [
        "## Near-eye: gaze point in the scene image",
        "Error in pixels of the scene image on subjects never trained on: mean over subjects [95 % bootstrap interval],"
        " ± standard deviation over seeds, and median over images. *From scratch*: the same small network, trained on"
        " the labels alone for as long as the full one.",
        table(_networks_text(found["near_eye"])),
        f"Eager PyTorch on {profile['machine']['cpu']}, {profile['threads']} thread(s), every core held while timing."
        " FLOPs are multiply-adds of one sample of four images.",
        *_comparisons_text(found["near_eye_comparisons"]),
        "Error of every test subject (px):",
        table(_subjects_text(found["near_eye_subjects"])),
        *_explanations(block, root),
    ]


def _samples(block: dict, root: Path) -> pd.DataFrame:
    """Error in px of every test image: dataset, model, method, fold, seed, subject, error."""
    parts = []
    networks = [(n["model"], n["method"], seed) for n in block["networks"] for seed in block["seeds"]]
    for dataset, summary in block["datasets"].items():
        for fold in summary["folds"]:
            for model, method, seed in [(MEAN, NONE, 0), *networks]:
                path = paths.prediction(str(root), dataset, model, method, fold, seed, dataset)
                rows = read_predictions(path)
                error = np.hypot(rows.x_pred - rows.x, rows.y_pred - rows.y)
                names = {"dataset": dataset, "model": model, "method": method, "fold": fold, "seed": seed}
                parts.append(pd.DataFrame({**names, "subject": rows.subject, "error": error}))
    return pd.concat(parts, ignore_index=True)


def _networks(block: dict, root: Path, samples: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (dataset, model, method), group in errors.groupby(["dataset", "model", "method"], sort=False):
        own = samples[(samples.dataset == dataset) & (samples.model == model) & (samples.method == method)]
        subjects = subject_means(group)
        low, high = bootstrap_mean(subjects.to_numpy(), **block["statistics"])
        rows.append(
            {
                "dataset": dataset,
                "model": model,
                "method": method,
                "error_px": subjects.mean(),
                "low_px": low,
                "high_px": high,
                "median_px": own.error.median(),
                "seed_std_px": seed_spread(group),
                "n_subjects": len(subjects),
                **(_cost(block, root, dataset, model, method) if model != MEAN else {}),
            }
        )
    return pd.DataFrame(rows)


def _cost(block: dict, root: Path, dataset: str, model: str, method: str) -> dict:
    size = read_json(_profile(block, root, model, method))["sizes"]["run"]
    single = next(row for row in size["rows"] if row["batch"] == min(row["batch"] for row in size["rows"]))
    fold, seed = block["datasets"][dataset]["folds"][0], block["seeds"][0]
    weights = Path(paths.run_folder(str(root), dataset, model, method, fold, seed)) / "model.safetensors"
    return {
        "params": size["params"],
        "first_fc_params": size.get("first_fc_params", np.nan),  # a network of one's own has no such layer
        "macs": size["macs"],
        "file_kb": weights.stat().st_size / 1024,
        "batch": single["batch"],
        "latency_ms": single["latency_ms"],
    }


def _profile(block: dict, root: Path, model: str, method: str) -> str:
    return paths.profile(str(root), model, block["methods"][method]["profiled"])


def _subjects(errors: pd.DataFrame) -> pd.DataFrame:
    by = ["dataset", "model", "method", "subject"]
    return errors.groupby(by, sort=False).error.mean().rename("error_px").reset_index()


def _comparisons(block: dict, errors: pd.DataFrame) -> pd.DataFrame:
    """Relative difference of the error in per cent, paired over subjects: dataset, model, method, baseline,
    difference_percent, low_percent, high_percent, p_wilcoxon, p_holm, n_subjects."""
    rows = []
    for (dataset, model), group in errors[errors.model != MEAN].groupby(["dataset", "model"], sort=False):
        subjects = {method: subject_means(part) for method, part in group.groupby("method")}
        for method, baseline in _pairs(block):
            if method in subjects and baseline in subjects:
                result = paired_comparison(subjects[method], subjects[baseline], **block["statistics"])
                share = 100 / subjects[baseline].mean()
                names = {"dataset": dataset, "model": model, "method": method, "baseline": baseline}
                percent = {f"{n}_percent": share * result[n] for n in ("difference", "low", "high")}
                rest = {n: result[n] for n in ("p_wilcoxon", "n_subjects")}
                rows.append({**names, **percent, **rest})
    columns = ["dataset", "model", "method", "baseline", "difference_percent", "low_percent", "high_percent"]
    frame = pd.DataFrame(rows, columns=[*columns, "p_wilcoxon", "n_subjects"])
    frame.insert(len(columns) + 1, "p_holm", holm(frame.p_wilcoxon.to_numpy()))
    return frame


def _pairs(block: dict) -> list[tuple[str, str]]:
    """A method against the one that it starts from, and against the same network from scratch."""
    methods = block["methods"]
    to_parent = [(name, entry["parent"]) for name, entry in methods.items() if entry["parent"]]
    to_twin = [(entry["shape"], name) for name, entry in methods.items() if entry["shape"]]
    return to_parent + to_twin


def _networks_text(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame([_network_text(row) for row in frame.itertuples()])


def _network_text(row: tuple) -> dict:
    plain = row.model == MEAN
    spread = "" if pd.isna(row.seed_std_px) else f" ± {row.seed_std_px:.2f}"
    return {
        "Model": "*predict the mean*" if plain else label(row.model, row.method),
        "Error (px)": f"{row.error_px:.2f}{spread}{interval_text(row.low_px, row.high_px, '.2f')}",
        "Median (px)": f"{row.median_px:.2f}",
        "Params": "" if plain else count(row.params),
        "of these in the first FC": "" if pd.isna(row.first_fc_params) else count(row.first_fc_params),
        "FLOPs": "" if plain else count(row.macs),
        "File (kB)": "" if plain else f"{row.file_kb:.0f}",
        "Latency, batch 1 (ms)": "" if plain else f"{row.latency_ms:.2f}",
    }


def _comparisons_text(frame: pd.DataFrame) -> list[str]:
    if frame.empty:
        return []
    shown = pd.DataFrame(
        {
            "Model": [label(row.model, row.method) for row in frame.itertuples()],
            "Against": [label(row.model, row.baseline) for row in frame.itertuples()],
            "Difference of the error (%)": [
                f"{row.difference_percent:+.1f}{interval_text(row.low_percent, row.high_percent, '+.1f')}"
                for row in frame.itertuples()
            ],
            "p (Holm)": ["" if pd.isna(p) else f"{p:.3f}" for p in frame.p_holm],
            "Subjects": frame.n_subjects,
        }
    )
    return ["Paired over subjects; negative is better:", table(shown)]


def _subjects_text(frame: pd.DataFrame) -> pd.DataFrame:
    wide = frame.pivot_table(index=["model", "method"], columns="subject", values="error_px", sort=False)
    names = ["*predict the mean*" if model == MEAN else label(model, method) for model, method in wide.index]
    return pd.concat([pd.Series(names, name="Model"), wide.reset_index(drop=True)], axis=1)


def _explanations(block: dict, root: Path) -> list[str]:
    if not block["explained"]:
        return []
    widths, dimensions = [], {name: {"Effective dimension by": text} for name, text in ESTIMATORS.items()}
    for run in block["explained"]:
        folder = Path(paths.explanation(str(root), **run)[0]).parent
        name = f"{label(run['model'], run['method'])}, seed {run['seed']}"
        found = read_json(folder / "width.json")
        widths.append(
            {
                "Run": name,
                "Low rank": str(found["low_rank"]),
                "Dropped to": str(found["dropped"]),
                "Full network, validation (px)": f"{found['full_error_px']:.2f}",
            }
        )
        for estimator, value in read_json(folder / "dimension.json")["estimates"].items():
            dimensions[estimator][name] = f"{value:.1f}"
    folder = Path(paths.explanation(str(root), **block["explained"][0])[0]).parent.relative_to(root)
    return [
        "### How wide must the embedding be?",
        "The smallest width whose error on the validation subjects, after a short recovery of the layers behind the"
        f" towers, stays within the tolerance. Figures: [error against width]({folder}/width.png),"
        f" [importance]({folder}/importance.png),"
        f" [sweep]({folder}/sweep.png), [heat maps]({folder}/heatmaps.png), [sanity]({folder}/sanity.png).",
        table(pd.DataFrame(widths)),
        table(pd.DataFrame(dimensions.values())),
        *_sanity(root / folder),
        *_over_seeds(block, root),
    ]


def _sanity(folder: Path) -> list[str]:
    """Whether the heat maps say anything about the network, in the words of the explanation."""
    verdict = read_json(folder / "explain.json")["heat maps"]["sanity"]["verdict"]
    return [f"Sanity check of the heat maps (weights randomised, Adebayo et al. 2018): {verdict}"] if verdict else []


def _over_seeds(block: dict, root: Path) -> list[str]:
    if len(block["seeds"]) == 1:
        return []
    run = {name: value for name, value in block["explained"][0].items() if name != "seed"}
    runs = pd.read_csv(paths.seed_comparison(str(root), **run)[0])
    agreement = runs.groupby("importance", sort=False).spectrum.mean()
    cells = {"Importance by": agreement.index, "Agreement of the sorted shares": agreement.map("{:.3f}".format)}
    return [
        "Over seeds the dimensions are others, so their rankings cannot agree; how the importance is spread over them"
        " can. Mean correlation of the sorted shares between seeds:",
        table(pd.DataFrame(cells)),
    ]
