import copy
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from serve import server
from toy_config import toy_config

from gazepipe import cli
from gazepipe.config import load as config
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job
from gazepipe.datasets.fetch.download import Patience
from gazepipe.datasets.fetch.fetch import fetch
from gazepipe.datasets.fetch.receipt import raw_folder
from gazepipe.datasets.prepare import write_part
from gazepipe.datasets.settings import FetchSettings
from gazepipe.drawn.draw import draw
from gazepipe.errors import UserError

QUICK = Patience(attempts=3, backoff_s=0.01, longest_s=0.02, timeout_s=0.5, window_s=0.2)
WRONG = "0" * 64


@pytest.fixture(scope="module")
def web():
    with server() as started:
        yield started


@pytest.fixture(autouse=True)
def _a_folder_to_run_in(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """Two drawn subjects of MPIIFaceGaze: p00.mat, p01.mat."""
    folder = tmp_path_factory.mktemp("faces")
    draw({"layout": "mpiifacegaze", "subjects": 2, "seed": 1, "images": 2, "size": 64}, folder, 1)
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A drawn subject of Columbia Gaze, too small to find a face in: 0001/*.jpg."""
    folder = tmp_path_factory.mktemp("pictures")
    draw({"layout": "columbia", "subjects": 1, "seed": 1, "scale": 0.02}, folder, 1)
    return folder


def zipped(folder: Path, within: str = "", only: str = "*") -> bytes:
    """A zip of a folder's files, as publishers make them: all in one folder, with entries of their own for folders."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for path in sorted(folder.rglob(only)):
            if not path.name.startswith("."):
                file.write(path, f"{within}/{path.relative_to(folder).as_posix()}")
    return data.getvalue()


def tarred(folder: Path, within: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as file:
        file.add(folder, within, filter=lambda member: None if "/." in member.name else member)
    return data.getvalue()


FETCH = Job.of("fetch", dataset="columbia-drawn")
PLACES = {
    "subjects": 1,
    "options": {},
    "folder": "data/raw/set",
    "downloads": "data/downloads",
    "checksums": "data-checksums.json",
}


def block(layout: str, *archives: dict, consent: bool = False, **more: object) -> dict:
    source = {"archives": list(archives), "licence": "CC BY-NC-SA 4.0", "terms": "https://127.0.0.1/terms", **more}
    return {**PLACES, "layout": layout, "source": {"url": source, "consent": consent}}


def refusal(wanted: dict) -> str:
    with pytest.raises(UserError) as caught:
        fetch(FetchSettings.model_validate(wanted), Path("data/raw/set.json"), 1, QUICK)
    assert not Path("data/raw/set.json").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fetched(wanted: dict) -> dict:
    fetch(FetchSettings.model_validate(wanted), Path("data/raw/set.json"), 1, QUICK)
    return json.loads(Path("data/raw/set.json").read_text())


def of_path(path: object, layout: str = "mpiifacegaze") -> dict:
    return {**PLACES, "layout": layout, "source": {"path": str(path)}}


def snapshot(folder: Path) -> dict:
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in [folder, *folder.rglob("*")]}


def test_mpiifacegaze_as_published_from_address_to_part(web, faces):
    url, file = web.serve("/MPIIFaceGaze_normalized.zip", zipped(faces, "MPIIFaceGaze_normalizad"))
    file.faults = [503, ("cut", 5000)]
    receipt = fetched(block("mpiifacegaze", {"url": url}))
    assert receipt["files"] == 2
    assert receipt["folder"] == "data/raw/set"
    for name in ("p00.mat", "p01.mat"):
        unpacked = Path(receipt["folder"], "MPIIFaceGaze_normalizad", name)
        assert unpacked.read_bytes() == (faces / name).read_bytes()
    patch = {"kind": "eyes", "height": 16, "width": 48}
    folder = raw_folder(Path("data/raw/set.json"))
    write_part(folder, "mpiifacegaze", patch, ["p00", "p01"], 0, 1, "part.h5")
    assert Path("part.h5").exists()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_columbia_as_published(web, pictures, kind):
    within = "Columbia Gaze Data Set"
    data = zipped(pictures, within) if kind == "zip" else tarred(pictures, within)
    url, _ = web.serve(f"/columbia_gaze_data_set.{kind}", data)
    assert fetched(block("columbia", {"url": url}))["files"] == 105


@pytest.mark.parametrize("within", ["a/b/c", "DATA/Some Folder (1)"])
def test_oddly_nested_and_mixed_case(web, faces, tmp_path, within):
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "P00.MAT").write_bytes((faces / "p00.mat").read_bytes())
    url, _ = web.serve("/odd.zip", zipped(odd, within))
    assert fetched(block("mpiifacegaze", {"url": url}))["files"] == 1


def test_several_archives_and_their_folders(web, faces):
    first, _ = web.serve("/1.zip", zipped(faces, "", "p00.mat"))
    second, _ = web.serve("/2.zip", zipped(faces, "", "p01.mat"))
    wanted = block("mpiifacegaze", {"url": first, "folder": "all"}, {"url": second, "folder": "all"})
    receipt = fetched(wanted)
    assert sorted(p.name for p in Path(receipt["folder"], "all").iterdir()) == ["p00.mat", "p01.mat"]
    assert set(json.loads(Path("data-checksums.json").read_text())) == {first, second}
    assert sorted(p.name for p in Path().iterdir()) == ["data", "data-checksums.json"]


def test_nothing_is_asked_before_consent(web, faces):
    url, file = web.serve("/consent.zip", zipped(faces))
    message = refusal(block("mpiifacegaze", {"url": url}, consent_required=True))
    for part in ("CC BY-NC-SA 4.0", "https://127.0.0.1/terms", "datasets.set.source", "consent: true"):
        assert part in message
    assert file.asked == []
    assert not Path("data").exists()
    fetched(block("mpiifacegaze", {"url": url}, consent_required=True, consent=True))


def test_the_line_of_the_message_gives_consent_in_a_configuration(capsys):
    raw = toy_config()
    set_ = raw["datasets"]["mpiifacegaze-drawn"]
    set_["source"] = {
        "url": {
            "archives": [{"url": "http://999.999.999.999:99999/x.zip"}],  # fails at once, without any connection
            "licence": "CC BY-NC-SA 4.0",
            "terms": "http://127.0.0.1:9/terms",
            "consent_required": True,
        }
    }

    def run() -> str:
        settings = Plan(config.load(raw)).settings(Job.of("fetch", dataset="mpiifacegaze-drawn"))
        assert cli.main(["fetch", "--settings", settings.model_dump_json(), "--receipt", "receipt.json"]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    refused = run()
    assert refused.startswith("gazepipe fetch: mpiifacegaze-drawn: its licence needs your consent: CC BY-NC-SA 4.0")
    line = refused.rpartition("configuration: ")[2]
    key, _, value = line.partition(": ")
    set_["source"][key] = json.loads(value)
    assert "999.999.999.999:99999/x.zip; correct the address" in run()


def test_a_second_run_asks_for_nothing(web, faces):
    url, file = web.serve("/again.zip", zipped(faces))
    wanted = block("mpiifacegaze", {"url": url})
    receipt = fetched(wanted)
    before = snapshot(Path("data/raw/set"))
    assert fetched(wanted) == receipt
    for archive in Path("data/downloads").glob("*.zip"):
        archive.unlink()
    assert fetched(wanted) == receipt
    assert snapshot(Path("data/raw/set")) == before
    assert len(file.asked) == 1


def test_a_kept_archive_is_unpacked_again_without_loading(web, faces):
    url, file = web.serve("/kept.zip", zipped(faces))
    wanted = block("mpiifacegaze", {"url": url})
    receipt = fetched(wanted)
    (Path("data/raw/set/p00.mat")).unlink()
    Path("data/raw/set/.unpacked.json").unlink()
    assert "did not put there" in refusal_of_rerun(wanted)
    (Path("data/raw/set/p01.mat")).unlink()
    assert fetched(wanted) == receipt
    assert len(file.asked) == 1


def refusal_of_rerun(wanted: dict) -> str:
    Path("data/raw/set.json").unlink()
    return refusal(wanted)


def test_the_first_checksum_is_locked_and_another_refused(web, faces, pictures):
    content = zipped(faces)
    url, file = web.serve("/locked.zip", content)
    wanted = block("mpiifacegaze", {"url": url})
    fetched(wanted)
    entry = json.loads(Path("data-checksums.json").read_text())[url]
    assert entry["size"] == len(content)
    # A colleague's clone: the lock, and nothing else; the publisher has another file by now.
    for path in ("data/raw/set/p00.mat", "data/raw/set/p01.mat", "data/raw/set/.unpacked.json", "data/raw/set.json"):
        Path(path).unlink()
    next(Path("data/downloads").glob("*-locked.zip")).unlink()
    file.content, file.etag = zipped(faces, "changed"), '"2"'
    message = refusal(wanted)
    assert entry["sha256"] in message
    assert "data-checksums.json" in message
    assert "locked.zip" in message
    assert "has changed" in message
    assert not list(Path("data/raw/set").iterdir())
    assert refusal(wanted) == message
    assert len(file.asked) == 2, "the refused file is kept, not loaded again"
    # Both ways out that the message names.
    next(Path("data/downloads").glob("*-locked.zip")).unlink()
    file.content = content
    fetched(wanted)
    Path("data-checksums.json").write_text("{}")
    fetched(wanted)
    assert json.loads(Path("data-checksums.json").read_text()) == {url: entry}


def test_a_published_checksum_and_size_are_compared(web, faces):
    content = zipped(faces)
    url, _ = web.serve("/published.zip", content)
    message = refusal(block("mpiifacegaze", {"url": url, "sha256": WRONG}))
    assert WRONG in message
    assert "the configuration" in message
    url, file = web.serve("/published-size.zip", content)
    assert "announces" in refusal(block("mpiifacegaze", {"url": url, "size": 5}))
    assert not Path("data-checksums.json").exists()
    sound = {"url": url, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    fetched(block("mpiifacegaze", sound))
    assert not Path("data-checksums.json").exists(), "what is published needs no entry"
    assert len(file.asked) == 2


def test_a_damaged_lock_is_named(web, faces):
    url, file = web.serve("/bad-lock.zip", zipped(faces))
    for text in ("{", "[]", json.dumps({url: 5}), json.dumps({url: {"sha256": "short"}})):
        Path("data-checksums.json").write_text(text)
        assert "data-checksums.json" in refusal(block("mpiifacegaze", {"url": url}))
        assert Path("data-checksums.json").read_text() == text
    assert file.asked == []


def test_the_wrong_archive_leaves_nothing(web, pictures):
    url, _ = web.serve("/wrong.zip", zipped(pictures, "Columbia Gaze Data Set"))
    message = refusal(block("mpiifacegaze", {"url": url}))
    assert "wrong.zip: is not the data set expected" in message
    assert "p00.mat" in message
    assert "found: Columbia Gaze Data Set" in message
    assert ".partial" not in message
    assert not Path("data/raw/set").exists()
    assert not Path("data-checksums.json").exists(), "its checksum is not worth keeping"


def test_a_login_page_instead_of_an_archive(web):
    url, _ = web.serve("/login.zip", b"<!DOCTYPE html><title>Log in</title>")
    assert "web page" in refusal(block("columbia", {"url": url}))


def test_an_evil_archive_leaves_nothing(web):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("p00.mat", b"1")
        file.writestr("../../../evil", b"1")
    url, _ = web.serve("/evil.zip", data.getvalue())
    assert "points out of the folder" in refusal(block("mpiifacegaze", {"url": url}))
    assert sorted(p.name for p in Path().iterdir()) == ["data"]
    assert [p.name for p in Path("data/raw").iterdir() if not p.name.endswith(".lock")] == []


def test_what_a_killed_process_left_half_drawn_is_not_counted():
    """Also where its process id is another's by now."""
    drawn = {**of_path(""), "source": {"drawn": {"seed": 1, "images": 1, "size": 64}}}
    whole = fetched(drawn)
    leftover = Path(f"data/raw/set/.partial-{os.getpid():07d}-p07")
    leftover.mkdir()
    for name in (f"{leftover}/p07.mat", f"{leftover}.mat"):
        Path(name).write_bytes(b"half")
    assert fetched(drawn) == whole


@pytest.mark.parametrize(("edited", "kept"), [("mpiifacegaze", False), ("columbia", True)])
def test_a_set_is_drawn_from_nothing_where_its_own_writer_changed(repository, edited, kept):
    """In a copy of the package, whose source may be edited."""
    shutil.copytree(repository / "gazepipe", "gazepipe", ignore=shutil.ignore_patterns("__pycache__"))
    drawn = {**of_path(""), "source": {"drawn": {"seed": 1, "images": 1, "size": 64}}}
    code = "from pathlib import Path; from gazepipe.datasets.settings import FetchSettings; "
    code += f"from gazepipe.datasets.fetch.fetch import fetch; fetch(FetchSettings(**{drawn}), Path('set.json'))"
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""})
    Path("data/raw/set/.earlier").touch()
    with open(f"gazepipe/drawn/layouts/{edited}.py", "a") as file:
        file.write("\nANOTHER = 1\n")
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""})
    assert Path("data/raw/set/.earlier").exists() == kept


def test_leftovers_of_a_killed_run_are_removed_and_neighbours_kept(web, faces):
    for name in (".partial-123-set", ".partial-123-other-set", ".partial-x-set", "set2"):
        Path("data/raw", name).mkdir(parents=True)
    url, _ = web.serve("/leftovers.zip", zipped(faces))
    fetched(block("mpiifacegaze", {"url": url}))
    left = {p.name for p in Path("data/raw").iterdir() if p.is_dir()}
    assert left == {"set", "set2", ".partial-123-other-set", ".partial-x-set"}


def test_two_fetches_at_once_agree(web, faces):
    url, file = web.serve("/parallel.zip", zipped(faces))
    wanted = block("mpiifacegaze", {"url": url})
    errors = []

    def one(number: int) -> None:
        try:
            fetch(FetchSettings.model_validate(wanted), Path(f"{number}.json"), 1, QUICK)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Path("0.json").read_text() == Path("1.json").read_text() == Path("2.json").read_text()
    assert len(file.asked) == 1


# ---- path


def test_a_folder_is_only_read(faces):
    before = snapshot(faces)
    for path in [faces, *faces.iterdir()]:
        os.utime(path, ns=(before[path][0], before[path][0]))
    receipt = fetched(of_path(faces))
    assert receipt["folder"] == str(faces)
    assert snapshot(faces) == before


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_on_disk_is_unpacked_and_not_touched(faces, tmp_path, kind):
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = outside / f"faces.{kind}"
    archive.write_bytes(zipped(faces, "x") if kind == "zip" else tarred(faces, "x"))
    archive.chmod(0o400)
    before = snapshot(outside)
    receipt = fetched(of_path(archive))
    assert receipt["folder"] == "data/raw/set"
    assert receipt["files"] == 2
    unpacked = snapshot(Path("data/raw/set"))
    assert fetched(of_path(archive)) == receipt
    assert snapshot(Path("data/raw/set")) == unpacked, "unpacked once"
    assert snapshot(outside) == before


def test_another_archive_replaces_what_was_unpacked(faces, tmp_path):
    archive = tmp_path / "faces.zip"
    archive.write_bytes(zipped(faces))
    assert fetched(of_path(archive))["files"] == 2
    archive.write_bytes(zipped(faces, "", "p00.mat"))
    assert fetched(of_path(archive))["files"] == 1


def test_paths_that_hold_no_such_set(pictures, tmp_path):
    assert "no such folder or archive" in refusal(of_path(tmp_path / "nowhere"))
    assert "p00.mat" in refusal(of_path(pictures))
    (tmp_path / "text.zip").write_text("no archive")
    assert "text.zip: is no zip or tar archive" in refusal(of_path(tmp_path / "text.zip"))


def test_what_somebody_put_into_our_folder_is_not_deleted(faces, tmp_path):
    Path("data/raw/set").mkdir(parents=True)
    Path("data/raw/set/thesis.txt").write_text("years of work")
    (tmp_path / "faces.zip").write_bytes(zipped(faces))
    drawn = {**of_path(""), "source": {"drawn": {"seed": 1, "images": 1, "size": 64}}}
    for wanted in (of_path(tmp_path / "faces.zip"), drawn):
        assert "did not put there" in refusal(wanted)
    assert Path("data/raw/set/thesis.txt").read_text() == "years of work"


def test_a_drawn_set_takes_the_place_of_an_unpacked_one_and_back(faces, tmp_path):
    (tmp_path / "faces.zip").write_bytes(zipped(faces))
    drawn = {**of_path(""), "source": {"drawn": {"seed": 1, "images": 1, "size": 64}}}
    assert fetched(of_path(tmp_path / "faces.zip"))["files"] == 2
    assert fetched(drawn)["files"] == 1
    assert fetched(of_path(tmp_path / "faces.zip"))["files"] == 2


# ---- configuration and plan


@pytest.fixture
def raw() -> dict:
    raw = toy_config()
    archive = {"url": "https://127.0.0.1/x.zip", "sha256": "a" * 64, "size": 5, "folder": "train"}
    url = {"archives": [archive], "licence": "CC", "citation": "Zhang 2017", "terms": "https://127.0.0.1/t"}
    raw["datasets"]["columbia-drawn"]["source"] = {"url": {**url, "consent_required": True}}
    return raw


def test_the_settings_of_a_url_source(raw):
    made = Plan(config.load(raw)).settings(FETCH)
    assert made.source.url.model_dump() == raw["datasets"]["columbia-drawn"]["source"]["url"]
    assert (made.source.consent, made.downloads, made.checksums) == (False, "data/downloads", "data-checksums.json")


@pytest.mark.parametrize(
    ("changes", "reruns"),
    [
        ({"licence": "other", "citation": "other"}, False),
        ({"archives": [{"url": "https://127.0.0.1/mirror.zip", "sha256": "a" * 64, "folder": "train"}]}, False),
        ({"archives": [{"url": "https://127.0.0.1/x.zip", "sha256": "b" * 64, "folder": "train"}]}, True),
        ({"archives": [{"url": "https://127.0.0.1/x.zip", "sha256": "a" * 64}]}, True),
    ],
)
def test_a_job_reruns_for_other_content_only(raw, changes, reruns):
    before = Plan(config.load(raw)).key(FETCH)
    raw["datasets"]["columbia-drawn"]["source"]["url"] |= changes
    raw["datasets"]["columbia-drawn"]["source"]["consent"] = True
    assert (Plan(config.load(raw)).key(FETCH) != before) == reruns


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("url/archives/0/url", "ftp://127.0.0.1/x.zip", "url.archives.0.url"),
        ("url/archives/0/url", "file:///etc/passwd", "url.archives.0.url"),
        ("url/archives/0/url", "https://me:secret@127.0.0.1/x.zip", "url.archives.0.url"),
        ("url/archives/0/sha256", "a" * 63, "url.archives.0.sha256"),
        ("url/archives/0/folder", "../x", "url.archives.0.folder"),
        ("url/archives/0/folder", "/x", "url.archives.0.folder"),
        ("url/archives/0/size", 0, "url.archives.0.size"),
        ("url/archives/0/sha257", "a", "'sha256'"),
        ("url/archives", [], "url.archives"),
        ("url/terms", "", "'terms'"),
        ("url/license", "x", "'licence'"),
        ("path", "x", "exactly one of 'drawn', 'url' and 'path'"),
        ("consent", "perhaps", "consent"),
    ],
)
def test_sources_that_are_refused(raw, path, value, expected):
    raw = copy.deepcopy(raw)
    *parents, last = path.split("/")
    at = raw["datasets"]["columbia-drawn"]["source"]
    for name in parents:
        at = at[int(name)] if isinstance(at, list) else at[name]
    at[last] = value
    with pytest.raises(UserError) as caught:
        config.load(raw)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
