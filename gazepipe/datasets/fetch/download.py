"""Download a file of any size over http(s): resumed, retried with back-off, size and checksum known.

Until it is complete, the file is `<name>.partial`, beside `<name>.partial.json`, which keeps the version that the
server gave (ETag, Last-Modified, length), so that two versions are never joined.

Written on requests: pooch, parfive and fsspec do not resume; pypdl and smart_open do, but send no If-Range with the
version of an earlier run; none gives up a connection that is too slow. urllib3's Retry does not cover the body.
"""

import fcntl
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import requests
import urllib3

from gazepipe import __version__
from gazepipe.common.files import read_json, write_json
from gazepipe.common.files import sha256 as checksum
from gazepipe.common.progress import track
from gazepipe.errors import UserError

MB = 1_000_000
PIECE = 1 << 18
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
# ValueError: addresses (and redirects) that are none, whoever notices first.
HOPELESS = (ValueError, requests.exceptions.TooManyRedirects, requests.exceptions.SSLError)


@dataclass(frozen=True)
class Patience:
    """When to try again and when to give up.

    Gives up after `attempts` attempts in a row that each add less than `least_rate` * `window_s` bytes. The wait
    between two is `backoff_s`, doubled each time up to `longest_s`; a server's Retry-After counts up to that, too. An
    attempt ends after `timeout_s` without data, or below a mean of `least_rate` bytes per second over `window_s`.
    """

    attempts: int = 8
    backoff_s: float = 1.0
    longest_s: float = 60.0
    timeout_s: float = 30.0
    window_s: float = 60.0
    least_rate: float = 10_000.0


class _Broken(Exception):
    """An attempt that failed and may be repeated, at the earliest after `wait_s`."""

    def __init__(self, reason: str, wait_s: float = 0.0):
        super().__init__(reason)
        self.wait_s = wait_s


