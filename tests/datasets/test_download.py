import hashlib
import random
import socket
import threading
from types import SimpleNamespace

import pytest
from serve import server
from urllib3.util import connection

from gazepipe.datasets.fetch import download as module
from gazepipe.datasets.fetch.download import Patience, download
from gazepipe.errors import UserError

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = random.Random(1).randbytes(len(CONTENT))
QUICK = Patience(attempts=4, backoff_s=0.01, longest_s=0.05, timeout_s=0.3, window_s=0.1, least_rate=100_000.0)


@pytest.fixture(scope="module")
def web():
    with server() as started:
        yield started


@pytest.fixture(autouse=True)
def _only_this_machine(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    real = connection.create_connection

    def local(address, *rest, **more):
        assert address[0] == "127.0.0.1", address
        return real(address, *rest, **more)

    monkeypatch.setattr(connection, "create_connection", local)


def refusal(*arguments, **more) -> str:
    with pytest.raises(UserError) as caught:
        download(*arguments, patience=QUICK, **more)
    message = str(caught.value)
    assert "\n" not in message
    assert "0x" not in message
    return message


def test_a_sound_download(web, tmp_path):
    url, file = web.serve("/sound", CONTENT)
    target = tmp_path / "new" / "file"
    assert download(url, target, len(CONTENT), patience=QUICK) == SHA256
    assert target.read_bytes() == CONTENT
    assert download(url, target, patience=QUICK) == SHA256
    assert len(file.asked) == 1, "what is there is not loaded again"
    assert sorted(p.name for p in target.parent.iterdir()) == ["file", "file.lock"]


@pytest.mark.parametrize("options", [{}, {"etag": None, "modified": "Wed, 21 Oct 2015 07:28:00 GMT"}])
def test_a_cut_connection_is_resumed_where_it_broke(web, tmp_path, options):
    url, file = web.serve("/cut", CONTENT, faults=[("cut", 100_000), ("cut", 50_000)], **options)
    assert download(url, tmp_path / "file", patience=QUICK) == SHA256
    assert file.offsets == [None, "bytes=100000-", "bytes=150000-"]
    assert file.asked[1]["If-Range"] == (options.get("modified") or '"1"')


def test_a_killed_download_goes_on_in_the_next_run(web, tmp_path):
    url, file = web.serve("/killed", CONTENT, always=("cut", 0), faults=[("cut", 120_000)])
    message = refusal(url, tmp_path / "file")
    assert "120000 bytes are kept in" in message
    assert "gave up after 5 attempts" in message
    file.always = None
    assert download(url, tmp_path / "file", patience=QUICK) == SHA256
    assert file.offsets[-1] == "bytes=120000-"


def test_progress_keeps_a_bad_line_going(web, tmp_path):
    url, file = web.serve("/bad-line", CONTENT, faults=[("cut", 20_000)] * 14)
    assert download(url, tmp_path / "file", patience=QUICK) == SHA256
    assert len(file.asked) == 15


def test_cut_at_the_same_place_for_ever_ends(web, tmp_path):
    url, file = web.serve("/same-place", CONTENT, ranges=False, always=("cut", 200_000))
    assert "200000 bytes are kept" in refusal(url, tmp_path / "file")
    assert len(file.asked) == 5


def test_a_server_without_ranges_starts_over(web, tmp_path):
    url, _ = web.serve("/no-ranges", CONTENT, ranges=False, faults=[("cut", 100_000)])
    assert download(url, tmp_path / "file", patience=QUICK) == SHA256


def test_without_a_version_nothing_is_joined_unless_the_checksum_is_known(web, tmp_path):
    url, file = web.serve("/no-version", CONTENT, etag=None, faults=[("cut", 100_000)])
    assert download(url, tmp_path / "a", patience=QUICK) == SHA256
    assert file.offsets == [None, None]
    url, file = web.serve("/no-version", CONTENT, etag='W/"weak"', faults=[("cut", 100_000)])
    assert download(url, tmp_path / "b", sha256=SHA256, patience=QUICK) == SHA256
    assert file.offsets == [None, "bytes=100000-"]
    assert "If-Range" not in file.asked[1]


@pytest.mark.parametrize("sha256", [None, hashlib.sha256(OTHER).hexdigest()])
def test_a_file_swapped_between_attempts_is_never_mixed(web, tmp_path, sha256):
    url, _ = web.serve("/swap", CONTENT, faults=[("cut", 100_000), ("swap", OTHER, '"2"')])
    assert download(url, tmp_path / "file", sha256=sha256, patience=QUICK) == hashlib.sha256(OTHER).hexdigest()
    assert (tmp_path / "file").read_bytes() == OTHER


def test_a_swap_behind_an_equal_etag_is_caught_by_the_checksum(web, tmp_path):
    expected = hashlib.sha256(OTHER).hexdigest()
    url, file = web.serve("/sly-swap", CONTENT, faults=[("cut", 100_000), ("swap", OTHER, '"1"')])
    assert download(url, tmp_path / "file", sha256=expected, patience=QUICK) == expected
    assert file.offsets == [None, "bytes=100000-", None], "once more in one piece"


def test_a_range_of_another_version_is_refused(web, tmp_path):
    class Deaf(str):  # a server that sends a range of the new version in spite of If-Range
        def __eq__(self, other):
            return True

        __hash__ = str.__hash__

    url, _ = web.serve("/deaf", CONTENT, faults=[("cut", 100_000), ("swap", OTHER, Deaf('"2"'))])
    assert download(url, tmp_path / "file", patience=QUICK) == hashlib.sha256(OTHER).hexdigest()


def test_a_partial_longer_than_the_file_starts_over(web, tmp_path):
    url, file = web.serve("/longer", CONTENT, always=("cut", 0), faults=[("cut", 290_000)])
    refusal(url, tmp_path / "file", sha256=SHA256)
    short = CONTENT[:1000]
    file.content, file.always = short, None
    file.faults = [416]
    assert download(url, tmp_path / "file", sha256=SHA256, patience=QUICK) == hashlib.sha256(short).hexdigest()


def test_errors_of_the_server_that_pass(web, tmp_path):
    url, file = web.serve("/passing", CONTENT, faults=[500, 503, 429])
    assert download(url, tmp_path / "file", patience=QUICK) == SHA256
    assert len(file.asked) == 4


def test_back_off_doubles_up_to_its_limit_and_heeds_the_server(web, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    after = [(503, {"Retry-After": seconds}) for seconds in ("2", "9999", "soon")]
    url, _ = web.serve("/back-off", CONTENT, faults=[*after, 500, 500, 500])
    patience = Patience(attempts=7, backoff_s=0.25, longest_s=3.5, timeout_s=0.3)
    assert download(url, tmp_path / "file", patience=patience) == SHA256
    assert slept == [2.0, 3.5, 1.0, 2.0, 3.5, 3.5]


@pytest.mark.parametrize("status", [500, 503])
def test_errors_of_the_server_that_stay(web, tmp_path, status):
    url, file = web.serve("/staying", CONTENT, always=status)
    assert f"answers {status}" in refusal(url, tmp_path / "file")
    assert len(file.asked) == QUICK.attempts


@pytest.mark.parametrize("status", [401, 403, 404, 410, 418, 204])
def test_hopeless_answers_are_not_repeated(web, tmp_path, status):
    url, file = web.serve("/hopeless", CONTENT, always=status)
    message = refusal(url, tmp_path / "file")
    assert f"answers {status}" in message
    assert "source.path" in message
    assert len(file.asked) == 1


def test_a_drip_is_given_up(web, tmp_path):
    url, file = web.serve("/drip", CONTENT[:20_000], always=("drip", 100, 0.01))
    message = refusal(url, tmp_path / "file")
    assert "bytes per second" in message
    assert len(file.asked) == QUICK.attempts
    assert all(file.offsets[1:]), "and what came is kept"


def test_a_drip_that_recovers_is_kept(web, tmp_path):
    url, _ = web.serve("/short-drip", CONTENT, faults=[("drip", 100, 0.01)])
    assert download(url, tmp_path / "file", patience=QUICK) == SHA256


def test_silence_is_given_up(web, tmp_path):
    url, file = web.serve("/silence", CONTENT, always="silence")
    assert "timed out" in refusal(url, tmp_path / "file").lower()
    assert len(file.asked) == QUICK.attempts


def test_more_announced_than_sent(web, tmp_path):
    url, _ = web.serve("/too-long", CONTENT, always=("length", len(CONTENT) + 5))
    assert "300000 bytes are kept" in refusal(url, tmp_path / "file")


@pytest.mark.parametrize("length", [1000, 400_000])
def test_another_size_than_expected_is_refused_before_loading(web, tmp_path, length):
    url, file = web.serve("/size", CONTENT, always=("length", length))
    message = refusal(url, tmp_path / "file", size=len(CONTENT))
    assert f"announces {length} bytes, expected 300000" in message
    assert len(file.asked) == 1
    assert not (tmp_path / "file.partial").exists()


def test_a_complete_file_of_another_size_is_refused(web, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    assert "has 1 bytes, expected 300000" in refusal(web.address, tmp_path / "file", size=300_000)


def test_a_server_that_announces_no_length(web, tmp_path):
    url, _ = web.serve("/chunked", CONTENT, chunked=True)
    assert download(url, tmp_path / "a", patience=QUICK) == SHA256
    assert download(url, tmp_path / "b", size=len(CONTENT), patience=QUICK) == SHA256
    for size in (200_000, 400_000):
        assert "gave up" in refusal(url, tmp_path / f"{size}", size=size)
    url, _ = web.serve("/chunked-cut", CONTENT, chunked=True, always=("cut", 1000))
    refusal(url, tmp_path / "e")


def test_a_compressed_transfer_is_stored_as_it_is(web, tmp_path):
    url, file = web.serve("/x.tar.gz", CONTENT, headers={"Content-Encoding": "gzip"})
    assert download(url, tmp_path / "file", patience=QUICK) == SHA256
    assert file.asked[0]["Accept-Encoding"] == "identity"


def test_redirects(web, tmp_path):
    there, _ = web.serve("/there", CONTENT, faults=[("cut", 1000)])
    url, _ = web.serve("/moved", b"", always=("redirect", there))
    assert download(url, tmp_path / "file", patience=QUICK) == SHA256
    for number, address in enumerate(("file:///etc/passwd", "ftp://127.0.0.1/x", "http://[bad/")):
        url, file = web.serve("/elsewhere", b"", always=("redirect", address))
        assert "correct the address" in refusal(url, tmp_path / f"{number}")
        assert len(file.asked) == 1
    url, _ = web.serve("/circle", b"", always=("redirect", "/circle"))
    assert "redirects" in refusal(url, tmp_path / "circle")


def test_a_redirect_out_of_encryption_is_refused(tmp_path, monkeypatch):
    class Answered(SimpleNamespace):
        def __enter__(self):
            return self

        def __exit__(self, *_): ...

    hop = SimpleNamespace(url="https://127.0.0.1/a")
    answered = Answered(history=[hop], url="http://127.0.0.1/b")
    monkeypatch.setattr(module.requests.Session, "get", lambda *_, **__: answered)
    assert "leads from https to http://127.0.0.1/b" in refusal(hop.url, tmp_path / "file")
    module._check_redirects("http://127.0.0.1/b", SimpleNamespace(history=[answered], url=hop.url))


def test_nobody_there(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        message = refusal(f"http://127.0.0.1:{taken.getsockname()[1]}/x", tmp_path / "file")
    assert "refused" in message


def test_a_full_disk(web, tmp_path, monkeypatch):
    url, _ = web.serve("/room", CONTENT)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "300000 bytes are to come, 1000 are free" in refusal(url, tmp_path / "file")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    monkeypatch.setattr(module, "_discard", lambda _: None)
    (tmp_path / "full.partial").symlink_to("/dev/full")
    assert "No space left on device" in refusal(url, tmp_path / "full")


def test_two_at_once_load_it_once(web, tmp_path):
    url, file = web.serve("/twice", CONTENT, faults=[("drip", 50_000, 0.02)])
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(download(url, tmp_path / "file", patience=QUICK)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [SHA256] * 3
    assert len(file.asked) == 1
