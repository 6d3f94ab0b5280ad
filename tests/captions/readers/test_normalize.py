"""Normalisation: what is repaired, that it settles, and that any string is survived."""

# ruff: noqa: RUF001 - characters that look like others are what is tested

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthvlm.captions.readers import normalize as module
from synthvlm.captions.readers.normalize import has_invisible, normalize

any_text = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs", "Cc", "Cn"]),
        st.sampled_from(
            "&;ltamp#x<>âÃ€œ\x9d\x93\u00a0\x1b[0m ﬁ＆；\u0301e\n\u2028\ud83d\ude00\u2014"
            "\u200b\u200d\ufe0f\u2069\u00ad\U000e0067"
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
@given(any_text, st.booleans(), st.booleans(), st.booleans())
def test_any_text_settles_in_one_line_of_utf8(
    text: str, unicode: bool, punctuation: bool, invisible: bool
) -> None:
    result = normalize(text, unicode, punctuation, invisible)
    result.encode("utf-8")
    assert normalize(result, unicode, punctuation, invisible) == result
    assert not (invisible and has_invisible(result))
    assert result == " ".join(result.split())
    assert "\0" not in result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red\u200b circle", "a red circle"),
        ("\u2068a red circle\u2069\u200e", "a red circle"),
        ("on\u00ad white, jane\u200b@example.com", "on white, jane@example.com"),
        ("a\u202etxt.exe\u202c b", "atxt.exe b"),
        ("word\u2060joiner\ufeff \U000e0041tag", "wordjoiner tag"),
        ("l\u200de\u200ct\u200dters \ufe0f", "letters"),
        ("blank \u3164 filler", "blank filler"),
    ],
)
def test_invisible_characters_are_dropped(text: str, expected: str) -> None:
    assert normalize(text, remove_invisible=True) == expected
    assert has_invisible(text)
    assert has_invisible(normalize(text, fix_unicode=False)), "only the setting drops them"


@pytest.mark.parametrize(
    "text",
    [
        "a family 👨\u200d👩\u200d👧 and ❤\ufe0f\u200d🔥, 1\ufe0f\u20e3, 👩🏽\u200d🚀",
        "flag \U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "می\u200cخواهم",
        "क्\u200dष and ശ്രീ\u200d",
        "葛\U000e0100 in a garden",
    ],
)
def test_joiners_and_selectors_that_are_needed_stay(text: str) -> None:
    assert normalize(text, remove_invisible=True) == text
    assert not has_invisible(text)


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


@pytest.mark.parametrize("separator", "\x0b\x0c\x1c\x1d\x1e\x1f")
@pytest.mark.parametrize("fix_unicode", [True, False])
def test_control_characters_that_separate_are_spaces(separator: str, fix_unicode: bool) -> None:
    text = f"{separator}A cat{separator}sits{separator}{separator} here"
    assert normalize(text, fix_unicode=fix_unicode) == "A cat sits here"
