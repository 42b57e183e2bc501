"""What `gazepipe compare` is given: networks of results folders and predictions of others, and which of them meet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from gazepipe.common.markdown import row_name
from gazepipe.errors import UserError
from gazepipe.evaluation.metrics import natural_order, tests_in, tests_text
from gazepipe.evaluation.settings import CONTROLS
from gazepipe.evaluation.trainings import PLACES, File, by_test, named_by, read

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Predictions:
    """One network's predictions for one test set, of a file or more; foreign ones are named by their file alone, and by
    their test set where they tell it.
    """

    model: str
    files: tuple[File, ...]
    method: str = ""
    train: str = ""
    test: str = ""

    @property
    def foreign(self) -> bool:
        return not self.train

    @property
    def label(self) -> str:
        return self.model if self.foreign else row_name(self.model, self.method)


@dataclass(frozen=True)
class Side:
    """What one argument of `gazepipe compare` names.

    `fixed`: which of train, model and method are named in it; of foreign predictions all are.
    """

    letter: str
    given: str
    predictions: tuple[Predictions, ...]
    folder: Path | None = None
    fixed: tuple[bool, bool, bool] = (True, True, True)


@dataclass(frozen=True)
class Pair:
    """Predictions of a later side, and those of the first that they are compared with."""

    side: Side
    mine: Predictions
    first: Side
    theirs: Predictions


Finder = Callable[[Path], list[tuple[dict[str, str], Path]]]
"""The prediction files of a results folder, each with dataset, model, method, fold and seed."""


def sides(given: list[str], found: Finder) -> list[Side]:
    """The sides that arguments name: FOLDER, FOLDER:DATASET/MODEL/METHOD (later names may be left out, `*` stands for
    any), a prediction CSV, or a name of CSVs with `{seed}` or `{fold}`. Raises UserError for what names nothing, and
    for more sides than LETTERS.
    """
    if len(given) > len(LETTERS):
        raise UserError(f"{given[len(LETTERS)]}: is side {len(LETTERS) + 1}; compare {len(LETTERS)} sides at most")
    return [_side(letter, text, found) for letter, text in zip(LETTERS, given, strict=False)]


def _side(letter: str, text: str, found: Finder) -> Side:
    if any(place in text for place in PLACES) or Path(text).is_file() or text.endswith(".csv"):
        tests = by_test(named_by(text))
        return Side(letter, text, tuple(Predictions(Path(text).name, own, test=test) for test, own in tests.items()))
    folder, _, names = (text, "", "") if Path(text).is_dir() else text.rpartition(":")
    if not Path(folder or text).is_dir():
        raise UserError(f"{folder or text}: is no folder and no CSV; name a results folder or a prediction CSV")
    files: dict[tuple[str, ...], list[File]] = {}
    patterns = [*filter(None, names.split("/")), "*", "*", "*"]
    if len(patterns) > 6:
        raise UserError(f"{text}: names more than DATASET/MODEL/METHOD behind the colon; name these alone")
    for known, path in found(Path(folder)):
        network = known["dataset"], known["model"], known["method"]
        if all(fnmatchcase(name, pattern) for name, pattern in zip(network, patterns, strict=False)):
            for file in _by_test(File(path, known["fold"], known["seed"])):
                files.setdefault((*network, file.test), []).append(file)
    if not files:
        there = f"no predictions of {names}" if names else "no predictions"
        raise UserError(f"{folder}: holds {there}; name a results folder, and DATASET/MODEL/METHOD as in predictions/")
    predictions = [
        Predictions(model, tuple(sorted(own, key=_place)), method, train, test)
        for (train, model, method, test), own in sorted(files.items(), key=lambda item: _natural(item[0]))
    ]
    return Side(
        letter, text, tuple(predictions), Path(folder), tuple(not set(pattern) & set("*?[") for pattern in patterns[:3])
    )


def _by_test(file: File) -> list[File]:
    """A file of a results folder once for each test set in it."""
    tests = tests_in(file.path)
    if tests == [""]:
        raise UserError(f"{file.path}: has no column test; delete it, run again")
    return [replace(file, test=test) for test in tests]


def _place(file: File) -> list:
    return _natural((file.fold, file.seed))


def _natural(names: tuple[str, ...]) -> list:
    return [natural_order(name) for name in names]


def pairs(all_sides: list[Side], tests: list[str]) -> list[Pair]:
    """What is compared: each later side with the first, on the same test set. Foreign predictions meet every network;
    networks meet where their training set, model and method are the same or named on both sides; one whose three names
    are given meets all of the other side that were trained on the same set. `tests`: only these test sets.
    Raises UserError where nothing meets, and where it cannot be told what test set foreign predictions are of.
    """
    first, *others = all_sides
    found = [Pair(side, *pair) for side in others for pair in _met(side, first, tests)]
    if not found:
        given = ", ".join(side.given for side in all_sides)
        on = f" on {', '.join(tests)}" if tests else ""
        raise UserError(f"{given}: have no network and test set in common{on}; name one network of a folder by :NAMES")
    return found


def _met(side: Side, first: Side, tests: list[str]) -> Iterator[tuple[Predictions, Side, Predictions]]:
    _check_names(side, first)
    of_test = _test_of_untold(side, first, tests)
    for theirs in first.predictions:
        for mine in side.predictions:
            test = {each.test or of_test for each in (mine, theirs)}
            wanted = not tests or test <= {*tests, ""}
            if len(test) == 1 and wanted and _meet(side, mine, first, theirs):
                yield mine, first, theirs


def _check_names(side: Side, first: Side) -> None:
    """UserError where foreign predictions tell test sets of which the other side has none."""
    foreign, other = (side, first) if side.folder is None else (first, side)
    own, there = (dict.fromkeys(each.test for each in one.predictions) for one in (foreign, other))
    if foreign.folder is None and all(own) and all(there) and not own.keys() & there.keys():
        raise UserError(
            f"{foreign.given}: has {tests_text(own)}, but {other.given} {tests_text(there)}; "
            "name test sets as its files do"
        )


def _meet(side: Side, mine: Predictions, first: Side, theirs: Predictions) -> bool:
    if mine.foreign or theirs.foreign:
        return True
    whole = all(side.fixed) or all(first.fixed)
    if {mine.model, theirs.model} & CONTROLS.keys() and not whole:
        return False
    named = [ours and others for ours, others in zip(side.fixed, first.fixed, strict=True)]
    free = [named[0], named[1] or whole, named[2] or whole]
    names = zip((mine.train, mine.model, mine.method), (theirs.train, theirs.model, theirs.method), free, strict=True)
    return all(one == other or any_name for one, other, any_name in names)


def _test_of_untold(side: Side, first: Side, tests: list[str]) -> str:
    """The test set that predictions are of which do not tell it: the only one of the other side that has subjects in
    common with them; "" where both sides tell it, or none.
    """
    untold = [each for each in (side, first) if not each.predictions[0].test]
    told = [each for each in (side, first) if each.predictions[0].test]
    if len(untold) != 1:
        return ""
    subjects = set(read(untold[0].predictions[0].files)["subject"])
    examples = {each.test: each for each in told[0].predictions if not tests or each.test in tests}
    fitting = [test for test, each in examples.items() if subjects & set(read(each.files)["subject"])]
    if len(fitting) > 1:
        raise UserError(f"{untold[0].given}: may be of {' or '.join(fitting)}, by its subjects; name one with --test")
    if not fitting:
        there = ", ".join(examples) or ", ".join(tests)
        raise UserError(
            f"{untold[0].given}: has no subject of {there} in {told[0].given}; name subjects as its files do"
        )
    return fitting[0]


def unmatched(all_sides: list[Side], met: list[Pair], tests: list[str]) -> dict[str, list[str]]:
    """By side's letter: networks and their test sets that nothing was compared with."""
    used = {(pair.side.letter, pair.mine) for pair in met} | {(pair.first.letter, pair.theirs) for pair in met}
    left = {
        side.letter: [
            f"{each.train} {each.label} on {each.test}".strip()
            for each in side.predictions
            if (side.letter, each) not in used and each.model not in CONTROLS and (not tests or each.test in tests)
        ]
        for side in all_sides
    }
    return {letter: names for letter, names in left.items() if names}
