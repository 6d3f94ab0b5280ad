"""The probability of Yes, against VQAScore's own code and against transformers by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from make_golden_vqascore import CAPTIONS, MODELS, TEMPLATE, pictures
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from random_llava import YES_AND_NO, save_llava
from synthvlm.models.vlm import VisionLanguageModel
from synthvlm.models.yes_no import YesTokens, tokens_reading_as

GOLDEN = json.loads(Path(__file__).with_name("golden_vqascore.json").read_text())
QUESTION = 'Does this figure show "{}"? Please answer yes or no.'


def load(folder: Path) -> VisionLanguageModel:
    return VisionLanguageModel(str(folder), device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("yes") / "llava", 1, TEMPLATE, YES_AND_NO)


@pytest.fixture(scope="module")
def model(folder: Path) -> VisionLanguageModel:
    return load(folder)


@pytest.mark.parametrize("number", range(len(MODELS)))
def test_it_is_what_the_authors_code_computes(number: int, tmp_path: Path) -> None:
    seed, merges = MODELS[number]
    model = load(save_llava(tmp_path / "llava", seed, TEMPLATE, merges))
    answers = model.say_yes(pictures(), [QUESTION.format(caption) for caption in CAPTIONS])
    golden = GOLDEN["scores"][number]
    assert [answer.likelihood for answer in answers] == pytest.approx(golden, rel=1e-4)
    assert len(set(golden)) == len(CAPTIONS)


def test_the_share_is_of_yes_and_no_at_the_next_token(
    folder: Path, model: VisionLanguageModel
) -> None:
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    reference = LlavaForConditionalGeneration.from_pretrained(folder)
    picture, question = pictures()[0], "Is there a dog?"
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    prompt = processor.apply_chat_template([turn], add_generation_prompt=True)
    batch = processor(text=prompt, images=picture, return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        probabilities = reference(**batch).logits[0, -1].double().softmax(-1)
    vocabulary = processor.tokenizer.get_vocab()
    # The merges made these of all spellings: "Yes" and "No", with and without a space.
    yes = sum(probabilities[vocabulary[word]] for word in ("Yes", "\u0120Yes"))
    no = sum(probabilities[vocabulary[word]] for word in ("No", "\u0120No"))
    (answer,) = model.say_yes([picture], [question])
    assert answer.share == pytest.approx(float(yes / (yes + no)), rel=1e-5)


def test_words_of_several_tokens_are_compared_where_they_part(tmp_path: Path) -> None:
    processor = AutoProcessor.from_pretrained(save_llava(tmp_path / "bytes"), backend="pil")
    vocabulary = processor.tokenizer.get_vocab()
    tokens = YesTokens.of(processor, "another")
    spelt = [processor.tokenizer.convert_ids_to_tokens(token) for token in tokens.answer]
    assert spelt == ["\u0120", "Y", "e", "s"]  # without the end of the text
    assert tokens.place == 1
    assert [*tokens.yes] == sorted([vocabulary["Y"], vocabulary["y"]])
    assert [*tokens.no] == sorted([vocabulary["N"], vocabulary["n"]])
    with_end = YesTokens.of(processor, "llava").answer
    assert [*with_end] == [*tokens.answer, processor.tokenizer.eos_token_id]


def test_tokens_that_read_as_a_word() -> None:
    words = ["yes", "Yes", "\u0120YES", "\u2581yes", "Yes!", "yesterday", " yes", "no"]
    vocabulary = {word: number for number, word in enumerate(words)}
    assert tokens_reading_as("\u2581Yes", vocabulary) == [0, 1, 2, 3, 6]


def test_a_batch_gets_the_answers_of_one_at_a_time(model: VisionLanguageModel) -> None:
    questions = [QUESTION.format(caption) for caption in CAPTIONS]
    together = model.say_yes(pictures(), questions)
    alone = [model.say_yes(*pair)[0] for pair in zip(
        [[picture] for picture in pictures()], [[question] for question in questions], strict=True
    )]  # fmt: skip
    for one, other in zip(together, alone, strict=True):
        assert one.likelihood == pytest.approx(other.likelihood, rel=1e-3)
        assert one.share == pytest.approx(other.share, rel=1e-3)
    assert model.say_yes([], []) == []


def test_a_question_that_cannot_be_asked_spoils_no_other(model: VisionLanguageModel) -> None:
    picture = Image.new("RGB", (24, 24), "red")
    questions = ["Is it red?", "Is it </s> red?", "x" * 3000, "Is an <image> there?", "Is it blue?"]
    answers = model.say_yes([picture] * 5, questions)
    assert [answer.problem for answer in (answers[0], answers[4])] == [None, None]
    assert all(0 < answers[n].share < 1 for n in (0, 4))
    assert "holds </s>, a special token of" in str(answers[1].problem)
    assert "tokens, and" in str(answers[2].problem)
    assert "holds <image>" in str(answers[3].problem)
    assert all(math.isnan(answers[n].share) for n in (1, 2, 3))


def test_what_it_writes_tells_whether_it_was_cut_off(model: VisionLanguageModel) -> None:
    (short,) = model.write(["why?"], max_new_tokens=1)
    assert short[1] is True
    text, _ = model.write(["why?"], max_new_tokens=8)[0]
    assert text == model.answer([None], ["why?"], max_new_tokens=8)[0]
