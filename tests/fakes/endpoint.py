"""A fake endpoint: an HTTP server on this machine that answers by a script and not by a model.

Its replies say nothing about
any caption, its pictures show none, and it says so: the model is called ``fake``. It can misbehave
in every way in which real endpoints do.
"""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

from fakes.endpoint_images import Draw, Link, image_answer, is_image_request
from fakes.loopback import LoopbackServer

__all__ = [
    "Answer",
    "Body",
    "Cut",
    "Draw",
    "FakeEndpoint",
    "ImageAnswer",
    "Link",
    "Received",
    "Say",
    "Status",
]

_CHAT = "/v1/chat/completions"
_IMAGES = "/v1/images/generations"


@dataclass(frozen=True, slots=True)
class Say:
    """A proper chat completion, after ``delay_s`` seconds.

    Where the request asks for ``logprobs``, the reply has ``first_tokens``: the probabilities of
    first tokens, the likeliest first.
    """

    text: str | None
    delay_s: float = 0.0
    finish_reason: str = "stop"
    first_tokens: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """An HTTP error (429, 500, 400 ...) with OpenAI's error object, and ``Retry-After`` if set."""

    code: int
    message: str = "the fake endpoint was told to fail"
    retry_after: str | None = None
    error_code: str | None = None
    error_param: str | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """Status 200, half of an answer, and the connection is cut."""


@dataclass(frozen=True, slots=True)
class Body:
    """Status 200 with any bytes as body: wrong JSON, a page of HTML."""

    content: bytes


Answer = str | Say | Status | Cut | Body
ImageAnswer = Draw | Link | Status | Cut | Body

_PICTURE = Draw()


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came: the parsed body, the headers, and the time (``time.monotonic``)."""

    body: dict[str, Any]
    headers: dict[str, str]
    time: float

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation."""
        messages: list[dict[str, Any]] = self.body["messages"]
        return messages


