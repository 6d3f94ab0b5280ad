"""The image client against a server that misbehaves in every way in which real ones do."""

from __future__ import annotations

import asyncio
import io
import json
import time
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fakes.endpoint import (
    Body,
    Cut,
    Draw,
    FakeEndpoint,
    ImageAnswer,
    Link,
    Status,
)
from fakes.endpoint_images import make_image
from synthvlm.endpoints.connection import Connection
from synthvlm.endpoints.images import (
    BudgetExceededError,
    EndpointError,
    ImageClient,
    ImageReply,
    read_image,
)
from synthvlm.endpoints.responses import Failure, Kind, Response
from synthvlm.errors import RecipeError

KEY = "sk-very-secret-0123456789"
Request = tuple[int, str, dict[str, Any]]
FIELDS = {"n": 1, "size": "16x8", "response_format": "b64_json"}


def request(number: int = 0) -> Request:
    return number, f"dog {number}", {**FIELDS, "seed": number}


def requests(count: int) -> list[Request]:
    return [request(number) for number in range(count)]


def client(server: FakeEndpoint, **settings: Any) -> ImageClient:
    settings = {"backoff_s": 0.01, "timeout_s": 5.0, **settings}
    return ImageClient(Connection(server.base_url, **settings), "fake")


def one(server: FakeEndpoint, **settings: Any) -> ImageReply:
    [(_, reply)] = client(server, **settings).generate_all([request()])
    return reply


def test_every_request_gets_its_own_picture_once() -> None:
    with FakeEndpoint() as server:
        asking = client(server)
        replies = dict(asking.generate_all(requests(20)))
    assert asking.requests_sent == len(server.received) == 20
    assert replies == {n: ImageReply(make_image(f"dog {n}", n, 16, 8)) for n in range(20)}
    assert len({reply.data for reply in replies.values()}) == 20


def test_model_prompt_and_fields_arrive() -> None:
    with FakeEndpoint() as server:
        one(server)
    assert server.received[0].body == {"model": "fake", "prompt": "dog 0", "seed": 0, **FIELDS}


@pytest.mark.parametrize("end", ["", "/", "/images/generations"])
def test_forms_of_the_address(end: str) -> None:
    with FakeEndpoint() as server:
        asking = ImageClient(Connection(server.base_url + end), "fake")
        assert len(list(asking.generate_all([request()]))) == 1


def test_concurrency_is_used_and_bounded() -> None:
    with FakeEndpoint(image=Draw(delay_s=0.03)) as server:
        list(client(server, concurrency=3).generate_all(requests(12)))
    assert server.most_concurrent == 3


@pytest.mark.parametrize(
    "failure",
    [Status(500), Status(503), Status(429), Cut(), Body(b"<html>busy</html>"), Body(b"[1]")],
)
def test_what_passes_is_tried_again(failure: ImageAnswer) -> None:
    with FakeEndpoint(script=[failure, failure]) as server:
        assert one(server) == ImageReply(make_image("dog 0", 0, 16, 8))
        assert len(server.received) == 3


def test_a_slow_answer_is_tried_again() -> None:
    with FakeEndpoint(script=[Draw(delay_s=30)]) as server:
        assert one(server, timeout_s=0.3).problem is None
        assert len(server.received) == 2


def test_tries_are_finite() -> None:
    with FakeEndpoint(image=Status(500, "out of memory")) as server:
        reply = one(server, max_tries=3)
        assert len(server.received) == 3
    assert reply.data == b""
    assert reply.problem == (
        f"{server.base_url}/images/generations: HTTP 500: out of memory (tried 3 times)"
    )


def test_retry_after_holds_all_requests() -> None:
    with FakeEndpoint(script=[Status(429, retry_after="1"), Draw()]) as server:
        replies = list(client(server, concurrency=2).generate_all(requests(4)))
    assert [reply.problem for _, reply in replies] == [None] * 4
    times = [received.time for received in server.received]
    assert len(times) == 5
    # The first two were sent together, all others when the wait was over.
    assert times[2] - times[0] >= 1


def test_a_longer_wait_than_allowed_ends_it() -> None:
    with (
        FakeEndpoint(image=Status(429, "slow down", retry_after="3600")) as server,
        pytest.raises(EndpointError, match=r"slow down.*asks to wait 3600 s.*run again later"),
    ):
        one(server)


