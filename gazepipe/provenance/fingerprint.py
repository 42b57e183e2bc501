"""Fingerprints of source and settings: what a job's key is made of."""

import ast
import hashlib
import importlib.util
import json
from functools import cache
from pathlib import Path

from gazepipe.errors import UserError

PACKAGE = "gazepipe"
SETTINGS = ".settings"
"""Modules of settings: what they declare reaches a job by value, and its key digests the values."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def digest(value: object) -> str:
    """16 hex digits of the SHA-256 of a JSON-able value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def source_fingerprint(modules: tuple[str, ...]) -> str:
    """Hash of the syntax trees of `modules` and of every gazepipe module that they import, transitively.

    Comments, docstrings (those under fields and constants, too), layout and the `settings` modules of rooms do not
    count. A module outside gazepipe (a user's own network) counts by itself.
    """
    return digest(source_modules(modules))


@cache
def source_modules(modules: tuple[str, ...]) -> dict[str, str]:
    """The hash of every module that `source_fingerprint` is made of, by name."""
    return {name: _tree_hash(name) for name in sorted(_closure(modules))}


def function_hashes(module: str) -> dict[str, str]:
    """A hash of each function (`f`), method (`C.m`) and class without its methods (`C`) of a module, and of what is
    left at its top level (an empty name): tells which part of a module changed.
    """
    parts: dict[str, list[ast.AST]] = {}
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, FUNCTIONS)]
            for method in methods:
                parts.setdefault(f"{node.name}.{method.name}", []).append(method)
            node.body = [each for each in node.body if each not in methods]
        name = node.name if isinstance(node, (*FUNCTIONS, ast.ClassDef)) else ""
        parts.setdefault(name, []).append(node)
    return {name: digest([ast.dump(node) for node in nodes]) for name, nodes in parts.items()}


def _tree_hash(module: str) -> str:
    return _looked_at(module)[0]


def _imports(module: str) -> frozenset[str]:
    """gazepipe modules named by the import statements anywhere in `module`."""
    return _looked_at(module)[1]


@cache
def _looked_at(module: str) -> tuple[str, frozenset[str]]:
    tree = _tree(module)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    imports = (name for name in names if name.startswith(f"{PACKAGE}.") and _file(name) is not None)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), frozenset(imports)


def _tree(module: str) -> ast.Module:
    """The module's syntax tree without its texts: docstrings, and what stands under constants and fields as theirs."""
    tree = _parse(module)
    for node in ast.walk(tree):
        for body in ("body", "orelse", "finalbody"):
            statements = getattr(node, body, None)
            if isinstance(statements, list):
                setattr(node, body, [each for each in statements if not _is_text(each)])
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _closure(modules: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(each for each in _imports(name) if not each.endswith(SETTINGS))
    return found


def _parse(module: str) -> ast.Module:
    path = _file(module)
    if path is None:
        raise UserError(f"{module}: no such Python module; check the name and PYTHONPATH")
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise UserError(f"{path}: line {error.lineno}: {error.msg}; correct it and run again") from None


@cache
def _file(module: str) -> Path | None:
    """Source file of a module, found without importing gazepipe's own; None where there is none."""
    if module == PACKAGE or module.startswith(f"{PACKAGE}."):
        base = Path(__file__).parents[1].joinpath(*module.split(".")[1:])
        return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
