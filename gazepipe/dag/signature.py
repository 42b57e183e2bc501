"""What the function of a stage takes, read from its source: importing it would import torch, for which a job waits."""

import ast
import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE, OPTIONAL, LIST, OPTIONAL_LIST = "Path", "Path | None", "list[Path]", "list[Path] | None"
NOT_RESULTS = ("folder", "state")


@dataclass(frozen=True)
class Signature:
    """A stage's function: the first line of its docstring, and the annotation of each parameter as it is written."""

    module: str
    function: str
    summary: str
    parameters: dict[str, str]
    settings_type: tuple[str, str]

    @property
    def files(self) -> dict[str, str]:
        """Parameters that are files of the declaration, inputs and outputs."""
        return {
            name: kind
            for name, kind in self.parameters.items()
            if kind in (FILE, OPTIONAL, LIST, OPTIONAL_LIST) and name not in NOT_RESULTS
        }

    def typed(self, value: Any) -> Any:
        """A plain value, as JSON has it, as the settings that the function takes; pydantic's ValidationError if not."""
        module, name = self.settings_type
        return getattr(importlib.import_module(module), name).model_validate(value)

    def call(self, *arguments: Any, **options: Any) -> None:
        """Import the function and call it."""
        getattr(importlib.import_module(self.module), self.function)(*arguments, **options)


@cache
def signature(run: str) -> Signature:
    """The signature of "module:function"."""
    module, _, name = run.partition(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(f"{run}: no such module")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    arguments = [*function.args.args, *function.args.kwonlyargs]
    parameters = {each.arg: ast.unparse(each.annotation) for each in arguments if each.annotation is not None}
    summary = (ast.get_docstring(function) or "").partition("\n")[0]
    return Signature(module, name, summary, parameters, (_home(tree, parameters["settings"]), parameters["settings"]))


def _home(tree: ast.Module, name: str) -> str:
    """The module that a name is imported from."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and name in (alias.name for alias in node.names):
            return node.module
    raise LookupError(f"{name} is imported from nowhere")
