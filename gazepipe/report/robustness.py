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
from gazepipe.evaluation.comparisons import PERCENT, Network, baseline_pairs, compare, comparison_table, legend
from gazepipe.evaluation.corruptions import CLEAN, KINDS, STRENGTHS, level_text
from gazepipe.evaluation.means import SINGLE
from gazepipe.evaluation.results import Results
from gazepipe.evaluation.sentences import named, sentences

NAMES = ["dataset", "model", "method"]
RUN = ["fold", "seed", "subject"]
KIND = ["corruption", "strength"]
STRONG = len(STRENGTHS)
PLACES = [(CLEAN, 0), *((kind, strength) for kind in KINDS for strength in range(1, STRONG + 1))]
"""Kind and strength of all that the stage writes of a run and subject."""
SCATTER = ("std", "rms_s2s")
UNITS = {"angles": "deg", "point": "px"}
WORDS = {"deg": "degrees", "px": "px"}
INTRODUCTION = (
    "What corrupted images cost: the increase of the error over the clean images of the same samples [95 % interval"
    " over subjects and trainings]. Every network sees the very same corrupted images. *Jitter* is precision: how far"
    " predictions of one image scatter when only the sensor's noise and, where images are cut out by landmarks, the"
    " crop change: root mean square deviation from their mean, and of one prediction from the next (RMS-S2S;"
    " Holmqvist et al. 2012). Lower is better."
)
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
    """Of each data set what corruptions cost, a row per network and strength, and precision, a row per network; its
    figure, and what the corruptions look like.
    """
    single = [SINGLE] if (frame["reason"] == inference.ONE_TRAINING).any() else []
    parts: list[Block] = ["## Robustness", INTRODUCTION, *single]
    for dataset, rows in frame.groupby("dataset", sort=False):
        unit, notes = rows["unit"].iloc[0], Notes()
        networks = list(rows.groupby(NAMES[1:], sort=False))
        parts += [
            f"On {dataset}, in {WORDS[unit]}. {_levels(rows)}. {_worst_text(rows, unit)}",
            pd.DataFrame([line for network, own in networks for line in _increases(network, own, notes)]),
            *notes.paragraphs(),
            f"Precision on {dataset}, in {WORDS[unit]}:",
            pd.DataFrame([_scatter(network, own, notes) for network, own in networks]),
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
    errors, settings = pd.concat(found, ignore_index=True), results.settings
    return compare(errors, ["train", "corruption"], baseline_pairs(settings.methods), PERCENT, settings)


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
    """What the comparisons say; nothing without any."""
    if frame.empty:
        return []
    places = "on " + frame["train"] + " under strong " + frame["corruption"]
    said = sentences(named(frame).assign(place=places), PERCENT, results.settings.statistics)
    return ["### Corrupted images", *said]


# ---- what the stage wrote


def _tested(results: Results) -> Iterator[tuple[str, Network, pd.DataFrame, pd.DataFrame]]:
    """Data set, network, errors (RUN, corruption, strength, level, error) and jitter (RUN, std, rms_s2s) of each."""
    for dataset, networks in results.settings.corrupted.items():
        for model, method in networks:
            names = {"dataset": dataset, "model": model, "method": method}
            errors, jitter = (results.file("robustness", output, **names) for output in ("errors", "jitter"))
            yield dataset, (model, method), _read_errors(errors), _read(jitter, [], SCATTER)


def _read_errors(path: Path) -> pd.DataFrame:
    """The errors of a network; UserError, too, where a run and subject lack a corruption, or the clean images."""
    errors = _read(path, KIND, ["level", "error"])
    cells = errors[RUN].drop_duplicates()
    found = cells.merge(pd.DataFrame(PLACES, columns=KIND), how="cross").merge(errors, on=[*RUN, *KIND], how="left")
    lacking = found["error"].isna()
    if lacking.any():
        first = found[lacking].iloc[0]
        what = (
            "clean images" if first["corruption"] == CLEAN else f"{first['corruption']} of strength {first['strength']}"
        )
        cell = f"fold {first['fold']}, seed {first['seed']}, subject {first['subject']}"
        raise UserError(f"{path}: has no {what} of {cell}; delete it, run again")
    return found


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


def _of_errors(errors: pd.DataFrame, network: Network) -> list[dict[str, Any]]:
    """A row for each corruption and strength of one network."""
    wide = errors.pivot(index=RUN, columns=KIND, values="error")[PLACES]
    levels = errors.drop_duplicates(KIND)["level"]
    means, increases = _means(wide, network), _means(wide.sub(wide[PLACES[0]], axis=0), network)
    rows = [
        {"measure": kind, "strength": strength, "level": level, **mean, **_renamed(increase)}
        for (kind, strength), level, mean, increase in zip(PLACES, levels, means, increases, strict=True)
    ]
    # The clean images are no increase over themselves.
    return [{**rows[0], **dict.fromkeys(_renamed(increases[0]), np.nan)}, *rows[1:]]


def _of_jitter(jitter: pd.DataFrame, network: Network) -> list[dict[str, Any]]:
    means = _means(jitter.set_index(RUN)[list(SCATTER)], network)
    return [{"measure": measure, **mean} for measure, mean in zip(SCATTER, means, strict=True)]


def _means(values: pd.DataFrame, network: Network) -> list[dict[str, Any]]:
    """mean, low, high, n_subjects, n_seeds, reason of each column of `values`, whose index is RUN: those of
    `inference.mean_interval`, for all columns at once.
    """
    first = values.iloc[:, 0].rename("error").reset_index()
    found = inference.mean_interval(first, name=label(*network))
    numbers = np.full((3, values.shape[1]), np.nan)
    if not np.isnan(found.mean):
        cells = values.groupby(level=["seed", "subject"]).mean().to_numpy()
        layouts = cells.reshape(found.n_seeds, found.n_subjects, -1).transpose(2, 0, 1)
        numbers[:] = layouts.mean(axis=(1, 2))
        half = np.nan
        if found.n_subjects > 1:
            half = inference.half_widths(*inference.variances_of_mean([layouts])).max(axis=-1)
        numbers[1] -= half
        numbers[2] += half
    said = {"n_subjects": found.n_subjects, "n_seeds": found.n_seeds, "reason": found.reason}
    return [{"mean": mean, "low": low, "high": high, **said} for mean, low, high in numbers.T]


def _renamed(mean: dict[str, Any]) -> dict[str, float]:
    """A mean as an increase."""
    return {"increase": mean["mean"], "increase_low": mean["low"], "increase_high": mean["high"]}


def _under_the_worst(errors: pd.DataFrame) -> pd.DataFrame:
    """The errors under the strong corruption whose error is the largest on average over networks."""
    strong = errors[errors["strength"] == STRONG]
    worst = strong.groupby("corruption", sort=False)["error"].mean().idxmax()
    return strong[strong["corruption"] == worst]


# ---- how it is shown


def _increases(network: Network, rows: pd.DataFrame, notes: Notes) -> list[dict[str, str]]:
    """A row of the page for each strength."""
    name = label(*network) + _mark(rows, notes)
    by = {(row.measure, row.strength): row for row in rows.itertuples()}
    return [
        {
            "Model": name,
            "Strength": text,
            **{kind.capitalize(): _text(by[kind, strength], "increase", "+.2f") for kind in KINDS},
        }
        for strength, text in enumerate(STRENGTHS, 1)
    ]


def _scatter(network: Network, rows: pd.DataFrame, notes: Notes) -> dict[str, str]:
    """A row of the page of precision, beside the error of the clean images."""
    by = {row.measure: row for row in rows.itertuples()}
    return {
        "Model": label(*network) + _mark(rows, notes),
        "Jitter": _text(by["std"], "", ".2f"),
        "RMS-S2S": _text(by["rms_s2s"], "", ".2f"),
        "Error, clean": _text(by[CLEAN], "", ".2f"),
    }


def _mark(rows: pd.DataFrame, notes: Notes) -> str:
    """The footnotes of a network: why intervals or means are missing."""
    reasons = [reason for reason in dict.fromkeys(rows["reason"]) if reason != inference.ONE_TRAINING]
    return notes.mark(*reasons)


def _text(row: Any, prefix: str, form: str) -> str:
    """+2.10 [1.50, 2.70]: a mean, or an increase, with its interval."""
    names = [f"{prefix}{end}" for end in ("", "_low", "_high")] if prefix else ["mean", "low", "high"]
    value, low, high = (getattr(row, name) for name in names)
    # No -0.00.
    return MISSING if np.isnan(value) else f"{round(value, 2) + 0.0:{form}}{interval_text(low, high, '.2f')}"


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
