"""Caption normalisation: repair broken Unicode, then write Unicode punctuation in ASCII."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

__all__ = ["has_invisible", "normalize"]

#: Characters of which each stands for the ASCII text at the left. In the manner of the
#: punctuation tables of Moses and CCNet, made from the Unicode character names.
_ASCII_FORMS = {
    '"': "\u00ab\u00bb\u201c\u201d\u201e\u201f\u2033\u2036\u275d\u275e\u300a\u300b\u300c\u300d"
    "\u300e\u300f\u301d\u301e\u301f\ufe41\ufe42\ufe43\ufe44\uff02\uff62\uff63",
    "'": "\u00b4\u02b9\u02bb\u02bc\u02c8\u2018\u2019\u201a\u201b\u2032\u2035\u2039\u203a\u275b"
    "\u275c\uff07",
    "-": "\u2010\u2011\u2012\u2013\u2043\u2212\u2500\u2501\ufe58\ufe63\uff0d",
    " - ": "\u2014\u2015\u2e3a\u2e3b\ufe31",
    "...": "\u2026\u22ef\ufe19",
    "..": "\u2025",
    ".": "\u3002\u2024\ufe52\uff0e\uff61",
    ",": "\u060c\u3001\ufe10\ufe50\uff0c\uff64",
    ":": "\u2236\u02d0\ufe13\ufe55\uff1a",
    ";": "\u061b\u037e\ufe14\ufe54\uff1b",
    "!": "\ufe15\ufe57\uff01",
    "!!": "\u203c",
    "?": "\u061f\ufe16\ufe56\uff1f",
    "??": "\u2047",
    "(": "\ufe59\uff08\u2768",
    ")": "\ufe5a\uff09\u2769",
    "[": "\u3010\u3014\u3016\ufe5d\uff3b",
    "]": "\u3011\u3015\u3017\ufe5e\uff3d",
    "{": "\ufe5b\uff5b",
    "}": "\ufe5c\uff5d",
    "<": "\u2329\u27e8\u3008\ufe64\uff1c",
    ">": "\u232a\u27e9\u3009\ufe65\uff1e",
    "~": "\u223c\u301c\uff5e",
    "/": "\u2044\u2215\uff0f",
    "%": "\u066a\ufe6a\uff05",
    "*": "\u204e\u2217\ufe61\uff0a",
    "+": "\ufe62\uff0b",
    "=": "\ufe66\uff1d",
    "#": "\ufe5f\uff03",
    "$": "\ufe69\uff04",
    "&": "\ufe60\uff06",
    "@": "\ufe6b\uff20",
    "\\": "\ufe68\uff3c",
    "^": "\uff3e",
    "_": "\uff3f",
    "`": "\uff40",
    "|": "\uff5c",
}
_PUNCTUATION = str.maketrans({char: to for to, chars in _ASCII_FORMS.items() for char in chars})

#: Characters that show nothing (Unicode: Default_Ignorable_Code_Point, and format controls): soft
#: hyphen, zero-width and word joiners, marks and embeddings of direction, fillers, tags, variation
#: selectors.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
#: Scripts in which U+200C and U+200D between two letters change how these are written: Arabic to
#: N'Ko, those of India, Sinhala, Tibetan, Myanmar, Khmer, Mongolian.
_JOINED = "\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefc"
#: Symbols that make sequences: emoji, skin tones, older symbols that have an emoji form.
_EMOJI = "\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff"
_NEEDED = re.compile(
    # A selector behind what it selects a form of; a joiner between two parts of one emoji.
    f"(?<=[{_EMOJI}#*0-9])[\ufe0e\ufe0f]"
    f"|(?<=[{_EMOJI}\ufe0f])\u200d(?=[{_EMOJI}])"
    # Ideographs, Mongolian, Myanmar: the form of one letter.
    "|(?<=[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])[\ufe00-\ufe0f\U000e0100-\U000e01ef]"
    "|(?<=[\u1800-\u18af])[\u180b-\u180f]|(?<=[\u1000-\u109f])\ufe00"
    f"|(?<=[{_JOINED}])[\u200c\u200d](?=[{_JOINED}])|(?<=[{_JOINED}])\u200d"
    # Flags of England, Scotland, Wales.
    "|(?<=\U0001f3f4)[\U000e0020-\U000e007e]{1,8}\U000e007f"
)
_INVISIBLE_OR_NEEDED = re.compile(f"({_NEEDED.pattern})|[{_INVISIBLE}]")

#: Control characters that separate lines, pages or records; ftfy would drop them and join words.
_SEPARATORS = re.compile("[\x0b\x0c\x1c-\x1f]")

#: An ampersand that was escaped again and again; unescaping it layer by layer would take time
#: quadratic in its length.
_NESTED_AMPERSAND = re.compile(r"&(?:(?:amp|AMP|#0*38|#[xX]0*26|#0*65286|#[xX]0*[fF][fF]06);)+")

#: One step may lay bare what another repairs (an entity behind a full-width ampersand); a text
#: is settled after two or three rounds.
_MAX_ROUNDS = 16


def normalize(
    text: str,
    fix_unicode: bool = True,
    normalize_punctuation: bool = True,
    remove_invisible: bool = False,
) -> str:
    """Bring a caption into the form that rules, prompts and exports use.

    The result is one line without white space at its ends, any run of white space (line breaks
    too) being one space; it can be encoded as UTF-8, and normalising it again changes nothing.
    Whatever the options, a pair of surrogates becomes its character, a lone surrogate becomes
    U+FFFD, and NUL is dropped.

    Args:
        text: The caption as read; any string.
        fix_unicode: Repair it with ftfy: mojibake, HTML entities (unless the text holds a ``<``),
            terminal escapes, control characters, ligatures, full-width forms, curly quotes; NFC.
        normalize_punctuation: Write Unicode quotes, dashes, full-width punctuation and the like
            in ASCII.
        remove_invisible: Drop characters that show nothing, such as zero-width spaces, soft hyphens
            and marks of direction, but for joiners and selectors that emoji and scripts need.
    """
    has_entities = fix_unicode and "<" not in text
    for _ in range(_MAX_ROUNDS):
        if text.isascii() and text.isprintable() and not (has_entities and "&" in text):
            # Nothing that the steps below look for.
            return " ".join(text.split())
        before = text
        if has_entities:
            text = _unescape(text)
        if fix_unicode:
            text = _repair(_SEPARATORS.sub(" ", text))
        if normalize_punctuation:
            text = text.translate(_PUNCTUATION)
        if remove_invisible:
            text = _INVISIBLE_OR_NEEDED.sub(r"\1", text)
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        text = " ".join(text.replace("\0", "").split())
        if text == before:
            break
    return text


def has_invisible(text: str) -> bool:
    """Whether ``remove_invisible`` would drop a character of a text."""
    return not text.isascii() and any(
        match.group(1) is None for match in _INVISIBLE_OR_NEEDED.finditer(text)
    )


def _unescape(text: str) -> str:
    from ftfy.fixes import unescape_html

    unescaped: str = unescape_html(_NESTED_AMPERSAND.sub("&amp;", text))
    return unescaped


def _repair(text: str) -> str:
    import ftfy

    repaired: str = ftfy.fix_text(text, _ftfy_config())
    return repaired


@cache
def _ftfy_config() -> TextFixerConfig:
    import ftfy

    return ftfy.TextFixerConfig(unescape_html=False, explain=False)
