"""VQAScore: what is asked of a model here or behind an endpoint, and what its answers are worth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes.endpoint import Answer, FakeEndpoint, Say, Status
from random_llava import YES_AND_NO, save_llava
from synthvlm.components.component import LoadContext
from synthvlm.endpoints.client import BudgetExceededError, EndpointClient
from synthvlm.errors import ModelError, RecipeError
from synthvlm.models.vlm import VisionLanguageModel
from synthvlm.recipe import Recipe
from synthvlm.scorers import SCORERS
from synthvlm.scorers.base import Scores
from synthvlm.scorers.pixels import pictures
from synthvlm.scorers.vqa import VqaScorer

CAPTIONS = ["a red barn", "two boats", 'a sign "{}"']


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (3, 3, 24, 24), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("vqa") / "llava", merges=YES_AND_NO)


def test_the_score_is_the_likelihood_of_yes_to_a_question_with_the_caption(
    llava: Path, images: torch.Tensor
) -> None:
    settings = SCORERS.settings("vqa", {"model": str(llava), "batch_size": 2})
    scores = SCORERS.load("vqa", settings, LoadContext()).score(images, CAPTIONS)
    questions = [
        'Does this figure show "a red barn"? Please answer yes or no.',
        'Does this figure show "two boats"? Please answer yes or no.',
        'Does this figure show "a sign "{}""? Please answer yes or no.',
    ]
    answers = VisionLanguageModel(str(llava)).say_yes(pictures(images), questions)
    expected = [answer.likelihood for answer in answers]
    assert scores.values.tolist() == pytest.approx(expected, rel=1e-3)
    assert scores.values.dtype == "float64"
    assert scores.problems == (None, None, None)


def test_a_caption_with_a_control_token_has_no_score_and_a_reason(
    llava: Path, images: torch.Tensor
) -> None:
    scorer = VqaScorer(VisionLanguageModel(str(llava)))
    scores = scorer.score(images[:2], ["a dog <image>", "a dog"])
    assert math.isnan(scores.values[0])
    assert scores.values[1] > 0
    assert scores.problems is not None
    assert "holds <image>, a special token" in str(scores.problems[0])


def test_a_prompt_must_hold_the_caption_once() -> None:
    for prompt in ("Is it good?", "{caption} {caption}?"):
        with pytest.raises(RecipeError, match=r"scoring.vqa: prompt must hold \{caption\} exactly"):
            Recipe.load("tiny", overrides=[f"scoring.vqa.prompt={prompt!r}"])


def asked(server: FakeEndpoint, images: torch.Tensor, **settings: Any) -> Scores:
    """The scores by an endpoint of some images."""

    def client(endpoint: Any, model: str, where: str) -> EndpointClient:
        return EndpointClient(endpoint.connection(), model, max_tokens=endpoint.max_tokens)

    endpoint = {"url": server.base_url, **settings}
    values = {"model": "fake", "endpoint": endpoint, "prompt": "{caption}?"}
    scorer = SCORERS.load(
        "vqa", SCORERS.settings("vqa", values), LoadContext(endpoint_client=client)
    )
    return scorer.score(images, CAPTIONS[: len(images)])


def test_an_endpoint_is_sent_the_image_and_its_first_token_counts(images: torch.Tensor) -> None:
    def answer(messages: list[dict[str, Any]]) -> Answer:
        tokens = {"Yes": 0.5, " yes": 0.2, "No": 0.2, "Maybe": 0.05}
        if "boats" in messages[0]["content"][1]["text"]:
            tokens = {"No": 0.9, "no": 0.05}
        return Say("Yes", first_tokens=tokens)

    with FakeEndpoint(answer) as server:
        scores = asked(server, images[:2])
    # Not over the sum with No, as VQAScore's authors take it; a token that is not named counts 0.
    assert scores.values.tolist() == pytest.approx([0.7, 0.0])
    assert scores.problems == (None, None)
    body = server.received[0].body
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 20, 1)
    image, text = body["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert text["text"] in {"a red barn?", "two boats?"}


def test_an_endpoint_without_log_probabilities_is_refused_in_one_line(
    images: torch.Tensor,
) -> None:
    line = r"scoring.vqa: the endpoint returns no log-probabilities of fake: use a server that"
    with FakeEndpoint("Yes") as server, pytest.raises(ModelError, match=line) as raised:
        asked(server, images)
    assert "--set scoring.vqa.endpoint=null" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_reply_that_is_no_answer_is_a_problem_of_its_image(images: torch.Tensor) -> None:
    def answer(messages: list[dict[str, Any]]) -> Answer:
        text = messages[0]["content"][1]["text"]
        if "barn" in text:
            return Status(400, "the image is not to be looked at")
        return Say("", first_tokens={"Sorry": 0.9} if "boats" in text else {"Yes": 1.0})

    with FakeEndpoint(answer) as server:
        scores = asked(server, images)
    assert math.isnan(scores.values[0])
    assert math.isnan(scores.values[1])
    assert scores.values[2] == 1.0
    assert scores.problems is not None
    assert "not to be looked at" in str(scores.problems[0])
    assert scores.problems[1] == "the model answers neither yes nor no, but 'Sorry' ..."


def test_the_budget_of_an_endpoint_holds(images: torch.Tensor) -> None:
    with FakeEndpoint(lambda messages: Say("Yes", first_tokens={"Yes": 1.0})) as server:
        with pytest.raises(BudgetExceededError, match="2 requests is used up"):
            asked(server, images, max_requests=2)
        assert len(server.received) == 2


def test_what_it_depends_on() -> None:
    def identity(**values: Any) -> object:
        settings = SCORERS.settings("vqa", {"model": "org/model", **values})
        return SCORERS.identity("vqa", settings, lambda name, mark: f"content of {name}")

    endpoint = {"url": "http://localhost:1/v1"}
    assert identity() == identity(batch_size=3, weight=2.0)
    assert identity() != identity(prompt="{caption}?")
    assert identity() != identity(revision="v2")
    assert identity() != identity(endpoint=endpoint)
    assert identity(endpoint=endpoint) == identity(endpoint={"url": "http://elsewhere/v1"})
