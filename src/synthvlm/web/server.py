"""A server on loopback for the browser of whoever started it.

Other machines cannot reach it; pages of other sites that the browser shows cannot either: every
request must name this server as its host, come from its own pages, and bear the token that the
printed address holds. Files are read when it starts, so no name leads out of them. Nothing that it
serves may load anything from elsewhere (Content-Security-Policy).
"""

from __future__ import annotations

import hmac
import secrets
import socket
import sys
import traceback
import webbrowser
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from email.message import Message
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from synthvlm.errors import SynthVLMError
from synthvlm.web.messages import TYPES, Handler, Request, Response, as_json

__all__ = ["LocalServer"]

_HOST = "127.0.0.1"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
#: Shows the page, by a request that is the server's own.
_TO_THE_PAGE = (
    b'<!doctype html><title>synthvlm</title><meta http-equiv="refresh" content="0;url=/">'
)
#: The largest body of a request, in bytes: a picture to search by.
_LARGEST_BODY = 32 * 2**20
#: Seconds after which a connection on which nothing comes is closed.
_IDLE_S = 60.0


class LocalServer(AbstractContextManager["LocalServer"]):
    """Serves routes on loopback, in threads of this process, until it is closed.

    Attributes:
        address: For the browser of whoever may see the pages: it holds the token.
    """

    def __init__(self, routes: Mapping[tuple[str, str], Handler], port: int = 0) -> None:
        """Begin to serve.

        Args:
            routes: Handlers by method and path. A path that ends with ``/`` (not ``/`` itself)
                stands for all below it. Handlers are called by several threads at once.
            port: Where; 0 takes a free one.

        Raises:
            SynthVLMError: The port is taken.
        """
        self.token = secrets.token_urlsafe(24)
        try:
            self._server = _Server((_HOST, port), _RequestHandler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SynthVLMError(
                f"port {port} of {_HOST}: {reason}: choose another, or none: without --port a free "
                f"one is taken"
            ) from None
        self._server.routes, self._server.token = dict(routes), self.token
        self.port = self._server.server_address[1]
        self.origin = f"http://{_HOST}:{self.port}"
        self.address = f"{self.origin}/?token={self.token}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        """The address."""
        return f"LocalServer at {self.address}"

    def _repr_html_(self) -> str:
        """A link, in notebooks."""
        return f'<a href="{self.address}" target="_blank" rel="noopener">{self.address}</a>'

    def open_browser(self) -> bool:
        """Show the page in the user's browser; False where there is none."""
        try:
            return webbrowser.open(self.address)
        except webbrowser.Error:
            return False

    def wait(self) -> None:
        """Serve until the process is interrupted, or another thread closes it."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.5)
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    routes: Mapping[tuple[str, str], Handler]
    token: str

    def __init__(self, *args: Any) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Close the connections that browsers keep open, too."""
        super().server_close()
        for connection in tuple(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes a connection is no error; of others, the trace."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            traceback.print_exc()


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "synthvlm", ""
    timeout = _IDLE_S
    #: Headers and body are written apart: without this, the second waits for an acknowledgement.
    disable_nagle_algorithm: ClassVar[bool] = True
    server: _Server

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def log_message(self, format: str, *args: Any) -> None:
        """No line for each request."""

    def _answer(self, method: str) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        self._is_read = method == "GET"
        try:
            is_page = method == "GET" and url.path == "/"
            self._check_sender(is_page=is_page)
            if is_page and "token" in query:
                self._welcome(query["token"])
                return
            self._check_token()
            handler, rest = self._route(method, url.path)
            body = self._body() if method == "POST" else b""
            response = handler(Request(unquote(rest), query, body))
        except _RefusedError as error:
            response = as_json({"error": str(error)}, error.status)
        except SynthVLMError as error:
            response = as_json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        except Exception:
            traceback.print_exc()
            message = "an error of synthvlm: its trace is in the terminal"
            response = as_json({"error": message}, HTTPStatus.INTERNAL_SERVER_ERROR)
        if not self._is_read:
            self.close_connection = True  # a body that is left would be taken for the next request
        self._send(response)

    def _body(self) -> bytes:
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= _LARGEST_BODY:
            if length < 0:
                raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "the request has no length")
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {_LARGEST_BODY >> 20} MiB"
            )
        body = self.rfile.read(length)
        self._is_read = True
        return body

    def _check_sender(self, *, is_page: bool) -> None:
        """Refuse other hosts (DNS rebinding) and pages of other sites, but for links to the page.

        A link may stand in a notebook, which is another site; the token decides then.
        """
        port = self.server.server_address[1]
        hosts = {f"{_HOST}:{port}", f"localhost:{port}"}
        if self.headers.get("Host") not in hosts:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "this is not the host that was asked for")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in hosts}:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "a page of another site asks")
        if not self._is_own() and not (
            is_page and self.headers.get("Sec-Fetch-Mode") == "navigate"
        ):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "a page of another site asks")

    def _check_token(self) -> None:
        """Refuse whoever has not the address that was printed."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not given:
            given = _cookie(self.headers, self._cookie_name)
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self.server.token.encode()):
            raise _RefusedError(
                HTTPStatus.FORBIDDEN, "open the address that was printed: it holds a token"
            )

    @property
    def _cookie_name(self) -> str:
        """Cookies do not know ports: two servers need two names."""
        return f"synthvlm-{self.server.server_address[1]}"

    def _welcome(self, token: str) -> None:
        """Keep the token in a cookie, and out of the address that is shown and bookmarked."""
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()):
            self._send(as_json({"error": "this token is of an earlier server"}, 403))
            return
        cookie = {"Set-Cookie": f"{self._cookie_name}={token}; Path=/; HttpOnly; SameSite=Strict"}
        if self._is_own():
            response = Response(b"", "text/plain", HTTPStatus.SEE_OTHER)
            self._send(response, {"Location": "/", **cookie})
        else:  # a browser follows a redirect from another site without the cookie
            self._send(Response(_TO_THE_PAGE, TYPES[".html"]), cookie)

    def _is_own(self) -> bool:
        return self.headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none")

    def _route(self, method: str, path: str) -> tuple[Handler, str]:
        routes = self.server.routes
        if (method, path) in routes:
            return routes[method, path], ""
        fitting = [
            route
            for asked, route in routes
            if asked == method and len(route) > 1 and route.endswith("/") and path.startswith(route)
        ]
        if fitting:
            route = max(fitting, key=len)
            return routes[method, route], path.removeprefix(route)
        raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing of that name")

    def _send(self, response: Response, more: Mapping[str, str] | None = None) -> None:
        self.send_response(response.status)
        # Another server at this port has another cookie, and so none of these.
        lasting = {"Cache-Control": "private, max-age=86400", "Vary": "Cookie"}
        keep = lasting if response.lasting else {"Cache-Control": "no-store"}
        sizes = {"Content-Type": response.type, "Content-Length": str(len(response.body))}
        if self.close_connection:
            sizes["Connection"] = "close"
        for name, value in (_HEADERS | sizes | keep | dict(more or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)


def _cookie(headers: Message, name: str) -> str:
    try:
        cookies = SimpleCookie(headers.get("Cookie", ""))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""
