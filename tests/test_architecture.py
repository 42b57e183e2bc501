"""The direction of imports that docs/design.md states, and what must not be imported where."""

import ast
import subprocess
import sys
from collections import defaultdict

import pytest

BASE = {"common", "geometry", "errors"}
ALLOWED = {
    "geometry": set(),
    "errors": set(),
    "common": {"geometry", "errors"},
    "models": BASE,
    "drawn": BASE,
    # `fetch` draws, and knows by the renderer's fingerprint whether what lies there was drawn by it.
    "datasets": BASE | {"drawn", "provenance"},
    "config": BASE | {"datasets", "models"},
    "training": BASE | {"datasets", "models"},
    "profiling": BASE | {"models"},
    "methods": BASE | {"datasets", "models", "training", "profiling"},
    "evaluation": BASE | {"datasets", "training"},
    "near_eye": BASE | {"datasets", "models", "training", "methods", "evaluation"},
    "live": BASE | {"datasets"},
    "export": BASE | {"datasets", "models", "training", "methods", "evaluation", "profiling", "live"},
    "report": BASE | {"evaluation", "provenance"},
    "dag": BASE | {"config", "models", "provenance"},
    "provenance": BASE | {"dag"},
}
"""What each room may import beside the settings of any room, which are light."""
KNOW_THE_DAG = {"cli", "commands", "dag", "provenance"}


@pytest.fixture(scope="module")
def imports(repository) -> dict[str, set[str]]:
    """{module: the gazepipe modules that it imports, at the top or within a function}."""
    root = repository / "gazepipe"
    names = {
        ".".join(path.relative_to(repository).with_suffix("").parts).removesuffix(".__init__"): path
        for path in root.rglob("*.py")
    }
    found = defaultdict(set)
    for module, path in names.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gazepipe"):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    found[module].add(full if full in names else node.module)
            elif isinstance(node, ast.Import):
                found[module] |= {alias.name for alias in node.names if alias.name in names}
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_rooms_import_only_what_the_design_says(imports):
    wrong = [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in sorted(others)
        if room(module) in ALLOWED
        and room(other) not in ({room(module), ""} | ALLOWED[room(module)])
        and not other.endswith(".settings")
    ]
    assert wrong == []


def test_every_room_has_a_rule(repository):
    rooms = {path.name for path in (repository / "gazepipe").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms | {"geometry", "errors"} == set(ALLOWED)


def test_only_some_know_the_dag(imports):
    knowing = {room(module) for module, others in imports.items() if any(room(other) == "dag" for other in others)}
    assert knowing <= KNOW_THE_DAG


def test_settings_are_light(imports):
    """They may stand on each other, on names, and on what makes no table or tensor."""
    for module, others in imports.items():
        if module.endswith(".settings") and room(module) not in ("dag", "common"):
            assert all(other.endswith(".settings") or room(other) in ("common", "errors") for other in others), module


def test_no_module_takes_anothers_private_names(repository):
    taken = []
    for path in (repository / "gazepipe").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gazepipe"):
                taken += [f"{path.name}: {alias.name}" for alias in node.names if alias.name.startswith("_")]
    assert [name for name in taken if "__version__" not in name] == []


def test_there_are_at_most_six_modules_at_the_top(repository):
    assert len(list((repository / "gazepipe").glob("*.py"))) <= 6


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        ("live.video live.image live.gaze live.bundle", "torch snakemake pandas pydantic gazepipe.training"),
        ("dag.stages dag.signature dag.cores cli", "torch numpy pandas pydantic cv2 h5py"),
        ("dag.plan dag.settings dag.inputs dag.tables", "torch numpy pandas cv2 h5py matplotlib"),
        ("evaluation.control evaluation.mean evaluation.ridge provenance.records", "torch pandas"),
    ],
)
def test_what_is_light_stays_light(modules, forbidden):
    """In a process of its own: importing these imports none of those."""
    code = f"import importlib, sys; [importlib.import_module('gazepipe.' + m) for m in {modules.split()!r}]; "
    code += f"print([m for m in {forbidden.split()!r} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_files_are_named_in_one_place(repository):
    """`model.safetensors` and the others of a run stand as literals in the declaration alone."""
    for name in ("model.safetensors", "history.csv", "run.json"):
        sources = [*(repository / "gazepipe").rglob("*.py"), *(repository / "workflow").rglob("*.smk")]
        holders = {
            path.relative_to(repository).as_posix()
            for path in sources
            for node in (ast.walk(ast.parse(path.read_text())) if path.suffix == ".py" else ())
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(f"/{name}")
        }
        assert holders == {"gazepipe/dag/stages.py"}
        assert not any(f'{name}"' in path.read_text() for path in sources if path.suffix == ".smk")
