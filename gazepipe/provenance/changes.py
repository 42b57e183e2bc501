"""What differs between two configurations or two sources, as lines for a person."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SHOWN = 8
LONGEST = 80
ABSENT = object()


@dataclass(frozen=True)
class Source:
    """The hash of each module of a source, and a function that gives the hashes of one module's functions."""

    modules: dict[str, str]
    functions: Callable[[str], dict[str, str]]


def of_values(before: object, now: object, name: str = "") -> Iterator[str]:
    """`training.epochs: 6 -> 8` for each value that differs, in JSON."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from of_values(before.get(key, ABSENT), now.get(key, ABSENT), f"{name}.{key}" if name else key)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now) and _holds_blocks(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from of_values(old, new, f"{name}.{index}")
    elif before != now:
        yield f"{name}: {_shown(before)} -> {_shown(now)}"


def _holds_blocks(values: list) -> bool:
    return any(isinstance(value, dict) for value in values)


def of_sources(before: Source, now: Source) -> Iterator[str]:
    """`source: gazepipe.training.losses.smooth_l1 changed` for each function that differs."""
    for module in sorted(before.modules.keys() | now.modules.keys()):
        old, new = before.modules.get(module), now.modules.get(module)
        if old is None or new is None:
            yield f"source: {module} {'is new' if old is None else 'is no longer used'}"
        elif old != new:
            yield from _of_functions(module, before.functions(module), now.functions(module))


def _of_functions(module: str, before: dict[str, str], now: dict[str, str]) -> Iterator[str]:
    names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    for name in names:
        state = "is new" if name not in before else "is gone" if name not in now else "changed"
        yield f"source: {module}.{name} {state}" if name else f"source: {module} changed outside its functions"
    if not names:
        yield f"source: {module} has its parts in another order"


def shortened(lines: list[str], shown: int = SHOWN) -> list[str]:
    """The first lines, and how many there are besides."""
    return lines if len(lines) <= shown + 1 else [*lines[:shown], f"and {len(lines) - shown} more"]


def _shown(value: object) -> str:
    text = "nothing" if value is ABSENT else json.dumps(value, sort_keys=True)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
