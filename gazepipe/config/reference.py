"""docs/configuration.md from the typed configuration: `python -m gazepipe.config.reference > docs/configuration.md`."""

import re
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from gazepipe.config.schema import Config
from gazepipe.training.settings import Training

HEAD = """# Configuration

Written by `python -m gazepipe.config.reference > docs/configuration.md`; a test fails where it differs from the code.

`config.yaml` holds the default run. Another file goes on top of it (`snakemake --configfile FILE`): mappings are
merged, lists and values replaced. Unknown keys are refused.
"""


def reference() -> str:
    """The page: one section per block, one row per key."""
    blocks: dict[str, type[BaseModel]] = {}
    _collect(Config, "top level", blocks)
    blocks["training"] = Training
    return HEAD + "".join(_section(name, block) for name, block in blocks.items())


def _collect(block: type[BaseModel], name: str, blocks: dict[str, type[BaseModel]]) -> None:
    blocks[name] = block
    for key, field in block.model_fields.items():
        inner = _block_in(field.annotation)
        if inner is not None:
            middle = "NAME." if get_origin(field.annotation) is dict else ""
            prefix = "" if name == "top level" else f"{name}."
            _collect(inner, f"{prefix}{key}{'.' + middle[:-1] if middle else ''}", blocks)


def _block_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _block_in(part))), None)


def _section(name: str, block: type[BaseModel]) -> str:
    rows = "".join(f"| `{key}` | {_kind(field)} | {_default(field)} |\n" for key, field in block.model_fields.items())
    text = re.sub(r"\s+", " ", block.__doc__ or "")
    return f"\n## {name}\n\n{text}\n\n| key | value | default |\n|---|---|---|\n{rows}"


def _kind(field: Any) -> str:
    limits = [
        f"{sign} {getattr(limit, name)}" for limit in field.metadata for name, sign in LIMITS if hasattr(limit, name)
    ]
    return ", ".join([_type(field.annotation), *limits])


LIMITS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="), ("min_length", "at least"))


def _type(annotation: Any) -> str:
    if annotation is type(None):
        return "nothing"
    if _block_in(annotation) is annotation:
        return "block"
    if hasattr(annotation, "__metadata__"):
        return _type(get_args(annotation)[0])
    arguments = get_args(annotation)
    if get_origin(annotation) is list:
        return f"list of {_type(arguments[0])}"
    if get_origin(annotation) is dict:
        return f"{_type(arguments[1])} by name"
    if arguments and all(isinstance(a, str) for a in arguments):
        return ", ".join(f"`{a}`" for a in arguments)
    if arguments:
        return " or ".join(_type(a) for a in arguments)
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Any": "any"}.get(
        getattr(annotation, "__name__", str(annotation)), str(annotation)
    )


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default
    return "see below" if isinstance(value, BaseModel) else "none" if value is None else f"`{value!r}`"


if __name__ == "__main__":
    print(reference(), end="")
