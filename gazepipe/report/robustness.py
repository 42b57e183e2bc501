"""Robustness and precision: what corrupted images cost each network, and how far its predictions scatter.

Everything is of a network's own data set, on the test images that the stage `robustness` chose. An increase is that of
the error of the very same images over the clean ones, subject by subject and run by run, so that what a subject or a
training changes in both cancels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gazepipe.common.markdown import MISSING, Block, Notes, interval_text, label
from gazepipe.errors import UserError
from gazepipe.evaluation import inference
from gazepipe.evaluation.comparisons import PERCENT, Network, compare, comparison_table, legend
from gazepipe.evaluation.corruptions import CLEAN, KINDS, STRENGTHS, level_text
from gazepipe.evaluation.means import SINGLE
from gazepipe.evaluation.results import Results
from gazepipe.evaluation.sentences import named, sentences

NAMES = ["dataset", "model", "method"]
RUN = ["fold", "seed", "subject"]
STRONG = len(STRENGTHS)
SCATTER = ("std", "rms_s2s")
UNITS = {"angles": "deg", "point": "px"}
WORDS = {"deg": "degrees", "px": "px"}
COLUMNS = [*NAMES, "unit", "measure", "strength", "level", "mean", "low", "high"]
COLUMNS += ["increase", "increase_low", "increase_high", "n_subjects", "n_seeds", "reason"]


def robustness(results: Results) -> pd.DataFrame:
    """One row per network, corruption and strength: COLUMNS.

    `measure` is a kind of corruption or clean (strength 0), whose `mean` is that of the error; or std or rms_s2s (no
    strength), the scatter of predictions of the same image (`evaluation.precision`). Means over subjects with their
    95 % interval over subjects and seeds; `increase` is that over the clean images of the same samples, with its own.
    """
    rows = []
    for dataset, network, errors, jitter in _tested(results):
        unit = UNITS[results.settings.datasets[dataset].task]
        names = {**dict(zip(NAMES, (dataset, *network), strict=True)), "unit": unit}
        rows += [{**names, **row} for row in [*_of_errors(errors, network), *_of_jitter(jitter, network)]]
    return pd.DataFrame(rows, columns=COLUMNS)


def robustness_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One table per data set, a row per network; its figure, and what the corruptions look like."""
    single = [SINGLE] if (frame["reason"] == inference.ONE_TRAINING).any() else []
    parts: list[Block] = [
        "## Robustness",
        "What corrupted images cost: the increase of the error over the clean images of the same samples, mild, medium"
        " and strong, with the [95 % interval over subjects and trainings] of the strong one; the file"
        " `tables/robustness.csv` holds all intervals. Every network sees the very same corrupted images."
        " *Jitter* is precision: how far predictions of one image scatter when only the sensor's noise and, where"
        " images are cut out by landmarks, the crop change: root mean square deviation from their mean, and of one"
        " prediction from the next (RMS-S2S; Holmqvist et al. 2012). Lower is better.",
        *single,
    ]
    for dataset, rows in frame.groupby("dataset", sort=False):
        unit, notes = rows["unit"].iloc[0], Notes()
        networks = rows.groupby(NAMES[1:], sort=False)
        cells = [_cells(network, own, unit, notes) for network, own in networks]
        parts += [
            f"On {dataset}, in {WORDS[unit]}. {_levels(rows)}. {_worst_text(rows, unit)}",
            pd.DataFrame(cells),
            *notes.paragraphs(),
            f"![Error against strength]({results.figure(f'robustness/{dataset}')})",
            f"![The corruptions]({results.link('corruptions', 'picture', dataset=dataset)})",
        ]
    return parts


def robustness_comparisons(results: Results) -> pd.DataFrame:
    """Methods compared by their errors under the strong corruption that costs most on their data set, in percent: see
    `evaluation.comparisons`; by train and corruption.
    """
    parts: dict[str, list[pd.DataFrame]] = {}
    for dataset, (model, method), errors, _ in _tested(results):
        parts.setdefault(dataset, []).append(errors.assign(train=dataset, model=model, method=method))
    found = [_under_the_worst(pd.concat(own, ignore_index=True)) for own in parts.values()]
    baseline, *others = results.settings.methods
    pairs = [(method, baseline) for method in others]
    return compare(pd.concat(found, ignore_index=True), ["train", "corruption"], pairs, PERCENT, results.settings)


