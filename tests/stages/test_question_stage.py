"""The questions about captions in a run: written once, before any image, and never lost."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest
import torch
from PIL.Image import Image

from fake_models import FakeClip, FakeGenerator, FakeSsim, run_with
from fakes.endpoint import Answer, FakeEndpoint, Status
from synthvlm.checks.regenerate import regenerate
from synthvlm.checks.status import status
from synthvlm.checks.verify import verify
from synthvlm.components import plugins
from synthvlm.components.settings import Identify
from synthvlm.endpoints.client import BudgetExceededError
from synthvlm.errors import ModelError, RunFolderError, TooManyFailuresError
from synthvlm.models.yes_no import YesAnswer
from synthvlm.recipe import Recipe
from synthvlm.run.kept_recipe import open_folder
from synthvlm.scorers import QuestionScorer, Scores
from synthvlm.scorers.questions import QuestionVerification
from synthvlm.stages.generation.models import Models

WORDS = ["kite", "boat", "lamp", "tree", "fox", "door"]


class Verifier:
    """Says yes by a hash of the pixels."""

    def say_yes(self, images: Sequence[Image], questions: Sequence[str]) -> list[YesAnswer]:
        sums = [sum(image.tobytes()) + len(q) for image, q in zip(images, questions, strict=True)]
        return [YesAnswer(0.5, (number % 100) / 100) for number in sums]


def models(recipe: Recipe) -> Models:
    questions = QuestionVerification(Verifier())
    return Models(FakeGenerator(), {"clip": FakeClip(), "ssim": FakeSsim(), "questions": questions})


def word_of(messages: list[dict[str, Any]]) -> str:
    return next(word for word in [*WORDS, "apple"] if word in messages[0]["content"])


def two_questions(messages: list[dict[str, Any]]) -> Answer:
    word = word_of(messages)
    return f"1. Is there a {word}?\n2. Is the {word} red & blue?"


def refusing(word: str) -> Callable[[list[dict[str, Any]]], Answer]:
    def answer(messages: list[dict[str, Any]]) -> Answer:
        return Status(400, "no") if word_of(messages) == word else two_questions(messages)

    return answer


@pytest.fixture
def server() -> Iterator[FakeEndpoint]:
    with FakeEndpoint(two_questions) as running:
        yield running


def recipe_of(folder: Path, server: FakeEndpoint, *changes: str, **writer: Any) -> Recipe:
    """Two shards of three captions, two candidates each."""
    captions = folder / "captions.txt"
    lines = [f"A bright red {word} stands on the wide green field in the sun." for word in WORDS]
    captions.write_text("\n".join(lines) + "\n")
    endpoint = {"url": server.base_url, "concurrency": 1, **writer.pop("endpoint", {})}
    writer = {"model": "fake", "endpoint": endpoint, **writer}
    values = {
        "sources": [{"path": str(captions), "name": "c"}],
        "curation": {"deduplicate": False},
        "generation": {"candidates": 2},
        "scoring": {"questions": {"model": "org/answers", "writer": writer}},
        "run": {"shard_size": 3, "device": "cpu", "threads": 1},
    }
    return Recipe.from_values(values).changed(overrides=changes)


def rows_of(run: Path, folder: str) -> list[dict[str, Any]]:
    files = sorted((run / folder).iterdir())
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_a_run_asks_once_and_scores_by_the_answers(tmp_path: Path, server: FakeEndpoint) -> None:
    recipe, out = recipe_of(tmp_path, server), tmp_path / "run"
    run_with(recipe, out, models)
    assert len(server.received) == 6
    written = rows_of(out, "questions-questions")
    assert [row["id"] for row in written] == [f"c-{n}" for n in range(6)]
    assert written[0]["questions"] == ["Is there a kite?", "Is the kite red & blue?"]
    assert {row["problem"] for row in written} == {None}
    rows = rows_of(out, "candidates")
    assert len({row["questions_score"] for row in rows}) > 1
    for row in rows:
        failed = (row["questions_remarks"] or "").splitlines()
        assert len(failed) == 2 * (1 - row["questions_score"])
        total = row["clip_score"] + 0.5 * row["ssim_score"] + row["questions_score"]
        assert row["score"] == pytest.approx(total)

    run, recipe = open_folder(str(out))
    assert not verify(run, recipe).findings
    stages = {stage.stage: (stage.done, stage.total) for stage in status(run, recipe).stages}
    assert stages["questions-questions"] == (2, 2)
    page = (out / "report" / "index.html").read_text()
    assert "red &amp; blue?" in page
    assert "Question score, not fulfilled" in page
    assert any(event.get("stage") == "questions-questions" for event in run.events())

    run_with(recipe, out, models)
    assert len(server.received) == 6
    assert regenerate(run, recipe, "c-0", every=True, load_models=models).is_same
    failed_row = next(row for row in rows if row["questions_remarks"])
    again = regenerate(
        run, recipe, failed_row["caption_id"], index=failed_row["index"], load_models=models
    )
    first = failed_row["questions_remarks"].splitlines()[0]
    assert any(
        f"Question score, not fulfilled: {first}" in line for line in again.text().splitlines()
    )


def test_finalists_have_remarks_too(tmp_path: Path, server: FakeEndpoint) -> None:
    run_with(recipe_of(tmp_path, server, "scoring.questions.only_best=1"), tmp_path / "run", models)
    rows = rows_of(tmp_path / "run", "candidates")
    scored = [row for row in rows if row["questions_score"] is not None]
    assert 0 < len(scored) < len(rows)
    assert any(row["questions_score"] < 1 for row in scored)
    for row in scored:
        failed = (row["questions_remarks"] or "").splitlines()
        assert len(failed) == 2 * (1 - row["questions_score"])


def test_a_model_that_is_not_there_is_told_before_questions_are_paid(
    tmp_path: Path, server: FakeEndpoint
) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(ModelError, match="gone: no such file or folder"):
        run_with(recipe_of(tmp_path, server, f"scoring.questions.model={gone}"), tmp_path / "run")
    assert not server.received


def test_a_budget_stops_before_any_image_and_nothing_is_paid_for_twice(
    tmp_path: Path, server: FakeEndpoint
) -> None:
    out = tmp_path / "run"
    with pytest.raises(BudgetExceededError):
        run_with(recipe_of(tmp_path, server, endpoint={"max_requests": 4}), out, models)
    assert len(server.received) == 4
    assert not (out / "candidates").exists()
    run, recipe = open_folder(str(out))
    now = status(run, recipe)
    assert now.next == "questions-questions"
    assert {s.stage: s.done for s in now.stages}["questions-questions"] == 1
    run_with(recipe_of(tmp_path, server), out, models)
    assert len(server.received) == 6
    assert len(rows_of(out, "candidates")) == 12


def test_a_caption_without_questions_is_told_and_tried_again(tmp_path: Path) -> None:
    out, share = tmp_path / "run", "run.max_failed_share=0.2"
    with FakeEndpoint(refusing("fox")) as server:
        run_with(recipe_of(tmp_path, server, share), out, models)
    rows = {row["caption_id"]: row for row in rows_of(out, "candidates") if not row["index"]}
    assert len(rows) == 6
    lost = rows.pop("c-4")
    assert (lost["status"], lost["questions_score"], lost["chosen"]) == ("failed", None, False)
    assert lost["problem"].startswith("scorer 'questions': http://127.0.0.1")
    assert lost["problem"].endswith(": HTTP 400: no")
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert len(rows_of(out, "pairs")) == 5
    run, recipe = open_folder(str(out))
    assert status(run, recipe).next == "generate"
    assert {finding.kind for finding in verify(run, recipe).findings} == {"stale"}
    with FakeEndpoint(two_questions) as server:
        run_with(recipe_of(tmp_path, server, share), out, models)
        assert len(server.received) == 1
    assert len(rows_of(out, "pairs")) == 6
    run, recipe = open_folder(str(out))
    assert not verify(run, recipe).findings


def test_too_many_captions_without_questions_stop_the_run_before_any_image(tmp_path: Path) -> None:
    line = r"questions-questions: 1 captions got no question, more than run.max_failed_share"
    with FakeEndpoint(refusing("fox")) as server:
        recipe = recipe_of(tmp_path, server, "run.max_failed_share=0.0")
        with pytest.raises(TooManyFailuresError, match=line) as raised:
            run_with(recipe, tmp_path / "run", models)
    assert "the first, 'c-4': http" in str(raised.value)
    assert ": HTTP 400: no; fix the cause" in str(raised.value)
    assert not (tmp_path / "run" / "candidates").exists()


def test_another_writer_is_another_score(tmp_path: Path, server: FakeEndpoint) -> None:
    out = tmp_path / "run"
    run_with(recipe_of(tmp_path, server), out, models, until="generate")
    changed = recipe_of(tmp_path, server, prompt="Ask about {caption}, please.")
    with pytest.raises(RunFolderError, match="the scorer questions changed"):
        run_with(changed, out, models)
    assert len(server.received) == 6
    run_with(changed, out, models, until="curate")
    run, recipe = open_folder(str(out))
    stale = {(f.stage, f.kind) for f in verify(run, recipe).findings}
    assert ("questions-questions", "stale") in stale


def test_calibration_leaves_out_captions_without_questions(tmp_path: Path) -> None:
    changes = ("run.max_failed_share=0.2", "generation.adaptive={sample: 8}", "run.shard_size=12")
    with FakeEndpoint(refusing("fox")) as server:
        recipe = recipe_of(tmp_path, server, *changes)
        source = Path(recipe.sources[0].path)
        text = source.read_text()
        source.write_text(text + text.replace("sun", "rain"))
        run_with(recipe, tmp_path / "run", models)
    rows = rows_of(tmp_path / "run", "calibrate")
    assert len(rows) == 16
    assert {row["status"] for row in rows} == {"ok"}
    assert not {"c-4", "c-10"} & {row["caption_id"] for row in rows}


class Written:
    """The questions of a plug-in."""

    questions = ("Is it?",)
    problem = None


class Writer:
    """Something to hold in memory."""

    alive: ClassVar[list[weakref.ref[Writer]]] = []

    def __init__(self) -> None:
        self.alive.append(weakref.ref(self))

    def write(self, captions: Sequence[str]) -> list[Written]:
        return [Written() for _ in captions]


class Own(QuestionScorer):
    """A plug-in that asks questions."""

    name: ClassVar[str] = "own_questions"
    version = "1"

    @classmethod
    def load_writer(cls, settings: Any, context: Any) -> Writer:
        return Writer()

    @classmethod
    def writer_identity(cls, settings: Any, identify: Identify) -> object:
        return "own"

    def score_answers(self, images: torch.Tensor, questions: Sequence[Sequence[str]]) -> Scores:
        assert [*questions] == [("Is it?",)] * len(images)
        return FakeSsim().score(images, [""] * len(images))


def test_what_writes_is_gone_before_the_generator_is_loaded(
    tmp_path: Path, server: FakeEndpoint
) -> None:
    def load(recipe: Recipe) -> Models:
        gc.collect()
        assert [one() for one in Writer.alive] == [None]
        return Models(FakeGenerator(), {"own_questions": Own()})

    plugins.register(Own)
    try:
        scoring = "scoring={clip: null, ssim: null, own_questions: {}}"
        run_with(recipe_of(tmp_path, server, scoring), tmp_path / "run", load)
    finally:
        plugins.forget()
    assert len(Writer.alive) == 1
    rows = rows_of(tmp_path / "run", "candidates")
    assert {row["status"] for row in rows} == {"ok"}
    assert "own_questions_remarks" not in rows[0]


def test_with_a_target_only_captions_that_are_taken_are_asked_about(
    tmp_path: Path, server: FakeEndpoint
) -> None:
    target = "target={pairs: 2, max_images: 100}"
    run_with(recipe_of(tmp_path, server, target), tmp_path / "run", models)
    asked = [row["id"] for row in rows_of(tmp_path / "run", "questions-questions")]
    assert len(server.received) == len(asked) == 2
    assert {row["caption_id"] for row in rows_of(tmp_path / "run", "candidates")} == {*asked}
    run, recipe = open_folder(str(tmp_path / "run"))
    assert not verify(run, recipe).findings
    assert status(run, recipe).next is None


class Poor(Verifier):
    """Has money for ten questions."""

    def __init__(self) -> None:
        self.left = 10

    def say_yes(self, images: Sequence[Image], questions: Sequence[str]) -> list[YesAnswer]:
        if self.left < len(questions):
            raise BudgetExceededError("the budget of 10 requests is used up")
        self.left -= len(questions)
        return super().say_yes(images, questions)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_scorer_that_runs_out_of_money_loses_no_answer_that_was_paid_for(
    tmp_path: Path, server: FakeEndpoint, batch: int
) -> None:
    recipe = recipe_of(tmp_path, server, f"run.batch_size={batch}", "run.shard_size=6")
    poor = Models(
        FakeGenerator(),
        {"clip": FakeClip(), "ssim": FakeSsim(), "questions": QuestionVerification(Poor())},
    )
    with pytest.raises(BudgetExceededError):
        run_with(recipe, tmp_path / "run", lambda recipe: poor)
    rows = rows_of(tmp_path / "run", "candidates")
    statuses = [row["status"] for row in rows]
    paid = {1: 5, 4: 4}[batch]  # candidates that ten questions suffice for, in whole batches
    assert statuses == ["ok"] * paid + ["pending"] * (12 - paid)
    run_with(recipe, tmp_path / "run", models)
    assert {row["status"] for row in rows_of(tmp_path / "run", "candidates")} == {"ok"}
