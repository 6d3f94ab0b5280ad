"""Lists of flagged words: the built-in one and a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthvlm.captions.rules.batch import TextBatch
from synthvlm.captions.rules.method import FlaggedWordsRatio, load_flagged_words
from synthvlm.errors import RecipeError


def test_every_built_in_word_can_match() -> None:
    words = sorted(load_flagged_words())
    assert 50 < len(words) < 300
    assert FlaggedWordsRatio().measure(TextBatch(words)).tolist() == [1.0] * len(words)


@pytest.mark.parametrize(
    "text", ["a cock crows", "a Maine coon cat", "a classic car", "tit on a twig"]
)
def test_everyday_words_pass(text: str) -> None:
    assert FlaggedWordsRatio().measure(TextBatch([text])).tolist() == [0.0]


def test_json_and_text_files(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('{"en": ["Foo", "bar"], "de": ["baz"]}', "utf-8")
    (tmp_path / "words.txt").write_text("\ufeff# comment\nFoo\r\n\n bar\n", "utf-8")
    assert load_flagged_words(tmp_path / "words.json") == {"foo", "bar"}
    assert load_flagged_words(tmp_path / "words.txt") == {"foo", "bar"}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"de": []}', b'{"en": [1]}', b'{"en": "\xff"}'])
def test_a_bad_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "words.json"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"words\.json") as caught:
        load_flagged_words(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        load_flagged_words(tmp_path / "none.txt")
