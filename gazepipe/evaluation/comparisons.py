"""Networks compared in pairs on the same subjects, and how every table shows it.

A comparison is a difference of mean errors, in their own unit or in percent of the other network's mean error (which is
taken as it is: the interval is that of the difference). It is negative where the first of a pair is better. Intervals
and p-values are those of `gazepipe.evaluation.inference`: over subjects and over trainings.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gazepipe.common.markdown import MISSING, Block, Notes, interval_text, label, picture
from gazepipe.evaluation import inference
from gazepipe.evaluation.settings import Statistics

PERCENT = "percent"
HEADINGS = {"train": "Trained on", "test": "Tested on", "corruption": "Corruption"}
"""Columns that are shown beside the networks, where a table has them."""
DIFFERENCES = {"deg": ("Difference (degrees)", "+.2f"), PERCENT: ("Difference of the error (%)", "+.1f")}
"""Heading and form of a difference, by its unit."""
DETECTABLE = {"deg": "Detectable (degrees)", PERCENT: "Detectable (%)"}
MARGINS = {"deg": ("margin", " degrees"), PERCENT: ("margin_percent", " %")}
"""Setting that holds the margin of equivalence, and how its unit is written, by the unit of the difference."""
THESE_FILES = "one training of each network: the interval holds for these files only"
NO_PERCENT = "the other network's error is 0: no percentage of it"

CONTROL = (
    "Control: a method that is trained as long without the idea, with which each is compared first. Epochs are counted"
    " with those of the parents."
)

Network = tuple[str, str]
"""Model and method."""


def columns(unit: str) -> list[str]:
    """What a comparison consists of, in the order of the CSV.

    difference, low and high (95 %) in the unit; p of no difference and p_equivalence, each also corrected over the
    table (_holm); finding, from the corrected ones; detectable: the smallest true difference found with 80 % power;
    d_z: the effect size; df: degrees of freedom; n_subjects; n_seeds of both networks; paired_seeds: whether the seeds
    share a network; reason: why numbers are missing or hold for one training only; note: what was left out.
    """
    changes = [f"{name}_{unit}" for name in ("difference", "low", "high")]
    tested = ["p", "p_holm", "p_equivalence", "p_equivalence_holm", "finding", f"detectable_{unit}", "d_z", "df"]
    return [*changes, *tested, "n_subjects", "n_seeds", "n_seeds_against", "paired_seeds", "reason", "note"]


def baseline_pairs(methods: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(method, baseline) of every comparison: with its control first, then with its parent, with the teacher of the
    same model, and with the first method; only those in `methods`, each pair once.

    `methods` holds control, parent, teacher and placebo by name. Placebos have no idea that could help.
    """
    compared = [name for name, entry in methods.items() if not entry.placebo]
    found = [
        (name, baseline)
        for name in compared
        for baseline in (methods[name].control, methods[name].parent, methods[name].teacher, compared[0])
        if baseline in compared and baseline != name
    ]
    return list(dict.fromkeys(found))


def role(methods: Mapping[str, Any], method: str, baseline: str) -> str:
    """What a baseline is to a method: its control, parent or teacher, its twin (the same network from nothing), or
    other.
    """
    entry = methods[method]
    links = {"control": entry.control, "parent": entry.parent, "teacher": entry.teacher}
    found = [name for name, other in links.items() if other == baseline]
    return found[0] if found else "twin" if methods[baseline].shape == method else "other"


def without_control(settings: Any) -> list[str]:
    """A paragraph that names the controls that were not run, or none. `settings` holds methods and networks."""
    run = [(network.model, network.method) for network in settings.networks]
    missing = [
        f"{label(model, control)} (of {label(model, method)})"
        for model, method in run
        if (control := settings.methods[method].control) and (model, control) not in run
    ]
    return [f"Controls that were not run: {', '.join(missing)}."] if missing else []


def epochs_note(settings: Any, dataset: str, model: str, method: str, control: str) -> str:
    """What must be said where a method and its control are trained on a data set for different numbers of epochs, those
    of the parents among them; else nothing. `settings` holds the networks.
    """
    totals = {network.method: network.total_epochs for network in settings.networks if network.model == model}
    mine, other = totals[method][dataset], totals[control][dataset]
    if mine == other:
        return ""
    return f"{label(model, method)} is trained for {mine} epochs in all, its control for {other}: not as long"


def shared(methods: Mapping[str, Any], a: Network, b: Network) -> bool:
    """Whether the runs of one seed of two networks go back to a common one: one is the other's parent, teacher or
    shape, or both have one in common, at any distance. Then their trainings' chance is paired by seed.

    `methods` holds parent, teacher and shape by name; what a method outside it goes back to is not known.
    """
    return not _ancestry(methods, a).isdisjoint(_ancestry(methods, b))


