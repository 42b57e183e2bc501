"""Mistakes in a configuration as one line for people."""

import difflib
import json
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError


def nearest(value: object, valid: list[str]) -> str:
    """What was probably meant, or all that could be."""
    close = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(map(repr, valid))}"


def explain(error: ValidationError, block: type[BaseModel], prefix: tuple[str, ...] = ()) -> str:
    """The first mistake of a block that is found at `prefix` of the configuration, as one line: key, value, fix."""
    first = error.errors()[0]
    location = [part for part in first["loc"] if part != "[key]"]
    key = ".".join(map(str, [*prefix, *location])) or "top level"
    value = json.dumps(first["input"], default=str)
    value = value if len(value) <= 60 else value[:57] + "..."
    match first["type"]:
        case "extra_forbidden":
            valid = _fields_at(block, location[:-1])
            return f"configuration: {key}: unknown key with value {value}; {nearest(location[-1], valid)}"
        case "missing":
            return f"configuration: {key}: is missing; add it"
        case "literal_error":
            valid = [choice.strip("'") for choice in first["ctx"]["expected"].replace(" or ", ", ").split(", ")]
            return f"configuration: {key}: {value} is not valid; {nearest(first['input'], valid)}"
        case _:
            reason = first["msg"].removeprefix("Value error, ")
            return f"configuration: {key}: {value} is not valid; {reason[0].lower()}{reason[1:]}"


def _fields_at(annotation: Any, location: list) -> list[str]:
    """Valid keys of the block at `location` below a block, following the annotations of its fields."""
    for part in location:
        if get_origin(annotation) in (dict, list):
            annotation = get_args(annotation)[-1]
        else:
            annotation = _plain(annotation).model_fields[str(part)].annotation
    return sorted(_plain(annotation).model_fields)


def _plain(annotation: Any) -> Any:
    """The block in `Block | None`."""
    return next((a for a in get_args(annotation) if a is not type(None)), annotation)
