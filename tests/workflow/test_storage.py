"""The real workflow with its results in a bucket, on a server of moto's, against the same run with results here."""

import logging
import re
import subprocess
from pathlib import Path

import pytest
from real_workflow import SMALL, copy_source, edit, finished_run, gazepipe, snakemake, would_run

boto3 = pytest.importorskip("boto3", reason="the S3 storage plugin is not installed: pip install gazepipe[s3]")
pytest.importorskip("snakemake_storage_plugin_s3", reason="it is not installed: pip install gazepipe[s3]")
server = pytest.importorskip("moto.server", reason="moto is not installed: pip install gazepipe[dev]")

pytestmark = pytest.mark.workflow

PREFIX = "gaze/pipe"
TIMED = re.compile(
    r".*/(benchmarks|logs)/.*|.*/(run\.json|tables\.md|index\.html|checksums\.json)|.*/profiles/.*|.*/efficiency\w*\.(csv|tex)"
)
"""Results that hold times."""


class Bucket:
    def __init__(self, endpoint: str) -> None:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        self.bucket = boto3.resource("s3", endpoint_url=endpoint, **keys).Bucket("results-of-tests")
        self.endpoint = endpoint

    def files(self) -> dict[str, bytes]:
        """Content by name below the prefix."""
        found = self.bucket.objects.filter(Prefix=f"{PREFIX}/")
        return {each.key.removeprefix(f"{PREFIX}/"): each.get()["Body"].read() for each in found}

    def options(self) -> list[str]:
        prefix = f"s3://{self.bucket.name}/{PREFIX}"
        return ["--default-storage-prefix", prefix, "--storage-s3-endpoint-url", self.endpoint]

    def run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
        return snakemake(folder, "--profile", "profiles/s3", *self.options(), *arguments)

    def would_run(self, folder: Path) -> dict[str, int]:
        return would_run(folder, "--profile", "profiles/s3", *self.options())


@pytest.fixture(scope="module")
def bucket():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    serving = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    serving.start()
    host, port = serving.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAKEMAKE_STORAGE_S3_ACCESS_KEY", "test")
        patch.setenv("SNAKEMAKE_STORAGE_S3_SECRET_KEY", "test")
        yield Bucket(f"http://{host}:{port}")
    serving.stop()


@pytest.fixture(scope="module")
def here(repository, tmp_path_factory) -> Path:
    """A folder with results of its own."""
    return finished_run(repository, tmp_path_factory.mktemp("here"), SMALL)


