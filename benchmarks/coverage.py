"""How often intervals of nominal 95 % hold the truth: python benchmarks/coverage.py [TRAININGS.csv]

Simulates errors of known mean in layouts of subjects and seeds, and counts how often the intervals of
gazepipe/evaluation/inference.py hold it, beside others. Writes docs/results/inference.csv and prints its tables. With a
table of repeated trainings (columns recipe, fold, seed, test, subject, error_deg) it instead prints what is found in
that.
"""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from gazepipe.evaluation.inference import compare, half_widths, mean_interval, smallest_detectable, variances_of_mean

OUT = Path(__file__).resolve().parents[1] / "docs/results/inference.csv"
SIMULATIONS = 10_000
BOOTSTRAPPED = 1_000  # of them, as the bootstrap takes long
RESAMPLES = 1_000
N_SUBJECTS = (2, 4, 8, 15, 56)
N_SEEDS = (2, 3, 5, 10)
SEED_SDS = (0.0, 0.05, 0.5)
REST_SD = 0.3
MARGIN = 0.5


@dataclass(frozen=True)
class Cell:
    """One simulated layout; standard deviations in degrees, `rest_sd` that of one cell.

    layout    crossed: one network a seed, all subjects; separate: two methods, each with its own seeds; own folds: each
              subject tested by the network of one of `folds`; cross folds: by those of all, averaged
    skew      0 for normal subjects, else the standard deviation of the logarithm of log-normal ones
    """

    layout: str
    folds: int
    skew: float
    subject_sd: float
    seed_sd: float
    n_subjects: int
    n_seeds: int
    rest_sd: float = REST_SD


def main() -> None:
    if len(sys.argv) > 1:
        report_trainings(Path(sys.argv[1]))
        return
    rows = [asdict(cell) | measure(cell, seed) for seed, cell in enumerate(cells())]
    table = pd.DataFrame(rows)
    table.to_csv(OUT, index=False, float_format="%.5g", lineterminator="\n")
    report_coverage(table)


def cells() -> Iterator[Cell]:
    """All layouts, in the order of the table."""
    layouts = [
        ("crossed", 1, 0.0, 0.5),
        ("crossed", 1, 0.0, 0.0),
        ("crossed", 1, 0.3, 0.5),
        ("crossed", 1, 0.8, 0.5),
        ("separate", 1, 0.0, 0.5),
        ("separate", 1, 0.0, 0.0),
        ("own folds", 2, 0.0, 0.5),
        ("own folds", 5, 0.0, 0.5),
        ("own folds", 2, 0.0, 0.0),
        ("cross folds", 5, 0.0, 0.5),
    ]
    for layout in layouts:
        for n_subjects, n_seeds, seed_sd in itertools.product(N_SUBJECTS, N_SEEDS, SEED_SDS):
            if layout[0] == "cross folds" or n_subjects >= layout[1]:
                yield Cell(*layout, seed_sd, n_subjects, n_seeds)


def measure(cell: Cell, seed: int) -> dict[str, float]:
    """Percentages of simulations whose interval holds the true mean, 0; and of those that find `detectable`."""
    rng = np.random.default_rng(seed)
    layouts = simulate(cell, rng)
    means = sum(layout.mean(axis=(-2, -1)) for layout in layouts)
    halves = half_widths(*variances_of_mean(layouts))
    holds = {"coverage": halves.max(axis=-1)} | dict(zip(("both", "subjects", "seeds"), halves.T, strict=True))
    measured = {name: 100 * float((np.abs(means) <= half).mean()) for name, half in holds.items()}
    measured["bootstrap"] = measured["detectable"] = measured["power"] = np.nan
    if cell.layout == "crossed":
        measured["bootstrap"] = 100 * float(bootstrap_holds(layouts[0][:BOOTSTRAPPED], rng).mean())
        measured["detectable"] = detectable(cell)
        measured["power"] = 100 * float((np.abs(means + measured["detectable"]) > halves.max(axis=-1)).mean())
    return measured


def simulate(cell: Cell, rng: np.random.Generator) -> list[np.ndarray]:
    """Differences of two methods, true mean 0, as `variances_of_mean` takes them: [simulations, seeds, subjects]."""
    subjects = cell.subject_sd * standard_effects(rng, cell.skew, (SIMULATIONS, 1, cell.n_subjects))
    layouts = [runs(cell, rng) for _ in range(2 if cell.layout == "separate" else 1)]
    layouts[0] += subjects
    return layouts


