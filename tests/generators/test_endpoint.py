"""Images by an endpoint: real requests over loopback, to a fake server."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

import numpy as np
import pytest
import torch
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
from synthvlm.endpoints.images import BudgetExceededError, EndpointError, ImageClient
from synthvlm.errors import RecipeError
from synthvlm.generators.base import Generator
from synthvlm.generators.endpoint import EndpointGenerator

PROMPTS = ["a dog", "a dog", "a cat", "a \ud800 and \x00 é 🎈"]
SEEDS = [1, 2, 1, 3]


def generator(server: FakeEndpoint, **settings: Any) -> EndpointGenerator:
    own = {
        name: settings.pop(name)
        for name in ("response_format", "send_seed", "extra")
        if name in settings
    }
    settings = {"backoff_s": 0.01, "timeout_s": 5.0, "max_tries": 2, **settings}
    model = ImageClient(Connection(server.base_url, **settings), "fake")
    return EndpointGenerator(model, width=24, height=16, **own)


def pixels_of(prompt: str, seed: int) -> torch.Tensor:
    with Image.open(io.BytesIO(make_image(prompt, seed, 24, 16))) as picture:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def test_each_image_is_in_its_place() -> None:
    # The first is answered last.
    slow = lambda body: Draw(delay_s=0.1 if body["seed"] == 1 else 0.0)  # noqa: E731
    with FakeEndpoint(image=slow) as server:
        one: Generator = generator(server)
        images = one.generate(PROMPTS, SEEDS)
    assert one.reproducible
    assert images.pixels.dtype == torch.uint8
    assert images.pixels.shape == (4, 3, 16, 24)
    assert images.problems == (None,) * 4
    for pixels, prompt, seed in zip(images.pixels, PROMPTS, SEEDS, strict=True):
        assert torch.equal(pixels, pixels_of(prompt, seed))


def test_what_is_sent() -> None:
    extra = {"num_inference_steps": 20, "negative_prompt": "blurry"}
    with FakeEndpoint() as server:
        generator(server, extra=extra).generate(["a dog"], [7])
    assert server.received[0].body == {
        "model": "fake",
        "prompt": "a dog",
        "n": 1,
        "size": "24x16",
        "response_format": "b64_json",
        "seed": 7,
        **extra,
    }


def test_fields_that_servers_refuse_can_be_left_out() -> None:
    with FakeEndpoint() as server:
        one = generator(server, response_format=None, send_seed=False)
        images = one.generate(["a dog", "a dog"], [1, 2])
    assert not one.reproducible
    assert all(
        received.body == {"model": "fake", "prompt": "a dog", "n": 1, "size": "24x16"}
        for received in server.received
    )
    assert not torch.equal(images.pixels[0], images.pixels[1])


def test_seeds_are_sent_in_31_bits() -> None:
    with FakeEndpoint() as server:
        generator(server, concurrency=1).generate(["a", "a"], [2**63 - 1, 2**40 + 5])
    assert [received.body["seed"] for received in server.received] == [2**31 - 1, 5]


def test_no_prompts_no_requests() -> None:
    with FakeEndpoint() as server:
        images = generator(server).generate([], [])
        assert server.received == []
    assert (images.pixels.shape, images.problems) == ((0, 3, 16, 24), ())


def test_concurrency_is_used_and_bounded() -> None:
    with FakeEndpoint(image=Draw(delay_s=0.03)) as server:
        generator(server, concurrency=3).generate(["a"] * 12, range(12))
    assert server.most_concurrent == 3


@pytest.mark.parametrize(
    "failure", [Status(500), Status(429, retry_after="0.1"), Cut(), Body(b"<html>busy</html>")]
)
def test_what_passes_is_tried_again(failure: ImageAnswer) -> None:
    with FakeEndpoint(script=[failure]) as server:
        images = generator(server).generate(PROMPTS, SEEDS)
        assert len(server.received) == len(PROMPTS) + 1
    assert images.problems == (None,) * 4


def picture(data: bytes) -> Body:
    encoded = base64.b64encode(data).decode()
    return Body(json.dumps({"data": [{"b64_json": encoded}]}).encode())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Draw(size=(16, 16)), "it is 16 x 16 pixels, asked was 24 x 16"),
        (picture(b"GIF89a"), "it is no PNG, JPEG or WebP"),
        (picture(make_image("a", 1, 24, 16)[:60]), "the picture cannot be used"),
        (Body(b'{"data": [{"b64_json": "###"}]}'), "the picture is no base64"),
        (Status(400, "no dogs", error_code="content_policy_violation"), "policy .*: no dogs"),
        (Status(400, "no dogs", error_code="moderation_blocked"), "policy .*: no dogs"),
        (Status(500, "out of memory"), r"out of memory \(tried 2 times\)"),
    ],
)
def test_a_problem_is_of_one_image_and_spoils_no_other(answer: ImageAnswer, words: str) -> None:
    with FakeEndpoint(image=lambda body: answer if body["seed"] == 2 else Draw()) as server:
        one = generator(server)
        images = one.generate(PROMPTS, SEEDS)
        assert one.generate(["a dog"], [1]).problems == (None,)
    assert [problem is None for problem in images.problems] == [True, False, True, True]
    [problem] = filter(None, images.problems)
    assert re.search(words, problem)
    assert "\n" not in problem
    assert not images.pixels[1].any()
    assert torch.equal(images.pixels[2], pixels_of("a cat", 1))


@pytest.mark.parametrize("answer", [Status(401), Status(403), Status(404), Link()])
def test_an_endpoint_that_cannot_be_used_ends_it(answer: ImageAnswer) -> None:
    with FakeEndpoint(image=answer) as server, pytest.raises(EndpointError):
        generator(server).generate(PROMPTS, SEEDS)


def test_what_was_drawn_before_a_server_died_is_handed_back() -> None:
    def answer(body: dict[str, Any]) -> ImageAnswer:
        if body["seed"] == 3:
            server.stop()
            return Cut()
        return Draw()

    with FakeEndpoint(image=answer) as server:
        one = generator(server, concurrency=1)
        images = one.generate(["a"] * 6, range(6))
        assert images.problems[:3] == (None,) * 3
        for problem in images.problems[3:]:
            assert problem is not None
            assert problem.startswith(
                f"not generated: {server.base_url}/images/generations: cannot be"
            )
        assert torch.equal(images.pixels[2], pixels_of("a", 2))
        with pytest.raises(EndpointError, match="is the server running"):
            one.generate(["a"], [1])


def test_a_used_up_budget_hands_back_what_was_paid_for() -> None:
    with FakeEndpoint() as server:
        one = generator(server, max_requests=5)
        assert one.generate(["a"] * 3, range(3)).problems == (None,) * 3
        images = one.generate(["a"] * 3, range(3))
        assert sorted(problem is None for problem in images.problems) == [False, True, True]
        for _ in range(2):
            with pytest.raises(BudgetExceededError, match="budget of 5 requests is used up"):
                one.generate(["a"], [1])
        assert len(server.received) == 5


def test_the_key_is_in_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-very-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    script = [Draw(), Status(400, f"your {key}"), Status(401, f"bad key {key}")]
    with FakeEndpoint(script=script, api_key=key) as server:
        one = generator(server, concurrency=1)
        images = one.generate(["a"] * 4, range(4))
        with pytest.raises(EndpointError) as caught:
            one.generate(["a"], [1])
    assert images.problems[0] is None
    assert [str(problem).count("[API key]") for problem in images.problems[1:]] == [1, 1, 1]
    assert key not in f"{images.problems}{caught.value}{vars(one)}"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"seed": 1, "n": 4, "steps": 5}, "must not hold n, seed"),
        ({"scale": float("nan")}, "cannot be sent"),
        ({"scale": object()}, "cannot be sent"),
    ],
)
def test_extra_fields_that_cannot_be_sent(extra: dict[str, Any], words: str) -> None:
    with FakeEndpoint() as server, pytest.raises(RecipeError, match=words):
        generator(server, extra=extra)
