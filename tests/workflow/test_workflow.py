"""The real workflow, run once on the smallest drawn data, then asked what each kind of change would run again."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from real_workflow import cloned, copy_source, edit, finished_run, gazepipe, snakemake, told_by_why, would_run

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

TINY = """
run: ""
benchmark:
  datasets: [columbia-drawn, mpiifacegaze-drawn]
  models: [resnet18]
  methods: [base, kd, kd_prune]
  folds: {columbia-drawn: [1], mpiifacegaze-drawn: [0]}
datasets:
  columbia-drawn: {subjects: 5, parts: 2, source: {drawn: {scale: 0.06}}}
  mpiifacegaze-drawn: {subjects: 3, parts: 1, source: {drawn: {images: 6, size: 128}}, training: {epochs: 1}}
models: {resnet18: {width: 0.0625}}
training: {epochs: 1}
methods: {kd_prune: {rebirth: {generations: 1, epochs: 1}}}
profiling: {batches: [1], seconds: 0.05}
statistics: {margin: 0.5}
"""
DATASETS = ("columbia-drawn", "mpiifacegaze-drawn")


@pytest.fixture(scope="module")
def finished(repository, tmp_path_factory) -> Path:
    """A folder in which the tiny workflow has run from nothing."""
    return finished_run(repository, tmp_path_factory.mktemp("workflow"), TINY)


@pytest.fixture
def clone(finished, tmp_path) -> Path:
    return cloned(finished, tmp_path / "clone")


def test_one_command_gives_the_tables(finished):
    page = (finished / "results/tables.md").read_text()
    assert all(f"## {title}" in page for title in ("Benchmark", "Cross-dataset", "Inference speed"))
    benchmark = pd.read_csv(finished / "results/tables/benchmark.csv")
    assert set(zip(benchmark.dataset, benchmark.method, strict=True)) == {
        (dataset, method)
        for dataset in ("columbia-drawn", "mpiifacegaze-drawn")
        for method in ("none", "base", "kd", "kd_prune")
    }
    assert benchmark.error_deg.between(1, 60).all()
    assert benchmark[benchmark.dataset == "columbia-drawn"].n_subjects.eq(2).all()
    cross = pd.read_csv(finished / "results/tables/cross_dataset.csv")
    assert cross[cross.test == "columbia-drawn"].n_subjects.eq(5).all()
    for name in ("columbia-drawn", "mpiifacegaze-drawn"):
        assert (finished / f"results/figures/sheets/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (finished / f"results/data/{name}.rejected.csv").read_text().startswith("subject,frame,reason")
        assert (finished / f"results/figures/corruptions/{name}.png").read_bytes().startswith(b"\x89PNG")
    html = (finished / "results/index.html").read_text()
    assert all(f">{title}</h2>" in html for title in ("Benchmark", "Methods", "Provenance"))
    assert len(list((finished / "data/raw/columbia-drawn").glob("*/*.jpg"))) == 5 * 5 * 21


def test_corrupted_images_are_told_beside_the_clean_ones(finished):
    robust = pd.read_csv(finished / "results/tables/robustness.csv")
    networks = {(name, method) for name in DATASETS for method in ("base", "kd", "kd_prune")}
    assert set(zip(robust.dataset, robust.method, strict=True)) == networks
    assert robust.groupby(["dataset", "method"]).size().eq(1 + 6 * 3 + 2).all()
    assert robust["mean"].between(0, 90).all()
    assert "## Robustness" in (finished / "results/tables.md").read_text()


def test_a_second_run_has_nothing_to_do(finished):
    assert would_run(finished) == {}


def test_a_fresh_clone_with_copied_results_reruns_nothing(clone):
    assert would_run(clone) == {}


def test_a_clone_without_snakemakes_records_reruns_nothing(clone):
    shutil.rmtree(clone / ".snakemake")
    assert would_run(clone) == {}


def test_touched_files_rerun_nothing(clone):
    for pattern in ("gazepipe/**/*.py", "results/data/*.h5", "data/raw/*.json", "config.yaml", "results/runs/**/*"):
        for path in clone.glob(pattern):
            path.touch()
    assert would_run(clone) == {}


def test_a_comment_in_a_loss_reruns_nothing(clone):
    losses = clone / "gazepipe/training/losses.py"
    losses.write_text(losses.read_text() + "\n# only a comment\n")
    assert would_run(clone) == {}


def test_a_changed_loss_reruns_training_and_what_follows(clone):
    losses = clone / "gazepipe/training/losses.py"
    losses.write_text(losses.read_text() + "\nANOTHER = 1\n")
    assert would_run(clone) == {"train": 6, "predict": 6, "robustness": 6, "tables": 1, "page": 1}


def test_a_changed_table_format_reruns_the_tables(clone):
    edit(clone / "gazepipe/report/markdown.py", "# gazepipe benchmark", "# Another title")
    assert would_run(clone) == {"tables": 1, "page": 1}


def test_another_learning_rate_reruns_that_method_and_its_dependants(clone):
    edit(clone / "tiny.yaml", "methods: {kd_prune", "methods: {kd: {training: {learning_rate: 0.01}}, kd_prune")
    assert would_run(clone) == {"train": 4, "predict": 4, "robustness": 4, "tables": 1, "page": 1}


def test_changed_rebirth_source_reruns_only_its_methods(clone):
    rebirth = clone / "gazepipe/methods/rebirth.py"
    rebirth.write_text(rebirth.read_text() + "\nANOTHER = 1\n")
    assert would_run(clone) == {"train": 2, "predict": 2, "robustness": 2, "tables": 1, "page": 1}


def test_every_result_has_its_checksum(finished):
    assert gazepipe(finished, "check").returncode == 0
    assert not list((finished / "results/.records/.planned").rglob("*.json"))


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("tiny.yaml", "statistics: {margin: 0.5}", "statistics: {margin: 0.4}"),
        ("tiny.yaml", "training: {epochs: 1}\nmethods", "training: {epochs: 2}\nmethods"),
        ("tiny.yaml", "scale: 0.06", "scale: 0.08"),
        ("gazepipe/methods/rebirth.py", "\n\n\ndef ", "\n\n\nANOTHER = 1\n\n\ndef "),
        ("gazepipe/training/losses.py", "\n\n\ndef ", "\n\n\n# a comment\ndef "),
    ],
)
def test_why_expects_what_snakemake_would_run(clone, path, old, new):
    edit(clone / path, old, new)
    assert told_by_why(clone) == would_run(clone)


def test_the_tables_alone_need_no_page(clone):
    edit(clone / "gazepipe/report/look.py", "--paper: #ffffff", "--paper: #fffffe")
    assert would_run(clone, "--", "results/tables.md") == {}
    assert would_run(clone) == {"page": 1}


def test_a_deleted_table_is_made_again(clone):
    (clone / "results/tables/comparisons.csv").unlink()
    assert would_run(clone) == {"tables": 1, "page": 1}


def test_a_deleted_result_is_made_again_to_the_byte(clone):
    run = clone / "results/runs/columbia-drawn/resnet18/kd_prune/fold1/seed0/model.safetensors"
    predictions = clone / "results/predictions/columbia-drawn/resnet18/kd_prune/fold1/seed0.csv"
    before = run.read_bytes(), predictions.read_bytes()
    run.unlink()
    predictions.unlink()
    done = snakemake(clone, "--", str(predictions.relative_to(clone)))
    assert done.returncode == 0, done.stderr[-2000:]
    assert (run.read_bytes(), predictions.read_bytes()) == before


PRUNED = """
benchmark:
  datasets: [columbia-drawn]
  methods: [base, half, half_scratch]
  deploy: [resnet18/half]
