"""What is paid for: budgets of requests and of tokens, and replies that are stored."""

from __future__ import annotations

from typing import Any

import pytest
from asking import ask, client, echo, request, requests

from fakes.endpoint import Body, FakeEndpoint, Status
from synthvlm.endpoints.client import BudgetExceededError, EndpointClient, EndpointError, Reply
from synthvlm.endpoints.connection import Connection
from synthvlm.endpoints.replies import ReplyStore
from synthvlm.endpoints.responses import Completion, Response, read_completion


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
