"""benchmarks/bench.py: the page made of measurements, and what a failed one leaves. Nothing is timed here."""

import ast
import sys

import pandas as pd
import pytest


@pytest.fixture
def bench(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import bench

    return bench


def fake(folder, monkeypatch, text):
    """A benchmark of this source, importable here and in the process that measures."""
    (folder / "bench_fake.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("bench_fake", None)


def section(bench, **quick):
    return bench.Section("Fake", "bench_fake", "What it shows.", "How.", quick)


GOOD = 'import pandas\ndef measure(size=2): return pandas.DataFrame({"size": [size], "cpu_ms": [0.5]})\n'


def test_each_table_has_its_title_its_sentences_and_its_module(bench):
    text = bench.page({"dag": pd.DataFrame({"jobs": [20000], "cpu_seconds": [76.81]})}, 90.0, quick=False)
    about = bench.SECTIONS["dag"]
    assert f"## DAG\n\n{about.shows} {about.how} (`benchmarks/bench_dag.py`)\n\n" in text
    header, rule, row = text.strip().splitlines()[-3:]
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["jobs", "cpu seconds"]
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["20,000", "76.8"]
    assert set(rule) <= set("|-:")


def test_a_quick_try_does_not_say_how_a_whole_one_is_measured(bench):
    frames, about = {"dag": pd.DataFrame({"jobs": [1]})}, bench.SECTIONS["dag"]
    text = bench.page(frames, 90.0, quick=True)
    assert about.shows in text
    assert about.how not in text


@pytest.mark.parametrize(
    ("value", "written"), [(0.01234, "0.0123"), (3.0, "3.00"), (76.81, "76.8"), (269.68, "270"), (float("nan"), "")]
)
def test_numbers_have_three_figures(bench, value, written):
    row = bench._table(pd.DataFrame({"name": ["x"], "value": [value]})).splitlines()[-1]
    assert row.strip("|").split("|")[1].strip() == written


def test_text_in_a_table_stays_in_its_cell(bench):
    row = bench._table(pd.DataFrame({"name": ["a|b"]})).splitlines()[-1]
    assert row.strip("| ") == r"a\|b"


def test_the_page_tells_machine_versions_and_its_command(bench, monkeypatch):
    monkeypatch.setattr(bench, "machine", lambda: {"cpu": "A <CPU>", "cores": 3, "system": "Linux x"})
    monkeypatch.setattr(bench, "versions", lambda packages: {"python": "3.11", "torch": "2.0"})
    text = bench.page({}, 90.0, quick=False)
    assert "Made by `make bench` in 2 minutes, in one run on A \\<CPU\\>, 3 cores, Linux x." in text
    assert "python 3.11, torch 2.0." in text
    assert "quick" not in text
    assert "too few rounds" in bench.page({}, 90.0, quick=True)


def test_a_section_is_measured_with_its_options_for_a_quick_try_only(bench, tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, GOOD)
    assert bench.measured(section(bench, size=1), quick=True)["size"].item() == 1
    assert bench.measured(section(bench, size=1), quick=False)["size"].item() == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ValueError('no room')", "ValueError: no room"),
        ("raise SystemExit('not up to date')", "SystemExit: not up to date"),
        ("import os; os._exit(3)", "BrokenProcessPool"),
    ],
)
def test_a_section_that_fails_leaves_the_others_theirs(bench, tmp_path, monkeypatch, body, reason):
    fake(tmp_path, monkeypatch, GOOD)
    (tmp_path / "bench_broken.py").write_text(f"def measure():\n    {body}\n")
    broken = bench.Section("Broken", "bench_broken", "x", "y")
    monkeypatch.setattr(bench, "SECTIONS", {"broken": broken, "fake": section(bench)})
    monkeypatch.setattr(sys, "argv", ["bench.py", "--out", str(tmp_path / "speed.md")])
    assert bench.main() == 1
    text = (tmp_path / "speed.md").read_text()
    assert text.index("## Broken") < text.index("**Failed**, so nothing is shown: " + reason) < text.index("## Fake")
    assert (tmp_path / "speed/fake.csv").read_text() == "size,cpu_ms\n2,0.5\n"
    assert not (tmp_path / "speed/broken.csv").exists()


def test_a_section_for_gpus_says_that_there_is_none(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "has_cuda", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench.py", "--sections", "gpu", "--out", str(tmp_path / "speed.md")])
    assert bench.main() == 0
    assert "## GPU\n\nNot measured: there is no CUDA device here." in (tmp_path / "speed.md").read_text()


def test_every_section_that_is_there_can_be_measured_without_options(bench, repository):
    """By the source: importing them would import torch."""
    for section in bench.SECTIONS.values():
        path = repository / f"benchmarks/{section.module}.py"
        functions = {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        arguments = functions["measure"].args
        assert len(arguments.defaults) == len(arguments.args), section.module
        assert set(section.quick) <= {each.arg for each in arguments.args}, section.module
        assert "main" in functions, section.module