def runs(cell: Cell, rng: np.random.Generator) -> np.ndarray:
    """Chance of the trainings and the rest of one method: [simulations, seeds, subjects]."""
    shape = (SIMULATIONS, cell.n_seeds, cell.n_subjects)
    networks = cell.seed_sd * rng.standard_normal((SIMULATIONS, cell.n_seeds, cell.folds))
    if cell.layout == "own folds":
        fold_of = np.arange(cell.n_subjects) % cell.folds
        return networks[:, :, fold_of] + cell.rest_sd * rng.standard_normal(shape)
    rest_sd = cell.rest_sd / np.sqrt(cell.folds)  # of the mean over folds
    return networks.mean(axis=2, keepdims=True) + rest_sd * rng.standard_normal(shape)


def standard_effects(rng: np.random.Generator, skew: float, shape: tuple[int, ...]) -> np.ndarray:
    """Draws of mean 0 and standard deviation 1, normal or log-normal."""
    draws = rng.standard_normal(shape)
    if skew == 0:
        return draws
    mean, growth = np.exp(skew**2 / 2), np.exp(skew**2)
    return (np.exp(skew * draws) - mean) / (mean * np.sqrt(growth - 1))


def bootstrap_holds(layout: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whether the percentile interval of the two-way bootstrap (Owen 2007) of each simulation holds 0: seeds and
    subjects are drawn apart from each other, with replacement.
    """
    n_seeds, n_subjects = layout.shape[1:]
    seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), RESAMPLES) / n_seeds
    subjects = rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), RESAMPLES) / n_subjects
    means = np.array([((seeds @ one) * subjects).sum(axis=1) for one in layout])
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    return (low <= 0) & (high >= 0)


def detectable(cell: Cell) -> float:
    """The smallest detectable difference of a crossed layout whose variances are known."""
    rest = cell.rest_sd**2 / (cell.n_subjects * cell.n_seeds)
    parts = np.array([cell.subject_sd**2 / cell.n_subjects + rest, cell.seed_sd**2 / cell.n_seeds])
    dfs = np.array([cell.n_subjects - 1, cell.n_seeds - 1])
    variances = np.array([parts.sum(), parts[0], parts[1] + rest])
    return smallest_detectable(variances, np.array([parts.sum() ** 2 / (parts**2 / dfs).sum(), *dfs]))


def report_coverage(table: pd.DataFrame) -> None:
    for (layout, folds, skew, subject_sd), part in table.groupby(["layout", "folds", "skew", "subject_sd"], sort=False):
        print(f"\n{layout}, folds {folds}, skew {skew}, standard deviation over subjects {subject_sd}\n")
        part = part.assign(seeds_=part["n_seeds"].astype(str) + " seeds, " + part["seed_sd"].astype(str))
        order = [f"{n} seeds, {sd}" for n, sd in itertools.product(N_SEEDS, SEED_SDS)]
        print(part.pivot(index="n_subjects", columns="seeds_", values="coverage")[order].to_markdown(floatfmt=".1f"))
        enough = part[part["n_seeds"] > 2]
        for name in ("coverage", "both", "subjects", "seeds", "bootstrap", "power"):
            low, high = enough[name].min(), enough[name].max()
            print(
                f"{name} from 3 seeds: {low:.1f} to {high:.1f}, {(enough[name] > 97).sum()} of {len(enough)} above 97"
            )


def report_trainings(path: Path) -> None:
    """Prints intervals, comparisons with the recipe base, and how many splits of its seeds are found different."""
    runs = pd.read_csv(path, dtype={"subject": str}).rename(columns={"error_deg": "error"})
    for test, tested in runs.groupby("test", sort=False):
        recipes = dict(iter(tested.groupby("recipe")))
        for name, part in recipes.items():
            print(test, name, mean_interval(part))
        for name in sorted(set(recipes) - {"base"}):
            for paired in (True, False):
                print(test, name, "- base", compare(recipes[name], recipes["base"], margin=MARGIN, paired_seeds=paired))
        print(test, "splits called different:", splits(recipes["base"]))


def splits(errors: pd.DataFrame) -> dict[str, int]:
    """How many splits of the seeds into two halves differ at p < 0.05, by this inference and by two others."""
    seeds = sorted(errors["seed"].unique())
    found = {"splits": 0, "inference": 0, "t over seeds": 0, "Wilcoxon over subjects": 0}
    for half in itertools.combinations(seeds[1:], len(seeds) // 2 - 1):
        first = errors["seed"].isin([seeds[0], *half])
        a, b = errors[first], errors[~first]
        by_seed = [part.groupby("seed")["error"].mean() for part in (a, b)]
        by_subject = [part.groupby("subject")["error"].mean() for part in (a, b)]
        found["splits"] += 1
        found["inference"] += int(compare(a, b, paired_seeds=False).p < 0.05)
        found["t over seeds"] += int(stats.ttest_ind(*by_seed, equal_var=False).pvalue < 0.05)
        found["Wilcoxon over subjects"] += int(stats.wilcoxon(by_subject[0] - by_subject[1]).pvalue < 0.05)
    return found


if __name__ == "__main__":
    main()
