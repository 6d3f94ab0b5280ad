"""The server on loopback: whom it refuses, and what it sends."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import NamedTuple

import pytest

from synthvlm.errors import SynthVLMError
from synthvlm.web.messages import BadRequestError, Request, Response, as_json, files
from synthvlm.web.server import LocalServer

BARRIER = Barrier(2)


def echo(request: Request) -> Response:
    return as_json({"path": request.path, "query": request.query, "nan": float("nan")})


def refuse(request: Request) -> Response:
    raise BadRequestError("no such column 'x'")


def fail(request: Request) -> Response:
    raise ValueError("secret")


def meet(request: Request) -> Response:
    BARRIER.wait(10)
    return as_json({})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    (tmp_path / "index.html").write_text("<!doctype html><title>t</title>")
    (tmp_path / "page.js").write_text("1")
    (tmp_path / "secret.txt").write_text("secret")
    routes = {
        **files(tmp_path),
        ("GET", "/api/echo"): echo,
        ("GET", "/image/"): echo,
        ("GET", "/api/refuse"): refuse,
        ("GET", "/api/fail"): fail,
        ("GET", "/api/meet"): meet,
        ("POST", "/api/marks"): lambda request: as_json(request.json()),
    }
    with LocalServer(routes) as running:
        yield running


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(
    server: LocalServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> Answer:
    """A request with the token and the right host, unless ``headers`` (``_`` for ``-``) differ."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    given = {"Host": f"127.0.0.1:{server.port}", "Authorization": f"Bearer {server.token}"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host=True)
    if body is not None:
        given.setdefault("Content-Length", str(len(body)))
    for name, value in given.items():
        if value:
            connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read())
    connection.close()
    return answer


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:{port}"}, 200),
        ({"Origin": "http://127.0.0.1:{port}", "Sec_Fetch_Site": "same-origin"}, 200),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Host": "127.0.0.1"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Authorization": ""}, 403),
        ({"Authorization": "Bearer wrong"}, 403),
        ({"Authorization": "Bearer \xfc"}, 403),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/echo"), ("POST", "/api/marks")])
def test_only_its_own_pages_with_the_token_are_answered(
    server: LocalServer, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    shown = {name: value.format(port=server.port) for name, value in headers.items()}
    answer = ask(server, method, path, b"{}" if method == "POST" else None, **shown)
    assert answer.status == status
    assert status == 200 or list(json.loads(answer.body)) == ["error"]


def test_the_printed_address_gives_a_cookie_and_loses_the_token(server: LocalServer) -> None:
    answer = ask(server, "GET", f"/?token={server.token}", Authorization="")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    page = ask(server, "GET", "/", Authorization="", Cookie=cookie.split(";")[0])
    assert (page.status, page.body) == (200, b"<!doctype html><title>t</title>")
    assert ask(server, "GET", "/?token=wrong", Authorization="").status == 403
    with urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(
        server.address
    ) as opened:
        assert opened.url == f"{server.origin}/"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/secret.txt", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/secret.txt", 404),
        ("GET", "/nothing", 404),
        ("POST", "/page.js", 404),
        ("POST", "/api/echo", 404),
        ("GET", "/api/marks", 404),
        ("PUT", "/api/marks", 501),
        ("DELETE", "/page.js", 501),
    ],
)
def test_there_is_nothing_but_its_routes(
    server: LocalServer, method: str, path: str, status: int
) -> None:
    assert ask(server, method, path, b"{}" if method != "GET" else None).status == status


def test_pages_may_load_nothing_from_elsewhere(server: LocalServer) -> None:
    answer = ask(server, "GET", "/page.js")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_handler_gets_path_and_query_and_errors_are_a_line(server: LocalServer) -> None:
    answer = json.loads(ask(server, "GET", "/image/3/a%20b?words=red%20%26&x=").body)
    assert answer == {"path": "3/a b", "query": {"words": "red &", "x": ""}, "nan": None}
    answer = ask(server, "GET", "/api/refuse")
    assert (answer.status, json.loads(answer.body)["error"]) == (400, "no such column 'x'")


def test_a_fault_tells_the_browser_nothing(
    server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ask(server, "GET", "/api/fail")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "ValueError: secret" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"[1]", {}, 400),
        (b"{", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"", {"Content_Length": ""}, 411),
        (b"", {"Content_Length": "-1"}, 411),
        (b"", {"Content_Length": "x"}, 411),
        (b"", {"Content_Length": "99999999999"}, 413),
    ],
)
def test_a_body_is_an_object_of_a_bounded_size(
    server: LocalServer, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert ask(server, "POST", "/api/marks", body, **headers).status == status


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "9" * 20, "101", "²"])
def test_a_number_of_the_query_is_whole_and_bounded(text: str) -> None:
    with pytest.raises(BadRequestError, match="offset is not a whole number from 0 to 100"):
        Request("", {"offset": text}).number("offset", 0, 100)
    assert Request("", {"offset": "100"}).number("offset", 0, 100) == 100
    assert Request("").number("offset", 7, 100) == 7


def test_requests_are_answered_at_once(server: LocalServer) -> None:
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda _: ask(server, "GET", "/api/meet").status, range(2))
        assert list(answers) == [200, 200]


def test_it_listens_on_loopback_only_and_ends(server: LocalServer) -> None:
    assert server.address.startswith(f"http://127.0.0.1:{server.port}/?token=")
    with pytest.raises(SynthVLMError, match=f"port {server.port} of 127.0.0.1: .*--port"):
        LocalServer({}, server.port)
    other = LocalServer({})
    other.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", other.port), timeout=5).close()


def test_a_link_of_another_site_opens_the_page(server: LocalServer) -> None:
    # From a notebook, for example: after a redirect, the browser would not send the cookie.
    link = {"Authorization": "", "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert f'href="{server.address}"' in server._repr_html_()
    answer = ask(server, "GET", f"/?token={server.token}", **link)
    assert (answer.status, 'content="0;url=/"' in answer.body.decode()) == (200, True)
    assert "SameSite=Strict" in answer.headers["Set-Cookie"]
    assert ask(server, "GET", "/", **link).status == 403
    cookie = answer.headers["Set-Cookie"].split(";")[0]
    assert ask(server, "GET", "/api/echo", **link | {"Cookie": cookie}).status == 403
    embedded = link | {"Sec_Fetch_Mode": "no-cors"}
    assert ask(server, "GET", f"/?token={server.token}", **embedded).status == 403


def test_nothing_is_read_from_whoever_has_no_token(server: LocalServer) -> None:
    answer = ask(server, "POST", "/api/marks", b"{}", Authorization="", Content_Length="30000000")
    assert (answer.status, answer.headers["Connection"]) == (403, "close")


def test_what_a_browser_keeps_is_of_this_server_alone() -> None:
    with LocalServer({("GET", "/thumbnail/"): lambda _: Response(b"x", lasting=True)}) as server:
        headers = ask(server, "GET", "/thumbnail/1").headers
    assert (headers["Cache-Control"], headers["Vary"]) == ("private, max-age=86400", "Cookie")


def test_closing_ends_connections_that_are_kept_open() -> None:
    server = LocalServer({("GET", "/"): echo})
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 403"
        server.close()
        while connection.recv(65536):
            pass
