"""Ids and labels are those of LLaVA's own loader, which `llava_plain` and `llava_v1` follow.

Its `tokenizer_image_token`, `preprocess_multimodal`, `preprocess_plain` and `preprocess_v1`
(LLaVA 1.2.2, `llava/train/train.py`) find answers by counting tokens; ours by their characters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from random_llava import save_sentencepiece
from synthvlm.data_sets.conversations import Conversation, read_conversations
from synthvlm.training.prompts import SYSTEM_PROMPT, plain_prompt, v1_prompt
from synthvlm.training.tokens import Encoder, chat_template, text_tokens

IMAGE, IGNORED = -200, -100
Turns = list[tuple[str, str]]


def llava_ids(prompt: str, tokenizer: Any) -> list[int]:
    parts = [tokenizer(part).input_ids for part in prompt.split("<image>")]
    offset = int(bool(parts[0]) and parts[0][0] == tokenizer.bos_token_id)
    ids = parts[0][:offset]
    for n, part in enumerate(parts):
        ids += [IMAGE] * (n > 0) + part[offset:]
    return ids


def llava_plain(turns: Turns, tokenizer: Any) -> tuple[list[int], list[int]]:
    (_, human), (_, caption) = turns
    assert "<image>" in human
    ids = llava_ids(f"<image>{caption}\n", tokenizer)
    known = len(llava_ids("<image>", tokenizer))
    return ids, [IGNORED] * known + ids[known:]


def llava_v1(turns: Turns, tokenizer: Any) -> tuple[list[int], list[int]]:
    if turns[0][0] != "human":
        turns = turns[1:]
    text = f"{SYSTEM_PROMPT} "
    for n, (speaker, words) in enumerate(turns):
        assert speaker == ("human", "gpt")[n % 2]
        if "<image>" in words:
            words = f"<image>\n{words.replace('<image>', '').strip()}".strip()
        role = ("USER", "ASSISTANT")[n % 2]
        text += f"{role}: {words}{(' ', '</s>')[n % 2]}" if words else f"{role}:"
    ids = llava_ids(text, tokenizer)
    labels = list(ids)
    labels[0] = IGNORED
    at = 1
    for n, one in enumerate(text.split("</s>")):
        halves = one.split(" ASSISTANT: ")
        if one == "" or len(halves) != 2:
            break
        length = len(llava_ids(one, tokenizer))
        asked = len(llava_ids(f"{halves[0]} ASSISTANT: ", tokenizer)) - 2
        if n and not tokenizer.legacy:
            length, asked = length - 1, asked - 1
        labels[at : at + asked] = [IGNORED] * asked
        at += length
    labels[at:] = [IGNORED] * (len(ids) - at)
    return ids, labels if at == len(ids) else [IGNORED] * len(ids)


@pytest.fixture(scope="module", params=[True, False], ids=["legacy", "new"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = save_sentencepiece(tmp_path_factory.mktemp("words"), legacy=request.param)
    made = AutoTokenizer.from_pretrained(folder)
    made.add_tokens([AddedToken("<image>", special=True, normalized=False)], special_tokens=True)
    assert made.legacy is request.param
    return made


def read(folder: Path, turns: Turns, *, image: bool) -> Conversation:
    record: dict[str, Any] = {"conversations": [{"from": s, "value": text} for s, text in turns]}
    (folder / "data.json").write_text(
        json.dumps([{**record, "image": "a.png"} if image else record])
    )
    (found,) = read_conversations(str(folder / "data.json"))
    assert isinstance(found, Conversation), found
    return found


def ours(tokenizer: Any, pieces: Any) -> tuple[list[int], list[int]]:
    tokens = Encoder(tokenizer, 4, 2048).encode(pieces)
    image = tokenizer.convert_tokens_to_ids("<image>")
    ids = [IMAGE if n == image else n for n in tokens.ids.tolist()]
    assert tokens.masked == (not tokens.trained.any())
    return ids, [n if t else IGNORED for n, t in zip(ids, tokens.trained, strict=True)]


@pytest.mark.parametrize(
    "caption",
    [
        "There is a dog.",
        "a red ball",
        " two  spaces",
        "\nline",
        "中 文",
        "",
        "(USER)",
        "🙂 it",
        "A",
        "  ",
    ],
)
def test_plain(tokenizer: Any, tmp_path: Path, caption: str) -> None:
    turns = [("human", "<image>\nWhat<image>?"), ("gpt", caption)]
    talk = read(tmp_path, turns, image=True)
    assert ours(tokenizer, plain_prompt(talk)) == llava_plain(turns, tokenizer)


ASKED = ("human", "<image>\nWhat is it?")
TALKS = {
    "one answer": [ASKED, ("gpt", "There is a dog.")],
    "two answers": [ASKED, ("gpt", "A dog."), ("human", "Its colour?"), ("gpt", "red")],
    "image last": [("human", "What is it? <image>"), ("gpt", "A dog.")],
    "image in the middle": [("human", "What is <image> it?"), ("gpt", "A dog.")],
    "several marks": [("human", "<image><image>\nWhat <image>"), ("gpt", "A dog.")],
    "mark alone": [("human", " <image> "), ("gpt", "A dog.")],
    "image in the second question": [("human", "Hi"), ("gpt", "Hi"), ASKED, ("gpt", "A dog.")],
    "begins with gpt": [("gpt", "Hello!"), ASKED, ("gpt", "A dog.")],
    "no last answer": [ASKED, ("gpt", "A dog."), ("human", "Its colour?")],
    "question alone": [ASKED],
    "empty answer": [ASKED, ("gpt", ""), ("human", "What is it?"), ("gpt", "A dog.")],
    "empty last answer": [ASKED, ("gpt", "A dog."), ("human", "What?"), ("gpt", "")],
    "only an empty answer": [ASKED, ("gpt", "")],
    "blank answer": [ASKED, ("gpt", " ")],
    "empty question": [ASKED, ("gpt", "A dog."), ("human", ""), ("gpt", "red")],
    "words of the format": [ASKED, ("gpt", "He said: USER: x ASSISTANT: y")],
    "end of text in an answer": [ASKED, ("gpt", "A dog.</s> and more")],
    "spaces and lines": [("human", "\n\nWhat <image>\n  is it? "), ("gpt", "\n A dog. \n")],
    "other scripts": [
        ("human", "<image>这是什么"),
        ("gpt", "一只狗🙂"),
        ("human", "é?"),
        ("gpt", "ö"),
    ],
}
TRAINED = {"one answer", "two answers", "empty answer", "begins with gpt", "blank answer"}


@pytest.mark.parametrize("name", TALKS)
def test_v1(tokenizer: Any, tmp_path: Path, name: str) -> None:
    turns = TALKS[name]
    pieces = v1_prompt(read(tmp_path, turns, image=True), "</s>")
    expected = llava_v1(turns, tokenizer)
    assert ours(tokenizer, pieces) == expected
    assert name not in TRAINED or set(expected[1]) != {IGNORED}


@pytest.mark.parametrize("name", TALKS)
def test_v1_without_an_image(tokenizer: Any, tmp_path: Path, name: str) -> None:
    turns = [(speaker, text.replace("<image>", "")) for speaker, text in TALKS[name]]
    pieces = v1_prompt(read(tmp_path, turns, image=False), "</s>")
    assert ours(tokenizer, pieces) == llava_v1(turns, tokenizer)


def test_words_by_hand(tokenizer: Any) -> None:
    """What `legacy` changes, and what it must not: the word behind an image."""
    image = tokenizer.convert_tokens_to_ids("<image>")
    ids, _ = text_tokens(tokenizer, "USER:<image>There</s>USER:", image)
    after = ["▁", "USER", ":"] if tokenizer.legacy else ["USER", ":"]
    words = ["<s>", "▁", "USER", ":", "<image>", "▁There", "</s>", *after]
    assert tokenizer.convert_ids_to_tokens(ids.tolist()) == words


def test_the_chat_template_gives_the_tokens_of_training(tokenizer: Any, tmp_path: Path) -> None:
    talk = read(tmp_path, TALKS["two answers"], image=True)
    messages = []
    for turn in talk.turns:
        content = [{"type": "text", "text": turn.text.replace("<image>", "")}]
        content += [{"type": "image"}] * ("<image>" in turn.text)
        messages.append({"role": ("user", "assistant")[turn.speaker == "gpt"], "content": content})
    text = tokenizer.apply_chat_template(
        messages, chat_template=chat_template(tokenizer), tokenize=False
    )
    trained = Encoder(tokenizer, 4, 2048).encode(v1_prompt(talk, "</s>"))
    assert tokenizer(text)["input_ids"] == trained.ids.tolist()
