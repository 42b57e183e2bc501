"""The stage `explain`: a near-eye run's weights to what matters in it, and to how narrow it may be."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gazepipe.common.files import atomic, read_json, write_json
from gazepipe.datasets.splits import read_split
from gazepipe.datasets.store import Store, open_store
from gazepipe.models.itracker import ITracker4
from gazepipe.models.weights import load_weights
from gazepipe.near_eye.explain import figures, heatmaps, map_figures
from gazepipe.near_eye.explain.dimension import dimensions
from gazepipe.near_eye.explain.embedding import (
    cached,
    first_weight,
    near_eye,
    sweep,
    thinned,
    tower_features,
    write_embedding,
)
from gazepipe.near_eye.explain.importance import (
    SCORES,
    TOP,
    head_jacobian,
    importances,
    rank_correlation,
    ranking,
    ranks,
    stability,
    top_overlap,
)
from gazepipe.near_eye.explain.width import (
    KINDS,
    Cached,
    Readout,
    best_importance,
    checked_widths,
    choose_width,
    error_curve,
    error_px,
)
from gazepipe.training.device import make_deterministic, resolve_device
from gazepipe.training.samples import Samples, check_images, normalised, samples_of, to_unit

RECOVER_EPOCHS = 30
MOST_SAMPLES = 2000
SANITY_SAMPLES = 2
UNIT = "px"


def explain(block: dict, weights: Path, store: Path, split: Path, out: Path) -> None:
    """Write the folder `out` from a near-eye network: figures, CSVs, `width.json` and `explain.json`, all at once.

    `block` is {"fold", "seed", "device", "threads", "samples": test samples drawn as heat maps, "trees": of the
    random forest, "widths": of the first FC to try, "tolerance": relative loss of validation error at which a width
    still counts as good}, and perhaps "recover_epochs" of each width. What is shown is read from the test subjects
    (at most MOST_SAMPLES of them); what is decided, the width and the dimensions to keep, from the training and
    validation subjects alone. Every file but explain.json, which holds times, is a pure function of the arguments on
    one machine. Raises UserError for weights of another network, a store of another image size, and bad files.
    """
    torch.set_num_threads(block["threads"])
    make_deterministic()
    device = resolve_device(block["device"])
    model, metadata = load_weights(weights)
    model = near_eye(model, weights)
    opened = open_store(store)
    check_images(opened, metadata["model"]["input"], metadata["patch"])
    roles = read_split(split, block["fold"])
    samples = {role: samples_of(opened, roles[role]) for role in ("train", "validation", "test")}
    for role in ("train", "validation"):
        samples[role] = thinned(samples[role], MOST_SAMPLES)
    scale = torch.tensor(metadata["target_scale"], dtype=torch.float32)
    seconds: dict[str, float] = {}
    with atomic(out) as folder:
        folder.mkdir()
        model.to(device)
        with _timed(seconds, "features"):
            features = {
                role: tower_features(model, some, metadata["mean"], metadata["std"], device, f"{role} features")
                for role, some in samples.items()
            }
        found = {"samples": {role: len(some) for role, some in samples.items()}}
        with _timed(seconds, "heat maps"):
            found["heat maps"] = _heat_maps(block, model, metadata, opened, samples["test"], scale, device, folder)
        model.to("cpu")
        readout, known = Readout(model), {role: cached(features[role], samples[role], scale) for role in samples}
        found |= _embedding(block, model, readout, known["test"], samples["test"], opened, scale, folder, seconds)
        with _timed(seconds, "width"):
            found["width"] = _width(block, model, metadata["model"], known["train"], known["validation"], scale, folder)
        rounded = {name: round(value, 2) for name, value in {**seconds, "total": sum(seconds.values())}.items()}
        write_json(folder / "explain.json", {**found, "seconds": rounded})


def _embedding(
    block: dict,
    model: ITracker4,
    readout: Readout,
    test: Cached,
    samples: Samples,
    store: Store,
    scale: torch.Tensor,
    folder: Path,
    seconds: dict[str, float],
) -> dict:
    """The test subjects' embedding: collected, its dimensions weighed, counted and swept."""

    def head(z: torch.Tensor) -> torch.Tensor:
        return model.head(z) * scale

    with torch.no_grad():
        z = readout.embed(test.features)
        write_embedding(folder / "embedding.npz", z, head(z), samples, store)
    target = test.target * scale
    summary: dict = {"test_error_px": _number(error_px(readout, test, scale))}
    with _timed(seconds, "importance"):
        few = _few(len(z))
        scores = importances(head, z[few], target[few], block["trees"], block["seed"])
        _write_importance(scores, folder)
        summary["importance"] = {
            "strongest": {name: ranking(score)[:5].tolist() for name, score in scores.items()},
            "spearman_with_active_subspace": {
                name: _number(rank_correlation(scores["active_subspace"], score)) for name, score in scores.items()
            },
        }
    with _timed(seconds, "stability"):
        summary["stability"] = _stability(block, head, z, target, test.subject, folder)
    with _timed(seconds, "dimension"):
        found = dimensions(z[few].numpy(), head_jacobian(head, z[few]), first_weight(model))
        write_json(folder / "dimension.json", {**found, "dimensions": z.shape[1], "samples": len(few)})
        figures.dimension_figure(found, z.shape[1], folder / "dimension.png")
        summary["dimension"] = found["estimates"]
    with _timed(seconds, "sweep"):
        paths, lengths, ranges = sweep(head, z)
        _write_sweep(paths, lengths, ranges, scores["active_subspace"], folder)
        figures.sweep_figure(paths, lengths, scores["active_subspace"], target.numpy(), UNIT, folder / "sweep.png")
        summary["sweep"] = {
            "longest": ranking(lengths)[:5].tolist(),
            "longest_px": _number(lengths.max()),
            "median_px": _number(np.median(lengths)),
        }
    return summary


