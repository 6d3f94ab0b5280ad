"""Names by a token classifier: one whose labels are known by construction, and a random one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from synthvlm.captions.model_rules.name_tagger import NameTagger
from synthvlm.captions.rules.batch import TextBatch
from synthvlm.captions.rules.person_names import PersonNames
from synthvlm.errors import ModelError

LABELS = ["O", "B-PER", "I-PER", "B-LOC"]
#: The vocabulary, and the label that the constructed model gives each token.
VOCABULARY = {
    "[PAD]": "O", "[UNK]": "O", "[CLS]": "O", "[SEP]": "O", "a": "O", "dog": "O", "and": "O",
    ".": "O", "jane": "B-PER", "porter": "I-PER", "mary": "B-PER", "##son": "O", "##ish": "B-PER",
    "paris": "B-LOC", "\u5f20": "B-PER", "\u4e09": "I-PER", "\u5728": "O",
}  # fmt: skip


def save_tagger(folder: Path, *, random: bool = False, labels: list[str] = LABELS) -> Path:
    words = list(VOCABULARY)
    backend = Tokenizer(
        models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    )
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)
    torch.manual_seed(0)
    size = 32
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=size,
        num_hidden_layers=2 if random else 0,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
    )
    model = BertForTokenClassification(config)
    if not random:
        # No layer: a token is a unit vector of its own, and the classifier reads its label off it.
        with torch.no_grad():
            for values in model.parameters():
                values.zero_()
            model.bert.embeddings.LayerNorm.weight.fill_(1)
            for token, label in enumerate(VOCABULARY.values()):
                model.bert.embeddings.word_embeddings.weight[token, token] = 1
                model.classifier.weight[LABELS.index(label), token] = 1
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> NameTagger:
    return NameTagger(str(save_tagger(tmp_path_factory.mktemp("tagger"))), batch_size=2)


@pytest.fixture(scope="module")
def random_tagger(tmp_path_factory: pytest.TempPathFactory) -> NameTagger:
    folder = tmp_path_factory.mktemp("random-tagger")
    return NameTagger(str(save_tagger(folder, random=True)), batch_size=3)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a dog", []),
        ("", []),
        ("Jane Porter and a dog", ["Jane Porter"]),
        ("a dog and  Jane  Porter.", ["Jane  Porter"]),
        ("Jane Mary Porter", ["Jane", "Mary Porter"]),
        ("porter", ["porter"]),
        ("Paris", []),
        ("Janeson Porter", ["Janeson Porter"]),
        ("dogish", []),
        ("\u5728\u5f20\u4e09\u5728", ["\u5f20\u4e09"]),
        ("Jane \ud800 Porter", ["Jane", "Porter"]),
    ],
)
def test_names_by_construction(tagger: NameTagger, text: str, names: list[str]) -> None:
    assert tagger.find([text]) == [names]


def test_a_batch_is_what_its_texts_are(tagger: NameTagger) -> None:
    texts = ["Jane Porter", "", "a dog and a dog and Mary", "a", "Jane"]
    assert tagger.find(texts) == [["Jane Porter"], [], ["Mary"], [], ["Jane"]]
    assert tagger.find([]) == []


@pytest.mark.parametrize("before", range(0, 120, 7))
def test_long_texts_are_read_to_their_end(tagger: NameTagger, before: int) -> None:
    # The model takes 39 tokens.
    text = "a " * before + "Jane Porter" + " and" * 60 + " Mary"
    assert tagger.find([text]) == [["Jane Porter", "Mary"]]


def test_it_serves_the_rule(tagger: NameTagger) -> None:
    rule = PersonNames(tagger, ["Jane Porter"])
    texts = ["Jane Porter and Mary", "a dog", "Mary Porter"]
    assert rule.measure(TextBatch(texts)).tolist() == [1, 0, 1]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(
        st.one_of(
            st.text(st.characters(codec=None), max_size=60),
            st.lists(st.sampled_from([*VOCABULARY, "\ud800", "\0"])).map(" ".join),
        ),
        max_size=5,
    )
)
def test_any_text(random_tagger: NameTagger, texts: list[str]) -> None:
    found = random_tagger.find(texts)
    assert len(found) == len(texts)
    for text, names in zip(texts, found, strict=True):
        assert all(name and name in text for name in names)


def test_the_random_model_does_find_something(random_tagger: NameTagger) -> None:
    assert any(random_tagger.find([f"{word} dog" for word in VOCABULARY]))


def test_a_model_without_persons_is_refused(tmp_path: Path) -> None:
    save_tagger(tmp_path, random=True, labels=["O", "B-LOC", "I-LOC", "B-ORG"])
    with pytest.raises(ModelError, match="no label PER or PERSON, only B-LOC"):
        NameTagger(str(tmp_path))


def test_a_pickled_model_is_refused(tmp_path: Path) -> None:
    save_tagger(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        NameTagger(str(tmp_path))


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json") as caught:
        NameTagger(str(tmp_path))
    assert "\n" not in str(caught.value)
