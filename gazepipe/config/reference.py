"""docs/configuration.md and the JSON schema from the typed configuration: `python -m gazepipe.config.reference`."""

import json
import re
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gazepipe.common.files import write_text
from gazepipe.config.schema import Config
from gazepipe.training.settings import Augmentation, Training

PAGE = "docs/configuration.md"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA = "workflow/schemas/config.schema.json"
LIMITS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="), ("min_length", "at least"))
HEAD = """# Configuration

Written by `python -m gazepipe.config.reference`, as is `workflow/schemas/config.schema.json`, by which editors complete
and check the files; a test fails where they differ from the code.

`config.yaml` holds the default run. Another file goes on top of it (`snakemake --configfile FILE`): mappings are
merged, lists and values replaced. Unknown keys are refused.
"""


def reference() -> str:
    """The page: one section per block, one row per key."""
    blocks: dict[str, type[BaseModel]] = {}
    _collect(Config, "top level", blocks)
    blocks["training"] = Training
    return HEAD + "".join(_section(name, block) for name, block in blocks.items())


def schema() -> str:
    """The JSON schema of a configuration file. No key is required, since files are laid on top of one another."""
    made = _partial(Config.model_json_schema())
    for block in made["$defs"].values():
        for key, overridden in (("training", Training), ("augmentation", Augmentation)):
            if key in block["properties"]:
                block["properties"][key] = {"$ref": f"#/$defs/{overridden.__name__}"} | {
                    "description": block["properties"][key]["description"]
                }
    return json.dumps({"$schema": DIALECT, **made}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _partial(node: Any) -> Any:
    """A schema without `required`, and without the titles, which say no more than the names; texts on one line."""
    if isinstance(node, list):
        return [_partial(each) for each in node]
    if not isinstance(node, dict):
        return _line(node) if isinstance(node, str) else node
    kept = {key: value for key, value in node.items() if key not in ("required", "title")}
    if "patternProperties" in kept:  # names of a catalogue: pydantic leaves those of another form open
        kept["additionalProperties"] = False
    return {key: value if key == "default" else _partial(value) for key, value in kept.items()}


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
    rows = "".join(f"| {' | '.join(_cells(key, field))} |\n" for key, field in block.model_fields.items())
    return f"\n## {name}\n\n{_line(block.__doc__)}\n\n| key | value | default | meaning |\n|---|---|---|---|\n{rows}"


def _cells(key: str, field: FieldInfo) -> tuple[str, ...]:
    return f"`{key}`", _kind(field), _default(field), _line(field.description)


def _line(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "")


def _kind(field: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(limit, name)}" for limit in field.metadata for name, sign in LIMITS if hasattr(limit, name)
    ]
    return ", ".join([_type(field.annotation), *limits])


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


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    return "see below" if isinstance(value, BaseModel) else "none" if value is None else f"`{value!r}`"


if __name__ == "__main__":
    for path, text in ((PAGE, reference()), (SCHEMA, schema())):
        write_text(Path(path), text)
