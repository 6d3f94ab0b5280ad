"""Personal data in a caption: e-mail addresses, phone and card numbers, postal addresses, ...

Rules of thumb on the form of a text, made for captions: each kind asks for a form that a caption
seldom has by accident, for a word beside it ("call", "license plate"), or for a checksum. A number
without any of these (a bare "5551234567") is not found. For which languages this was checked, and
how well it did, see ``privacy_figures``. For people's names see ``person_names``.

Every repetition in a pattern is bounded, and where one part may end is plain from the next
character, so the time per character is bounded on any text. Patterns are matched against texts
whose digits, dashes, spaces and full-width forms are ASCII. Captions may be tokenised, with spaces
around punctuation.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from synthvlm.captions.rules.address_forms import addresses
from synthvlm.captions.rules.base import TextRule
from synthvlm.captions.rules.batch import TextBatch, WordTable
from synthvlm.captions.rules.national_ids import announced_ids, is_luhn, national_ids
from synthvlm.captions.rules.phone_forms import announced_phones, phones

__all__ = ["KINDS", "Finding", "PersonalData", "find_personal_data"]


def _form(pattern: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile(pattern, re.VERBOSE | flags)


#: Words for the "@" and the "." of an address, as it is spoken.
_AT = r"""(?:at|arroba|arobase|chiocciola|ät|klammeraffe|apenstaartje|ma[łl]pa|zavin[áa][čc]
    |kukac|собака|παπάκι
    |kuyruklu\ a|艾特|アットマーク|アット|골뱅이|آت|एट|שטרודל)"""
_ASCII_DOTS = (
    "dot", "punto", "point", "ponto", "punkt", "punt", "kropka", "tecka", "pont", "nokta", "cham",
)  # fmt: skip
_DOT = rf"""(?:{"|".join(_ASCII_DOTS)}|tečka|точка|крапка|τελεία|chấm|点|點|ドット|닷
    |점|نقطة|डॉट|נקודה|จุด)"""
#: An e-mail address is looked for around its "@", which may be veiled.
_EMAIL_MARK = _form(rf"@|[(\[{{<]\ ?{_AT}\ ?[)\]}}>]")
_EMAIL_LOCAL = re.compile(r"[^\W_](?:[\w.+%-]{0,62}[\w+-])?\ ?\Z")
_ENDING = r"""(?:com|net|org|edu|gov|info|biz|io|co|me|app|dev|xyz|[a-z]{2}(?<!at|in|is|it|to|on
    |of|or|my|me|us)|at|in|is|it
    |us|ком|ру|рф|укр)"""
_EMAIL_DOMAIN = _form(
    rf"""(?:[a-z0-9][a-z0-9-]{{0,62}}\.){{1,5}}[a-z]{{2,24}}(?![\w-])
    # tokenised or veiled, hence with a usual ending only
    |\ ?(?:[a-z0-9][a-z0-9-]{{0,62}}(?:\ ?\.\ ?|\ ?[(\[{{<]\ ?{_DOT}\ ?[)\]}}>]\ ?
    |\ {_DOT}\ )){{1,5}}
    (?:com|net|org|edu|gov|info|biz|io|co|uk|de|fr|es|it|nl|ca|au|in|br|jp|ru|ch|at|be|eu|us|pl
    |pt|gr|tr|se|no
    |dk|fi|cz|hu|ro|ua|cn|kr|tw|mx|ar|cl|nz|ie|za)\b"""
)
#: ... in any script, without spaces.
_LABEL = r"""[^\s@.,;:!?()\[\]{}"'<>/\\|#$%^&*=+~`\x00]"""
_ANY_EMAIL_LOCAL = re.compile(rf"{_LABEL}(?:(?:{_LABEL}|[.+]){{0,62}}{_LABEL})?\Z")
_ANY_EMAIL_DOMAIN = _form(rf"(?:{_LABEL}{{1,63}}\.){{1,5}}(?!\d)({_LABEL}{{2,24}})")
#: Spoken: "jane dot doe at example dot com". Also "jane.doe at example.com": the name has a sign.
_SPOKEN_WORD = r"(?<![^\W_])[^\W_][\w-]{0,40}"
_SPOKEN_EMAILS = (
    _form(
        rf"""{_SPOKEN_WORD}(?:(?:\ {_DOT}\ |\.)[^\W_][\w-]{{0,40}}){{0,3}}\ {_AT}
        \ [^\W_][\w-]{{0,40}}
        (?:(?:\ {_DOT}\ |\.)[^\W_][\w-]{{0,40}}){{0,3}}\ {_DOT}\ {_ENDING}(?![\w])"""
    ),
    _form(
        r"""(?<![\w.])(?=[a-z0-9_-]{1,40}[._\d])[a-z0-9][\w.-]{1,60}\ at
        \ (?:[a-z0-9][a-z0-9-]{1,40}\.){1,3}
        (?:com|net|org|edu|info|co|[a-z]{2})(?![\w.-]*\w)"""
    ),
)
#: What a text with a spoken address, and maybe without any digit or "@", holds.
_SPOKEN_MARK = _form(rf"\ {_DOT}\ |\.(?<=[a-z]\.)[a-z]{{2}}")

#: Digits of which ``personal_data`` checks issuer, number and checksum.
_CARD = re.compile(r"(?<![\w-])(?<!\d[.,])[2-6]\d(?:(?: ?- ?| )?\d){11,17}(?![\w-])")

_IBAN_START = _form(r"(?<![^\W_])[a-z]{2}\d\d(?=\ ?[a-z0-9])")
#: Length of an IBAN by country (ISO 13616, registry of SWIFT).
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU",
        31: "MT SC",
        33: "RU",
    }.items()
    for country in countries.split()
}

