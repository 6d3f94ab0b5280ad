"""Personal data in a caption: e-mail addresses, phone and card numbers, postal addresses, ...

Rules of thumb on the form of a text, made for captions: each kind asks for a form that a caption
seldom has by accident, for a word beside it ("call", "license plate"), or for a checksum. A number
without any of these (a bare "5551234567") is not found. The forms are those of the United States,
Britain and, in part, of the rest of Europe. For people's names see ``person_names``.

Every repetition in a pattern is bounded, and where one part may end is plain from the next
character, so the time per character is bounded on any text. Patterns are matched against texts
whose digits, dashes and spaces are ASCII. Captions may be tokenised, with spaces around
punctuation.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from synthvlm.captions.rules.base import TextRule
from synthvlm.captions.rules.batch import TextBatch

__all__ = [
    "ADDRESSES",
    "CARD",
    "DATE",
    "EMAIL_DOMAIN",
    "EMAIL_LOCAL",
    "EMAIL_MARK",
    "IBAN_LENGTHS",
    "IBAN_START",
    "KINDS",
    "PHONES",
    "PLATES",
    "SOCIAL_SECURITY",
    "Finding",
    "PersonalData",
    "find_personal_data",
]


def _form(pattern: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile(pattern, re.VERBOSE | flags)


#: An e-mail address is looked for around its "@", which may be veiled.
EMAIL_MARK = re.compile(r"@|[(\[{] ?at ?[)\]}]", re.IGNORECASE)
EMAIL_LOCAL = re.compile(r"[^\W_](?:[\w.+%-]{0,62}[\w+-])?\ ?\Z")
EMAIL_DOMAIN = _form(
    r"""(?:[a-z0-9][a-z0-9-]{0,62}\.){1,5}[a-z]{2,24}(?![\w-])
    # tokenised or veiled, hence with a usual ending only
    |\ ?(?:[a-z0-9][a-z0-9-]{0,62}(?:\ ?\.\ ?|\ ?[(\[{]\ ?dot\ ?[)\]}]\ ?)){1,5}
    (?:com|net|org|edu|gov|info|biz|io|co|uk|de|fr|es|it|nl|ca|au|in|br|jp|ru|ch|at|be|eu|us)\b"""
)

#: Digits of which ``personal_data`` checks issuer, number and checksum.
CARD = re.compile(r"(?<![\w.,-])[2-6]\d(?:(?: ?- ?| )?\d){11,17}(?![\w-])")

IBAN_START = _form(r"(?<![^\W_])[a-z]{2}\d\d(?=\ ?[a-z0-9])")
#: Length of an IBAN by country (ISO 13616, registry of SWIFT).
IBAN_LENGTHS = {
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

SOCIAL_SECURITY = (
    # United States
    _form(r"(?<![\w.,-])(?!000|666)[0-8]\d\d(\ ?-\ ?)(?!00)\d\d\1(?!0000)\d{4}(?![\w-])"),
    # any, beside a word for it
    _form(
        r"""\b(?:ssn|social\ security|national\ insurance|tax\ id|national\ id)
        (?:\ (?:number|no|card|is)){0,3}[ :.\#]{0,3}(?<!\d)\d{3}[ -]?\d{2,3}[ -]?\d{3,4}(?![\w-])"""
    ),
    # United Kingdom, national insurance
    _form(
        r"""\b(?!bg|gb|kn|nk|nt|tn|zz)[a-ceghj-prtw-z][a-ceghj-nprtw-z]\ ?\d\d\ ?\d\d\ ?\d\d\ ?
        [a-d]\b"""
    ),
)