def _few(count: int) -> np.ndarray:
    """Evenly spaced positions of at most MOST_SAMPLES samples."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_SAMPLES)).round().astype(int))


def _write_importance(scores: dict[str, np.ndarray], folder: Path) -> None:
    table = pd.DataFrame({"dimension": np.arange(len(scores[SCORES[0]])), **scores})
    for name in SCORES:
        table[f"rank_{name}"] = ranks(scores[name])
    _write_csv(table, folder / "importance.csv")
    figures.importance_figure(scores, folder / "importance.png")


def _stability(
    block: dict, head: Callable, z: torch.Tensor, target: torch.Tensor, subject: np.ndarray, folder: Path
) -> dict[str, dict[str, float]]:
    own = {}
    for name in np.unique(subject):
        rows = np.flatnonzero(subject == name)
        rows = rows[_few(len(rows))]
        own[str(name)] = importances(head, z[rows], target[rows], block["trees"], block["seed"])
    rows = stability(own)
    _write_csv(
        pd.DataFrame(rows, columns=["importance", "a", "b", "spearman", "top_overlap"]), folder / "stability.csv"
    )
    figures.stability_figure(rows, min(TOP, z.shape[1]), "subjects", folder / "stability.png")
    return _means(rows)


def _means(rows: list[dict]) -> dict[str, dict[str, float]]:
    """{score: mean spearman and top_overlap of its pairs}; empty without a pair."""
    if not rows:
        return {}
    table = pd.DataFrame(rows).groupby("importance", sort=False)[["spearman", "top_overlap"]].mean()
    return {name: {column: _number(value) for column, value in row.items()} for name, row in table.iterrows()}


def _write_sweep(
    paths: np.ndarray, lengths: np.ndarray, ranges: np.ndarray, importance: np.ndarray, folder: Path
) -> None:
    table = pd.DataFrame({"dimension": np.arange(len(lengths)), "length_px": lengths, "importance": importance})
    table["low"], table["high"] = ranges[:, 0], ranges[:, 1]
    for column, values in (("start", paths[:, 0]), ("end", paths[:, -1])):
        table[f"{column}_x"], table[f"{column}_y"] = values[:, 0], values[:, 1]
    _write_csv(table, folder / "sweep.csv")


def _heat_maps(
    block: dict,
    model: ITracker4,
    metadata: dict,
    store: Store,
    samples: Samples,
    scale: torch.Tensor,
    device: torch.device,
    folder: Path,
) -> dict:
    chosen = _of_different_subjects(samples, block["samples"])
    rows = samples.rows[chosen]
    images = np.ascontiguousarray(store.image[rows])
    x = normalised(to_unit(torch.from_numpy(images), device), metadata["mean"], metadata["std"])
    network = heatmaps.Tapped(model, scale.to(device))
    signed = {method: heatmaps.attributions(network, x, method) for method in heatmaps.METHODS}
    maps = {method: heatmaps.strength(attribution) for method, attribution in signed.items()}
    table = pd.concat([pd.DataFrame(heatmaps.describe(some)).assign(method=method) for method, some in maps.items()])
    table.insert(0, "sample", rows[table["number"]])
    table.insert(1, "subject", store.subject[table["sample"]])
    table.insert(2, "frame", store.frame[table["sample"]])
    table.insert(3, "method", table.pop("method"))
    _write_csv(table.drop(columns="number"), folder / "heatmaps.csv")
    with torch.no_grad():
        off = torch.linalg.vector_norm(network(x).cpu() - torch.from_numpy(store.target[rows]), dim=1)
    names = [f"{store.subject[row]} / {store.frame[row]}" for row in rows]
    errors = [f"off by {distance:.1f} {UNIT}" for distance in off.tolist()]
    map_figures.heatmap_figure(images, maps, names, errors, folder / "heatmaps.png")
    shares = table.groupby(["method", "view"], sort=False)["share"].mean().unstack()
    return {
        "view_shares": {method: [_number(share) for share in row] for method, row in shares.iterrows()},
        "completeness_px": _number(heatmaps.completeness_px(network, x, signed["integrated_gradients"])),
        "sanity": _sanity(block, network, metadata["model"], x[:SANITY_SAMPLES], folder),
    }


def _sanity(block: dict, network: heatmaps.Tapped, spec: dict, x: torch.Tensor, folder: Path) -> dict:
    rows, maps = heatmaps.sanity(network, spec, x, block["seed"])
    _write_csv(pd.DataFrame(rows), folder / "sanity.csv")
    map_figures.sanity_figure(rows, maps, 0, folder / "sanity.png")
    passed = heatmaps.verdict(rows)
    last = [row for row in rows if row["step"] == heatmaps.LAST_STEP]
    failed = [row["method"] for row in last if not passed[row["method"]]]
    alike = [row["method"] for row in last if row["strength"] >= heatmaps.SANITY_LIMIT]
    told = "attributions of every method change when all weights are random"
    if failed:
        told = f"do not trust {', '.join(failed)}: it hardly changes when all weights are random"
    if alike:
        told += f"; without their sign, maps of {', '.join(alike)} mostly show the image and the architecture"
    return {
        "all_random": {row["method"]: {name: _number(row[name]) for name in ("signed", "strength")} for row in last},
        "limit": heatmaps.SANITY_LIMIT,
        "passed": passed,
        "verdict": told,
    }


def _of_different_subjects(samples: Samples, count: int) -> np.ndarray:
    """Positions of `count` samples: the middle one of each subject, then further ones, evenly spaced."""
    middles = [np.flatnonzero(samples.subject == name) for name in np.unique(samples.subject)]
    chosen = [rows[len(rows) // 2] for rows in middles][:count]
    rest = np.setdiff1d(np.arange(len(samples)), chosen)
    more = min(count - len(chosen), len(rest))
    return np.sort(np.concatenate([chosen, rest[_spaced(len(rest), more)]]).astype(int))


def _spaced(count: int, chosen: int) -> np.ndarray:
    return ((np.arange(chosen) + 0.5) * count / max(chosen, 1)).astype(int)


def _width(
    block: dict,
    model: ITracker4,
    spec: dict,
    train: Cached,
    validation: Cached,
    scale: torch.Tensor,
    folder: Path,
) -> dict:
    """width.json, width.csv and width.png; returns what of it belongs in explain.json."""
    readout = Readout(model)
    with torch.no_grad():
        z = readout.embed(train.features)
    scores = importances(lambda some: model.head(some) * scale, z, train.target * scale, block["trees"], block["seed"])
    widths = checked_widths(block["widths"], z.shape[1])
    best, tried = best_importance(model, spec, scores, train, validation, scale, widths)
    full = error_px(readout, validation, scale)
    epochs, order = block.get("recover_epochs", RECOVER_EPOCHS), ranking(scores[best])
    curve = error_curve(model, spec, order, train, validation, scale, widths, epochs, block["seed"])
    width = {kind: choose_width(curve, kind, full, block["tolerance"]) for kind in KINDS}
    summary = {
        **width,
        "tolerance": block["tolerance"],
        "importance": best,
        "full_error_px": _number(full),
        "error_px": {row["kind"]: _number(row["after_px"]) for row in curve if row["width"] == width[row["kind"]]},
    }
    rounded = [{**row, "before_px": _number(row["before_px"]), "after_px": _number(row["after_px"])} for row in curve]
    keep = np.sort(order[: width["dropped"]]).tolist()
    ranked = {name: [_number(error) for error in errors] for name, errors in tried.items()}
    write_json(
        folder / "width.json",
        {**summary, "keep": keep, "order": order.tolist(), "curve": rounded, "widths": widths, "dropped_px": ranked},
    )
    _write_csv(pd.DataFrame(rounded), folder / "width.csv")
    figures.width_figure(curve, full, block["tolerance"], width, UNIT, folder / "width.png")
    return summary


def stability_over_runs(folders: list[Path], out: Path) -> list[dict]:
    """Compare what `explain` wrote into several folders; writes `runs.csv` and `runs.png` into `out`.

    Rows "importance", "a", "b" (folders as given), "spearman", "top_overlap" of the rankings, and "spectrum", the
    correlation of the sorted shares. Dimensions of networks that were initialised differently have nothing to do with
    each other: between seeds only "spectrum" and the effective dimensions mean something; rankings may be compared
    between networks that were fine-tuned from one. Runs of different widths are compared over the shorter spectrum.
    """
    tables = {str(folder): pd.read_csv(Path(folder) / "importance.csv") for folder in folders}
    scores = {run: {name: table[name].to_numpy() for name in SCORES} for run, table in tables.items()}
    rows = []
    for place, a in enumerate(scores):
        for b in list(scores)[place + 1 :]:
            rows += [
                {"importance": name, "a": a, "b": b, **_compared(scores[a][name], scores[b][name])} for name in SCORES
            ]
    with atomic(out) as folder:
        folder.mkdir()
        _write_csv(pd.DataFrame(rows), folder / "runs.csv")
        estimates = [{"run": run, **read_json(Path(run) / "dimension.json")["estimates"]} for run in scores]
        _write_csv(pd.DataFrame(estimates), folder / "runs_dimension.csv")
        names = [Path(run).name for run in scores]
        shown = scores if len(set(names)) < len(names) else dict(zip(names, scores.values(), strict=True))
        figures.runs_figure(shown, folder / "runs.png")
    return rows


def _compared(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    same = len(a) == len(b)
    held = min(len(a), len(b))
    spectra = [np.sort(score)[::-1][:held] for score in (a, b)]
    return {
        "spearman": rank_correlation(a, b) if same else float("nan"),
        "top_overlap": top_overlap(a, b) if same else float("nan"),
        "spectrum": float(np.corrcoef(*spectra)[0, 1]) if min(map(np.ptp, spectra)) > 0 else 0.0,
    }


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def _number(value: float) -> float:
    return float(f"{value:.6g}")


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[step] = time.monotonic() - start
