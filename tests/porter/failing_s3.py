"""A proxy before an S3 server that fails as stores do: it refuses, is slow, cuts requests and answers, and lies.

`faults` decides of each request, by its method and path: a name below, or None.

    refuse      500, and nothing was done            busy     503 SlowDown
    hang        no answer for a while, then none     cut      half of the request is read, then the connection ends
    lose        it is done, and the answer is lost   short    half of the answer comes
    etag        another ETag than the object's       garble   a byte of what is put is changed on its way
    stale       a list as it was before
"""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HANG_S = 0.5
SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
SKIPPED = {"transfer-encoding", "connection", "content-length", "date", "server"}

Faults = Callable[[str, str], str | None]


class Proxy(ThreadingHTTPServer):
    """Forwards to `target`, but for its faults. `seen` counts them."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target)
        self.faults: Faults = lambda method, path: None
        self.seen: Counter[str] = Counter()
        self.lists: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}  # path -> the first answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is what is wanted here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *_: object) -> None: ...

    def _any(self) -> None:
        fault = self.server.faults(self.command, self.path)
        size = int(self.headers.get("Content-Length", 0))
        if fault:
            self.server.seen[fault] += 1
        if fault in ("cut", "hang"):
            self.rfile.read(size // 2 if fault == "cut" else size)
            if fault == "hang":
                threading.Event().wait(HANG_S)
            self.close_connection = True
            return
        body = self._body(size)
        if fault in ("refuse", "busy"):
            return self._answer(500 if fault == "refuse" else 503, [], SLOW_DOWN if fault == "busy" else b"")
        if fault == "garble" and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        listed = "list-type=2" in self.path
        if fault == "stale" and self.path in self.server.lists:
            return self._answer(*self.server.lists[self.path])
        status, headers, data = self._forward(body)
        if listed:
            self.server.lists.setdefault(self.path, (status, headers, data))
        if fault == "lose":
            self.close_connection = True
            return
        if fault == "etag":
            headers = [(name, '"0"' if name.lower() == "etag" else value) for name, value in headers]
        self._answer(status, headers, data, short=fault == "short")

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any

    def _body(self, size: int) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        return self.rfile.read(size)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        link = http.client.HTTPConnection(self.server.target.hostname or "", self.server.target.port, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            link.request(self.command, self.path, body, headers)
            answer = link.getresponse()
            length = answer.headers.get("Content-Length", "0")
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in SKIPPED]
            data = answer.read()
            if self.command == "HEAD":
                kept.append(("Content-Length", length))
            return answer.status, kept, data
        finally:
            link.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, short: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if short else data)
        if short:
            self.close_connection = True


@contextmanager
def before(target: str) -> Iterator[Proxy]:
    """A proxy before this server."""
    proxy = Proxy(target)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