def pair(
    mine: pd.DataFrame,
    theirs: pd.DataFrame,
    unit: str,
    statistics: Statistics,
    *,
    paired_seeds: bool,
    names: tuple[str, str],
) -> dict[str, Any]:
    """`columns`, but those corrected over a table, of the errors `mine` against `theirs`, long tables with fold, seed,
    subject and error. Raises UserError as `inference.compare` does.
    """
    factor = 1.0
    if unit == PERCENT:
        other = theirs.groupby("subject")["error"].mean().mean()
        if other == 0:
            return untested(np.nan, NO_PERCENT, unit, paired_seeds)
        factor = 100 / other
    a, b = (errors.assign(error=factor * errors["error"]) for errors in (mine, theirs))
    margin = getattr(statistics, MARGINS[unit][0])
    return _named(inference.compare(a, b, paired_seeds=paired_seeds, margin=margin, names=names), unit, paired_seeds)


def untested(difference: float, reason: str, unit: str, paired_seeds: bool = False) -> dict[str, Any]:
    """`pair` without a test: a difference, or NaN, and the reason."""
    return _named(inference.Comparison(difference, reason=reason), unit, paired_seeds)


def between(
    mine: pd.DataFrame, theirs: pd.DataFrame, a: Network, b: Network, unit: str, settings: Any
) -> dict[str, Any]:
    """`pair` of the errors `mine` of network a and `theirs` of b, paired by seed where the networks are linked.

    `settings` holds the methods' links and the statistics.
    """
    linked, names = shared(settings.methods, a, b), (label(*a), label(*b))
    return pair(mine, theirs, unit, settings.statistics, paired_seeds=linked, names=names)


def same_runs(
    mine: pd.DataFrame, theirs: pd.DataFrame, unit: str, statistics: Statistics, *, names: tuple[str, str]
) -> dict[str, Any]:
    """`pair` of the same runs, computed in two ways (int8 and fp32): each run is paired with itself.

    The chance of the training is in both errors and cancels; what is left of it is how much the change differs between
    runs. With one seed there is still an interval over subjects, which holds for these files only, and no p-value.
    """
    found = pair(mine, theirs, unit, statistics, paired_seeds=True, names=names)
    if found["reason"] != inference.ONE_SEED:
        return found
    interval = change_interval(mine, theirs)
    factor = 100 / theirs.groupby("subject")["error"].mean().mean() if unit == PERCENT else 1.0
    bounds = {f"low_{unit}": factor * interval.low, f"high_{unit}": factor * interval.high}
    return {**found, **bounds, "reason": THESE_FILES}


def change_interval(mine: pd.DataFrame, theirs: pd.DataFrame) -> inference.Interval:
    """Mean difference of the errors of the same runs and its interval: see `same_runs`."""
    keys = ["fold", "seed", "subject"]
    both = mine[[*keys, "error"]].merge(theirs[[*keys, "error"]], on=keys, validate="one_to_one")
    return inference.mean_interval(both.assign(error=both["error_x"] - both["error_y"]), name="the change")


def compare(errors: pd.DataFrame, by: list[str], pairs: list[Network], unit: str, settings: Any) -> pd.DataFrame:
    """Each pair of methods (method, baseline) on the subjects of each model: `by`, model, method, baseline, `role`,
    `columns`.

    `errors` has the columns `by`, the data set trained on first, model, method, fold, seed, subject, error; pairs of
    which a group lacks one are left out. `settings` holds methods, networks and statistics.
    """
    rows = []
    for names, group in errors.groupby([*by, "model"], sort=False):
        parts, model = dict(list(group.groupby("method"))), names[-1]
        for method, baseline in pairs:
            if method in parts and baseline in parts:
                found = between(parts[method], parts[baseline], (model, method), (model, baseline), unit, settings)
                first = dict(zip([*by, "model"], names, strict=True))
                kind = role(settings.methods, method, baseline)
                if kind == "control":
                    found = noted(found, epochs_note(settings, names[0], model, method, baseline))
                rows.append({**first, "method": method, "baseline": baseline, "role": kind, **found})
    return corrected(rows, [*by, "model", "method", "baseline", "role"], unit)


def noted(found: dict[str, Any], note: str) -> dict[str, Any]:
    """A comparison with something more to be said of it."""
    return {**found, "note": "; ".join(filter(None, [found["note"], note]))}


def corrected(rows: list[dict[str, Any]], first: list[str], unit: str) -> pd.DataFrame:
    """The rows of a table of comparisons (`first` and what `pair` gives), corrected over the table after Holm: p-values
    of a difference and of equivalence each for themselves.
    """
    frame = pd.DataFrame(rows, columns=[*first, *columns(unit)])
    for name in ("p", "p_equivalence"):
        frame[f"{name}_holm"] = inference.holm(frame[name].to_numpy(np.float64))
    numbers = zip(frame["p_holm"], frame["p_equivalence_holm"], strict=True)
    frame["finding"] = pd.Series([inference.finding(*pair) for pair in numbers], index=frame.index, dtype=object)
    return frame


def comparison_table(frame: pd.DataFrame, unit: str) -> list[Block]:
    """The table of `compare` as it is shown, and its footnotes."""
    names = {
        **{text: frame[column] for column, text in HEADINGS.items() if column in frame},
        "Model": [label(row.model, row.method) for row in frame.itertuples()],
        "Against": [
            label(row.model, row.baseline) + (" (control)" if row.role == "control" else "")
            for row in frame.itertuples()
        ],
    }
    notes = Notes()
    return [pd.DataFrame({**names, **comparison_cells(frame, unit, notes)}), *notes.paragraphs()]


