import json
import shutil
import subprocess
import sys

import pytest
from toy_config import PATH

from gazepipe.errors import UserError
from gazepipe.provenance import fingerprint as provenance

SHOW = "import sys; from gazepipe.provenance.fingerprint import source_fingerprint as f; print(f(tuple(sys.argv[1:])))"


@pytest.fixture
def clone(tmp_path, repository):
    """A copy of the package whose source may be edited, and a function that fingerprints modules of it."""
    shutil.copytree(repository / "gazepipe", tmp_path / "gazepipe", ignore=shutil.ignore_patterns("__pycache__"))

    def fingerprint(*modules: str) -> str:
        command = [sys.executable, "-c", SHOW, *modules]
        return subprocess.check_output(command, cwd=tmp_path, text=True).strip()

    return tmp_path, fingerprint


def edit(folder, name, old, new):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_comments_docstrings_and_layout_do_not_count(clone):
    folder, fingerprint = clone
    before = fingerprint("gazepipe.training.losses")
    edit(folder, "gazepipe/training/losses.py", "import ", "# a comment\n\n\nimport ")
    path = folder / "gazepipe/geometry.py"
    path.write_text('"""Another docstring."""\n' + path.read_text().split('"""', 2)[2])
    assert fingerprint("gazepipe.training.losses") == before


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("Passes over the training subjects", "How often the subjects are seen", False),
        ("epochs: Count = 12", "epochs: Count = 13", True),
        ('    """Passes over', '    rounds: Count = 1\n    """Passes over', True),
    ],
)
def test_a_fields_description_does_not_count_and_its_default_does(clone, old, new, counts):
    folder, fingerprint = clone
    before = fingerprint("gazepipe.training.settings")
    edit(folder, "gazepipe/training/settings.py", old, new)
    assert (fingerprint("gazepipe.training.settings") != before) == counts


@pytest.mark.parametrize("place", ["if True:\n    A = 1\n", "try:\n    A = 1\nfinally:\n    B = 2\n", "A = 1\n"])
def test_a_bare_text_anywhere_does_not_count(tmp_path, monkeypatch, place):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(provenance, "_file", lambda module: tmp_path / "texts.py")
    trees = []
    for text in (place, place.replace("\n", "  # why\n").replace("A = 1", "A = 1; 'what A is'"), place + "'text'\n"):
        (tmp_path / "texts.py").write_text(text)
        trees.append(provenance.function_hashes("texts")[""])
    assert trees[0] == trees[1] == trees[2]
    (tmp_path / "texts.py").write_text(place.replace("A = 1", "A = 'one'"))
    assert provenance.function_hashes("texts")[""] != trees[0]


def test_code_counts_through_imports(clone):
    folder, fingerprint = clone
    stages = ["gazepipe.methods.train", "gazepipe.report.tables", "gazepipe.datasets.splits"]
    before = {stage: fingerprint(stage) for stage in stages}
    with open(folder / "gazepipe/training/losses.py", "a") as file:
        file.write("\nANOTHER = 1\n")
    after = {stage: fingerprint(stage) for stage in stages}
    assert [after[stage] == before[stage] for stage in stages] == [False, True, True]


def test_a_plain_run_does_not_hold_distillation_or_other_networks(clone):
    folder, fingerprint = clone
    base = ("gazepipe.methods.train", "gazepipe.models.resnet")
    before = fingerprint(*base), fingerprint(*base, "gazepipe.methods.distillation")
    for name in ("methods/distillation.py", "methods/rebirth.py", "models/simvit.py"):
        with open(folder / "gazepipe" / name, "a") as file:
            file.write("\nANOTHER = 1\n")
    after = fingerprint(*base), fingerprint(*base, "gazepipe.methods.distillation")
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_users_own_module_counts_and_a_missing_one_is_named(tmp_path, monkeypatch):
    (tmp_path / "ownnet.py").write_text("A = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert provenance.source_fingerprint(("ownnet",)) != provenance.source_fingerprint(())
    with pytest.raises(UserError, match="no_such_module_here"):
        provenance.source_fingerprint(("no_such_module_here",))


def test_digest_ignores_key_order_only():
    assert provenance.digest({"a": 1, "b": [1, 2]}) == provenance.digest({"b": [1, 2], "a": 1})
    assert provenance.digest({"b": [1, 2]}) != provenance.digest({"b": [2, 1]})
    assert provenance.digest(1) != provenance.digest("1")


KEYS = """
import json
from gazepipe.config.load import load_files
from gazepipe.dag.plan import Job, Plan
plan = Plan(load_files([]))
jobs = [Job.of(stage, dataset=name) for name in plan.config.datasets for stage in ("fetch", "prepare", "sheet")]
jobs += [Job.of("prepare_part", dataset=name, part=0) for name in plan.config.datasets] + [Job.of("tables")]
print(json.dumps({str(job): [plan.source(job), plan.key(job)] for job in jobs}))
"""
COLUMBIA = {"prepare_part columbia-drawn 0", "prepare columbia-drawn", "sheet columbia-drawn", "tables"}


@pytest.mark.parametrize(
    ("edited", "own", "rerun"),
    [
        ("datasets/layouts/columbia.py", {"prepare_part columbia-drawn 0", "sheet columbia-drawn"}, COLUMBIA),
        ("drawn/layouts/columbia.py", {"fetch columbia-drawn"}, COLUMBIA | {"fetch columbia-drawn"}),
        ("datasets/layouts/settings.py", set(), set()),
    ],
)
def test_a_change_in_a_reader_or_writer_reruns_the_data_sets_of_its_layout_alone(clone, repository, edited, own, rerun):
    folder, _ = clone
    shutil.copy(PATH, folder)

    def keys() -> dict[str, list[str]]:
        return json.loads(subprocess.check_output([sys.executable, "-c", KEYS], cwd=folder, text=True))

    before = keys()
    with open(folder / "gazepipe" / edited, "a") as file:
        file.write("\nANOTHER = 1\n")
    after = keys()
    assert {job for job in before if before[job][0] != after[job][0]} == own
    assert {job for job in before if before[job][1] != after[job][1]} == rerun
