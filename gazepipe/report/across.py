"""`gazepipe compare`: what is printed and written of networks compared across folders and with foreign predictions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from gazepipe.common import latex
from gazepipe.common.files import write_csv, write_json, write_text
from gazepipe.common.markdown import MISSING, Notes, is_text, row_name
from gazepipe.errors import UserError
from gazepipe.evaluation import comparisons
from gazepipe.evaluation.across import NAMES, SAME_BYTES, Rules, Trainings, compared, unit_of
from gazepipe.evaluation.sentences import sentences
from gazepipe.evaluation.settings import Statistics
from gazepipe.evaluation.sides import Finder, Pair, Side, pairs, sides, unmatched
from gazepipe.evaluation.trainings import forget
from gazepipe.provenance import changes, diff

CAUSES = ("configuration", "source", "data", "versions", "machine")
OTHER_RUN = ("settings.fold:", "settings.seed:")
LATEX_HEAD = "% Needs \\usepackage{booktabs}.\n"


@dataclass(frozen=True)
class Options:
    """What `gazepipe compare` is asked for; `unit` "deg" or "percent", `margin` in it."""

    tests: tuple[str, ...] = ()
    unit: str | None = None
    margin: float | None = None
    trainings: Trainings = "separate"
    shared: bool = False
    csv: Path | None = None
    json: Path | None = None
    latex: Path | None = None


Place = Callable[..., Path]
"""The folder of a run, by the results folder and the run's wildcards."""


def compare(given: list[str], options: Options, found: Finder, place: Place) -> str:
    """Compare each later of the `given` sides (see `evaluation.across.sides`) with the first; the text to print.

    Writes the CSV, JSON and LaTeX that are asked for. Raises UserError for sides, files and options that do not fit.
    """
    if len(given) < 2:
        raise UserError(f"{' '.join(given)}: is one side; name what to compare it with")
    forget()
    all_sides = sides(given, found)
    met = pairs(all_sides, list(options.tests))
    unit = unit_of(met, options.unit)
    margin = {} if options.margin is None else {comparisons.MARGINS[unit][0]: options.margin}
    rules = Rules(unit, Statistics(**margin), options.trainings, options.shared)
    frame = compared(met, rules, lambda pair: _same_runs(pair, place))
    left, facts = unmatched(all_sides, met, list(options.tests)), run_differences(met, place)
    _write(frame, all_sides, rules, left, facts, options)
    said = [
        _sides_text(all_sides),
        *_same_text(frame),
        *_table_text(frame, rules),
        *_left_text(left),
        *_facts_text(facts),
    ]
    return "\n\n".join(said)


def _same_text(frame: pd.DataFrame) -> list[str]:
    """Which predictions are the same to the byte: no row of the printed table."""
    same = frame[frame["reason"] == SAME_BYTES].to_dict("records")
    if not same:
        return []
    if len(same) == len(frame):
        return [f"All {len(same)} predictions that were found in both are the same to the byte."]
    names = [f"{row['side']}: {row['train']} {row_name(row['model'], row['method'])} on {row['test']}" for row in same]
    return [f"The same predictions to the byte as {same[0]['against_side']}: {'; '.join(changes.shortened(names))}"]


def _table_text(frame: pd.DataFrame, rules: Rules) -> list[str]:
    differing = frame[frame["reason"] != SAME_BYTES]
    if differing.empty:
        return []
    shown, notes = shown_table(differing, rules.unit)
    return [_plain(shown), *notes.paragraphs(), legend(differing, rules), *findings(differing, rules)]


# ---- the table


def shown_table(frame: pd.DataFrame, unit: str) -> tuple[pd.DataFrame, Notes]:
    """The table as it is shown, cells are text in Markdown, and its footnotes."""
    notes = Notes()
    cells = comparisons.comparison_cells(frame, unit, notes)
    letters = frame["side"].unique()
    error = {
        f"Error of {letters[0]}" if len(letters) == 1 else "Error": [_error(value) for value in frame["error"]],
        f"Error of {frame['against_side'].iat[0]}": [_error(value) for value in frame["error_against"]],
    }
    return pd.DataFrame({**_names(frame), **error, **cells}), notes


def _names(frame: pd.DataFrame) -> dict[str, list[str]]:
    rows = frame.to_dict("records")
    if all(_same_names(row) for row in rows) and frame["side"].nunique() == 1:
        return {
            "Trained on": [row["train"] for row in rows],
            "Tested on": [row["test"] for row in rows],
            "Model": [row_name(row["model"], row["method"]) for row in rows],
        }
    return {
        **({"Tested on": [row["test"] for row in rows]} if frame["test"].any() else {}),
        "Model": [_full_name(row, "") for row in rows],
        "Against": [_full_name(row, "against_") for row in rows],
    }


def _same_names(row: dict) -> bool:
    return all(row[name] == row[f"against_{name}"] for name in NAMES) and bool(row["train"])


def _full_name(row: dict, prefix: str) -> str:
    """b: columbia-drawn resnet18 + KD; of foreign predictions the file's name."""
    train, model, method = (row[f"{prefix}{name}"] for name in NAMES)
    return f"{row[f'{prefix}side']}: {f'{train} {row_name(model, method)}' if train else model}"


def _error(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:.2f}"


def _plain(shown: pd.DataFrame) -> str:
    align = ["left" if is_text(column) else "right" for column in shown]
    cells = shown.map(lambda cell: str(cell).replace("*", ""))
    return tabulate(cells, headers="keys", tablefmt="simple", showindex=False, disable_numparse=True, colalign=align)


