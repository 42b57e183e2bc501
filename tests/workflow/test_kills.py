"""benchmarks/kill_runs.py: a small workflow killed three times, and the comparison that judges it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from real_workflow import ONE_TRAINING

CLAIMS = 5
PAGE = """# Tables

## Benchmark

| Model    |   Error |
|----------|---------|
| resnet18 |    {error} |

## Inference speed

| Model    |   Params |   {head} |
|----------|---{line}|
| resnet18 |  {params} |   {speed} |

## What was run
"""
LATEX = r"""\toprule
Model & Params & \shortstack[r]{{{stacked}}} \\
\midrule
resnet18 & {params} & {speed} \\
\bottomrule
"""


@pytest.mark.workflow
@pytest.mark.slow
def test_a_workflow_killed_three_times_ends_with_the_same_bytes(repository, tmp_path):
    (tmp_path / "tiny.yaml").write_text(ONE_TRAINING)
    command = [sys.executable, repository / "benchmarks/kill_runs.py", "--kills", "3", "--save-seconds", "0"]
    options = ["--configfile", tmp_path / "tiny.yaml", "--folder", tmp_path / "runs", "--out", tmp_path / "out"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "out/kills.md").read_text()
    assert page.count("\n- Holds: ") == CLAIMS
    rows = (tmp_path / "out/kills.csv").read_text().splitlines()
    assert len(rows) == 1 + 3


@pytest.fixture
def same_results(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import same_results

    return same_results


def write(folder: Path, **changes: object) -> Path:
    """A folder of results; `changes` as in the tests below."""
    values = {
        "weights": b"w",
        "error": "3.10",
        "params": "1 M",
        "speed": "5.1",
        "seconds": 1.0,
        "rate": 7.5,
        "log": "a",
    }
    values |= changes
    head = "Throughput, batch 1 (frames/s)"
    page = PAGE.format(**values, head=head, line="-" * len(values["speed"]))
    texts = {
        "tables.md": page,
        "tables/efficiency.csv": f"params,images_per_second,latency_ms_p25\n{values['params']},{values['rate']},1",
        "tables/efficiency.tex": LATEX.format(**values, stacked=head.replace(" ", r"\\")),
        "profiles/resnet18/base.json": json.dumps(
            {"sizes": {"run": {"params": values["params"], "rows": [{"batch": 1, "latency_ms": values["rate"]}]}}}
        ),
        "runs/a/run.json": json.dumps({"seed": values["error"], "wall_seconds": values["seconds"], "resumes": 1}),
        "checksums.json": json.dumps({"files": {"tables.md": {"sha256": values["speed"]}, "a.csv": {"sha256": "1"}}}),
        "logs/train.log": values["log"],
        ".state/a": values["log"],
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "model.safetensors").write_bytes(values["weights"])
    return folder


def test_times_do_not_count(same_results, tmp_path):
    whole = write(tmp_path / "a")
    other = write(tmp_path / "b", speed="12345.6", seconds=9.0, rate=1.5, log="b")
    assert list(same_results.differences(whole, other)) == []


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"weights": b"v"}, ["model.safetensors"]),
        ({"error": "3.11"}, ["runs/a/run.json", "tables.md"]),
        (
            {"params": "2 M"},
            ["profiles/resnet18/base.json", "tables.md", "tables/efficiency.csv", "tables/efficiency.tex"],
        ),
    ],
)
def test_all_else_counts(same_results, tmp_path, changes, differing):
    whole, other = write(tmp_path / "a"), write(tmp_path / "b", **changes)
    assert list(same_results.differences(whole, other)) == [f"{name}: differs" for name in differing]


def test_files_that_one_folder_lacks_are_named(same_results, tmp_path):
    whole, other = write(tmp_path / "a"), write(tmp_path / "b")
    (other / "more.csv").touch()
    (whole / "model.safetensors").unlink()
    assert list(same_results.differences(whole, other)) == [
        f"model.safetensors: only in {other}",
        f"more.csv: only in {other}",
    ]


def test_checksums_of_other_files_count(same_results, tmp_path):
    whole, other = write(tmp_path / "a"), write(tmp_path / "b")
    path = other / "checksums.json"
    path.write_text(path.read_text().replace('"sha256": "1"', '"sha256": "2"'))
    assert list(same_results.differences(whole, other)) == ["checksums.json: differs"]


def test_kills_are_spread_over_the_stages(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    from kill_runs import KINDS, TARGETS, schedule

    planned = schedule(24, 0)
    assert schedule(24, 0) == planned != schedule(24, 1)
    waited = [kill.at for kill in planned if kill.at]
    assert (len(planned), len(waited)) == (24, 12)
    assert list(dict.fromkeys(waited)) == list(KINDS)
    assert {kill.target for kill in planned} == set(TARGETS)
    assert [kill.at for kill in schedule(3, 0)] == list(KINDS)[:3]
