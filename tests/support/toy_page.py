"""The page of a toy run: gaze angles and gaze points, two seeds, an exported network, and subjects with bad names."""

from pathlib import Path

import numpy as np
import pandas as pd
from toy_config import toy_config
from toy_predictions import put_test
from toy_results import Run, write_profile

from gazepipe.common.files import write_json, write_text
from gazepipe.dag.stage import Job
from gazepipe.report.page import page

HOSTILE = ("<script>document.title = 'taken'</script>", "![a](http://example.org/a.png)|b", "[c](javascript:alert(1))")
OFFSET_DEG = {"mean": 12.0, "ridge": 11.0, "base": 5.0, "kd": 4.5}
OFFSET_PX = {"mean": 100.0, "ridge": 90.0, "base": 10.0, "small": 12.0, "small_scratch": 15.0}
FACTS = {"machine": {"cpu": "a <b>cpu</b>", "cores": 2, "system": "Linux"}, "device": "cpu", "precision": "fp32"}
FACTS |= {"packages": {"gazepipe": "0.1.0", "torch": "2.13.0"}}
EXPLAINED = {
    "summary": {"heat maps": {"sanity": {"verdict": ""}}},
    "width": {"low_rank": 6, "dropped": 12, "full_error_px": 11.5},
    "dimension": {"estimates": {"active_subspace_99": 3, "pca_99": 20}},
}
PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 2" width="4" height="2"><rect width="4" height="2"/></svg>'
)
SPEED = {"params": 1000, "macs": 2000, "bytes": 3_000_000, "units": "deg", "latency_ms_p95": 2.0, "threads": 2}
SPEED |= {"latency_ms": 1.0, "images_per_second": 100.0, "ratio": 9.0, "runtime": "eager", "precision": "fp32"}


def paged_run(folder: Path) -> Run:
    """A run whose tables and page are written in `folder`."""
    raw = toy_config()
    raw["benchmark"] |= {"datasets": ["columbia-drawn", "mpiifacegaze-drawn", "near-eye-drawn"], "seeds": [0, 1]}
    raw["benchmark"] |= {"models": ["resnet18", "itracker4"], "methods": ["base", "kd"], "deploy": ["resnet18/base"]}
    raw["benchmark"] |= {"folds": {"columbia-drawn": [0], "mpiifacegaze-drawn": [0]}, "skip": []}
    run = Run(raw, folder)
    for file, names, path in run.inputs("predictions", "profiles", "explanations", "agreements", "deployed", "weights"):
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[file.job.stage](path, {**names, "output": file.output})
    for file in run.plan.inputs(Job.of("page"))["facts"]:
        write_json(run.file(file), FACTS)
    for file in run.plan.inputs(Job.of("page"))["bundles"]:
        write_text(run.file(file), "# Gaze network <img src=x onerror=alert(1)>\n\n## Limits\n\n- It always answers.\n")
    for file in run.plan.outputs(Job.of("explain", **run.plan.settings(Job.of("tables")).explained[0])).values():
        path = folder / Path(file).relative_to(run.plan.root)
        if not path.exists():
            path.write_bytes(b"")
    write_text(folder / "benchmarks/train-columbia-drawn-resnet18-base-0-0.tsv", "s\tmax_rss\n90.0\t400.0\n")
    run.write()
    write_page(run)
    return run


def write_page(run: Run) -> str:
    """Write the page, and give its text."""
    page(run.plan.settings(Job.of("page")), run.folder)
    return (run.folder / "index.html").read_text()


def _predictions(path: Path, names: dict[str, str]) -> None:
    rng = np.random.default_rng([int(names.get("seed", 0)), len(names["test"])])
    if names["test"] == "near-eye-drawn":
        offset = OFFSET_PX[names.get("method", names["model"])]
        rows = [(subject, 600.0, 400.0, 600.0 + offset + rng.normal(), 400.0) for subject in HOSTILE for _ in range(3)]
        columns = ["subject", "x", "y", "x_pred", "y_pred"]
    else:
        offset = np.radians(OFFSET_DEG[names.get("method", names["model"])])
        rows = [(f"p{n:02}", 0.0, 0.0, offset + 0.01 * rng.normal(), 0.0) for n in range(4) for _ in range(3)]
        columns = ["subject", "pitch", "yaw", "pitch_pred", "yaw_pred"]
    put_test(path, names["test"], pd.DataFrame(rows, columns=columns))


def _profile(path: Path, names: dict[str, str]) -> None:
    write_profile(path)


def _explanation(path: Path, names: dict[str, str]) -> None:
    write_json(path, EXPLAINED[names["output"]])


def _agreement(path: Path, names: dict[str, str]) -> None:
    path.write_text("importance,a,b,spectrum\ntaylor,x,y,0.75\n")


def _speed(path: Path, names: dict[str, str]) -> None:
    rows = [
        {"network": network, "batch": batch, **SPEED} for network in ("reference", "resnet18/base") for batch in (1, 8)
    ]
    pd.DataFrame(rows).to_csv(path.with_suffix(".csv"), index=False)
    reference = {"arch": "resnet18", "width": 1.0, "input": [1, 224, 224]}
    write_json(path.with_suffix(".json"), {"threads": 2, "machine": {"cpu": "a cpu"}, "reference": reference})


def _exported(path: Path, names: dict[str, str]) -> None:
    rows = [("eager", "fp32", f"p{n:02}", 5.0 + n) for n in range(4)]
    pd.DataFrame(rows, columns=["runtime", "precision", "subject", "error"]).to_csv(path, index=False)


def _weights(path: Path, names: dict[str, str]) -> None:
    path.write_bytes(b"x" * 2048)


WRITERS = {
    "predict": _predictions,
    "predict_control": _predictions,
    "profile": _profile,
    "explain": _explanation,
    "explain_seeds": _agreement,
    "speed": _speed,
    "export_errors": _exported,
    "train": _weights,
}