_PLATE_WORD = r"""\b(?:licen[cs]e\ ?plates?|number\ ?plates?|registration\ plates?
    |plates?\ (?:number|no|reads|reading|saying)|vehicle\ registration
    |registration\ (?:number|no|mark)|reg\ no|nummernschild|kennzeichen|immatriculation
    |matr[ií]cula)\ ?[:.\#"'(]?\ ?
    (?:(?:is|was|number|no|reads?|reading|saying|with)\ ?[:.\#"'(]?\ ?){0,2}"""
#: What follows a number and makes it a measure or an ordinal; what precedes one as a word.
_NO_LETTERS = (
    r"(?!(?:st|nd|rd|th|s|mm|cm|km|in|on|at|of|to|is|as|or|x|p|d|k|the|and|for|has|was|by)\b)"
)
_LETTERS = rf"{_NO_LETTERS}[^\W\d_]{{1,3}}"
_PLATES = (
    # letters and digits in turn, behind a word for it
    _form(
        rf"""{_PLATE_WORD}(?<!\w)(?:{_LETTERS}[ -]{{0,3}}(?:{_LETTERS}[ -]{{0,3}})?\d{{1,4}}
        (?:[ -]{{0,3}}{_LETTERS}(?!\w))?(?:[ -]{{0,3}}\d{{4}}(?!\w))?
        |\d{{1,4}}[ -]{{0,3}}{_LETTERS}(?:[ -]{{0,3}}\d{{1,4}})?)(?!\w)"""
    ),
    # as they are written in the United Kingdom since 2001, and in India
    _form(r"\b[A-HJ-PR-Y]{2}(?:0[2-9]|[125-7]\d)\ [A-HJ-PR-Z]{3}\b", 0),
    _form(
        r"""\b(?:AP|AS|BR|CG|CH|DL|GA|GJ|HP|HR|JH|JK|KA|KL|MH|MP|OD|PB|RJ|TN|TS|UK|UP|WB)
        [ -]?\d\d[ -]?[A-Z]{1,2}[ -]?\d{4}\b""",
        0,
    ),
)

#: Letters of scripts that have no capitals: of some there are no spaces between words, of others
#: are short words written together with what follows.
_UNSPACED = re.compile(
    "[\u0590-\u10ff\u1100-\u1c7f\u2e80-\u2fff\u3005-\u3007\u3021-\ud7ff"
    "\uf900-\ufdff\ufe70-\ufefe\uff66-\uffdc\U00010300-\U0003ffff]"
)

