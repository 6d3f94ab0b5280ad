"""Perplexity: KenLM by sums worked out by hand, causal LMs by one plain forward per text."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_lm import save_lm, tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertModel

from synthvlm.captions.model_rules import perplexity
from synthvlm.captions.model_rules.perplexity import CausalLmPerplexity, KenlmPerplexity
from synthvlm.captions.rules.base import ModelRule, Subject
from synthvlm.errors import MissingExtraError, ModelError

# log10 probabilities and back-off weights, chosen by hand. <s> is never predicted.
ARPA = """\
\\data\\
ngram 1=6
ngram 2=4
ngram 3=2

\\1-grams:
-6.0\t<unk>
-99\t<s>\t-0.5
-1.0\t</s>
-1.2\t\u2581a\t-0.3
-1.5\t\u2581cat\t-0.2
-1.7\t\u2581dog\t-0.4

\\2-grams:
-0.4\t<s> \u2581a\t-0.25
-0.6\t\u2581a \u2581cat\t-0.15
-0.9\t\u2581a \u2581dog\t-0.1
-0.7\t\u2581cat </s>

\\3-grams:
-0.2\t<s> \u2581a \u2581cat
-0.35\t\u2581a \u2581cat </s>

\\end\\
"""

#: Text: the log10 of each word and of the end of the text, and so how many there are.
BY_HAND = {
    # p(a | <s>), p(cat | <s> a), p(end | a cat): all listed.
    "a cat": [-0.4, -0.2, -0.35],
    # p(dog | <s> a) backs off once, p(end | a dog) twice.
    "a dog": [-0.4, -0.25 - 0.9, -0.1 - 0.4 - 1.0],
    # p(cat | <s>) = backoff(<s>) p(cat); p(end | <s> cat): "<s> cat" is unknown, so p(end | cat).
    "cat": [-0.5 - 1.5, -0.7],
    # Unknown words have no back-off weight: the exponent is (0.5 + 3 * 6 + 2 * (1.2 + 0.3) + 1) / 6
    # = 3.75, the value 5623.4.
    "zebra a yak a gnu": [-0.5 - 6.0, -1.2, -0.3 - 6.0, -1.2, -0.3 - 6.0, -1.0],
    # p(a | <s> zebra) = p(a); p(cat | zebra a) = p(cat | a).
    "zebra a cat": [-0.5 - 6.0, -1.2, -0.6, -0.35],
    # SentencePiece's default normalisation makes one space of any white space.
    " a \n\t cat ": [-0.4, -0.2, -0.35],
}
TEXTS = [
    "a cat", "a", "", "the dog looks at a red mat by the window and sits", "</s> <|end|>",
    "caf\u00e9 \u732b \U0001f408 \0", "a cat sits on a red mat", "\ud800 a lone surrogate",
]  # fmt: skip


def train_words(folder: Path, **options: str) -> Path:
    """A SentencePiece model of whole words: how it cuts does not depend on what it was shown."""
    corpus = folder / "corpus.txt"
    corpus.write_text("a cat\na dog\nthe cat and the dog\n", encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "words"), model_type="word",
        hard_vocab_limit=False, minloglevel=2, **options,
    )  # fmt: skip
    return folder / "words.model"


@pytest.fixture(scope="module")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("kenlm", reason="KenLM comes as source, and could not be built here")
    path = tmp_path_factory.mktemp("kenlm") / "model.arpa"
    path.write_text(ARPA, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def kenlm_rule(arpa: Path) -> KenlmPerplexity:
    return KenlmPerplexity(arpa, train_words(arpa.parent))


@pytest.fixture(scope="module")
def lm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lm(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def lm_rule(lm_folder: Path) -> CausalLmPerplexity:
    return CausalLmPerplexity(str(lm_folder), batch_size=3)


def values_of(rule: ModelRule, texts: list[str]) -> list[float]:
    measured = rule.measure([Subject(text) for text in texts])
    assert measured.values.dtype == np.float64
    assert measured.problems == (None,) * len(texts)
    return measured.values.tolist()


def test_kenlm_is_what_the_hand_computes(kenlm_rule: KenlmPerplexity) -> None:
    expected = [round(10 ** (-sum(terms) / len(terms)), 1) for terms in BY_HAND.values()]
    assert values_of(kenlm_rule, list(BY_HAND)) == pytest.approx(expected, abs=1e-6)
    assert expected[3] == 5623.4


def test_kenlm_scores_each_line_by_itself(arpa: Path, tmp_path: Path) -> None:
    # Without normalisation "cat<newline>a" is one piece, and the pieces make two lines:
    # "_a _cat" and "a _dog", where "a" without its mark of a space is an unknown word.
    rule = KenlmPerplexity(arpa, train_words(tmp_path, normalization_rule_name="identity"))
    first = [-0.4, -0.2, -0.35]
    second = [-0.5 - 6.0, -1.7, -0.4 - 1.0]
    expected = round(10 ** (-sum(first + second) / 6), 1)
    assert values_of(rule, ["a cat\na dog"]) == pytest.approx([expected], abs=1e-6)


def test_kenlm_of_no_text(kenlm_rule: KenlmPerplexity) -> None:
    assert values_of(kenlm_rule, ["", "  \n"]) == [0.0, 0.0]
    assert values_of(kenlm_rule, []) == []


def test_a_caption_that_fails_spoils_no_other(kenlm_rule: KenlmPerplexity) -> None:
    texts = ["a cat", "\ud800", "a\0dog", "a cat"]
    measured = kenlm_rule.measure([Subject(text) for text in texts])
    assert np.isnan(measured.values).tolist() == [False, True, True, False]
    assert measured.problems == (
        None,
        "perplexity: the text is no valid Unicode: surrogates not allowed",
        "perplexity: the text holds NUL",
        None,
    )


@given(st.text(max_size=30))
@settings(max_examples=100)
def test_kenlm_takes_any_text(kenlm_rule: KenlmPerplexity, text: str) -> None:
    measured = kenlm_rule.measure([Subject(text)])
    if "\0" not in text:
        assert measured.problems == (None,)
        assert 0 <= measured.values[0] < math.inf


def test_kenlm_is_silent(
    arpa: Path, kenlm_rule: KenlmPerplexity, capfd: pytest.CaptureFixture[str]
) -> None:
    values_of(KenlmPerplexity(arpa, arpa.parent / "words.model"), ["a cat"])
    assert capfd.readouterr() == ("", "")


def test_kenlm_files_that_cannot_be_used(
    arpa: Path, kenlm_rule: KenlmPerplexity, tmp_path: Path
) -> None:
    words = arpa.parent / "words.model"
    broken = tmp_path / "broken"
    broken.write_text("not a model")
    for model, pieces, message in [
        (tmp_path / "none.bin", words, "none.bin: no such file; give the path of a KenLM model"),
        (arpa, tmp_path / "none.model", "no such file; give the path of a SentencePiece model"),
        (broken, words, "broken is no KenLM model"),
        (arpa, broken, "broken is no SentencePiece model"),
        (arpa, arpa, "arpa is no SentencePiece model"),
    ]:
        with pytest.raises(ModelError, match=message) as caught:
            KenlmPerplexity(model, pieces)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["kenlm", "sentencepiece"])
def test_what_is_not_installed_is_named(
    package: str, arpa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingExtraError, match=rf"{package}.*pip install 'synthvlm\[perplexity\]'"
    ):
        KenlmPerplexity(arpa, arpa)


def plain_perplexity(folder: Path, text: str) -> float:
    """By one forward of the bare model over one text, without padding."""
    words = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    pieces = words.tokenize(text, split_special_tokens=True)
    ids = [words.bos_token_id, *words.convert_tokens_to_ids(pieces)]
    with torch.inference_mode():
        logs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    total = sum(logs[place, token].item() for place, token in enumerate(ids[1:]))
    return math.exp(-total / (len(ids) - 1))


def test_a_causal_lm_against_one_plain_forward_per_text(
    lm_folder: Path, lm_rule: CausalLmPerplexity
) -> None:
    texts = [text for text in TEXTS if text and "\ud800" not in text]
    expected = [plain_perplexity(lm_folder, text) for text in texts]
    assert values_of(lm_rule, texts) == pytest.approx(expected, rel=1e-4)
    assert len({round(value) for value in expected}) == len(expected)


def test_one_token_is_predicted_from_the_start_token(
    lm_folder: Path, lm_rule: CausalLmPerplexity
) -> None:
    words = AutoTokenizer.from_pretrained(lm_folder)
    model = AutoModelForCausalLM.from_pretrained(lm_folder)
    (token,) = words("cat", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        share = model(torch.tensor([[words.bos_token_id]])).logits[0, 0].softmax(-1)[token].item()
    assert values_of(lm_rule, ["cat"]) == pytest.approx([1 / share], rel=1e-4)


def test_a_model_without_a_start_token_starts_at_its_end_token(tmp_path: Path) -> None:
    folder = save_lm(tmp_path, words=tokenizer(start=False))
    words = AutoTokenizer.from_pretrained(folder)
    assert words.bos_token_id is None
    model = AutoModelForCausalLM.from_pretrained(folder)
    (token,) = words("cat", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        share = model(torch.tensor([[words.eos_token_id]])).logits[0, 0].softmax(-1)[token].item()
    assert values_of(CausalLmPerplexity(str(folder)), ["cat"]) == pytest.approx(
        [1 / share], rel=1e-4
    )


def test_a_model_without_start_and_end_token_is_refused(tmp_path: Path) -> None:
    folder = save_lm(tmp_path, words=tokenizer(start=False, end=False))
    with pytest.raises(ModelError, match="no start and no end token"):
        CausalLmPerplexity(str(folder))


def test_the_batch_does_not_matter(lm_folder: Path, lm_rule: CausalLmPerplexity) -> None:
    texts = [f"{text} {n}" for n in range(3) for text in TEXTS if "\ud800" not in text]
    alone = [values_of(lm_rule, [text])[0] for text in texts]
    for size in (2, 5, 100):
        rule = CausalLmPerplexity(str(lm_folder), batch_size=size)
        assert values_of(rule, texts[::-1])[::-1] == pytest.approx(alone, rel=1e-4)


def test_problems_of_single_texts(tmp_path: Path) -> None:
    rule = CausalLmPerplexity(str(save_lm(tmp_path, positions=8)), batch_size=2)
    # "cat" is a token and " cat" is one; with the start token eight of them are nine.
    texts = ["cat" + " cat" * 6, "cat" + " cat" * 7, "", "\ud800", "cat"]
    measured = rule.measure([Subject(text) for text in texts])
    assert np.isfinite(measured.values).tolist() == [True, False, False, False, True]
    assert measured.problems == (
        None,
        "perplexity: the text has 9 tokens, the limit is 8",
        "perplexity: the text has no tokens",
        "perplexity: the text is no valid Unicode: surrogates not allowed",
        None,
    )


def test_no_text_is_longer_than_the_limit_of_all_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perplexity, "MAX_TOKENS", 5)
    rule = CausalLmPerplexity(str(save_lm(tmp_path)))
    measured = rule.measure([Subject("cat cat cat cat cat")])
    assert measured.problems == ("perplexity: the text has 6 tokens, the limit is 5",)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    folder = save_lm(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder)
    token = AutoTokenizer.from_pretrained(folder)("cat")["input_ids"][0]
    with torch.no_grad():
        model.model.embed_tokens.weight[token] = torch.nan
    model.save_pretrained(folder)
    measured = CausalLmPerplexity(str(folder)).measure([Subject("cat dog"), Subject("dog")])
    assert measured.problems == (
        "perplexity: the model gave no finite number; try float32", None
    )  # fmt: skip
    assert np.isnan(measured.values[0])
    assert measured.values[1] > 1


def test_half_precision_is_near(lm_folder: Path, lm_rule: CausalLmPerplexity) -> None:
    half = CausalLmPerplexity(str(lm_folder), dtype="bfloat16")
    texts = ["a cat sits on a red mat", "a dog"]
    assert values_of(half, texts) == pytest.approx(values_of(lm_rule, texts), rel=0.2)
    assert values_of(half, texts) != pytest.approx(values_of(lm_rule, texts), rel=1e-6)


def test_models_that_cannot_be_used(tmp_path: Path, lm_folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    headless = tmp_path / "headless"
    config = BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, is_decoder=True,
    )  # fmt: skip
    BertModel(config).save_pretrained(headless)
    tokenizer().save_pretrained(headless)
    pickled = save_lm(tmp_path / "pickled")
    torch.save({}, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    damaged = save_lm(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"x" * 100)
    for folder, message in [
        (tmp_path / "empty", "holds no config.json"),
        (headless, "it has no weights cls"),
        (pickled, "cannot load the language model"),
        (damaged, "cannot load the language model"),
        (Path("nobody/no-such-model"), "cannot load the language model nobody/no-such-model"),
    ]:
        with pytest.raises(ModelError, match=message) as caught:
            CausalLmPerplexity(str(folder))
        assert "\n" not in str(caught.value)


def test_a_causal_lm_is_silent(lm_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values_of(CausalLmPerplexity(str(lm_folder)), ["a cat"])
    assert capfd.readouterr() == ("", "")
