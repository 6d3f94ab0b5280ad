"""Control tokens: each kind by hand, what resembles them, and any text at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthvlm.captions.rules import RULES
from synthvlm.captions.rules.batch import TextBatch
from synthvlm.captions.rules.control_tokens import BRACKETED, NAMES, ControlTokens
from synthvlm.components.component import LoadContext
from synthvlm.errors import RecipeError


def count(text: str) -> float:
    return float(ControlTokens().measure(TextBatch([text]))[0])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("<image>\na red barn on a hill", 1),
        ("a red barn on a hill</s>", 1),
        ("<s>a red barn</s><pad><pad>", 4),
        ("a barn<|endoftext|>", 1),
        ("<|im_start|>assistant\na barn<|im_end|>", 2),
        ("<|start_header_id|>user<|end_header_id|>", 2),
        ("<\uff5cbegin\u2581of\u2581sentence\uff5c>a barn", 1),
        ("[INST] describe it [/INST] a barn", 2),
        ("<<SYS>>be kind<</SYS>>", 2),
        ("<start_of_turn>model", 1),
        ("<image_1> and <image 2>, <extra_id_0>", 3),
        ("a <unk> barn, a [UNK] barn", 2),
        ("<UNK> <Image>", 2),
        ("<|assistant|> <bos> <eos> <think>", 4),
        ("### Assistant: hello, a dog ###Human: hi ### Instruction: draw", 3),
        ("< image > of a dog <\\s> <image placeholder> <region> <seg001> <0x0A>", 6),
        ("[AUDIO] [gMASK]sop USER : a dog", 3),
        ("a pink heart. USER: say hello ASSISTANT: hello", 2),
    ],
)
def test_tokens_are_counted(text: str, tokens: int) -> None:
    assert count(text) == tokens


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red barn on a hill",
        "5 < 6 and 7 > 6 | or so",
        "a <3 heart, x <y> z",
        "photo of <person> at [location]",
        "an image, a pad, a mask and a box",
        "[sic] he said [...]",
        "<image of a barn>",
        "<|" + "x" * 65 + "|>",
        "<|a\nb|>",
        "the array[s] of </i> tags",
        "### a heading, the image > the frame",
        "a user: the assistant: nobody; ENDUSER:",
    ],
)
def test_what_resembles_one_is_none(text: str) -> None:
    assert count(text) == 0


def test_every_documented_name_is_found() -> None:
    for name in NAMES:
        assert count(f"a <{name}> b </{name}>") == 2, name
    for name in BRACKETED:
        assert count(f"a [{name}] b [/{name}]") == 2, name


def test_a_recipe_names_it() -> None:
    rule = RULES.settings("control_tokens", {"max": 0.0})
    loaded = RULES.load("control_tokens", rule, LoadContext())
    assert isinstance(loaded, ControlTokens)
    assert RULES["control_tokens"].default is None


def test_special_tokens_of_named_tokenizers_count(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[?]": 0, "a": 1}, unk_token="[?]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[?]", eos_token="@@END")
    tokenizer.add_special_tokens({"additional_special_tokens": ["{{picture}}", "dog"]})
    tokenizer.save_pretrained(tmp_path)
    settings = RULES.settings("control_tokens", {"max": 0.0, "tokenizers": [str(tmp_path)]})
    rule = RULES.load("control_tokens", settings, LoadContext())
    assert isinstance(rule, ControlTokens)
    texts = ["a dog", "a {{picture}} of it@@END", "<image> [?]", "a {{PICTURE}}"]
    assert rule.measure(TextBatch(texts)).tolist() == [0, 2, 2, 0]
    plain = RULES.settings("control_tokens", {"max": 0.0})
    identities = [
        RULES.identity("control_tokens", one, lambda name, _: name) for one in (settings, plain)
    ]
    assert identities[0] != identities[1]


def test_a_folder_without_a_tokenizer_is_one_line(tmp_path: Path) -> None:
    settings = RULES.settings("control_tokens", {"max": 0.0, "tokenizers": [str(tmp_path)]})
    with pytest.raises(RecipeError, match="not the folder of a tokenizer"):
        RULES.load("control_tokens", settings, LoadContext())


@given(st.lists(st.text(st.characters(codec=None), max_size=40), max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_text(texts: list[str]) -> None:
    values = ControlTokens().measure(TextBatch(texts))
    assert values.shape == (len(texts),)
    assert (values >= 0).all()
    assert (values == np.floor(values)).all()
