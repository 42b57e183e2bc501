"""The near-eye tables: error in scene pixels against what a network costs, and what its explanation recommends.

An error is the mean over subjects of each subject's mean over seeds, its interval over subjects and seeds.
"""

import numpy as np
import pandas as pd

from gazepipe.common.files import read_json
from gazepipe.common.markdown import Block, Notes, count, label
from gazepipe.evaluation.comparisons import PERCENT, compare, comparison_table, legend, pictures, without_control
from gazepipe.evaluation.means import INTERVAL, best, introduction, mean_columns, mean_text
from gazepipe.evaluation.results import Results
from gazepipe.evaluation.sentences import named, sentences
from gazepipe.evaluation.settings import CONTROLS
from gazepipe.evaluation.subjects import subject_errors, subject_tables

ROW = ["dataset", "model", "method"]
ESTIMATORS = {
    "active_subspace_99": "active subspace, 99 % of the output's variance",
    "participation_ratio": "participation ratio",
    "pca_99": "PCA, 99 % of the embedding's variance",
    "two_nn": "TwoNN (intrinsic dimension)",
    "weights_99": "singular values of the weights, 99 %",
}


def near_eye(results: Results) -> pd.DataFrame:
    """One row per network: dataset, model, method; `mean_columns` in px, median_px (over images), seed_std_px; params,
    first_fc_params, macs, file_kb, batch, latency_ms, none of them for the mean."""
    samples = _samples(results).groupby(ROW)
    rows = []
    for names, group in _errors(results).groupby(ROW, sort=False):
        columns = mean_columns(group, "px", names[1:])
        known = not np.isnan(columns["error_px"])
        rows.append(
            {
                **dict(zip(ROW, names, strict=True)),
                **columns,
                "median_px": samples.get_group(names).error.median() if known else np.nan,
                "seed_std_px": seed_spread(group) if known else np.nan,
                **(_cost(results, *names) if names[1] not in CONTROLS else {}),
            }
        )
    return pd.DataFrame(rows)


def near_eye_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One row per network."""
    last = results.settings.networks[-1]
    profile = results.profile(last.model, last.method)
    marked, notes = best(_errors(results), ["dataset"], results.settings), Notes()
    rows = [
        _network_text(
            row, results.row_name(row.model, row.method), notes, (row.dataset, row.model, row.method) in marked
        )
        for row in frame.itertuples()
    ]
    return [
        "## Near-eye: gaze point in the scene image",
        f"Error in pixels of the scene image on subjects never trained on: mean over subjects {INTERVAL},"
        " ± standard deviation over seeds, and median over images. *From scratch*: the same small network, trained on"
        " the labels alone for as long as the full one.",
        *introduction(frame, marked),
        pd.DataFrame(rows),
        *notes.paragraphs(),
        f"Eager PyTorch on {profile['machine']['cpu']}, {profile['threads']} thread(s), every core held while timing."
        " FLOPs are multiply-adds of one sample of four images.",
    ]


def near_eye_comparisons(results: Results) -> pd.DataFrame:
    """Each network against its control, the one that it starts from and its twin from scratch, in percent of the
    other's error: see `evaluation.comparisons`; by dataset."""
    errors = _errors(results)
    return compare(errors[~errors.model.isin(CONTROLS)], ["dataset"], _pairs(results), PERCENT, results.settings)


def near_eye_comparisons_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One row per comparison; nothing where no two networks belong together."""
    if frame.empty:
        return []
    return [
        legend(frame, PERCENT, results.settings.statistics),
        *comparison_table(frame, PERCENT),
        *without_control(results.settings),
        *pictures(results, "forest-near-eye"),
    ]


def near_eye_comparisons_sentences(results: Results, frame: pd.DataFrame) -> list[Block]:
    """What the comparisons say; nothing without any."""
    if frame.empty:
        return []
    return ["### Near-eye", *sentences(named(frame), PERCENT, results.settings.statistics)]


def near_eye_subjects(results: Results) -> pd.DataFrame:
    """The error of every test subject in each run: see `evaluation.subjects.subject_errors`, in px."""
    return subject_errors(_errors(results), "px")


def near_eye_subjects_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One row per subject, one column per network."""
    return subject_tables(frame, "px", results.settings)


def explanations_section(results: Results, frame: None) -> list[Block]:
    """The width that each explained run recommends, the estimates of its dimension, and what both rest on."""
    explained = results.settings.explained
    if not explained:
        return []
    widths = [_width_text(results, run) for run in explained]
    figures = {
        name: results.link("explain", f"{name}_figure", **explained[0])
        for name in ("width", "importance", "sweep", "heatmaps", "sanity")
    }
    return [
        "### How wide must the embedding be?",
        "The smallest width whose error on the validation subjects, after a short recovery of the layers behind the"
        f" towers, stays within the tolerance. Figures: [error against width]({figures['width']}),"
        f" [importance]({figures['importance']}),"
        f" [sweep]({figures['sweep']}), [heat maps]({figures['heatmaps']}), [sanity]({figures['sanity']}).",
        pd.DataFrame(widths),
        _dimensions(results),
        *_sanity(results),
        *_over_seeds(results),
    ]


