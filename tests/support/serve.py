"""A web server on this machine for tests, with the faults that real ones show."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class File:
    """What is served at one path. `faults`: one for each coming request (None: served soundly); then none.

    A fault is a status (int), ("cut", n): the connection ends after n bytes of the body, ("length", n): n is
    announced as Content-Length, ("drip", n, seconds): n bytes at a time, ("redirect", address), ("swap", content,
    etag): the file is another from here on, "silence": nothing comes.
    """

    content: bytes
    etag: str | None = '"1"'
    modified: str | None = None
    ranges: bool = True
    chunked: bool = False
    faults: list = field(default_factory=list)
    always: object = None
    headers: dict = field(default_factory=dict)
    asked: list[dict] = field(default_factory=list)

    @property
    def offsets(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.asked]


class Server:
    def __init__(self, port: int):
        self.address = f"http://127.0.0.1:{port}"
        self.files: dict[str, File] = {}

    def serve(self, path: str, content: bytes, **options: object) -> tuple[str, File]:
        """(address, file) of what is served at `path` from now on."""
        self.files[path] = File(content, **options)
        return self.address + path, self.files[path]


@contextmanager
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            try:
                answer(self, web.files.get(self.path))
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.handle_error = lambda *_: None  # clients that hang up are what is tested
    web = Server(http.server_port)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        http.shutdown()
        http.server_close()


def answer(handler: BaseHTTPRequestHandler, file: File | None) -> None:
    if file is None:
        return _refuse(handler, 404)
    file.asked.append(dict(handler.headers))
    fault = file.faults.pop(0) if file.faults else file.always
    kind, *rest = fault if isinstance(fault, tuple) else (fault,)
    if isinstance(kind, int):
        return _refuse(handler, kind, dict(*rest))
    if kind == "redirect":
        return _refuse(handler, 302, {"Location": rest[0]})
    if kind == "silence":
        time.sleep(0.5)
        handler.close_connection = True
        return None
    if kind == "swap":
        file.content, file.etag = rest
    start = _start(handler, file)
    if start and start >= len(file.content):
        return _refuse(handler, 416, {"Content-Range": f"bytes */{len(file.content)}"})
    body = file.content[start:]
    handler.send_response(206 if start else 200)
    for name, value in {"ETag": file.etag, "Last-Modified": file.modified, **file.headers}.items():
        if value is not None:
            handler.send_header(name, value)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(file.content) - 1}/{len(file.content)}")
    if file.chunked:
        handler.send_header("Transfer-Encoding", "chunked")
    else:
        handler.send_header("Content-Length", str(rest[0] if kind == "length" else len(body)))
    handler.end_headers()
    if file.chunked:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    if kind == "cut":
        body = body[: rest[0]]
    if kind == "drip":
        for at in range(0, len(body), rest[0]):
            handler.wfile.write(body[at : at + rest[0]])
            time.sleep(rest[1])
    else:
        handler.wfile.write(body)
    if kind in ("cut", "length"):
        handler.close_connection = True
    return None


def _start(handler: BaseHTTPRequestHandler, file: File) -> int:
    """First byte to send, as the range headers ask."""
    asked = handler.headers.get("Range")
    condition = handler.headers.get("If-Range")
    if not asked or not file.ranges or (condition and condition not in (file.etag, file.modified)):
        return 0
    return int(asked.removeprefix("bytes=").removesuffix("-"))


def _refuse(handler: BaseHTTPRequestHandler, status: int, headers: dict | None = None) -> None:
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", "0")
    handler.end_headers()