methods: {half: {structural: {round_to: 1, steps: 2, epochs: 1}, training: {epochs: 1}}}
"""


def test_a_network_is_cut_exported_timed_and_sees_the_gaze_of_a_picture(clone):
    (clone / "pruned.yaml").write_text(PRUNED)
    on_top = ("tiny.yaml", "pruned.yaml")
    done = snakemake(clone, on_top=on_top)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "## Structural pruning" in (clone / "results/tables.md").read_text()
    own = pd.read_csv(clone / "results/tables/benchmark.csv").set_index("method").error_deg

    cut = pd.read_csv(clone / "results/tables/compression.csv").set_index("role")
    assert cut.error_deg.to_numpy() == pytest.approx(own["half"], abs=1e-3)
    assert dict(cut.against_deg) == pytest.approx({"full": own["base"], "scratch": own["half_scratch"]}, abs=1e-3)
    costs = pd.read_csv(clone / "results/tables/efficiency_run_size.csv").set_index("method").macs
    assert cut.macs.to_numpy() == pytest.approx(costs["base"] / 2, rel=0.1)

    deployed = pd.read_csv(clone / "results/tables/deployed.csv")
    assert len(deployed) == 5  # torch, and two precisions of two runtimes
    assert deployed.error.to_numpy() == pytest.approx(own["half"], rel=0.05)
    assert deployed[deployed.precision == "fp32"].error.to_numpy() == pytest.approx(own["half"], abs=1e-3)
    assert (clone / "results/figures/pareto/columbia-drawn.png").read_bytes()[:4] == b"\x89PNG"

    bundle = "results/deploy/columbia-drawn/resnet18/half"
    picture = next((clone / "data/raw/columbia-drawn").glob("*/*_0P_0V_0H.jpg"))
    main = "import sys; from gazepipe.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "predict", str(picture), "--bundle", bundle, "--int8"]
    answer = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    (face,) = json.loads(answer.stdout)["faces"]
    assert abs(face["pitch_deg"]) < 40
    assert would_run(clone, on_top=on_top) == {}


def test_a_mistake_in_the_configuration_is_one_line_and_status_2(clone):
    edit(clone / "tiny.yaml", "models: {resnet18: {width: 0.0625}}", "models: {resnet18: {witdh: 0.0625}}")
    done = snakemake(clone)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    lines = [line for line in lines if line and not line.startswith(("Config file", "Using workflow specific profile"))]
    assert lines == ["configuration: models.resnet18.witdh: unknown key with value 0.0625; did you mean 'width'?"]


def test_a_missing_subject_stops_the_run_and_is_named(clone):
    shutil.rmtree(clone / "data/raw/columbia-drawn/0003")
    (clone / "results/data/columbia-drawn.h5").unlink()
    done = snakemake(clone, "--", "results/data/columbia-drawn.h5")
    assert done.returncode != 0
    assert "0003: the subject's folder is missing" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (clone / "results/data/columbia-drawn.h5").exists()


def test_the_papers_whole_protocol_builds(repository, tmp_path):
    folder = copy_source(repository, tmp_path, TINY, repository / "config.yaml")
    for path in ("config/paper.yaml", "tests/workflow/paper_drawn.yaml"):
        shutil.copy(repository / path, folder)
    done = snakemake(folder, "--dry-run", "--quiet", "rules", on_top=("paper.yaml", "paper_drawn.yaml"))
    assert done.returncode == 0, done.stderr[-2000:]
    # 10 networks (re-birth and its control do not fit simvit), 5 + 15 folds, 3 seeds.
    jobs = dict(line.split() for line in (done.stdout + done.stderr).splitlines() if re.fullmatch(r"\w+ +\d+", line))
    assert {name: int(jobs[name]) for name in ("train", "predict", "predict_control", "prepare_part", "profile")} == {
        "train": 10 * 20 * 3,
        "predict": 10 * 20 * 3,
        "predict_control": 2 * 20,
        "prepare_part": 56 + 15,
        "profile": 3,
    }


def test_the_papers_sets_ask_for_consent_first(repository, tmp_path):
    folder = copy_source(repository, tmp_path, TINY, repository / "config.yaml")
    shutil.copy(repository / "config/paper.yaml", folder)
    done = snakemake(folder, "--", "data/paper/raw/mpiifacegaze.json", on_top=("paper.yaml",))
    assert done.returncode != 0
    assert "needs your consent" in done.stdout + done.stderr
    assert not (folder / "data/downloads").exists()
