"""Question verification: what is asked, what the answers are worth, and what is said of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL.Image import Image

from fakes.endpoint import FakeEndpoint, Say
from random_llava import YES_AND_NO, save_llava
from synthvlm.captions.writers.questions import DEFAULT_QUESTION_PROMPT
from synthvlm.components.component import LoadContext
from synthvlm.endpoints.client import EndpointClient
from synthvlm.errors import RecipeError
from synthvlm.models.vlm import VisionLanguageModel
from synthvlm.models.yes_no import YesAnswer
from synthvlm.recipe import Recipe
from synthvlm.scorers import SCORERS
from synthvlm.scorers.pixels import pictures
from synthvlm.scorers.questions import QuestionVerification

ASKED = "{question} Please answer yes or no."


class Verifier:
    """Says yes to what its table holds; the words in brackets are a problem."""

    def __init__(self, shares: dict[str, float]) -> None:
        self.shares = shares
        self.asked: list[str] = []

    def say_yes(self, images: Sequence[Image], questions: Sequence[str]) -> list[YesAnswer]:
        assert len(images) == len(questions)
        self.asked += questions
        return [
            YesAnswer(0.1, self.shares[question])
            if question in self.shares
            else YesAnswer.failed("too long")
            for question in questions
        ]


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (3, 3, 24, 24), dtype=torch.uint8, generator=generator)


def test_the_score_is_the_share_of_yes_and_the_others_are_its_remark(images: torch.Tensor) -> None:
    shares = {"Is there a dog?": 0.9, "Is it red?": 0.5, "Is it big?": 0.2, "Are there two?": 0.51}
    verifier = Verifier(shares)
    scorer = QuestionVerification(verifier, "{question}")
    scores = scorer.score_answers(
        images, [["Is there a dog?"], ["Is it red?", "Is it big?", "Are there two?"], ["Eh?"]]
    )
    assert verifier.asked == [
        "Is there a dog?",
        "Is it red?",
        "Is it big?",
        "Are there two?",
        "Eh?",
    ]
    np.testing.assert_allclose(scores.values, [1.0, 1 / 3, math.nan])
    assert scores.remarks == (None, "Is it red?\nIs it big?", None)
    assert scores.problems == (None, None, "too long")


def test_without_questions_there_is_no_score(images: torch.Tensor) -> None:
    scores = QuestionVerification(Verifier({})).score_answers(images[:1], [[]])
    assert math.isnan(scores.values[0])
    assert scores.problems == ("there are no questions about the caption",)


def test_a_local_model_answers_in_batches_of_questions(
    tmp_path: Path, images: torch.Tensor
) -> None:
    folder = save_llava(tmp_path / "llava", merges=YES_AND_NO)
    settings = SCORERS.settings("questions", {"model": str(folder), "batch_size": 2})
    scorer = SCORERS.load("questions", settings, LoadContext())
    assert isinstance(scorer, QuestionVerification)
    questions = [["Is there a dog?", "Is it red?"], ["Is it big?", "Is it old?", "Is it night?"]]
    scores = scorer.score_answers(images[:2], questions)
    model = VisionLanguageModel(str(folder))
    for picture, own, value in zip(pictures(images), questions, scores.values, strict=False):
        texts = [ASKED.replace("{question}", question) for question in own]
        answers = model.say_yes([picture] * len(own), texts)
        assert value == np.mean([answer.share > 0.5 for answer in answers])


def clients(endpoint: Any, model: str, where: str) -> EndpointClient:
    return EndpointClient(endpoint.connection(), model)


def test_one_endpoint_writes_and_answers(images: torch.Tensor) -> None:
    def answer(messages: list[dict[str, Any]]) -> Say:
        content = messages[0]["content"]
        if isinstance(content, str):
            return Say("1. Is there a dog?\n2. Is it red?")
        yes = 0.8 if "dog" in content[1]["text"] else 0.1
        return Say("", first_tokens={"yes": yes, "no": 1 - yes})

    with FakeEndpoint(answer) as server:
        settings = SCORERS.settings(
            "questions", {"model": "fake", "endpoint": {"url": server.base_url}}
        )
        context = LoadContext(endpoint_client=clients)
        (written,) = QuestionVerification.load_writer(settings, context).write(["a red dog"])
        scorer = QuestionVerification.load(settings, context)
        scores = scorer.score_answers(images[:1], [written.questions])
    assert written.questions == ("Is there a dog?", "Is it red?")
    assert scores.values.tolist() == [0.5]
    assert scores.remarks == ("Is it red?",)


def test_an_endpoint_is_asked_about_an_image_that_was_encoded_once(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    save = Image.save

    def counting(image: Image, sink: Any, format: str) -> None:
        encoded.append(format)
        save(image, sink, format)

    monkeypatch.setattr(Image, "save", counting)
    with FakeEndpoint(lambda messages: Say("", first_tokens={"yes": 0.9, "no": 0.1})) as server:
        settings = SCORERS.settings(
            "questions", {"model": "fake", "endpoint": {"url": server.base_url}}
        )
        scorer = QuestionVerification.load(settings, LoadContext(endpoint_client=clients))
        questions = [["Is there a dog?", "Is it red?", "Is it big?"], ["Is it old?"]]
        scores = scorer.score_answers(images[:2], questions)
    assert scores.values.tolist() == [1.0, 1.0]
    assert len(encoded) == 2


def test_what_it_depends_on() -> None:
    def identities(**values: Any) -> tuple[str, str]:
        settings = SCORERS.settings("questions", {"model": "org/model", **values})
        whole = SCORERS.identity("questions", settings, lambda name, mark: f"content of {name}")
        writer = QuestionVerification.writer_identity(settings, lambda name, mark: name)
        return repr(whole), repr(writer)

    plain = identities()
    assert DEFAULT_QUESTION_PROMPT[:20] in plain[1]
    assert identities(batch_size=2, weight=3.0) == plain
    whole, writer = identities(writer={"model": "org/other"})
    assert whole != plain[0]
    assert writer != plain[1]
    same = {"model": "org/model"}
    assert identities(writer=same) == plain
    for change in ({"prompt": "{caption}?"}, {"reply_tokens": 9}, {"revision": "v2"}):
        whole, writer = identities(writer={**same, **change})
        assert whole != plain[0]
        assert writer != plain[1]
    whole, writer = identities(writer=same, revision="v2")
    assert whole != plain[0]
    assert writer == plain[1]


def test_the_embedded_model_is_asked_as_it_was_trained() -> None:
    settings = SCORERS.settings("questions", {})
    written = repr(QuestionVerification.writer_identity(settings, lambda name, mark: name))
    assert "Write yes-or-no questions, one per line, that check each fact" in written
    assert "never follow" not in written


def test_a_prompt_must_hold_the_caption_once() -> None:
    line = r"scoring.questions.writer: prompt must hold \{caption\} exactly once"
    with pytest.raises(RecipeError, match=line):
        Recipe.load("tiny", overrides=["scoring.questions.writer={prompt: 'Ask!'}"])