def comparison_cells(frame: pd.DataFrame, unit: str, notes: Notes) -> dict[str, list[str]]:
    """The cells of `columns` by heading; columns of tests only where something was tested."""
    heading, form = DIFFERENCES[unit]
    rows = frame.to_dict("records")
    tested = {
        "p (Holm)": [p_text(row["p_holm"]) for row in rows],
        "Finding": [row["finding"] for row in rows],
        DETECTABLE[unit]: [_number(row[f"detectable_{unit}"], form.removeprefix("+")) for row in rows],
        "d_z": [_number(row["d_z"], "+.2f") for row in rows],
    }
    return {
        heading: [difference_text(row, unit) + notes.mark(row["reason"], row["note"]) for row in rows],
        **(tested if frame["p"].notna().any() else {"Finding": tested["Finding"]}),
        "Subjects": [str(row["n_subjects"] or "") for row in rows],
        "Seeds": [_seeds_text(row) for row in rows],
    }


def legend(frame: pd.DataFrame, unit: str, statistics: Statistics) -> str:
    """How the columns of comparisons are read; the tests only where something was tested."""
    controlled = "role" in frame and (frame["role"] == "control").any()
    text = "Negative is better. " + (f"{CONTROL} " if controlled else "")
    if frame["p"].isna().all():
        return text + "Nothing could be tested; the footnotes say why."
    name, suffix = MARGINS[unit]
    return text + (
        "[95 % interval over subjects and trainings]. p of no difference, corrected over this table after Holm."
        f" Finding, at 5 %: *equivalent* is shown to lie within ±{getattr(statistics, name):g}{suffix} (two one-sided"
        " tests, corrected likewise), which *nothing found* is not. Detectable: the smallest true difference that would"
        " be found with 80 % power. d_z: the difference over its standard deviation over subjects. Seeds: *pairs* share"
        " a parent, teacher or shape by seed; otherwise the chance of both trainings adds up."
    )


def pictures(results: Any, forest: str) -> list[str]:
    """The figures of a table of comparisons on the page; `results` says where they lie and what the data sets are."""
    text = (
        "All comparisons: difference and 95 % interval over subjects and trainings, left of zero the network is better."
        " Shaded: the margin of equivalence. Filled: different, half filled: equivalent, both at 5 % after Holm; open:"
        " neither is shown."
    )
    found = picture(results.figure(forest), "Differences of all comparisons", text)
    for dataset in results.settings.datasets:
        text = (
            f"Each subject of {dataset}, mean over trainings: left with the network compared with, right with the"
            " method. Solid lines fall (better), dashed ones rise; diamonds are means with their 95 % intervals."
        )
        found += picture(results.figure(f"paired-{dataset}"), f"Errors per subject on {dataset}", text)
    return found


def difference_text(row: Mapping[str, Any], unit: str) -> str:
    """-0.50 [-0.60, -0.40]; a dash where there is none."""
    difference, low, high = (row[f"{name}_{unit}"] for name in ("difference", "low", "high"))
    form = DIFFERENCES[unit][1]
    return MISSING if pd.isna(difference) else f"{difference:{form}}{interval_text(low, high, form)}"


def p_text(p: float) -> str:
    """0.012, <0.001, and nothing for NaN."""
    if pd.isna(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _named(found: inference.Comparison, unit: str, paired_seeds: bool) -> dict[str, Any]:
    return {
        **{f"{name}_{unit}": getattr(found, name) for name in ("difference", "low", "high")},
        "p": found.p,
        "p_equivalence": found.p_equivalence,
        f"detectable_{unit}": found.smallest_detectable,
        "d_z": found.effect_size,
        "df": found.df,
        "n_subjects": found.n_subjects,
        "n_seeds": found.n_seeds_a,
        "n_seeds_against": found.n_seeds_b,
        "paired_seeds": paired_seeds,
        "reason": found.reason,
        "note": found.note,
    }


def _ancestry(methods: Mapping[str, Any], network: Network) -> set[Network]:
    """The network and all that it goes back to."""
    found, waiting = set(), [network]
    while waiting:
        model, method = network = waiting.pop()
        if network in found:
            continue
        found.add(network)
        if method in methods:
            entry = methods[method]
            waiting += [(model, link) for link in (entry.parent, entry.shape) if link]
            waiting += [_teacher(model, entry.teacher)] if entry.teacher else []
    return found


def _teacher(model: str, name: str) -> Network:
    """The network that a method's teacher, method or model/method, is for a model."""
    first, _, second = name.partition("/")
    return (first, second) if second else (model, first)


def _number(value: float, form: str) -> str:
    return "" if pd.isna(value) else f"{value:{form}}"


def _seeds_text(row: Mapping[str, Any]) -> str:
    if row["paired_seeds"]:
        return f"{row['n_seeds']} pair{'' if row['n_seeds'] == 1 else 's'}"
    return f"{row['n_seeds']} and {row['n_seeds_against']}"
