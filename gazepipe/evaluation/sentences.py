"""What tables of comparisons say, in sentences made from their numbers."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from gazepipe.common.markdown import METHOD_LABELS, Block, label
from gazepipe.evaluation.comparisons import DIFFERENCES, MARGINS, difference_text, p_text
from gazepipe.evaluation.inference import finding
from gazepipe.evaluation.settings import Statistics

MOST = 12
"""Sentences of one kind; where there are more, those of several models become one."""
NAMES = ["who", "of", "place", "against", "over", "role"]
"""How sentences call what is compared.

- who, of: "`who` lowers the error of `of`"; with an empty `of`, "`who` has a lower error than".
- place: "on columbia-drawn, tested on mpiifacegaze-drawn"; may be empty.
- against: what it is compared with; over: the same in words that fit every model.
- role: of what it is compared with; "control" comes first.
"""
CONTROL = "control"
AS_LONG, ITS_CONTROL = "the same training without it", "its control"
OTHERS = {"full": "the full network", "scratch": "the same network from scratch"}
"""How networks of these roles are called, before their name."""
NOTHING_FOUND = (
    "Nothing found, which is not the same as equivalent. In brackets the smallest true difference that would have been"
    " found with 80 % power, at 5 % for each comparison by itself:"
)
NOTHING_TESTED = "Nothing could be tested: the differences in the table are of these trainings and subjects alone."

Rows = list[dict[str, Any]]


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of comparisons of methods with NAMES in front, for `sentences`.

    It has model, method, baseline (or against), dataset (or train and test), note, and role where roles are known.
    """
    names = pd.DataFrame([_names(row) for row in frame.to_dict("records")], columns=NAMES, index=frame.index)
    return names.join(frame.drop(columns=NAMES, errors="ignore"))


def sentences(frame: pd.DataFrame, unit: str, statistics: Statistics) -> list[Block]:
    """What is different, what is equivalent, what was not found and what was not tested, each a paragraph and a list.

    `frame` has NAMES and the `evaluation.comparisons.columns` of the unit, p-values corrected over it. Comparisons with
    a control come first. Where there would be more than MOST sentences of one kind, those of several models are one.
    """
    margin = _margin(unit, statistics)
    kinds = {
        "different": (f"Different (p after Holm over {_count(len(frame))}):", _different),
        "equivalent": (f"Equivalent, shown to lie within ±{margin}:", _equal),
        "nothing found": (NOTHING_FOUND, _equal),
    }
    rows = frame.sort_values("role", key=lambda roles: roles != CONTROL, kind="stable").to_dict("records")
    blocks: list[Block] = []
    for kind, (heading, said) in kinds.items():
        own = [row for row in rows if row["finding"].partition(",")[0] == kind]
        if own:
            told, others = _first_controls(own) if kind == "nothing found" else (own, 0)
            blocks += [heading, _list([*_grouped(told, unit, margin, said), *_further(others)])]
    return [*blocks, *_untested(rows)]


def _first_controls(rows: Rows) -> tuple[Rows, int]:
    """The comparisons with a control, where there are some, and how many others there are; else all."""
    controls = [row for row in rows if row["role"] == CONTROL]
    return (controls, len(rows) - len(controls)) if controls else (rows, 0)


def _further(number: int) -> list[str]:
    return [f"Nor in {_count(number)} with networks that are no control; the table has them."] if number else []


def _names(row: dict[str, Any]) -> dict[str, str]:
    model, role = row["model"], row.get("role", "")
    baseline = row["baseline"] if "baseline" in row else row["against"]
    other = label(model, baseline)
    over = OTHERS.get(role, _method(baseline))
    if role == CONTROL:
        # A note may say that the control was trained for another number of epochs.
        over = ITS_CONTROL if _note(row) else AS_LONG
    against = f"{over} ({other})" if role == CONTROL or role in OTHERS else other
    place = _place(row.get("train", row.get("dataset")), row.get("test"))
    return dict(zip(NAMES, (_method(row["method"]), model, place, against, over, role), strict=True))


def _method(method: str) -> str:
    """A method's own name: KD + Prune."""
    return METHOD_LABELS.get(method, method).strip(" +,") or method


def _place(train: str, test: str | None) -> str:
    return f"on {train}" if test in (None, train) else f"on {train}, tested on {test}"


def _grouped(rows: Rows, unit: str, margin: str, said: Callable[[Rows, str, str, bool], str]) -> list[str]:
    """A sentence for each pair of networks; for each pair of methods where that makes too many."""
    pairs = _groups(rows, unit, ["who", "of", "against"])
    if len(pairs) <= MOST:
        return [said(group, unit, margin, False) for group in pairs]
    return [said(group, unit, margin, True) for group in _groups(rows, unit, ["who", "over"])]


def _groups(rows: Rows, unit: str, by: list[str]) -> list[Rows]:
    """Rows that agree in `by`, in the finding and, where it is a difference, in its sign."""
    groups: dict[tuple, Rows] = {}
    for row in rows:
        lower = row["finding"].startswith("different") and row[f"difference_{unit}"] < 0
        groups.setdefault((*(row[name] for name in by), row["finding"], lower), []).append(row)
    return list(groups.values())


