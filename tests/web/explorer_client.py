"""A client of the explorer, for tests."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlencode

from synthvlm.web.server import LocalServer

__all__ = ["ExplorerClient"]


class ExplorerClient:
    """Asks what the page asks."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server

    def raw(
        self, path: str, body: bytes | None = None, **query: object
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        headers = {"Authorization": f"Bearer {self._server.token}"}
        method = "GET" if body is None else "POST"
        connection.request(method, f"{path}?{urlencode(query)}", body, headers)
        response = connection.getresponse()
        answer = response.status, response.headers, response.read()
        connection.close()
        return answer

    def get(self, path: str, **query: object) -> Any:
        status, _, body = self.raw(path, **query)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, body: object) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, _, answer = self.raw(path, data)
        assert status == 200, answer
        return json.loads(answer)

    def error(self, path: str, body: bytes | None = None, **query: object) -> str:
        status, _, answer = self.raw(path, body, **query)
        assert status == 400, answer
        message: str = json.loads(answer)["error"]
        assert "\n" not in message
        return message

    def rows(self, **query: object) -> list[int]:
        """All rows that a query asks for, in their order."""
        return [pair["row"] for pair in self.get("/api/pairs", limit=200, **query)["pairs"]]