def _samples(results: Results) -> pd.DataFrame:
    """Error in px of every test image: dataset, model, method, fold, seed, subject, error."""
    return results.samples.rename(columns={"train": "dataset"})


def _errors(results: Results) -> pd.DataFrame:
    """The mean of `_samples` within each subject of each run."""
    return _samples(results).groupby([*ROW, "fold", "seed", "subject"], sort=False).error.mean().reset_index()


def _cost(results: Results, dataset: str, model: str, method: str) -> dict:
    size = results.profile(model, method)["sizes"]["run"]
    single = min(size["rows"], key=lambda row: row["batch"])
    run = {"fold": results.settings.datasets[dataset].folds[0], "seed": results.settings.seeds[0]}
    weights = results.file("train", "weights", dataset=dataset, model=model, method=method, **run)
    return {
        "params": size["params"],
        "first_fc_params": size.get("first_fc_params", np.nan),  # a network of one's own has no such layer
        "macs": size["macs"],
        "file_kb": weights.stat().st_size / 1024,
        "batch": single["batch"],
        "latency_ms": single["latency_ms"],
    }


def _pairs(results: Results) -> list[tuple[str, str]]:
    """A method against its control, the one that it starts from, and the same network from scratch."""
    methods = results.settings.methods
    to_control = [(name, entry.control) for name, entry in methods.items() if entry.control]
    to_parent = [(name, entry.parent) for name, entry in methods.items() if entry.parent]
    to_twin = [(entry.shape, name) for name, entry in methods.items() if entry.shape]
    return list(dict.fromkeys(to_control + to_parent + to_twin))


def seed_spread(errors: pd.DataFrame) -> float:
    """Standard deviation over seeds of the error, each seed's being the mean over its subjects; NaN for a single seed.

    `errors` has one row per subject and run with the columns seed, subject, error (px).
    """
    per_seed = errors.groupby(["seed", "subject"])["error"].mean().groupby("seed").mean()
    return float(per_seed.std(ddof=1))


def _network_text(row: tuple, name: str, notes: Notes, bold: bool) -> dict:
    plain = row.model in CONTROLS
    return {
        "Model": name,
        "Error (px)": mean_text(row, "px", row.seed_std_px, notes, bold),
        "Median (px)": row.median_px,
        "Params": "" if plain else count(row.params),
        "of these in the first FC": "" if pd.isna(row.first_fc_params) else count(row.first_fc_params),
        "FLOPs": "" if plain else count(row.macs),
        "File (kB)": "" if plain else f"{row.file_kb:.0f}",
        "Latency, batch 1 (ms)": "" if plain else f"{row.latency_ms:.2f}",
    }


def _width_text(results: Results, run: dict[str, str]) -> dict[str, str]:
    found = read_json(results.file("explain", "width", **run))
    return {
        "Run": _run_text(run),
        "Low rank": str(found["low_rank"]),
        "Dropped to": str(found["dropped"]),
        "Full network, validation (px)": f"{found['full_error_px']:.2f}",
    }


def _dimensions(results: Results) -> pd.DataFrame:
    """One row per estimator, one column per explained run."""
    rows = {name: {"Effective dimension by": text} for name, text in ESTIMATORS.items()}
    for run in results.settings.explained:
        for estimator, value in read_json(results.file("explain", "dimension", **run))["estimates"].items():
            rows[estimator][_run_text(run)] = f"{value:.1f}"
    return pd.DataFrame(rows.values())


def _run_text(run: dict[str, str]) -> str:
    return f"{label(run['model'], run['method'])}, seed {run['seed']}"


def _sanity(results: Results) -> list[str]:
    """Whether the heat maps say anything about the network, in the words of the first run's explanation."""
    summary = read_json(results.file("explain", "summary", **results.settings.explained[0]))
    verdict = summary["heat maps"]["sanity"]["verdict"]
    return [f"Sanity check of the heat maps (weights randomised, Adebayo et al. 2018): {verdict}"] if verdict else []


def _over_seeds(results: Results) -> list[Block]:
    """How far the first network's explanations agree; nothing with a single seed."""
    if len(results.settings.seeds) == 1:
        return []
    runs = pd.read_csv(results.file("explain_seeds", "agreement", **results.settings.explained[0]))
    agreement = runs.groupby("importance", sort=False).spectrum.mean()
    cells = {"Importance by": agreement.index, "Agreement of the sorted shares": agreement.map("{:.3f}".format)}
    return [
        "Over seeds the dimensions are others, so their rankings cannot agree; how the importance is spread over them"
        " can. Mean correlation of the sorted shares between seeds:",
        pd.DataFrame(cells),
    ]