@pytest.fixture(scope="module")
def away(repository, tmp_path_factory, bucket) -> Path:
    """A folder whose results are in the bucket."""
    folder = copy_source(repository, tmp_path_factory.mktemp("away"), SMALL)
    done = bucket.run(folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def results(folder: Path) -> dict[str, bytes]:
    paths = (path for path in (folder / "results").rglob("*") if path.is_file())
    named = ((path.relative_to(folder), path) for path in paths)
    return {name.as_posix(): path.read_bytes() for name, path in named if not any(p[0] == "." for p in name.parts)}


@pytest.mark.slow
def test_the_bucket_holds_what_a_run_here_leaves_in_results(here, away, bucket):
    local, remote = results(here), bucket.files()
    assert remote.keys() == local.keys()
    assert len(remote) > 30
    decided = [name for name in local if not TIMED.fullmatch(name)]
    assert {Path(name).suffix for name in decided} == {".h5", ".csv", ".safetensors", ".png", ".svg", ".tex"}
    assert [name for name in decided if remote[name] != local[name]] == []


@pytest.mark.slow
def test_raw_data_and_records_stay_here(away):
    assert (away / "data/raw/mpiifacegaze-drawn.json").is_file()
    assert len(list((away / "data/raw/mpiifacegaze-drawn").glob("p0*.mat"))) == 3
    kept = {path.relative_to(away / "results").parts[0] for path in (away / "results").rglob("*") if path.is_file()}
    assert kept == {".costs", ".lock", ".records", ".stages"}
    copies = [
        path for path in (away / ".snakemake/storage").rglob("*") if path.is_file() and ".records" not in str(path)
    ]
    assert {path.parent.name for path in copies} == {"logs", "benchmarks"}


@pytest.mark.slow
def test_a_second_run_executes_nothing(away, bucket):
    (away / "data/raw/mpiifacegaze-drawn.json").touch()
    done = bucket.run(away)
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.slow
def test_another_machine_sees_the_results(repository, away, bucket, tmp_path):
    assert bucket.would_run(copy_source(repository, tmp_path, SMALL)) == {}


@pytest.mark.slow
def test_a_changed_key_runs_again_what_stands_on_it(away, bucket):
    edit(away / "tiny.yaml", "profiling:", "methods: {kd: {kd: {response: 2.0}}}\nprofiling:")
    assert bucket.would_run(away) == {"train": 1, "predict": 1, "tables": 1, "page": 1}
    edit(away / "tiny.yaml", "methods: {kd: {kd: {response: 2.0}}}\n", "")
    before = bucket.files()
    edit(away / "tiny.yaml", "margin: 0.5", "margin: 0.4")
    why = gazepipe(away, "why", "results/tables.md", "--configfile", "tiny.yaml").stdout
    assert "statistics.margin: 0.5 -> 0.4" in why
    assert "before it" not in why
    done = bucket.run(away)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)", done.stdout + done.stderr, re.MULTILINE) == [
        "tables",
        "page",
        "all",
    ]
    after = bucket.files()
    assert after.keys() == before.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert "results/benchmarks/tables.tsv" in changed
    # The figure of the differences shows the margin, too.
    of_tables = r"results/((tables|logs|benchmarks)/.*|figures/forest\.(svg|png)|\w+\.\w+)"
    assert {name for name in changed if not re.fullmatch(of_tables, name)} == set()
    why = gazepipe(away, "why", "results/tables.md", "--configfile", "tiny.yaml").stdout
    assert "would not run again" in why
    assert f"s3://{bucket.bucket.name}/{PREFIX}" in why


@pytest.mark.slow
def test_a_copy_of_the_bucket_agrees_with_its_checksums(away, bucket, tmp_path):
    for name, content in bucket.files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    checked = gazepipe(tmp_path, "check", "results")
    assert checked.returncode == 0, checked.stderr
    (tmp_path / "results/tables/benchmark.csv").write_text("")
    assert "benchmark.csv: changed" in gazepipe(tmp_path, "check", "results").stdout


def test_a_server_out_of_reach_is_one_line_and_status_2(repository, bucket, tmp_path):
    nowhere = ["--storage-s3-endpoint-url", "http://127.0.0.1:1", "--storage-s3-retries", "1"]
    done = bucket.run(copy_source(repository, tmp_path, SMALL), *nowhere)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"s3://{bucket.bucket.name}/{PREFIX}: no access (")
    assert "Traceback" not in done.stderr


def test_rules_name_every_file_that_they_read(repository, tmp_path):
    """Where results are elsewhere, a job has what its rule names: also what lies beside an explanation's first file."""
    configuration = "benchmark: {datasets: [near-eye-drawn], models: [itracker4], seeds: [0, 1]}"
    folder = copy_source(repository, tmp_path, configuration)
    done = snakemake(folder, "--dry-run")
    assert done.returncode == 0, done.stderr
    inputs = re.findall(r"^rule (\w+):\n +input: (.*)", done.stdout + done.stderr, re.MULTILINE)
    read = {rule: re.findall(r"[^/]+\.(?:json|csv|safetensors|png)", text) for rule, text in inputs}
    assert {"importance.csv", "dimension.json"} <= set(read["explain_seeds"])
    assert {"explain.json", "width.json", "dimension.json", "model.safetensors", "runs.csv"} <= set(read["tables"])