@pytest.mark.parametrize("code", ["content_policy_violation", "moderation_blocked"])
@pytest.mark.parametrize("status", [400, 403])
def test_a_refused_prompt_is_a_problem_and_spoils_no_other(code: str, status: int) -> None:
    def answer(body: dict[str, Any]) -> ImageAnswer:
        if body["prompt"] == "dog 1":
            return Status(status, "not this dog", error_code=code)
        return Draw()

    with FakeEndpoint(image=answer) as server:
        replies = dict(client(server).generate_all(requests(3)))
        assert len(server.received) == 3
    assert [replies[n].problem is None for n in range(3)] == [True, False, True]
    assert replies[1].problem == (
        f"{server.base_url}/images/generations: HTTP {status}: refused by the content policy "
        f"({code}): not this dog"
    )


def test_a_prompt_that_is_at_fault_is_a_problem_of_its_own() -> None:
    with FakeEndpoint(script=[Status(400, "too long", error_param="prompt")]) as server:
        replies = dict(client(server, concurrency=1).generate_all(requests(2)))
    assert replies[0].problem is not None
    assert replies[0].problem.endswith("HTTP 400: too long")
    assert replies[1].problem is None


@pytest.mark.parametrize(
    "answer",
    [
        *(Status(code, "no way") for code in (301, 401, 402, 403, 404, 405)),
        Status(400, "no way", error_param="response_format"),
        Status(422, "no way", error_param="model"),
        Status(429, "no way", error_code="insufficient_quota"),
    ],
)
def test_what_all_requests_share_ends_it_after_what_was_paid_for(answer: Status) -> None:
    replies = []
    with FakeEndpoint(script=[Draw(), Draw(), answer]) as server:
        with pytest.raises(EndpointError, match=f"HTTP {answer.code}: no way"):
            replies.extend(client(server, concurrency=1).generate_all(requests(9)))
        assert len(server.received) == 3
    assert [reply.problem for _, reply in replies] == [None, None]


def test_a_validation_error_names_the_field_and_ends_it() -> None:
    def answer(status: int, field: str) -> Failure:
        detail = [{"type": "t", "loc": ["body", field], "msg": "Input\nshould be x"}]
        content = json.dumps({"detail": detail}).encode()
        failure = read_image(Response(status, {}, content), frozenset({"size"}))
        assert isinstance(failure, Failure)
        return failure

    assert answer(422, "size") == Failure(Kind.UNUSABLE, "HTTP 422: size: Input should be x")
    assert answer(422, "prompt").kind is Kind.REFUSED


def test_a_link_is_not_followed() -> None:
    with FakeEndpoint() as elsewhere, FakeEndpoint(image=Link(elsewhere.base_url)) as server:
        with pytest.raises(EndpointError, match=r"link.*set response_format to b64_json") as caught:
            one(server)
        assert "\n" not in str(caught.value)
        assert len(server.received) == 1
        assert elsewhere.received == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"data": []}', "the answer holds no picture"),
        (b'{"data": [null]}', "the answer holds no picture"),
        (b'{"data": [{"b64_json": null}]}', "the answer holds no picture"),
        (b'{"data": [{"b64_json": "#"}]}', "the picture is no base64"),
        (b'{"data": [{"b64_json": "abcde"}]}', "the picture is no base64"),
        (b'{"data": [{"b64_json": 5}]}', "the picture is no base64"),
        ('{"data": [{"b64_json": "é"}]}'.encode(), "the picture is no base64"),
    ],
)
def test_an_answer_without_picture_is_a_problem_and_not_paid_for_twice(
    content: bytes, words: str
) -> None:
    with FakeEndpoint(image=Body(content)) as server:
        reply = one(server)
        assert len(server.received) == 1
    assert reply.problem is not None
    assert words in reply.problem
    assert reply.data == b""


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "b64_json", "url", "error", "code", "detail", "loc", "msg"]),
            values,
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from([200, 400, 403, 500]), JSON.map(json.dumps).map(str.encode) | st.binary())
def test_no_body_is_too_wild(status: int, content: bytes) -> None:
    found = read_image(Response(status, {}, content), frozenset({"size"}))
    assert isinstance(found, bytes | Failure if status == 200 else Failure)


def test_the_budget_is_exact_and_hands_back_what_was_paid_for() -> None:
    replies: list[Any] = []
    with FakeEndpoint(script=[Status(500)]) as server:
        # One at a time, so that the repetition comes before the budget is used up.
        asking = client(server, concurrency=1, max_requests=10)
        with pytest.raises(
            BudgetExceededError, match="budget of 10 requests is used up, after 10 requests;"
        ):
            replies.extend(asking.generate_all(requests(30)))
        with pytest.raises(BudgetExceededError):
            list(asking.generate_all(requests(1)))
        assert len(server.received) == 10
    assert len(replies) == 9