#: Characters on either side of an "@" that can belong to an address.
_EMAIL_REACH = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """A piece of personal data in a text.

    Attributes:
        kind: One of ``KINDS``.
        start: Where it begins in the text, with the word that announces it, if any.
        end: Where it ends (exclusive).
    """

    kind: str
    start: int
    end: int


class PersonalData(TextRule):
    """Number of findings in each text, see ``find_personal_data``."""

    name: ClassVar[str] = "personal_data"
    label = "Personal data"
    version = "2"

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The number (0 or more, whole) of findings in each text, shape (len(batch),)."""
        result = np.zeros(len(batch))
        # Every kind but a veiled or spoken "at" holds a digit or an "@"; few captions do.
        places = np.concatenate([np.flatnonzero(_signs()[batch.code_points]), *_at_marks(batch)])
        for row in np.unique(np.searchsorted(batch.starts, places, side="right") - 1).tolist():
            result[row] = len(find_personal_data(batch.texts[row]))
        return result


def find_personal_data(text: str) -> list[Finding]:
    """The personal data in a text, in order, none overlapping; in time linear in its length.

    - ``email``: in any script; also tokenised, veiled or spoken, "jane . doe (at) example dot com"
      as "jane.doe [at] example [dot] com" and "jane dot doe at example dot com".
    - ``iban``: of the length of its country, checksum valid.
    - ``payment_card``: 13 to 19 digits of a known issuer, checksum (Luhn) valid.
    - ``national_id``: numbers of the United States (123-45-6789), Britain (AB 12 34 56 C), China,
      Brazil, Spain, Italy, France, India, Korea, Sweden and Finland, by their checksum where they
      have one; others beside a word for them.
    - ``phone``: with "+" or "00", in the form of one of some forty countries, or of seven digits
      and more behind a word such as "call" or "tel", in many languages. No dates, no years.
    - ``license_plate``: behind a word for it, or in the British or Indian form in capitals.
    - ``address``: a PO box; a street with a house number, in the way of many languages. A town, a
      postcode, a street without a number, and what is written on a street sign are none.

    Letters of scripts without spaces may stand right beside any of these.

    Args:
        text: Any string.
    """
    plain = text if text.isascii() else text.translate(_plain_forms())
    apart = plain if plain.isascii() else _UNSPACED.sub("\0", plain)
    taken = bytearray(len(text))
    findings: list[Finding] = []
    digits = sum(map(str.isdecimal, plain))
    for kind, (fewest, finder) in _FINDERS.items():
        for start, end in finder(plain, apart) if digits >= fewest else ():
            if not any(taken[start:end]):
                taken[start:end] = b"\x01" * (end - start)
                findings.append(Finding(kind, start, end))
    return sorted(findings, key=lambda finding: finding.start)


_Spans = Iterable[tuple[int, int]]


def _emails(plain: str, apart: str) -> _Spans:
    for mark in _EMAIL_MARK.finditer(apart):
        span = _email(apart, mark, _EMAIL_LOCAL, _EMAIL_DOMAIN)
        if span is None and mark[0] == "@":
            span = _email(plain, mark, _ANY_EMAIL_LOCAL, _ANY_EMAIL_DOMAIN)
        if span is not None:
            yield span
    for form in _SPOKEN_EMAILS if _SPOKEN_MARK.search(plain) else ():
        yield from (match.span() for match in form.finditer(plain))


def _email(
    text: str, mark: re.Match[str], local: re.Pattern[str], domain: re.Pattern[str]
) -> tuple[int, int] | None:
    name = local.search(text[max(0, mark.start() - 66) : mark.start()])
    host = domain.match(text, mark.end(), mark.end() + _EMAIL_REACH)
    return None if name is None or host is None else (mark.start() - len(name[0]), host.end())


def _ibans(text: str) -> _Spans:
    for match in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2].upper())
        if length is None:
            continue
        # Up to one space after every character.
        end, characters = match.start(), ""
        for char in text[match.start() : match.start() + 2 * length]:
            if (
                not (char == " " or (char.isascii() and char.isalnum()))
                or len(characters) == length
            ):
                break
            characters += char.strip()
            end += 1
        end = match.start() + len(text[match.start() : end].rstrip())
        followed = text[end : end + 1].isalnum()
        if len(characters) == length and not followed and _is_iban(characters):
            yield match.start(), end


def _is_iban(code: str) -> bool:
    digits = "".join(str(int(char, 36)) for char in code[4:] + code[:4])
    return int(digits) % 97 == 1


def _cards(text: str) -> _Spans:
    for match in _CARD.finditer(text):
        if _is_card(re.sub(r"\D", "", match[0])):
            yield match.span()


def _is_card(number: str) -> bool:
    """Whether issuer and length belong together (ISO 7812) and the Luhn checksum is right."""
    size, two, four = len(number), int(number[:2]), int(number[:4])
    issued = (
        (number[0] == "4" and size in {13, 16, 19})
        or (size == 16 and (51 <= two <= 55 or 2221 <= four <= 2720))
        or (size == 15 and two in {34, 37})
        or (size == 14 and (two in {36, 38, 39} or 300 <= four // 10 <= 305))
        or (size >= 16 and (four == 6011 or two in {35, 62, 65} or 644 <= four // 10 <= 649))
    )
    return issued and is_luhn(number)


def _matches(*patterns: re.Pattern[str]) -> Callable[[str], _Spans]:
    return lambda text: (match.span() for form in patterns for match in form.finditer(text))


_plates = _matches(*_PLATES)
#: How many digits each kind has at least, and what finds it, given a text in plain forms, and the
#: same with letters of scripts without spaces blanked. Where two findings overlap, the earlier kind
#: stays.
_FINDERS: dict[str, tuple[int, Callable[[str, str], _Spans]]] = {
    "email": (0, _emails),
    "iban": (2, lambda plain, apart: _ibans(apart)),
    "payment_card": (13, lambda plain, apart: _cards(apart)),
    "national_id": (6, lambda plain, apart: chain(national_ids(apart), announced_ids(plain))),
    "phone": (4, lambda plain, apart: chain(phones(apart), announced_phones(plain))),
    "license_plate": (1, lambda plain, apart: _plates(apart)),
    "address": (1, lambda plain, apart: addresses(plain)),
}
#: Kinds of findings.
KINDS = tuple(_FINDERS)


def _at_marks(batch: TextBatch) -> Iterator[npt.NDArray[np.int64]]:
    """Where ``_EMAIL_MARK`` and ``_SPOKEN_MARK`` lie in a batch, and a few places besides."""
    if not batch.joined.isascii():
        for mark in (_EMAIL_MARK, _SPOKEN_MARK):
            places = [match.start() for match in mark.finditer(batch.joined)]
            yield np.array(places, np.int64)
        return
    symbols, words = batch.code_points, batch.words
    dots = [n for n in _dots().suspects(words).tolist() if words.word(n) in _ASCII_DOTS]
    yield words.begins[dots]
    yield np.flatnonzero(_opening()[symbols])
    letters = (symbols | 0x20) - ord("a") < 26  # bytes: what is less than "a" is far above
    yield 1 + np.flatnonzero(
        letters[:-3] & (symbols[1:-2] == ord(".")) & letters[2:-1] & letters[3:]
    )


@cache
def _dots() -> WordTable:
    return WordTable(_ASCII_DOTS)


@cache
def _opening() -> npt.NDArray[np.bool_]:
    """Which bytes open a bracket, in which an "at" may be veiled; shape (256,)."""
    table = np.zeros(256, np.bool_)
    table[list(map(ord, "([{<"))] = True
    return table


@cache
def _signs() -> npt.NDArray[np.bool_]:
    """Which code points are decimal digits of any script, or an "@"; shape (0x110000,)."""
    table = np.strings.isdecimal(np.arange(sys.maxunicode + 1, dtype=np.uint32).view("U1"))
    table[list(map(ord, "@\ufe6b\uff20"))] = True
    return table


@cache
def _plain_forms() -> dict[int, str]:
    """The ASCII digit, dash, space or full-width form for each other one, one for one."""
    plain = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {0xFE6B: "@"}
    for code in range(128, sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category == "Nd":
            plain[code] = str(unicodedata.decimal(chr(code)))
        elif category in {"Pd", "Zs"}:
            plain[code] = "-" if category == "Pd" else " "
    return plain
