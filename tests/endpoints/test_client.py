"""The client against a server that misbehaves in every way in which real ones do."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import traceback
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from asking import ask, client, echo, request, requests

from fakes.endpoint import Answer, Body, Cut, FakeEndpoint, Say, Status
from synthvlm.endpoints.client import EndpointClient, EndpointError, Reply, Request
from synthvlm.endpoints.connection import Connection
from synthvlm.endpoints.responses import (
    Failure,
    Kind,
    Response,
    read_completion,
    retry_after_seconds,
)
from synthvlm.errors import ModelError, RecipeError

KEY = "sk-very-secret-0123456789"


def test_every_request_gets_its_own_reply_once() -> None:
    with FakeEndpoint(echo) as server:
        asking = client(server)
        replies = dict(asking.ask_all(requests(50)))
    assert {key: reply.text for key, reply in replies.items()} == {
        number: f"about caption {number}" for number in range(50)
    }
    assert asking.requests_sent == len(server.received) == 50
    # "caption" and a number are two words; "about" and both are three: five tokens each.
    assert asking.tokens_used == 50 * 5


def test_model_messages_and_sampling_arrive() -> None:
    with FakeEndpoint() as server:
        ask(server)
    assert server.received[0].body == {
        "model": "fake",
        "messages": [{"role": "user", "content": "a dog"}],
        "temperature": 0,
    }


def test_concurrency_is_used_and_bounded() -> None:
    with FakeEndpoint(Say("Yes", delay_s=0.03)) as server:
        list(client(server, concurrency=3).ask_all(requests(15)))
    assert server.most_concurrent == 3


def test_requests_are_drawn_only_as_they_can_be_sent() -> None:
    drawn = 0

    def source() -> Iterator[Request]:
        nonlocal drawn
        for one in requests(1000):
            drawn += 1
            yield one

    with FakeEndpoint() as server:
        replies = client(server, concurrency=4).ask_all(source())
        for _ in range(10):
            next(replies)
        assert drawn <= 10 + 4
        replies.close()


@pytest.mark.parametrize(
    "failure",
    [
        Status(500),
        Status(503),
        Status(429),
        Cut(),
        Body(b"<html>busy</html>"),
        Body(b'{"a": 1}'),
        Body(b"[" * 10**5),
    ],
)
def test_what_passes_is_tried_again(failure: Answer) -> None:
    with FakeEndpoint("Yes", script=[failure, failure]) as server:
        assert ask(server) == Reply("Yes", "stop")
        assert len(server.received) == 3


def test_a_slow_answer_is_tried_again() -> None:
    with FakeEndpoint("Yes", script=[Say("No", delay_s=30)]) as server:
        assert ask(server, timeout_s=0.3).text == "Yes"


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Status(500, "out of memory"), "HTTP 500: out of memory"),
        (Cut(), "the connection was cut"),
        (Body(b"<html>no\nmodel</html>"), "no chat completion: <html>no model</html>"),
        (Say("late", delay_s=30), "no answer within 0.3 s"),
    ],
)
def test_tries_are_finite(failure: Answer, words: str) -> None:
    with FakeEndpoint(failure) as server:
        reply = ask(server, max_tries=3, timeout_s=0.3)
        assert len(server.received) == 3
    assert reply.problem is not None
    assert words in reply.problem
    assert "(tried 3 times)" in reply.problem
    assert "\n" not in reply.problem
    assert reply.text == ""


def test_waits_grow() -> None:
    with FakeEndpoint("Yes", script=[Status(500)] * 3) as server:
        ask(server, backoff_s=0.1)
        times = [one.time for one in server.received]
    # Each is half to the whole of 0.1, 0.2, 0.4 s.
    for number, low in enumerate([0.05, 0.1, 0.2]):
        assert times[number + 1] - times[number] >= low


def test_retry_after_holds_all_requests() -> None:
    with FakeEndpoint("Yes", script=[Status(429, retry_after="1"), "Yes"]) as server:
        replies = list(client(server, concurrency=2).ask_all(requests(6)))
    assert [reply.text for _, reply in replies] == ["Yes"] * 6
    times = [one.time for one in server.received]
    assert len(times) == 7
    # The first two were sent together, all others when the wait was over.
    assert times[2] - times[0] >= 1


def test_a_longer_wait_than_allowed_ends_it() -> None:
    with (
        FakeEndpoint(Status(429, "slow down", retry_after="3600")) as server,
        pytest.raises(EndpointError, match=r"slow down.*asks to wait 3600 s.*run again later"),
    ):
        ask(server)


def test_forms_of_retry_after() -> None:
    assert retry_after_seconds("2.5") == 2.5
    assert retry_after_seconds("-1") == 0
    assert retry_after_seconds(formatdate(time.time() + 60, usegmt=True)) == pytest.approx(
        60, abs=2
    )
    assert [retry_after_seconds(text) for text in (None, "soon", "", "inf", "nan")] == [None] * 5


@pytest.mark.parametrize("code", [400, 403, 413, 422])
def test_a_refused_request_is_a_problem_at_once_and_spoils_no_other(code: int) -> None:
    def answer(messages: list[dict[str, Any]]) -> Answer:
        return Status(code, "too long") if "caption 1" in str(messages) else "Yes"

    with FakeEndpoint(answer) as server:
        replies = dict(client(server).ask_all(requests(3)))
        assert len(server.received) == 3
    assert [replies[n].text for n in range(3)] == ["Yes", "", "Yes"]
    assert replies[1].problem == (f"{server.base_url}/chat/completions: HTTP {code}: too long")


@pytest.mark.parametrize("code", [301, 401, 402, 404, 405])
def test_a_wrong_endpoint_ends_it_after_the_replies_that_were_paid_for(code: int) -> None:
    with FakeEndpoint(
        "Yes", script=["Yes", "Yes", Status(code, "model 'fake' is unknown")]
    ) as server:
        replies = []
        with pytest.raises(EndpointError, match=f"HTTP {code}: model 'fake' is unknown"):
            replies.extend(client(server, concurrency=1).ask_all(requests(9)))
        assert len(server.received) == 3
    assert [reply.text for _, reply in replies] == ["Yes", "Yes"]


def test_no_credit_is_not_waited_for() -> None:
    with FakeEndpoint(Status(429, "pay first", error_code="insufficient_quota")) as server:
        with pytest.raises(EndpointError, match="pay first"):
            ask(server)
        assert len(server.received) == 1


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        asking = EndpointClient(Connection(url, max_tries=2, backoff_s=0.01), "m")
        with pytest.raises(ModelError, match=r"cannot be reached.*tried 2 times.*running"):
            list(asking.ask_all(requests(3)))


def test_a_failure_wakes_those_who_wait() -> None:
    script = [Status(500), Status(401, "bad key")]
    with FakeEndpoint("Yes", script=script) as server:
        start = time.monotonic()
        with pytest.raises(EndpointError, match="bad key"):
            list(client(server, concurrency=2, backoff_s=60).ask_all(requests(2)))
        assert time.monotonic() - start < 5


def test_the_key_is_sent_and_shows_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    shown = []
    for answer in (
        "Yes",
        Status(401, f"Incorrect API key provided: {KEY}"),
        Status(400, f"{'x' * 290} {KEY}"),
        Status(500, KEY),
        Body(KEY.encode()),
        Cut(),
        Status(429, KEY, retry_after="9999"),
    ):
        with FakeEndpoint(answer, api_key=KEY) as server:
            asking = client(server, api_key_env="MY_KEY", max_tries=2)
            try:
                shown.append(repr(list(asking.ask_all([request()]))))
            except EndpointError as error:
                shown.append("".join(traceback.format_exception(error)) + repr(error))
            assert server.received[0].headers["Authorization"] == f"Bearer {KEY}"
            shown += [repr(asking), repr(vars(asking))]
    text = "".join(shown) + caplog.text
    assert "[API key]" in text
    assert KEY not in text
    assert KEY[:12] not in text


def test_a_wrong_key_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with (
        FakeEndpoint(api_key="another") as server,
        pytest.raises(EndpointError, match=r"401: Incorrect API key provided: \[API key\]$"),
    ):
        ask(server)


def test_no_key_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with FakeEndpoint() as server:
        assert ask(server).text == "Yes"
        assert "Authorization" not in server.received[0].headers


@pytest.mark.parametrize("key", ["two words", "schlüssel", "a\x01b"])
def test_a_key_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(RecipeError, match="MY_KEY") as caught:
        EndpointClient(Connection("http://localhost:1/v1", api_key_env="MY_KEY"), "m")
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "ftp://localhost/v1",
        "http://",
        "http://[::1/v1",
        "http://localhost:99999/v1",
        "http://local host/v1",
        "",
        f"http://user:{KEY}@localhost/v1",
        f"http://localhost/v1?key={KEY}",
    ],
)
def test_a_bad_address(url: str) -> None:
    with pytest.raises(RecipeError, match="http://localhost:8000/v1") as caught:
        Connection(url)
    assert KEY not in str(caught.value)


def test_an_address_may_end_in_a_slash() -> None:
    with FakeEndpoint() as server:
        asking = EndpointClient(Connection(server.base_url + "/"), "m")
        assert len(list(asking.ask_all([request()]))) == 1


@pytest.mark.parametrize(
    "bad", [{"concurrency": 0}, {"max_tries": 0}, {"timeout_s": 0}, {"backoff_s": -1}]
)
def test_bad_numbers(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Connection("http://localhost:1/v1", **bad)


def test_lone_surrogates_and_nul_are_sent() -> None:
    with FakeEndpoint(echo) as server:
        [(_, reply)] = client(server).ask_all([request("\ud800 \x00 é 🎈")])
    assert reply.text == "about \ud800 \x00 é 🎈"


def test_a_model_that_says_nothing() -> None:
    with FakeEndpoint(Say(None, finish_reason="length")) as server:
        assert ask(server) == Reply("", "length")


def test_it_works_inside_an_event_loop() -> None:
    async def both(server: FakeEndpoint) -> list[str]:
        asking = client(server)
        texts = [reply.text for _, reply in asking.ask_all([request()])]
        return texts + [reply.text async for _, reply in asking.answers([request()])]

    with FakeEndpoint() as server:
        assert asyncio.run(both(server)) == ["Yes", "Yes"]


def test_an_error_of_the_source_comes_through_and_all_is_closed() -> None:
    def source() -> Iterator[Request]:
        yield request()
        raise OSError("the disk is gone")

    with FakeEndpoint(Say("Yes", delay_s=30)) as server, pytest.raises(OSError, match="disk"):
        list(client(server).ask_all(source()))


def test_dropping_the_replies_cancels_what_is_in_work() -> None:
    with FakeEndpoint(Say("Yes", delay_s=30), script=["Yes"]) as server:
        start = time.monotonic()
        replies = client(server, concurrency=4, timeout_s=60).ask_all(requests(8))
        next(replies)
        replies.close()
        assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"error": {"message": "a"}}', "a"),
        (b'{"error": "b"}', "b"),
        (b'{"detail": "c"}', "c"),
        (b'{"message": "d\\n e"}', "d e"),
        (b'{"detail": [{"loc": ["body", "size"], "msg": "no size"}]}', "size: no size"),
        (b'{"detail": [{"loc": 1, "msg": "f"}]}', "body: f"),
        (b'{"detail": [1]}', "[1]"),
        (b"plain \xff", "plain \ufffd"),
        (b"[1]", "[1]"),
        (b"", "(nothing)"),
    ],
)
def test_what_the_server_said_in_any_form(content: bytes, words: str) -> None:
    failure = read_completion(Response(400, {}, content))
    assert failure == Failure(Kind.REFUSED, f"HTTP 400: {words}")
