"""Method cards: what each method of a run does, from its configuration."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gazepipe.common.markdown import plain
from gazepipe.methods.settings import Kinds, declared
from gazepipe.report.settings import MethodCard
from gazepipe.training.settings import Training

KINDS = declared(Kinds)
OWN = {"epochs", "learning_rate", "batch_size"}
"""Training settings that a card shows whether or not they differ from their default."""


def method_card(name: str, card: MethodCard) -> str:
    """The card of a method in Markdown, below a heading that names it."""
    sections = [_sentences(card), *(_kind(kind, values) for kind, values in card.kinds.items()), _training(card)]
    return "\n\n".join(sections)


def _sentences(card: MethodCard) -> str:
    lines = [_start(card)]
    if card.teacher:
        lines.append(f"Learns from the teacher `{card.teacher}`.")
    lines += [f"{kind}: {_said(KINDS[kind].__doc__)}" for kind in card.kinds]
    if card.control:
        lines.append(f"Compared first with `{card.control}`, which trains as long without the idea.")
    if not card.kinds:
        lines.append("Learns from the labels alone; nothing is done to the network.")
    if card.networks:
        lines.append(f"Models: {', '.join(f'`{model}`' for model in card.networks)}.")
    else:
        lines.append("Not in the tables itself: others start or learn from it.")
    return "\n".join(f"- {line}" for line in lines)


def _start(card: MethodCard) -> str:
    if card.parent:
        return f"Starts from the weights of `{card.parent}`."
    if card.shape:
        return f"Starts from random weights, in the shape of the network that `{card.shape}` makes."
    return "Starts from random weights."


def _kind(kind: str, values: Mapping[str, Any]) -> str:
    """The settings of one kind, each with its description."""
    rows = [
        (f"{kind}.{name}", _value(value), _said(description))
        for name, value, description in _described(KINDS[kind], values)
    ]
    return _table(("Setting", "Value", "What it is"), rows)


def _described(settings: Any, values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any, str]]:
    """(name, value, description) of every setting, those of a nested block by dotted names."""
    for name, value in values.items():
        field = settings.model_fields[name]
        yield before + name, "on" if isinstance(value, Mapping) else value, field.description or ""
        nested = next((each for each in _types(field.annotation) if hasattr(each, "model_fields")), None)
        if isinstance(value, Mapping) and nested is not None:
            yield from _described(nested, value, f"{before}{name}.")


def _types(annotation: Any) -> tuple[Any, ...]:
    return (annotation, *getattr(annotation, "__args__", ()))


def _training(card: MethodCard) -> str:
    """What trainings of the method are set to: what they share, and by network and data set what differs."""
    defaults = Training().model_dump(mode="json")
    rows = []
    for name, default in defaults.items():
        values = {
            (model, dataset): settings.get(name, default)
            for model, datasets in card.trainings.items()
            for dataset, settings in datasets.items()
        }
        if name in OWN or any(value != default for value in values.values()):
            texts = {run: _value(value) for run, value in values.items()}
            rows.append((f"training.{name}", _shared(texts), _said(Training.model_fields[name].description)))
    return _table(("Setting", "Value", "What it is"), rows)


def _shared(texts: Mapping[tuple[str, str], str]) -> str:
    """One value; or each with the models, the data sets, or the models on data sets that have it."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    by_model, by_dataset = (_by(texts, lambda run, place=place: run[place]) for place in (0, 1))
    found = by_model or by_dataset or _by(texts, lambda run: " on ".join(run)) or {}
    return "; ".join(f"{text}: {', '.join(names)}" for text, names in found.items())


def _by(texts: Mapping[tuple[str, str], str], name: Callable[[tuple[str, str]], str]) -> dict[str, list[str]] | None:
    """The names that have each value; None where a name has several."""
    values: dict[str, str] = {}
    for run, text in texts.items():
        if values.setdefault(name(run), text) != text:
            return None
    groups: dict[str, list[str]] = {}
    for each, text in values.items():
        groups.setdefault(text, []).append(each)
    return groups


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return plain(str(value))


def _said(description: str | None) -> str:
    """A description on one line."""
    return " ".join((description or "").split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
