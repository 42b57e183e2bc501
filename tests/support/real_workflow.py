"""The real workflow in a copy of the source: Snakemake's runs and dry runs, and gazepipe's own commands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from toy_config import PATH

SOURCE = ("Snakefile", "workflow", "profiles", "gazepipe", "envs", "pyproject.toml")
_FACES = """
run: ""
benchmark:
  datasets: [mpiifacegaze-drawn]
  models: [resnet18]
  methods: [base, kd]
  folds: {mpiifacegaze-drawn: [0]}
models: {resnet18: {width: 0.0625}}
profiling: {batches: [1], seconds: 0.05}
statistics: {margin: 0.5}
robustness: {networks: []}
"""
SMALL = f"""{_FACES}
datasets:
  mpiifacegaze-drawn: {{subjects: 3, parts: 2, source: {{drawn: {{images: 6, size: 128}}}}, training: {{epochs: 1}}}}
training: {{epochs: 1}}
"""
ON_CLUSTERS = f"""{_FACES}
datasets:
  mpiifacegaze-drawn: {{subjects: 3, parts: 1, source: {{drawn: {{images: 8, size: 128}}}}, training: {{epochs: 2}}}}
methods: {{base: {{training: {{epochs: 300}}}}}}
"""
ONE_TRAINING = """
run: tiny
benchmark: {datasets: [columbia-drawn], models: [resnet18], methods: [base], folds: {columbia-drawn: [1]}}
datasets:
  columbia-drawn: {subjects: 4, parts: 2, source: {drawn: {scale: 0.06}}}
models: {resnet18: {width: 0.0625}}
training: {epochs: 2}
profiling: {batches: [1], seconds: 0.05}
statistics: {margin: 0.5}
robustness: {networks: []}
"""


def copy_source(repository: Path, folder: Path, configuration: str, default: Path = PATH) -> Path:
    """The source in `folder`, with `default` as its config.yaml and the configuration as its tiny.yaml."""
    for name in SOURCE:
        source = repository / name
        copier = shutil.copytree if source.is_dir() else shutil.copy
        options = {"ignore": shutil.ignore_patterns("__pycache__")} if source.is_dir() else {}
        copier(source, folder / name, **options)
    shutil.copy(default, folder / "config.yaml")
    (folder / "tiny.yaml").write_text(configuration)
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def environment(**more: str) -> dict[str, str]:
    """That of a user who has activated .venv; /usr/sbin is where Slurm lies. Jobs share what Python compiles."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    own = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
    return {name: value for name, value in os.environ.items() if name not in own} | {"PATH": path, **more}


def snakemake(folder: Path, *arguments: str, on_top: tuple[str, ...] = ("tiny.yaml",)) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", *on_top, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment())


def finished_run(repository: Path, folder: Path, configuration: str, *arguments: str) -> Path:
    """`folder`, in which the workflow of this configuration has run from nothing."""
    copy_source(repository, folder, configuration)
    done = snakemake(folder, *arguments)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


def cloned(finished: Path, folder: Path) -> Path:
    """A copy of a finished folder that a test may change; with `cp`, so every file is newer than it was."""
    shutil.copytree(finished, folder, copy_function=shutil.copyfile)
    return folder


def would_run(folder: Path, *arguments: str, on_top: tuple[str, ...] = ("tiny.yaml",)) -> dict[str, int]:
    """Jobs per rule of a dry run."""
    done = snakemake(folder, "--dry-run", *arguments, on_top=on_top)
    assert done.returncode == 0, done.stderr
    table = re.search(r"^job\s+count\n-.*\n((?:\w+\s+\d+\n)+)", done.stdout + done.stderr, re.MULTILINE)
    if table is None:
        assert "Nothing to be done" in done.stdout + done.stderr
        return {}
    jobs = {name: int(count) for name, count in (line.split() for line in table[1].splitlines())}
    return {name: count for name, count in jobs.items() if name not in ("total", "all")}


def gazepipe(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "import sys; from gazepipe.cli import main; sys.exit(main())", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def told_by_why(folder: Path) -> dict[str, int]:
    """Jobs per rule that `gazepipe why` expects to run for the page."""
    page = gazepipe(folder, "why", "results/index.html", "--configfile", "tiny.yaml").stdout
    _, _, head = page.partition("\nwould run again, because of\n")
    if not head:
        assert "would not run again" in page
        return {}
    jobs = re.findall(r"^  (\w+)(?:, (\d+) jobs| .*)?$", head.partition("\nand before it\n")[2], re.MULTILINE)
    return {"page": 1} | {stage: int(count or 1) for stage, count in jobs}