PHONES = (
    # international
    _form(
        r"""(?<![\w+.,:-])(?<!\d\ )(?:\+\ ?|00\ ?(?=\d{1,3}[ (/.-]))
        [1-9](?:[ ()./-]{0,3}\d){7,13}(?![\w-])"""
    ),
    # North America: the area code in parentheses, or one separator throughout
    _form(
        r"""(?<![\w.,:$\#-])(?:1\ ?[ .-]\ ?)?(?:\(\ ?[2-9]\d\d\ ?\)\ ?[2-9]\d\d\ ?[ .-]\ ?\d{4}
        |[2-9]\d\d(\ ?-\ ?|\.|\ )[2-9]\d\d\1\d{4})(?![\w-]|\.\d)"""
    ),
    # North America, free of charge, maybe in letters
    _form(
        r"""(?<![\w.,:$\#-])1\ ?[ -]\ ?8(?:00|33|44|55|66|77|88)\ ?[ -]\ ?
        (?:\d{3}\ ?[ -]?\ ?\d{4}|[a-z]{7}|\d{3}\ ?-\ ?[a-z]{4}|[a-z]{3}\ ?-\ ?[\da-z]{4})(?!\w)"""
    ),
    # a zero before the area code, 9 to 11 digits; no ZIP+4 code
    _form(
        r"""(?<![\w.,:$\#+/-])(?<!\d\ )(?:\(\ ?)?(?!\d{5}-\d{4}(?!\d))
        (?=0(?:[ ()/.-]{0,4}\d){8,10}(?!\d))0[1-9]\d{0,3}(?:\ ?\))?
        (?:[ /.-]{1,3}\d{2,8}){1,4}(?![\w-]|\.\d)"""
    ),
    # anything long enough behind a word that announces it
    _form(
        r"""\b(?:tel|telephone|telefon|t[ée]l[ée]phone|tel[ée]fono|phone|mobile|cell|fax|hotline
        |whatsapp|call|dial|sms|text|contact)(?:\ (?:us|me|now|at|on|no|number|is)){0,3}
        \ ?[:.\#]?\ ?\+?(?:\(\ ?)?(?<![\w])\d(?:[ ()./-]{0,3}\d){6,14}(?![\w-]|\.\d)"""
    ),
)
#: Dates and ranges of years, which may look like a phone number.
DATE = re.compile(
    r"""(?<!\d)(?:
    (?:1[5-9]|20)\d\d\ ?[-/. ]\ ?(?:1[5-9]|20)\d\d
    |(?:1[5-9]|20)\d\d(\ ?[-/.]?\ ?)(?:0?[1-9]|1[0-2])\1[0-3]?\d
    |[0-3]?\d(\ ?[-/.]\ ?|\ )[0-3]?\d\2(?:1[5-9]|20)\d\d)(?!\d)""",
    re.VERBOSE,
)

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
PLATES = (
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

_NUMBER = r"(?<![\w.,:$/#-])(?!(?:1[89]|20)\d\d\b)\d{1,5}[A-Za-z]?(?:\ ?-\ ?\d{1,5})?,?\ "
_ROAD = r"(?:street|avenue|boulevard|road|st|ave|blvd|rd)"
_ANY_ROAD = r"""(?:street|avenue|boulevard|road|lane|drive|court|place|terrace|crescent|square|close
    |mews|gardens|parkway|highway|way|st|str|ave|av|blvd|rd|ln|dr|ct|pl|sq|hwy|pkwy)"""
#: Words that between a number and a "road" tell that the number counts something.
_COUNTED = r"""(?!(?i:way|lanes?|miles?|hours?|hrs?|min|mins|minutes?|days?|years?|feet|foot|inch
    |meters?|metres?|km|best|top|most|great|greatest|scenic|people|person|cars?|men|women|kids|dogs|bedrooms?
    |piece|pack|set|step|gb|tb|mb|usb|ssd|flash|hard|test|wheel|volt|of|on|in|at|the|and|a|an|to|for
    |from|with|by|is|are|per|x|pm|am|old|new|different|beautiful|amazing|cross|crossing|block)\b)"""
_NAME = rf"{_COUNTED}(?:[^\W\d_][^\W\d_.'-]{{0,29}}\.?|\d{{1,3}}(?:st|nd|rd|th))\ "
_CAPITALISED = rf"(?=[^\W\d_a-z]|\d){_NAME}"
_END = r"(?=\ ?\.?\ ?(?:$|[,;()\#\n]|(?i:in|near|apt|suite|unit|floor|[ns][ew]?|[ew])\b))"
_POSTCODE = r"""(?:\b\d{5}(?:-\d{4})?\b|\b[a-z]{1,2}\d[a-z\d]?\ ?\d[a-z]{2}\b
    |\b[a-z]\d[a-z]\ ?\d[a-z]\d\b)"""
ADDRESSES = (
    _form(r"\bp\ ?\.?\ ?o\ ?\.?\ ?box\ ?(?:no\.?|number|\#)?\ ?\d{1,6}\b"),
    # number, name and kind of street, and soon a postcode (United States, Britain, Canada)
    _form(rf"{_NUMBER}(?:{_NAME}){{1,3}}{_ANY_ROAD}\b[^\n]{{0,60}}?{_POSTCODE}"),
    # ... capitalised; a kind that has other meanings must end the phrase
    _form(
        rf"""{_NUMBER}(?:{_CAPITALISED}){{1,3}}
        (?:(?:Street|Avenue|Boulevard|Road)\b|(?=[A-Z])(?i:{_ANY_ROAD})\b{_END})""",
        0,
    ),
    # ... in any case, with two digits at least, at the end of its phrase
    _form(rf"(?=\d\d){_NUMBER}(?:{_NAME}){{1,2}}{_ROAD}\b{_END}"),
    # German, French
    _form(r"\b[^\W\d_]{3,30}(?:stra(?:ß|ss)e|str\.)\ \d{1,4}\ ?[a-z]?\b"),
    _form(
        rf"""{_NUMBER}(?:bis\ |ter\ )?(?:rue|all[ée]e|chemin|impasse|quai)\ (?:d[eu]s?\ )?
        (?:l[ae]\ )?[^\W\d_]{{2,30}}"""
    ),
)


#: Kinds of findings; where two overlap, the earlier kind stays.
KINDS = (
    "email",
    "iban",
    "payment_card",
    "social_security",
    "phone",
    "license_plate",
    "address",
)

_CODE_POINTS = 0x110000
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

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The number (0 or more, whole) of findings in each text, shape (len(batch),)."""
        result = np.zeros(len(batch))
        # Every kind but a veiled "(at)" holds a digit or an "@"; few captions do.
        places = np.flatnonzero(_signs()[batch.code_points])
        veiled = [match.start() for match in EMAIL_MARK.finditer(batch.joined)]
        places = np.append(places, np.array(veiled, np.int64))
        for row in np.unique(np.searchsorted(batch.starts, places, side="right") - 1).tolist():
            result[row] = len(find_personal_data(batch.texts[row]))
        return result


def find_personal_data(text: str) -> list[Finding]:
    """The personal data in a text, in order, none overlapping; in time linear in its length.

    - ``email``: also tokenised or veiled, "jane . doe (at) example dot com" as "jane.doe [at]
      example [dot] com".
    - ``iban``: of the length of its country, checksum valid.
    - ``payment_card``: 13 to 19 digits of a known issuer, checksum (Luhn) valid.
    - ``social_security``: United States 123-45-6789, British AB 12 34 56 C, or beside its name.
    - ``phone``: with "+" or "00", in the North American form, with a zero before the area code,
      or of seven digits and more behind a word such as "call" or "tel". No dates, no years.
    - ``license_plate``: behind a word for it, or in the British or Indian form in capitals.
    - ``address``: a PO box; number, name and kind of a street with a postcode, or capitalised, or
      at the end of a phrase; German and French ones. A town or postcode alone is none.

    Args:
        text: Any string.
    """
    plain = text if text.isascii() else text.translate(_plain_forms())
    taken = bytearray(len(text))
    findings: list[Finding] = []
    for kind in KINDS:
        for start, end in _FINDERS[kind](plain):
            if not any(taken[start:end]):
                taken[start:end] = b"\x01" * (end - start)
                findings.append(Finding(kind, start, end))
    return sorted(findings, key=lambda finding: finding.start)


_Spans = Iterator[tuple[int, int]]


def _emails(text: str) -> _Spans:
    for mark in EMAIL_MARK.finditer(text):
        local = EMAIL_LOCAL.search(text[max(0, mark.start() - 66) : mark.start()])
        if local is None:
            continue
        domain = EMAIL_DOMAIN.match(text, mark.end(), mark.end() + _EMAIL_REACH)
        if domain is not None:
            yield mark.start() - len(local[0]), domain.end()


def _ibans(text: str) -> _Spans:
    for match in IBAN_START.finditer(text):
        length = IBAN_LENGTHS.get(match[0][:2].upper())
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
    for match in CARD.finditer(text):
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
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in number[-2::-2]]
    return issued and (sum(doubled) + sum(map(int, number[-1::-2]))) % 10 == 0


def _phones(text: str) -> _Spans:
    for form in PHONES:
        for match in form.finditer(text):
            if DATE.search(match[0]) is None:
                yield match.span()


def _matches(*patterns: re.Pattern[str]) -> Callable[[str], _Spans]:
    return lambda text: (match.span() for form in patterns for match in form.finditer(text))


_FINDERS: dict[str, Callable[[str], _Spans]] = {
    "email": _emails,
    "iban": _ibans,
    "payment_card": _cards,
    "social_security": _matches(*SOCIAL_SECURITY),
    "phone": _phones,
    "license_plate": _matches(*PLATES),
    "address": _matches(*ADDRESSES),
}


@cache
def _signs() -> npt.NDArray[np.bool_]:
    """Which code points are decimal digits of any script, or "@"; shape (0x110000,)."""
    table = np.strings.isdecimal(np.arange(_CODE_POINTS, dtype=np.uint32).view("U1"))
    table[ord("@")] = True
    return table


@cache
def _plain_forms() -> dict[int, str]:
    """The ASCII digit, dash or space for each other one, character by character."""
    plain = {}
    for code in range(128, sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category == "Nd":
            plain[code] = str(unicodedata.decimal(chr(code)))
        elif category in {"Pd", "Zs"}:
            plain[code] = "-" if category == "Pd" else " "
    return plain