def legend(frame: pd.DataFrame, rules: Rules) -> str:
    """How the table is read, in plain text."""
    later = "" if frame["side"].nunique() > 1 else f" of {frame['side'].iat[0]}"
    units = {"deg": "degrees", "px": "pixels"}
    errors = f"Errors are means over subjects, in {' and '.join(units[unit] for unit in frame['error_unit'].unique())}."
    difference = (
        f"Differences are the error{later or ' of the later side'} minus that of {frame['against_side'].iat[0]}."
    )
    return f"{errors} {difference} {comparisons.legend(frame, rules.unit, rules.statistics)}".replace("*", "")


def findings(frame: pd.DataFrame, rules: Rules) -> list[str]:
    """What the table says, in sentences; none where nothing was tested, as the legend says."""
    if frame["p"].isna().all():
        return []
    rows = frame.to_dict("records")
    mine, theirs = ([_full_name(row, prefix) for row in rows] for prefix in ("", "against_"))
    places = [f"on {row['test']}" if row["test"] else "" for row in rows]
    names = {"who": mine, "of": "", "place": places, "against": theirs, "over": theirs, "role": ""}
    said = sentences(frame.assign(**names), rules.unit, rules.statistics)
    return ["\n".join(map(str, said))]


# ---- runs


def _runs(pair: Pair, place: Place) -> list[tuple[Path, Path]]:
    """The run folders of the first side and of the later one, of each fold and seed that both have."""
    if pair.first.folder is None or pair.side.folder is None:
        return []
    theirs, mine = (
        {
            (file.fold, file.seed): place(
                side.folder, dataset=each.train, model=each.model, method=each.method, fold=file.fold, seed=file.seed
            )
            for file in each.files
        }
        for side, each in ((pair.first, pair.theirs), (pair.side, pair.mine))
    )
    return [(theirs[run], mine[run]) for run in theirs if run in mine]


def _same_runs(pair: Pair, place: Place) -> bool:
    """Whether the same networks, to the byte, made the predictions of both sides."""
    runs = _runs(pair, place)
    whole = len(runs) == len(pair.mine.files) == len(pair.theirs.files)
    return whole and all(diff.same_weights(*run) for run in runs)


def run_differences(met: list[Pair], place: Place) -> dict[str, dict[str, list[str]]]:
    """By network (and side): what the facts of its runs say differs, by section of CAUSES; only networks of one name,
    with facts on both sides.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for pair in met:
        if (pair.mine.train, pair.mine.label) != (pair.theirs.train, pair.theirs.label):
            continue
        runs = [run for run in _runs(pair, place) if all(map(diff.has_facts, run))]
        name = f"{pair.side.letter}: {pair.mine.train} {pair.mine.label}"
        if runs and name not in found:
            found[name] = _differences(runs)
    return found


def _differences(runs: list[tuple[Path, Path]]) -> dict[str, list[str]]:
    each = [diff.causes(*run) for run in runs]
    return {title: list(dict.fromkeys(line for causes in each for line in causes[title])) for title in CAUSES}


def _facts_text(facts: dict[str, dict[str, list[str]]]) -> list[str]:
    """What differs between the runs: once what differs in all of them, then what differs in one network alone."""
    if not facts:
        return []
    lines = {name: [(title, line) for title in CAUSES for line in found[title]] for name, found in facts.items()}
    common = [each for each in next(iter(lines.values())) if all(each in others for others in lines.values())]
    said = ["What differs between the runs, by their facts:"]
    said += _indented(f"all {len(facts)} networks" if len(facts) > 1 else next(iter(facts)), common)
    for name, found in lines.items():
        own = [each for each in found if each not in common]
        said += _indented(name, own) if own else []
    same = [title for title in CAUSES if not any(found[title] for found in facts.values())]
    said += [f"  the same in all: {', '.join(same)}"] if same else []
    return ["\n".join(said)]


def _indented(name: str, lines: list[tuple[str, str]]) -> list[str]:
    texts = changes.shortened(
        [line if line.startswith(f"{title}:") else f"{title}: {line}" for title, line in lines], 20
    )
    return [f"  {name}", *(f"    {text}" for text in texts)] if texts else []


# ---- the rest


def _sides_text(all_sides: list[Side]) -> str:
    return "\n".join(f"{side.letter}: {side.given}" for side in all_sides)


def _left_text(left: dict[str, list[str]]) -> list[str]:
    lines = [f"Only in {letter}: {'; '.join(changes.shortened(names))}" for letter, names in left.items()]
    return ["\n".join(lines)] if lines else []


def _write(frame: pd.DataFrame, all_sides: list[Side], rules: Rules, left: dict, facts: dict, options: Options) -> None:
    if options.csv:
        write_csv(options.csv, frame)
    if options.json:
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        name = comparisons.MARGINS[rules.unit][0]
        head = {"sides": {side.letter: side.given for side in all_sides}, "unit": rules.unit}
        margin = {"margin": getattr(rules.statistics, name)}
        write_json(options.json, {**head, **margin, "rows": rows, "unmatched": left, "runs": facts})
    if options.latex:
        shown, notes = shown_table(frame, rules.unit)
        lines = [line.removeprefix("- ") for each in notes.paragraphs() for line in each.splitlines()]
        sides_said = "; ".join(f"{side.letter}: `{side.given}`" for side in all_sides)
        caption = f"{sides_said}. {legend(frame, rules)}"
        write_text(options.latex, LATEX_HEAD + latex.table(shown, "Comparison", caption, "tab:compare", lines))
