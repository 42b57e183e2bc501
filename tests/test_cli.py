import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from gazepipe import cli


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
        ("split", "--block", "{}", "--store", "no-such-store.h5", "--out", "split.csv"),
        ("fetch", "--block", "FETCH", "--out", "receipt.json"),
        ("sheet", "--block", "{}", "--receipt", "no-receipt.json", "--store", "s.h5", "--out", "s.png"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    block = {"layout": "columbia", "subjects": 1, "source": {"path": "no-such-folder"}, "folder": "x"}
    done = run(*(json.dumps(block) if a == "FETCH" else a for a in arguments))
    assert done.returncode == 2
    assert done.stderr.startswith(f"gazepipe {arguments[0]}: no-")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_is_no_json_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["split", "--block", "{", "--store", "a", "--out", "b"])
    assert caught.value.code == 2
    assert "not JSON" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = "import sys; from gazepipe import cli; cli._parser(); print([m for m in sys.modules if m in "
    code += "('torch', 'numpy', 'pandas', 'cv2', 'h5py', 'pydantic', 'matplotlib')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
