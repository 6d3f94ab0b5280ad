"""Normalisation: what is repaired, that it settles, and that any string is survived."""

# ruff: noqa: RUF001 - characters that look like others are what is tested

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthvlm.captions.readers import normalize as module
from synthvlm.captions.readers.normalize import normalize

any_text = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs", "Cc", "Cn"]),
        st.sampled_from(
            "&;ltamp#x<>âÃ€œ\x9d\x93\u00a0\x1b[0m ﬁ＆；\u0301e\n\u2028\ud83d\ude00\u2014"
        ),
    ),
    max_size=30,
)
ascii_text = st.lists(st.sampled_from([*map(chr, range(128)), "&amp;", "&lt;"]), max_size=20).map(
    "".join
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a plain caption", "a plain caption"),
        ("  two\r\nlines \t and\u00a0\u3000spaces  ", "two lines and spaces"),
        ("the cafÃ© â€œBlueâ€\x9d", 'the café "Blue"'),
        ("fish &amp; chips &lt;3", "fish & chips <3"),
        ("&amp;amp;amp;lt;", "<"),
        ("<b>bold</b> &amp; more", "<b>bold</b> &amp; more"),
        ("ｆｕｌｌ　ｗｉｄｔｈ，１２３！", "full width,123!"),
        ("“quoted” ‘single’ «angle» 「corner」", '"quoted" \'single\' "angle" "corner"'),
        ("one—two – three…", "one - two - three..."),
        ("猫、犬。", "猫,犬."),
        ("e\u0301te\u0301", "été"),
        ("red \x1b[31mtext\x1b[0m", "red text"),
        ("nul\0 and \x01control", "nul and control"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("pair \ud83d\ude00", "pair 😀"),
        ("", ""),
        ("\n", ""),
    ],
)
def test_examples(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_each_step_can_be_left_out() -> None:
    assert normalize("cafÃ© — ok &amp;", fix_unicode=False) == "cafÃ© - ok &amp;"
    assert normalize("cafÃ© — ok", normalize_punctuation=False) == "café — ok"
    assert normalize(" \ud800\0\n— ", False, False) == "\ufffd —"


@settings(max_examples=500, deadline=None)
@given(any_text, st.booleans(), st.booleans())
def test_any_text_settles_in_one_line_of_utf8(text: str, unicode: bool, punctuation: bool) -> None:
    result = normalize(text, unicode, punctuation)
    result.encode("utf-8")
    assert normalize(result, unicode, punctuation) == result
    assert result == " ".join(result.split())
    assert "\0" not in result


@settings(max_examples=300, deadline=None)
@given(ascii_text)
def test_the_short_cut_for_ascii_changes_nothing(text: str) -> None:
    # A letter that no step touches keeps the text off the short cut.
    assert normalize(text + " ж") == (normalize(text) + " ж").lstrip()


def test_punctuation_table() -> None:
    for code, to in module._PUNCTUATION.items():
        assert code > 127
        assert unicodedata.category(chr(code))[0] in "PSL"
        assert to.isascii()


def test_escapes_of_escapes_take_no_quadratic_time() -> None:
    start = time.perf_counter()
    assert normalize("&" + "amp;" * 25_000 + "lt;") == "<"
    assert normalize("&" + "\x01amp;" * 20_000) == "&"
    assert time.perf_counter() - start < 2
