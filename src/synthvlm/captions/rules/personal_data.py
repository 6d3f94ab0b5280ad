"""Personal data in a caption: e-mail addresses, phone and card numbers, postal addresses, ...

Rules of thumb on the form of a text, made for captions: each kind asks for a form that a caption
seldom has by accident, for a word beside it ("call", "license plate"), or for a checksum. A number
without any of these (a bare "5551234567") is not found. The forms are those of the United States,
Britain and, in part, of the rest of Europe. For people's names see ``person_names``.
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

from synthvlm.captions.rules import personal_patterns as forms
from synthvlm.captions.rules.base import TextRule
from synthvlm.captions.rules.batch import TextBatch

__all__ = ["KINDS", "Finding", "PersonalData", "find_personal_data"]

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
        veiled = [match.start() for match in forms.EMAIL_MARK.finditer(batch.joined)]
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
    for mark in forms.EMAIL_MARK.finditer(text):
        local = forms.EMAIL_LOCAL.search(text[max(0, mark.start() - 66) : mark.start()])
        if local is None:
            continue
        domain = forms.EMAIL_DOMAIN.match(text, mark.end(), mark.end() + _EMAIL_REACH)
        if domain is not None:
            yield mark.start() - len(local[0]), domain.end()


def _ibans(text: str) -> _Spans:
    for match in forms.IBAN_START.finditer(text):
        length = forms.IBAN_LENGTHS.get(match[0][:2].upper())
        if length is None:
            continue
        # Up to one space after every character.
        end, found = match.start(), ""
        for char in text[match.start() : match.start() + 2 * length]:
            if not (char == " " or (char.isascii() and char.isalnum())) or len(found) == length:
                break
            found += char.strip()
            end += 1
        end = match.start() + len(text[match.start() : end].rstrip())
        followed = text[end : end + 1].isalnum()
        if len(found) == length and not followed and _is_iban(found):
            yield match.start(), end


def _is_iban(code: str) -> bool:
    digits = "".join(str(int(char, 36)) for char in code[4:] + code[:4])
    return int(digits) % 97 == 1


def _cards(text: str) -> _Spans:
    for match in forms.CARD.finditer(text):
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
    for form in forms.PHONES:
        for match in form.finditer(text):
            if forms.DATE.search(match[0]) is None:
                yield match.span()


def _matches(*patterns: re.Pattern[str]) -> Callable[[str], _Spans]:
    return lambda text: (match.span() for form in patterns for match in form.finditer(text))


_FINDERS: dict[str, Callable[[str], _Spans]] = {
    "email": _emails,
    "iban": _ibans,
    "payment_card": _cards,
    "social_security": _matches(*forms.SOCIAL_SECURITY),
    "phone": _phones,
    "license_plate": _matches(*forms.PLATES),
    "address": _matches(*forms.ADDRESSES),
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