def download(
    url: str,
    target: str | Path,
    size: int | None = None,
    sha256: str | None = None,
    patience: Patience | None = None,
) -> str:
    """Download `url` to `target`, unless that file exists; returns the file's SHA-256 in hex.

    `size` in bytes is checked, before the download where the server announces it. `sha256` is what the caller expects
    and will compare: with it, the download is resumed even from a server that gives no versions, and where the joined
    pieces do not match, the file is downloaded once more in one piece. Several processes may ask for the same target;
    one downloads it. Raises UserError where the address is refused, the size differs, the disk is full, or the attempts
    are used up; the bytes received are kept for the next run.
    """
    target, patience = Path(target), patience or Patience()
    partial = target.with_name(f"{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    with alone(target.with_name(f"{target.name}.lock")):
        if target.exists():
            found = checksum(target)
        else:
            joined = _transfer(url, partial, size, sha256 is not None, patience)
            found = checksum(partial)
            if joined and sha256 not in (None, found):
                print(f"{url}: the joined pieces do not match; loading it in one", file=sys.stderr, flush=True)
                _discard(partial)
                _transfer(url, partial, size, True, patience)
                found = checksum(partial)
            os.replace(partial, target)
            _discard(partial)
        if size is not None and target.stat().st_size != size:
            raise UserError(f"{target}: has {target.stat().st_size} bytes, expected {size}; delete it and run again")
        return found


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the file lock `path`, waiting for whoever has it; the kernel drops it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{path}: held by another process; waiting", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _transfer(url: str, partial: Path, size: int | None, blind: bool, patience: Patience) -> bool:
    """Attempts until `partial` is complete; true where it was joined of several. `blind`: join without a version."""
    failures, best, attempts = 0, _length(partial), 0
    enough = patience.least_rate * patience.window_s
    joined = best > 0
    with requests.Session() as session:
        while True:
            attempts += 1
            try:
                _attempt(session, url, partial, size, blind, patience)
                return joined
            except _Broken as error:
                joined = True
                gained, best = _length(partial) - best, max(best, _length(partial))
                # Only what gets further than ever before counts: a server may cut at the same place each time.
                failures = 0 if gained >= enough else failures + 1
                if failures >= patience.attempts:
                    raise UserError(
                        f"{url}: {error}; gave up after {attempts} attempts, {_length(partial)} bytes are kept in "
                        f"{partial}; run again to resume, or download it by hand and give the file as source.path"
                    ) from None
                wait_s = min(patience.longest_s, max(error.wait_s, patience.backoff_s * 2 ** max(failures - 1, 0)))
                print(f"{url}: {error}; trying again in {wait_s:g} s", file=sys.stderr, flush=True)
                time.sleep(wait_s)


def _attempt(
    session: requests.Session, url: str, partial: Path, size: int | None, blind: bool, patience: Patience
) -> None:
    known = _known_version(partial, url)
    have = _length(partial) if known or blind else 0
    if have and have == known.get("length"):
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": f"gazepipe/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
        headers |= {"If-Range": known["validator"]} if known else {}
    try:
        with session.get(url, headers=headers, stream=True, timeout=patience.timeout_s) as response:
            _check_redirects(url, response)
            start, total = _answer(url, response, partial, have, known)
            if size is not None and total not in (None, size):
                raise UserError(f"{url}: the server announces {total} bytes, expected {size}; the file has changed")
            _check_room(partial, (total or size or 0) - start)
            if start == 0:
                _discard(partial)
                _write_version(partial, url, response, total)
            _receive(response, partial, start, total or size, patience)
    except HOPELESS as error:
        raise UserError(f"{url}: {_reason(error)}; correct the address") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Broken(_reason(error)) from None


def _answer(url: str, response: requests.Response, partial: Path, have: int, known: dict) -> tuple[int, int | None]:
    """(first byte, total bytes or None) of what the server sends; raises for anything that is not the file."""
    status = response.status_code
    if status == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    if status in (206, 416):
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        validator = _validator(response)
        same = not (known and validator) or validator == known["validator"]
        if status == 206 and told and int(told[1]) == have and same:
            return have, int(told[2])
        _discard(partial)
        raise _Broken("the server cannot go on where it stopped, or the file has changed; starting over")
    if status in TRANSIENT:
        after = response.headers.get("Retry-After", "")
        raise _Broken(f"the server answers {status} {response.reason}", float(after) if after.isdecimal() else 0.0)
    raise UserError(
        f"{url}: the server answers {status} {response.reason}; correct the address, or download the file by hand "
        "and give it as source.path"
    )


def _receive(response: requests.Response, partial: Path, start: int, total: int | None, patience: Patience) -> None:
    left = math.ceil((total - start) / MB) if total else None
    label = f"load {partial.name.removesuffix('.partial')}" + (f" from {start // MB} MB on" if start else "")
    for _ in track(_megabytes(response, partial, start, total, patience), label, left, "MB"):
        pass
    length = _length(partial)
    if total is not None and length != total:
        if length > total:
            _discard(partial)
        raise _Broken(f"{length} bytes arrived of {total}")


def _megabytes(
    response: requests.Response, partial: Path, start: int, total: int | None, patience: Patience
) -> Iterator[None]:
    """Append the data received to `partial`, yielding once per megabyte; _Broken where the rate is too low."""
    length, shown = start, start
    window, window_length = time.monotonic(), start
    try:
        with open(partial, "ab") as file:
            # read1 returns what has arrived: a slow connection must not delay the check of its rate.
            while piece := response.raw.read1(PIECE, decode_content=False):
                file.write(piece)
                length += len(piece)
                if total is not None and length > total:
                    break
                now = time.monotonic()
                if now - window >= patience.window_s:
                    rate = (length - window_length) / (now - window)
                    if rate < patience.least_rate and length != total:
                        raise _Broken(f"only {rate:.0f} bytes per second arrive")
                    window, window_length = now, length
                while length - shown >= MB:
                    shown += MB
                    yield
    except requests.RequestException:
        raise
    except OSError as error:
        raise UserError(f"{partial}: {error.strerror}; make room and run again") from None


def _check_room(partial: Path, missing: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if missing > free:
        raise UserError(f"{partial.parent}: {missing} bytes are to come, {free} are free; make room and run again")


def _check_redirects(url: str, response: requests.Response) -> None:
    """requests itself refuses any scheme but http and https."""
    hops = [hop.url for hop in response.history] + [response.url]
    for before, after in pairwise(hops):
        if before.startswith("https:") and not after.startswith("https:"):
            raise UserError(f"{url}: leads from https to {after}, which anybody may alter; correct the address")


def _validator(response: requests.Response) -> str:
    """What tells a version of the file, fit for If-Range: a strong ETag, or the date; empty where there is none."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _write_version(partial: Path, url: str, response: requests.Response, total: int | None) -> None:
    if validator := _validator(response):
        write_json(_version_file(partial), {"url": url, "validator": validator, "length": total})


def _known_version(partial: Path, url: str) -> dict:
    """The version that `partial` is of; empty where nobody knows."""
    try:
        known = read_json(_version_file(partial))
    except UserError:
        return {}
    return known if known.get("url") == url and isinstance(known.get("validator"), str) else {}


def _version_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _discard(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _version_file(partial).unlink(missing_ok=True)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    """The innermost cause, which says what happened; the outer ones repeat it with addresses of objects."""
    inner = getattr(error, "reason", None) or next((arg for arg in error.args if isinstance(arg, Exception)), None)
    if isinstance(inner, Exception):
        return _reason(inner)
    return re.sub(r"<[^>]*>:? ?", "", " ".join(str(error).split()))[:200] or type(error).__name__