def robustness_comparisons_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One row per comparison; nothing with a single method."""
    if frame.empty:
        return []
    return [
        "Does a method help where images are bad? Errors under the strong corruption that costs the networks of a data"
        " set most. " + legend(frame, PERCENT, results.settings.statistics),
        *comparison_table(frame, PERCENT),
    ]


def robustness_comparisons_sentences(results: Results, frame: pd.DataFrame) -> list[Block]:
    """What the table says, in sentences."""
    places = "on " + frame["train"] + " under strong " + frame["corruption"]
    return sentences(named(frame).assign(place=places), PERCENT, results.settings.statistics)


# ---- what the stage wrote


def _tested(results: Results) -> Iterator[tuple[str, Network, pd.DataFrame, pd.DataFrame]]:
    """Data set, network, errors (RUN, corruption, strength, level, error) and jitter (RUN, std, rms_s2s) of each."""
    for dataset, networks in results.settings.corrupted.items():
        for model, method in networks:
            names = {"dataset": dataset, "model": model, "method": method}
            errors, jitter = (results.file("robustness", output, **names) for output in ("errors", "jitter"))
            yield dataset, (model, method), _read_errors(errors), _read(jitter, [], SCATTER)


def _read_errors(path: Path) -> pd.DataFrame:
    """The errors of a network; UserError, too, where the clean images are missing of what is corrupted."""
    errors = _read(path, ["corruption", "strength"], ["level", "error"])
    clean = set(errors.loc[errors["corruption"] == CLEAN, RUN].itertuples(index=False, name=None))
    lacking = sorted(set(errors[RUN].itertuples(index=False, name=None)) - clean)
    if lacking:
        fold, seed, subject = lacking[0]
        raise UserError(
            f"{path}: has no clean images of fold {fold}, seed {seed}, subject {subject}; delete it, run again"
        )
    return errors


def _read(path: Path, kinds: list[str], numbers: Any) -> pd.DataFrame:
    """A CSV of the stage; UserError for one that is missing or damaged, a number that is none, a row twice."""
    try:
        table = pd.read_csv(path, dtype={"subject": str}, keep_default_na=False)[[*RUN, *kinds, *numbers]]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]}); delete it, run again") from None
    values = table[list(numbers)].apply(pd.to_numeric, errors="coerce")
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        line = int(np.flatnonzero(bad)[0]) + 2
        raise UserError(f"{path}: line {line} holds what is no finite number; train that network again or leave it out")
    if table.duplicated([*RUN, *kinds]).any():
        raise UserError(f"{path}: holds two rows of one fold, seed and subject; delete it, run again")
    return table.assign(**values)


def _of_errors(errors: pd.DataFrame, network: Network) -> Iterator[dict[str, Any]]:
    """A row for each corruption and strength of one network."""
    clean = errors.loc[errors["corruption"] == CLEAN, [*RUN, "error"]].rename(columns={"error": "clean"})
    both = errors.merge(clean, on=RUN, how="left", validate="many_to_one")
    for (kind, strength, level), rows in both.groupby(["corruption", "strength", "level"], sort=False):
        first = {"measure": kind, "strength": strength, "level": level}
        increase = rows.assign(error=rows["error"] - rows["clean"])
        yield {**first, **_mean(rows, network), **({} if kind == CLEAN else _increase(increase, network))}


def _of_jitter(jitter: pd.DataFrame, network: Network) -> Iterator[dict[str, Any]]:
    for measure in SCATTER:
        yield {"measure": measure, **_mean(jitter.assign(error=jitter[measure]), network)}


def _mean(errors: pd.DataFrame, network: Network) -> dict[str, Any]:
    found = inference.mean_interval(errors, name=label(*network))
    numbers = {"mean": found.mean, "low": found.low, "high": found.high}
    return {**numbers, "n_subjects": found.n_subjects, "n_seeds": found.n_seeds, "reason": found.reason}


def _increase(errors: pd.DataFrame, network: Network) -> dict[str, float]:
    found = inference.mean_interval(errors, name=label(*network))
    return {"increase": found.mean, "increase_low": found.low, "increase_high": found.high}


def _under_the_worst(errors: pd.DataFrame) -> pd.DataFrame:
    """The errors under the strong corruption whose error is the largest on average over networks."""
    strong = errors[errors["strength"] == STRONG]
    worst = strong.groupby("corruption", sort=False)["error"].mean().idxmax()
    return strong[strong["corruption"] == worst]


# ---- how it is shown


def _cells(network: Network, rows: pd.DataFrame, unit: str, notes: Notes) -> dict[str, str]:
    """A row of the page: a network."""
    by = {(row.measure, row.strength): row for row in rows.fillna({"strength": 0}).itertuples()}
    clean = by[CLEAN, 0]
    mark = notes.mark("" if clean.reason == inference.ONE_TRAINING else clean.reason)
    scatter = [_number(by[measure, 0].mean, ".2f") for measure in SCATTER]
    return {
        "Model": label(*network) + mark,
        f"Clean ({WORDS[unit]})": _number(clean.mean, ".2f"),
        **{
            kind.capitalize(): _increase_text([by[kind, strength] for strength in range(1, STRONG + 1)])
            for kind in KINDS
        },
        "Jitter (RMS-S2S)": f"{scatter[0]} ({scatter[1]})",
    }


def _increase_text(rows: list[Any]) -> str:
    """+0.10, +0.52, +2.10 [1.50, 2.70]."""
    numbers = ", ".join(_number(row.increase, "+.2f") for row in rows)
    return numbers + interval_text(rows[-1].increase_low, rows[-1].increase_high, ".2f")


def _number(value: float, form: str) -> str:
    # No -0.00.
    return MISSING if np.isnan(value) else f"{round(value, 2) + 0.0:{form}}"


def _levels(rows: pd.DataFrame) -> str:
    """What mild, medium and strong are."""
    first = rows[rows["strength"] > 0].drop_duplicates(["measure", "strength"])
    return "; ".join(f"{kind}: {level_text(kind, *own['level'])}" for kind, own in first.groupby("measure", sort=False))


def _worst_text(rows: pd.DataFrame, unit: str) -> str:
    """Which strong corruption costs most, and which least, over all networks."""
    strong = rows[rows["strength"] == STRONG].groupby("measure", sort=False)["increase"].mean().dropna()
    if strong.empty:
        return ""
    worst, least = strong.idxmax(), strong.idxmin()
    return (
        f"Strong {worst} costs most ({strong[worst]:+.2f} {WORDS[unit]} on average over networks), strong {least} least"
        f" ({strong[least]:+.2f})."
    )
