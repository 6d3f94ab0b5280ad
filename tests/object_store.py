"""An S3-compatible object store on loopback, and a proxy before it that can fail and be dead.

The store is moto's server, in a process of its own. Clients find the proxy by the environment
alone, as they would find any store: AWS_ENDPOINT_URL and keys.
"""

from __future__ import annotations

import atexit
import http.client
import os
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import Any

from fakes.loopback import LoopbackServer, read_body

__all__ = ["ObjectStore", "object_store"]

BUCKET = "runs"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class ObjectStore:
    """A proxy before the store.

    Attributes:
        fail_every: One request in so many fails; None: none does.
        refusal: Status and code with which it answers every request, and the region of its bucket
            that it names; None: it does what it is asked for.
        requests: Method and path of each request, in the order of their arrival.
        failures: How many were made to fail, or came while the store was dead.
    """

    def __init__(self, port: int, fail_every: int | None, seed: int) -> None:
        self.fail_every = fail_every
        self.refusal: tuple[int, str, str | None] | None = None
        self.requests: list[tuple[str, str]] = []
        self.failures = 0
        self._random = random.Random(seed)
        self._dead_until = 0.0
        self._mutex = threading.Lock()
        self._server = LoopbackServer(_handler(self, port))
        self.endpoint = self._server.address

    def url(self, name: str = "run") -> str:
        """A URL that nothing was written below yet."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}/{name}"

    def dead_for(self, seconds: float) -> None:
        """From now on, drop every connection for so many seconds."""
        self._dead_until = time.monotonic() + seconds

    def count(self, method: str = "", path: str = "") -> int:
        """Requests of a method, with a part of the path or query."""
        return sum(method in m and path in p for m, p in self.requests)

    def close(self) -> None:
        self._server.stop()

    def _fate(self, method: str, path: str) -> str:
        """What is to happen to a request."""
        with self._mutex:
            self.requests.append((method, path))
            fate = "ok"
            if time.monotonic() < self._dead_until:
                fate = "drop"
            elif self.fail_every and self._random.random() < 1 / self.fail_every:
                fate = self._random.choice(("500", "503", "drop", "reply lost"))
            self.failures += fate != "ok"
            return fate


@contextmanager
def object_store(fail_every: int | None = None, seed: int = 0) -> Iterator[ObjectStore]:
    """A store for this process and those it starts; what is stored stays for the session.

    Args:
        fail_every: Let one request in so many fail: refused with 500 or 503, its connection
            dropped, or done and the reply lost.
        seed: Of which ones.
    """
    from s3fs import S3FileSystem

    store = ObjectStore(_moto(), None, seed)
    environment = {
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        # What fails is to reach the code that is tested, and not after seconds of pauses.
        "AWS_MAX_ATTEMPTS": "1",
    }
    before = {name: os.environ.get(name) for name in environment}
    os.environ |= environment
    S3FileSystem.clear_instance_cache()
    try:
        S3FileSystem().makedirs(BUCKET, exist_ok=True)
        store.requests.clear()
        store.fail_every = fail_every
        yield store
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        store.fail_every, store._dead_until = None, 0.0
        _close_sessions()
        store.close()


def _close_sessions() -> None:
    """What is left open, aiohttp warns of when it is collected."""
    from fsspec.asyn import sync
    from s3fs import S3FileSystem

    for fs in list(S3FileSystem._cache.values()):
        if fs._s3 is not None:
            sync(fs.loop, fs._s3.__aexit__, None, None, None)
            fs._s3 = None
    S3FileSystem.clear_instance_cache()


@cache
def _moto() -> int:
    """The port of the server, which is started once, and ends with this process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(process.wait)
    atexit.register(process.kill)
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return port
        except OSError:
            assert process.poll() is None, "moto's server ended"
            assert time.monotonic() < until, "moto's server does not listen"
            time.sleep(0.05)


def _handler(store: ObjectStore, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = read_body(self)
            fate = store._fate(self.command, self.path)
            if fate in ("500", "503"):
                self.send_response(int(fate))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if store.refusal is not None:
                self._refuse(*store.refusal)
                return
            if fate != "drop":
                status, headers, answer = self._ask(body)
            if fate != "ok":
                self.close_connection = True
                return
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass_on

        def _refuse(self, status: int, code: str, region: str | None) -> None:
            text = f"<Error><Code>{code}</Code><Message>Refused: {code}</Message></Error>"
            self.send_response_only(status)
            if region is not None:
                self.send_header("x-amz-bucket-region", region)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text.encode())

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            headers = {n: v for n, v in self.headers.items() if n.lower() not in _HOP_BY_HOP}
            connection = http.client.HTTPConnection("127.0.0.1", port)
            try:
                connection.request(self.command, self.path, body or None, headers)
                response = connection.getresponse()
                answer = response.read()
                found = [(n, v) for n, v in response.getheaders() if n.lower() not in _HOP_BY_HOP]
                length = response.headers["Content-Length"] if self.command == "HEAD" else None
                found.append(("Content-Length", length or str(len(answer))))
                return response.status, found, answer
            finally:
                connection.close()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