def test_a_server_that_dies_half_way() -> None:
    replies: list[Any] = []
    server = FakeEndpoint(
        image=lambda body: server.stop() or Cut() if body["seed"] == 5 else Draw()
    )
    with server:
        # A try while the server closes is cut, not refused; the last one comes later.
        asking = client(server, concurrency=2, max_tries=4, backoff_s=0.1)
        with pytest.raises(EndpointError, match=r"cannot be reached.*tried 4 times.*running"):
            replies.extend(asking.generate_all(requests(20)))
    assert [reply.problem for _, reply in replies] == [None] * len(replies)
    # When the sixth came, at most one of the five before it was still in work.
    numbers = {key for key, _ in replies}
    assert 5 not in numbers
    assert len(numbers & {0, 1, 2, 3, 4}) >= 4


def test_the_key_is_sent_and_shows_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("MY_KEY", KEY)
    shown = []
    for answer in (
        Draw(),
        Link(f"http://localhost/{KEY}"),
        Status(401, f"Incorrect API key provided: {KEY}"),
        Status(400, f"{'x' * 290} {KEY}"),
        Status(400, KEY, error_code="moderation_blocked"),
        Status(500, KEY),
        Body(KEY.encode()),
        Body(b'{"data": [{"b64_json": "' + KEY.encode() + b'"}]}'),
        Status(429, KEY, retry_after="9999"),
    ):
        with FakeEndpoint(image=answer, api_key=KEY) as server:
            asking = client(server, api_key_env="MY_KEY", max_tries=2)
            try:
                shown.append(repr(list(asking.generate_all([request()]))))
            except EndpointError as error:
                shown.append("".join(traceback.format_exception(error)) + repr(error))
            assert server.received[0].headers["Authorization"] == f"Bearer {KEY}"
            shown += [repr(asking), repr(vars(asking)), repr(vars(asking._transport))]
    text = "".join(shown) + caplog.text
    assert "[API key]" in text
    assert KEY not in text
    assert KEY[:12] not in text


def test_bad_settings_are_told_before_anything_is_sent() -> None:
    with pytest.raises(RecipeError, match="http://localhost:8000/v1"):
        Connection("localhost")
    with pytest.raises(ValueError, match="at least 1"):
        Connection("http://localhost:1/v1", concurrency=0)


def test_it_works_inside_an_event_loop() -> None:
    async def both(server: FakeEndpoint) -> list[str | None]:
        asking = client(server)
        problems = [reply.problem for _, reply in asking.generate_all([request()])]
        return problems + [reply.problem async for _, reply in asking.images([request()])]

    with FakeEndpoint() as server:
        assert asyncio.run(both(server)) == [None, None]


def test_dropping_the_replies_cancels_what_is_in_work() -> None:
    with FakeEndpoint(image=Draw(delay_s=30), script=[Draw()]) as server:
        start = time.monotonic()
        replies = client(server, concurrency=4, timeout_s=60).generate_all(requests(8))
        next(replies)
        replies.close()  # type: ignore[attr-defined]
        assert time.monotonic() - start < 5


def test_the_fake_draws_by_prompt_and_seed() -> None:
    pictures = [make_image(*what, 16, 8) for what in (("a", 1), ("a", 1), ("a", 2), ("b", 1))]
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == 3
    with Image.open(io.BytesIO(pictures[0])) as picture:
        assert (picture.size, picture.mode, picture.format) == ((16, 8), "RGB", "PNG")


def test_the_fake_draws_anew_without_a_seed_as_servers_do() -> None:
    with FakeEndpoint() as server:
        pictures = [reply.data for _, reply in client(server).generate_all([(0, "a", FIELDS)] * 3)]
    assert len(set(pictures)) == 3


@pytest.mark.parametrize("fields", [{}, {"size": "auto"}, {"size": "16x8", "n": 2}, {"size": 5}])
def test_the_fake_refuses_what_is_no_image_request(fields: dict[str, Any]) -> None:
    with FakeEndpoint() as server:
        [(_, reply)] = client(server).generate_all([(0, "a", fields)])
    assert reply.problem is not None
    assert "HTTP 400: not a request of this kind" in reply.problem
