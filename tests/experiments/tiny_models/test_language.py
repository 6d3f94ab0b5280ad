"""The bundled language model reads its context."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from experiments.tiny_models.language import accuracy
from experiments.tiny_models.language_model import make_tokenizer
from experiments.tiny_models.language_rows import SYSTEM, facts, grid, sample_row
from synthvlm.tiny import language_path
from synthvlm.tiny.captions import is_held_out, parse, sample_claim, sample_scene
from synthvlm.tiny.world import Scene, Thing
from synthvlm.training.prompts import SYSTEM_PROMPT


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(language_path(), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return AutoTokenizer.from_pretrained(language_path())


def test_it_answers_from_its_context(model, tokenizer) -> None:  # type: ignore[no-untyped-def]
    # 0.88 of 500 in training; a guess by topic alone is right less than one time in four.
    assert accuracy(model, tokenizer, count=150) > 0.8


def test_the_vocabulary_is_what_the_command_makes(tokenizer) -> None:  # type: ignore[no-untyped-def]
    assert make_tokenizer().get_vocab() == tokenizer.get_vocab()


def test_texts_begin_as_in_training_and_come_back(tokenizer) -> None:  # type: ignore[no-untyped-def]
    text = "A red star, naïve 図.\n"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text
    assert " star" in tokenizer.batch_decode([[i] for i in tokenizer(" star")["input_ids"]])


def test_conversations_are_those_of_training() -> None:
    assert SYSTEM == SYSTEM_PROMPT


def test_rows_learn_answers_and_captions_alone() -> None:
    rng = Random(0)
    for kind in ("copy", "caption", "answer"):
        for _ in range(20):
            row = sample_row(rng, kind=kind)
            learned = [text for text, is_learned in row if is_learned]
            assert learned
            assert not row[0][1]
            assert all(text.endswith("</s>" if kind == "answer" else "\n") for text in learned)


def test_no_row_of_training_holds_a_held_out_claim() -> None:
    rng = Random(1)
    for _ in range(200):
        caption = sample_row(rng, kind="caption")[1][0]
        claim = parse(caption)
        assert claim is not None
        assert not is_held_out(claim)


def test_a_grid_says_what_is_where() -> None:
    scene = Scene((Thing("star", "red", 16.0, 16.0, 8.0),), "mint")
    words = grid(scene, Random(2)).split()
    assert len(words) == 64
    inside = {8 * row + column for row in (1, 2) for column in (1, 2)}
    for place, word in enumerate(words):
        assert word in (("red", "star") if place in inside else ("mint",))


def test_facts_name_everything() -> None:
    rng = Random(3)
    claim = sample_claim(rng, "pair")
    told = facts(sample_scene(claim, rng), rng)
    assert all(word in told for word in (*claim.shapes, *claim.colours))


def test_weights_are_small() -> None:
    size = sum(file.stat().st_size for file in Path(language_path()).iterdir())
    assert size < 2.5e6
