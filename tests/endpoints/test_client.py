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

from fakes.endpoint import Answer, Body, Cut, FakeEndpoint, Say, Status
from synthvlm.endpoints.client import (
    BudgetExceededError,
    EndpointClient,
    EndpointError,
    Reply,
    Request,
)
from synthvlm.endpoints.connection import Connection
from synthvlm.endpoints.replies import ReplyStore
from synthvlm.endpoints.responses import (
    Completion,
    Failure,
    Kind,
    Response,
    read_completion,
    retry_after_seconds,
)
from synthvlm.errors import ModelError, RecipeError

KEY = "sk-very-secret-0123456789"


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


def test_the_budget_of_requests_is_exact_and_hands_back_what_was_paid_for() -> None:
    replies = []
    with FakeEndpoint("Yes", script=[Status(500)]) as server:
        asking = client(server, concurrency=8, max_requests=10)
        with pytest.raises(BudgetExceededError, match="budget of 10 requests is used up"):
            replies.extend(asking.ask_all(requests(100)))
        assert len(server.received) == 10
    assert [reply.text for _, reply in replies] == ["Yes"] * 9


def test_a_budget_that_just_suffices_is_no_error() -> None:
    with FakeEndpoint() as server:
        assert len(list(client(server, max_requests=10).ask_all(requests(10)))) == 10


def test_the_budget_of_tokens() -> None:
    with FakeEndpoint(echo) as server:  # five tokens a reply
        asking = client(server, concurrency=2, max_tokens=50)
        with pytest.raises(BudgetExceededError, match=r"budget of 50 tokens .* and 5\d tokens"):
            list(asking.ask_all(requests(100)))
        assert 10 <= len(server.received) <= 11  # one more can be in work


def test_a_budget_of_tokens_needs_usage() -> None:
    with FakeEndpoint(reports_usage=False) as server:
        replies = []
        with pytest.raises(EndpointError, match="reports no usable token usage"):
            replies.extend(client(server, concurrency=1, max_tokens=50).ask_all(requests(9)))
        assert len(replies) == len(server.received) == 1
        assert ask(server).text == "Yes"


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ('{"total_tokens": 12}', 12),
        ('{"total_tokens": 12.0}', 12),
        ('{"prompt_tokens": 5, "completion_tokens": 0}', 5),
        ('{"total_tokens": 1, "prompt_tokens": 50, "completion_tokens": 50}', 100),
        ('{"total_tokens": -1000000, "prompt_tokens": 5, "completion_tokens": 2}', 7),
        ('{"total_tokens": -1000000}', None),
        ('{"prompt_tokens": 5, "completion_tokens": -2000}', None),
        ('{"total_tokens": 0}', None),
        ('{"total_tokens": NaN}', None),
        ('{"total_tokens": -Infinity}', None),
        ('{"total_tokens": 1e999}', None),
        ('{"total_tokens": 1.5}', None),
        ('{"total_tokens": "12"}', None),
        ('{"total_tokens": true}', None),
        ('{"total_tokens": [12]}', None),
        ('{"total_tokens": null}', None),
        ("[12]", None),
        ("12", None),
        ("{}", None),
    ],
)
def test_no_usage_of_a_server_lifts_the_budget(usage: str, tokens: int | None) -> None:
    body = f'{{"choices": [{{"message": {{"content": "Yes"}}}}], "usage": {usage}}}'.encode()
    completion = read_completion(Response(200, {}, body))
    assert isinstance(completion, Completion)
    assert (completion.text, completion.tokens) == ("Yes", tokens)
    with FakeEndpoint(Body(body)) as server:
        error = EndpointError if tokens is None else BudgetExceededError
        with pytest.raises(error):
            list(client(server, concurrency=1, max_tokens=5).ask_all(requests(9)))
        assert len(server.received) == 1


def test_stored_replies_cost_nothing(tmp_path: Any) -> None:
    with FakeEndpoint(echo) as server:
        with ReplyStore(tmp_path) as store:
            list(client(server, store=store).ask_all(requests(20)))
        with ReplyStore(tmp_path) as store:
            asking = client(server, store=store, max_requests=0)
            replies = dict(asking.ask_all(requests(20)))
            assert (len(replies), asking.requests_sent) == (20, 0)
            with pytest.raises(BudgetExceededError):
                list(asking.ask_all([request("new")]))
        assert len(server.received) == 20
    assert replies[7] == Reply("about caption 7", "stop")


def test_other_model_or_sampling_is_another_reply(tmp_path: Any) -> None:
    with FakeEndpoint() as server, ReplyStore(tmp_path) as store:
        list(client(server, store=store).ask_all([request()]))
        list(client(server, store=store).ask_all([request()._replace(sampling={"seed": 1})]))
        list(EndpointClient(Connection(server.base_url), "other", store=store).ask_all([request()]))
        assert len(server.received) == 3


def test_problems_are_not_stored(tmp_path: Any) -> None:
    with FakeEndpoint("Yes", script=[Status(400)]) as server, ReplyStore(tmp_path) as store:
        assert [
            dict(client(server, store=store).ask_all([request()]))[0].text for _ in range(2)
        ] == ["", "Yes"]


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
