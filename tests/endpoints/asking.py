"""Requests, and a client for a fake endpoint that waits for nothing long."""

from __future__ import annotations

from typing import Any

from fakes.endpoint import FakeEndpoint
from synthvlm.endpoints.client import EndpointClient, Reply, Request
from synthvlm.endpoints.connection import Connection


def request(text: str = "a dog", key: object = 0) -> Request:
    return Request(key, [{"role": "user", "content": text}], {"temperature": 0})


def requests(count: int) -> list[Request]:
    return [request(f"caption {number}", number) for number in range(count)]


def client(server: FakeEndpoint, **settings: Any) -> EndpointClient:
    settings = {"backoff_s": 0.01, "timeout_s": 5.0, **settings}
    own = {name: settings.pop(name) for name in ("max_tokens", "store") if name in settings}
    return EndpointClient(Connection(server.base_url, **settings), "fake", **own)


def ask(server: FakeEndpoint, **settings: Any) -> Reply:
    [(_, reply)] = client(server, **settings).ask_all([request()])
    return reply


def echo(messages: list[dict[str, Any]]) -> str:
    return f"about {messages[-1]['content']}"