def _different(rows: Rows, unit: str, margin: str, many: bool) -> str:
    """KD lowers the error of resnet18 by 0.48 degrees [0.20, 0.76] (p = 0.004) against resnet18; or of many pairs."""
    first = rows[0]
    within = f", less than the margin of {margin}" if "within" in first["finding"] else ""
    if many:
        amount = f"by {_range([abs(row[f'difference_{unit}']) for row in rows], unit)}"
        return f"{_change(first, unit, '', first['over'], amount)}{within}, in {_count(len(rows))}: {_where(rows)}."
    amounts = [f"by {_amount(row, unit)} ({_p(row)}){_note(row)}" for row in rows]
    if len(rows) == 1:
        start = f"O{first['place'][1:]}: " if first["place"] else ""
        return f"{start}{_change(first, unit, first['of'], first['against'], amounts[0])}{within}."
    each = "; ".join(f"{amount} {row['place']}" for amount, row in zip(amounts, rows, strict=True))
    return f"{_change(first, unit, first['of'], first['against'], '')}{within}: {each}."


def _change(row: dict[str, Any], unit: str, of: str, against: str, amount: str) -> str:
    lower, between = row[f"difference_{unit}"] < 0, f" {amount}" if amount else ""
    if not row["of"]:
        return f"{row['who']} has a {'lower' if lower else 'higher'} error than {against}{between}"
    who = f"{row['who']}," if "," in row["who"] else row["who"]
    return f"{who} {'lowers' if lower else 'raises'} the error{f' of {of}' if of else ''}{between} against {against}"


def _equal(rows: Rows, unit: str, margin: str, many: bool) -> str:
    """KD of resnet18 against resnet18: -0.02 degrees [-0.34, 0.30] (0.45 degrees) on columbia-drawn; or of many pairs.

    What could have been detected is in brackets where nothing was found.
    """
    first, nothing = rows[0], rows[0]["finding"] == finding(1.0)
    if many:
        differences = _range([row[f"difference_{unit}"] for row in rows], unit, "+")
        size = f" ({_range([row[f'detectable_{unit}'] for row in rows], unit)})" if nothing else ""
        return f"{first['who']} against {first['over']}: {differences}{size} in {_count(len(rows))}, {_where(rows)}."
    of, notes = f" of {first['of']}" if first["of"] else "", dict.fromkeys(_note(row) for row in rows)
    each = []
    for row in rows:
        size = f" ({_range([row[f'detectable_{unit}']], unit)})" if nothing else ""
        note = _note(row) if len(notes) > 1 else ""
        each.append(f"{_signed(row, unit)}{size}{note} {row['place']}".strip())
    shared = next(iter(notes)) if len(notes) == 1 else ""
    return f"{first['who']}{of} against {first['against']}{shared}: {'; '.join(each)}."


def _untested(rows: Rows) -> list[Block]:
    """How many comparisons were not tested, by reason."""
    reasons = Counter(row["reason"] for row in rows if row["finding"] == finding(np.nan))
    if not reasons:
        return []
    head = NOTHING_TESTED if reasons.total() == len(rows) else "Not tested:"
    return [head, _list([f"{_count(number)}: {reason}." for reason, number in reasons.items()])]


def _where(rows: Rows) -> str:
    """of resnet18 on a and on b; of simvit on a."""
    places: dict[str, list[str]] = {}
    for row in rows:
        places.setdefault(f"of {row['of']} " if row["of"] else "", []).append(row["place"])
    return "; ".join(f"{of}{' and '.join(filter(None, on))}".strip() for of, on in places.items())


def _amount(row: dict[str, Any], unit: str) -> str:
    """0.48 degrees [0.20, 0.76]: the size of a difference, whichever its sign, and its interval."""
    difference, low, high = (row[f"{name}_{unit}"] for name in ("difference", "low", "high"))
    if difference < 0:
        difference, low, high = -difference, -high, -low
    form, word = _form(unit), MARGINS[unit][1]
    return f"{difference:{form}}{word} [{low:{form}}, {high:{form}}]"


def _signed(row: dict[str, Any], unit: str) -> str:
    """-0.02 degrees [-0.34, +0.30]."""
    number, bracket, interval = difference_text(row, unit).partition(" [")
    return f"{number}{MARGINS[unit][1]}{bracket}{interval}"


def _p(row: dict[str, Any]) -> str:
    text = p_text(row["p_holm"])
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def _note(row: dict[str, Any]) -> str:
    return f" ({row['note']})" if isinstance(row["note"], str) and row["note"] else ""


def _count(number: int) -> str:
    return f"{number} comparison{'' if number == 1 else 's'}"


def _range(values: list[float], unit: str, sign: str = "") -> str:
    """0.20 to 0.81 degrees."""
    texts = dict.fromkeys(f"{value:{sign}{_form(unit)}}" for value in (min(values), max(values)))
    return f"{' to '.join(texts)}{MARGINS[unit][1]}"


def _margin(unit: str, statistics: Statistics) -> str:
    name, word = MARGINS[unit]
    return f"{getattr(statistics, name):g}{word}"


def _form(unit: str) -> str:
    return DIFFERENCES[unit][1].removeprefix("+")


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
