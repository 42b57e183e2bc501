import importlib
import inspect
import json
import subprocess
import sys
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest

from gazepipe import cli
from gazepipe.config.load import load_files
from gazepipe.dag.plan import Plan
from gazepipe.dag.signature import OPTIONAL, OPTIONAL_LIST, signature
from gazepipe.dag.stages import STAGES

FETCH = {
    **{"layout": "columbia", "subjects": 1, "options": {}, "source": {"path": "no-such-folder"}},
    **{"folder": "x", "downloads": "d", "checksums": "c.json"},
}
SHEET = {"dataset": "d", "layout": "columbia", "options": {}}


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "import sys; from gazepipe.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_errors_prints_the_published_figure(shared_data, tmp_path):
    published = np.load(shared_data / "mpiifacegaze_predictions/resnet_simple_14.npz")
    frame = pd.concat(
        pd.DataFrame(
            {
                "subject": f"p{number:02d}",
                "pitch": gaze[:, 0],
                "yaw": gaze[:, 1],
                "pitch_pred": prediction[:, 0],
                "yaw_pred": prediction[:, 1],
            }
        )
        for number, (gaze, prediction) in enumerate(zip(published["gaze"], published["prediction"], strict=True))
    )
    frame.to_csv(tmp_path / "log.csv", index=False)
    done = run("errors", str(tmp_path / "log.csv"))
    assert done.returncode == 0
    assert "4.8243" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("errors", "no-such-file.csv"),
        ("split", "--settings", '{"protocol": "columbia"}', "--store", "no-such-store.h5", "--split", "split.csv"),
        ("fetch", "--settings", json.dumps(FETCH), "--receipt", "receipt.json"),
        (
            "sheet",
            "--settings",
            json.dumps(SHEET),
            "--receipt",
            "no-receipt.json",
            "--store",
            "s.h5",
            "--sheet",
            "s.png",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"gazepipe {arguments[0]}: no-")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_settings_that_are_no_json_are_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["split", "--settings", "{", "--store", "a", "--split", "b"])
    assert caught.value.code == 2
    assert "not JSON" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = "import sys; from gazepipe import cli; cli._parser([]); print([m for m in sys.modules if m in "
    code += "('torch', 'numpy', 'pandas', 'cv2', 'h5py', 'pydantic', 'matplotlib')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_wrong_settings_are_one_line(capsys):
    settings = {"protocol": "columbia", "validation": 2}
    assert cli.main(["split", "--settings", json.dumps(settings), "--store", "a", "--split", "b"]) == 2
    assert capsys.readouterr().err.startswith("gazepipe split: settings: validation: Input should be less than 1")


@pytest.mark.parametrize("name", STAGES)
def test_a_stages_function_takes_what_its_declaration_gives(name):
    """Read from source, as the command line reads it, against the function that is imported."""
    stage = STAGES[name]
    takes = signature(stage.run)
    module, function = stage.run.split(":")
    found = inspect.signature(getattr(importlib.import_module(module), function))
    assert next(iter(found.parameters)) == "settings"
    assert set(takes.parameters) == set(found.parameters)
    optional = {each for each, parameter in found.parameters.items() if parameter.default is not parameter.empty}
    may_lack = {file for file, kind in takes.files.items() if kind in (OPTIONAL, OPTIONAL_LIST)}
    assert may_lack == optional & set(takes.files)
    outputs = {"folder"} if stage.whole_folder else set(stage.outputs)
    assert outputs <= set(found.parameters)
    settings = get_type_hints(getattr(importlib.import_module(module), function))["settings"]
    assert (settings.__module__, settings.__name__) == takes.settings_type


def test_inputs_by_name_are_parameters_of_the_function(repository, monkeypatch):
    monkeypatch.chdir(repository)
    plan = Plan(load_files([]))
    for job in plan.targets():
        for each in {job, *plan.upstream(job)}:
            stage = STAGES[each.stage]
            assert set(plan.inputs(each)) - set(stage.besides) <= set(signature(stage.run).files)


def test_more_processes_may_draw(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = {**FETCH, "layout": "mpiifacegaze", "subjects": 2, "folder": "raw"}
    settings = json.dumps({**drawn, "source": {"drawn": {"images": 2, "size": 64}}})
    assert cli.main(["fetch", "--settings", settings, "--receipt", "receipt.json", "--workers", "2"]) == 0
    assert json.loads((tmp_path / "receipt.json").read_text())["files"] == 2
    with pytest.raises(SystemExit):
        cli.main(["fetch", "--settings", settings, "--receipt", "receipt.json", "--workers", "none"])


def test_half_a_job_is_refused(capsys):
    arguments = ["split", "--settings", '{"protocol": "columbia"}', "--store", "a", "--split", "b"]
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "--job", '{"root": "x"}'])
    assert caught.value.code == 2
    assert "has no name; leave --job out" in capsys.readouterr().err