class FakeEndpoint:
    """A server of chat completions and of image generations, in threads of this process.

    It answers ``POST /v1/chat/completions`` and ``POST /v1/images/generations`` on 127.0.0.1.

    Use it as a context manager::

        with FakeEndpoint("Yes") as server:
            client = EndpointClient(Connection(server.base_url), "fake")

    Attributes:
        base_url: What to give to a client.
        received: All requests, in the order in which they came.
        most_concurrent: The highest number of requests that were in work at one time.
    """

    def __init__(
        self,
        answer: Answer | Callable[[list[dict[str, Any]]], Answer] = "Yes",
        *,
        image: ImageAnswer | Callable[[dict[str, Any]], ImageAnswer] = _PICTURE,
        script: Sequence[Answer | ImageAnswer] = (),
        api_key: str | None = None,
        reports_usage: bool = True,
    ) -> None:
        """Describe the server; it starts on entering.

        Args:
            answer: The answer to each request, or a function of the messages (called in several
                threads) that gives it. A plain string is said.
            image: The answer to each image request, or a function of the request's body.
            script: Answers to the first requests, one each, in the order in which they come.
            api_key: What clients must bring; None is anything. A wrong one is answered by 401 with
                the wrong key in the message, as careless servers do.
            reports_usage: Whether replies tell tokens. A token is a word of messages or reply.
        """
        self._answer = answer
        self._image = image
        self._script = list(script)
        self._api_key = api_key
        self._reports_usage = reports_usage
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._in_work = 0
        self.received: list[Received] = []
        self.most_concurrent = 0

    @property
    def base_url(self) -> str:
        """The address, with ``/v1``."""
        return f"{self._server.address}/v1"

    def __enter__(self) -> Self:
        """Start to serve, on a free port."""
        self._server = LoopbackServer(_handler(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def stop(self) -> None:
        """Stop to serve, as a server that dies does: requests in work are cut."""
        self._closing.set()
        self._server.stop()

    def _reply(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        if self._closing.is_set():
            _cut(handler)
            return
        with self._lock:
            self._in_work += 1
            self.most_concurrent = max(self.most_concurrent, self._in_work)
            self.received.append(Received(body, dict(handler.headers), time.monotonic()))
            number = len(self.received)
            scripted = self._script.pop(0) if self._script else None
        try:
            answer = scripted or self._decide(handler, body)
            if isinstance(answer, str):
                answer = Say(answer)
            if isinstance(answer, Say | Draw):
                self._closing.wait(answer.delay_s)
        finally:
            # Before the reply is written: its reader may already send the next request.
            with self._lock:
                self._in_work -= 1
        if self._closing.is_set():
            _cut(handler)
        else:
            self._write(handler, answer, body, number)

    def _decide(
        self, handler: BaseHTTPRequestHandler, body: dict[str, Any]
    ) -> Answer | ImageAnswer:
        given = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._api_key is not None and given != self._api_key:
            return Status(401, f"Incorrect API key provided: {given}")
        if handler.path == _IMAGES:
            return self._image(body) if callable(self._image) else self._image
        return self._answer(body["messages"]) if callable(self._answer) else self._answer

    def _write(
        self,
        handler: BaseHTTPRequestHandler,
        answer: Answer | ImageAnswer,
        body: dict[str, Any],
        number: int,
    ) -> None:
        if isinstance(answer, Status):
            error = {
                "message": answer.message,
                "type": "fake",
                "param": answer.error_param,
                "code": answer.error_code,
            }
            headers = {"Retry-After": answer.retry_after} if answer.retry_after else {}
            _send(handler, answer.code, json.dumps({"error": error}).encode(), headers)
        elif isinstance(answer, Body):
            _send(handler, 200, answer.content, {})
        elif isinstance(answer, Cut):
            whole = Draw() if handler.path == _IMAGES else Say("Yes")
            content = json.dumps(self._content(whole, body, number)).encode()
            _send(handler, 200, content, {}, cut_at=len(content) // 2)
        elif isinstance(answer, Say | Draw | Link):
            _send(handler, 200, json.dumps(self._content(answer, body, number)).encode(), {})

    def _content(
        self, answer: Say | Draw | Link, body: dict[str, Any], number: int
    ) -> dict[str, Any]:
        if isinstance(answer, Say):
            return self._completion(answer, body)
        return image_answer(answer, body, number)

    def _completion(self, said: Say, body: dict[str, Any]) -> dict[str, Any]:
        messages = body["messages"]
        message = {"role": "assistant", "content": said.text}
        choice = {"index": 0, "message": message, "finish_reason": said.finish_reason}
        if body.get("logprobs") and said.first_tokens:
            top = [
                {"token": token, "logprob": math.log(probability), "bytes": None}
                for token, probability in said.first_tokens.items()
            ][: body["top_logprobs"]]
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        result: dict[str, Any] = {
            "id": "chatcmpl-fake",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": "fake",
            "choices": [choice],
        }
        if self._reports_usage:
            prompt = sum(len(str(message["content"]).split()) for message in messages)
            reply = len((said.text or "").split())
            result["usage"] = {
                "prompt_tokens": prompt,
                "completion_tokens": reply,
                "total_tokens": prompt + reply,
            }
        return result


def _handler(endpoint: FakeEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each reply waits 40 ms for an acknowledgement

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path not in (_CHAT, _IMAGES):
                _send(self, 404, b'{"error": {"message": "no such path"}}', {})
                return
            try:
                body = json.loads(content)
                fits = is_image_request(body) if self.path == _IMAGES else list(body["messages"])
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                _send(self, 400, b'{"error": {"message": "not a request of this kind"}}', {})
                return
            endpoint._reply(self, body)

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    return Handler


def _send(
    handler: BaseHTTPRequestHandler,
    code: int,
    content: bytes,
    headers: dict[str, str],
    cut_at: int | None = None,
) -> None:
    handler.send_response(code)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content[:cut_at])
    if cut_at is not None:
        _cut(handler)


def _cut(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)
