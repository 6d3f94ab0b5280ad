"""Files of a web server that tells little of them: no validators, no ranges, no lengths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fakes.loopback import LoopbackServer
from synthvlm.captions.readers.sources import read_captions, source_digest


class WebServer(LoopbackServer):
    """Serves ``content`` by its path.

    Attributes:
        content: Of each path.
        headers: Sent with every answer.
        has_length: Whether answers tell their lengths.
    """

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}
        self.has_length = True
        super().__init__(_Handler)


class _Handler(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        body = self.server.content.get(self.path)
        self.send_response(404 if body is None else 200)
        body = body or b""
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Accept-Ranges", "none")
        if self.server.has_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[WebServer]:
    web = WebServer()
    yield web
    web.stop()


def lines(text: str, count: int = 3) -> bytes:
    return b"".join(json.dumps({"caption": f"{text}{n}"}).encode() + b"\n" for n in range(count))


@pytest.mark.parametrize("has_length", [True, False])
def test_a_file_replaced_at_equal_size_is_another(server: WebServer, has_length: bool) -> None:
    server.has_length = has_length
    url = f"{server.address}/a.jsonl"
    server.content["/a.jsonl"] = lines("a")
    first = source_digest(url)
    assert source_digest(url) == first
    server.content["/a.jsonl"] = lines("b")
    assert source_digest(url) != first


def test_what_tells_versions_apart_is_enough(server: WebServer) -> None:
    url = f"{server.address}/a.jsonl"
    server.content["/a.jsonl"] = lines("a")
    seen = set()
    headers = [("ETag", '"1"'), ("ETag", '"2"'), ("Last-Modified", "yesterday")]
    headers += [("Content-MD5", "one"), ("Content-MD5", "two"), ("Digest", "sha-256=x")]
    for name, value in headers:
        server.headers = {name: value}
        seen.add(source_digest(url))
        server.content["/a.jsonl"] = lines("b")  # not read for it
        assert source_digest(url) in seen
        server.content["/a.jsonl"] = lines("a")
    assert len(seen) == len(headers)


@pytest.mark.parametrize("has_length", [True, False])
def test_every_format_is_read_without_ranges(server: WebServer, has_length: bool) -> None:
    server.has_length = has_length
    rows = [{"id": str(n), "caption": f"a{n}"} for n in range(3)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    server.content = {
        "/a.jsonl": lines("a"),
        "/b.json": json.dumps(rows).encode(),
        "/c.json": json.dumps({"images": [{}], "annotations": rows}).encode(),
        "/d.txt": b"a0\na1\na2\n",
        "/e.csv": b"caption\na0\na1\na2\n",
        "/f.parquet": sink.getvalue().to_pybytes(),
        "/g.json": lines("a"),
    }
    for path in server.content:
        captions = read_captions(server.address + path, name="web", normalize=str)
        assert [caption.text for caption in captions] == ["a0", "a1", "a2"], path
