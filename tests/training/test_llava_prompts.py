"""The two formats, against examples worked out by hand from LLaVA-1.5's description."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoProcessor

from random_llava import FEATURES, byte_tokenizer, save_language, save_tower
from synthvlm.data_sets.conversations import Conversation, Turn
from synthvlm.training.model import Assembled, assemble
from synthvlm.training.prompts import plain_prompt, v1_prompt
from synthvlm.training.recipe import ModelSettings
from synthvlm.training.tokens import Encoder, expand

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)


def conversation(*texts: str, image: str | None = "a.png") -> Conversation:
    turns = tuple(Turn(("human", "gpt")[n % 2], text) for n, text in enumerate(texts))
    return Conversation("a", image, turns)


PAIR = conversation("Describe it.\n<image>", "a red ball")
TALK = conversation("What is\n<image>", "A dog.", "Its colour?", "Brown.")
TEXT = conversation(" Hi ", "Hello!", image=None)
#: The text, and the parts of it that are trained. The human's words are gone in the plain format;
#: in v1 the image is at the front of its turn, `</s>` follows each answer, nothing follows `</s>`.
GOLDEN = [
    (plain_prompt(PAIR), "<image>a red ball\n", ["a red ball\n"]),
    (
        v1_prompt(TALK, "</s>"),
        f"{SYSTEM} USER: <image>\nWhat is ASSISTANT: A dog.</s>"
        "USER: Its colour? ASSISTANT: Brown.</s>",
        [" A dog.</s>", " Brown.</s>"],
    ),
    (
        v1_prompt(conversation("<image>\nWhat is it?", "A dog."), "</s>"),
        f"{SYSTEM} USER: <image>\nWhat is it? ASSISTANT: A dog.</s>",
        [" A dog.</s>"],
    ),
    (
        v1_prompt(TEXT, "</s>"),
        f"{SYSTEM} USER:  Hi  ASSISTANT: Hello!</s>",
        [" Hello!</s>"],
    ),
]


@pytest.mark.parametrize(("pieces", "text", "trained"), GOLDEN)
def test_golden(pieces: list, text: str, trained: list[str]) -> None:
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.text for piece in pieces if piece.trained] == trained


def test_plain_needs_an_image_and_one_answer() -> None:
    for bad in (TEXT, TALK):
        with pytest.raises(ValueError, match="plain format"):
            plain_prompt(bad)


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Assembled:
    folder = tmp_path_factory.mktemp("parts")
    settings = ModelSettings(
        vision_tower=str(save_tower(folder / "tower")),
        language_model=str(save_language(folder / "words")),
    )
    return assemble(settings, "pad", 0)


def messages(talk: Conversation) -> list[dict]:
    found = []
    for turn in talk.turns:
        content = [{"type": "text", "text": turn.text.replace("<image>", "")}]
        if "<image>" in turn.text:
            content.append({"type": "image"})
        found.append({"role": {"human": "user"}.get(turn.speaker, "assistant"), "content": content})
    return found


@pytest.mark.parametrize("talk", [PAIR, TALK, TEXT, conversation(" <image> ", "A dog.")])
def test_chat_template_is_the_text_of_training(
    assembled: Assembled, talk: Conversation, tmp_path: Path
) -> None:
    assembled.processor.save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    pieces = v1_prompt(talk, "</s>")
    text = "".join(piece.text for piece in pieces)
    assert processor.apply_chat_template(messages(talk), tokenize=False) == text
    asked = processor.apply_chat_template(
        messages(talk)[:-1], tokenize=False, add_generation_prompt=True
    )
    assert text.startswith(asked)
    assert text[len(asked) :] == pieces[-1].text

    tokens = Encoder(processor.tokenizer, FEATURES, 2048).encode(pieces)
    templated = processor.tokenizer.apply_chat_template(
        messages(talk),
        chat_template=processor.chat_template,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    begin = 1  # the template has no beginning of text, which the tokenizer puts first
    assert tokens.ids[begin:].tolist() == templated["input_ids"]
    assert tokens.trained[begin:].tolist() == [bool(m) for m in templated["assistant_masks"]]


def encoder(tokenizer: object = None, max_tokens: int = 400) -> Encoder:
    tokenizer = tokenizer or byte_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    return Encoder(tokenizer, FEATURES, max_tokens)


def test_tokens_of_plain_by_hand() -> None:
    words = byte_tokenizer()
    tokens = encoder(words).encode(plain_prompt(conversation("<image>", "ab")))
    ids, labels = expand(tokens.ids, tokens.trained, words.convert_tokens_to_ids("<image>"), 4)
    a, b, newline = (words.convert_tokens_to_ids(letter) for letter in ("a", "b", "Ċ"))
    image = words.convert_tokens_to_ids("<image>")
    assert ids.tolist() == [0, image, image, image, image, a, b, newline]
    assert labels.tolist() == [-100] * 5 + [a, b, newline]
    assert (tokens.length, tokens.truncated, tokens.masked) == (8, False, False)


def test_a_token_across_an_edge_masks_the_sample() -> None:
    tokens = encoder(byte_tokenizer((":", "Ġ"))).encode(v1_prompt(TALK, "</s>"))
    assert tokens.masked
    assert not tokens.trained.any()


@pytest.mark.parametrize("text", ["be </s> done", "<s>", "a <image>"])
def test_a_special_token_in_the_words_masks_the_sample(text: str) -> None:
    tokens = encoder().encode(v1_prompt(conversation("Hi", text, image=None), "</s>"))
    assert tokens.masked
    assert not tokens.trained.any()


def test_truncation_keeps_the_image_and_something_to_learn() -> None:
    whole = encoder().encode(v1_prompt(TALK, "</s>"))
    cut = encoder(max_tokens=whole.length - 4).encode(v1_prompt(TALK, "</s>"))
    assert (cut.length, cut.truncated, cut.masked) == (whole.length - 4, True, False)
    assert cut.ids.tolist() == whole.ids[:-4].tolist()
    with pytest.raises(ValueError, match="answer does not begin"):
        encoder(max_tokens=SYSTEM.__len__() + 20).encode(v1_prompt(TALK, "</s>"))
    with pytest.raises(ValueError, match="image does not fit"):
        encoder(max_tokens=4).encode(plain_prompt(PAIR))
    with pytest.raises(ValueError, match="image does not fit"):
        encoder(max_tokens=100).encode(v1_prompt(TALK, "</s>"))
