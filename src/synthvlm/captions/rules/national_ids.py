"""Numbers by which states and social insurances know people, by form and checksum."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

__all__ = ["announced_ids", "is_luhn", "national_ids"]


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.VERBOSE | re.IGNORECASE)


_BEFORE = r"(?<![\w-])(?<!\d[.,])"
_AFTER = r"(?![\w-]|[.,]\d)"


def is_luhn(digits: str) -> bool:
    """Whether the last of some digits is the check digit of the others, by Luhn's formula."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def _china(number: str) -> bool:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(d) * w for d, w in zip(number[:17], weights, strict=True))
    return "10X98765432"[total % 11] == number[17].upper()


def _brazil(number: str) -> bool:
    digits = re.sub(r"\D", "", number)

    def check(size: int) -> int:
        total = sum(int(d) * (size + 1 - at) for at, d in enumerate(digits[:size]))
        return total * 10 % 11 % 10

    return len(set(digits)) > 1 and check(9) == int(digits[9]) and check(10) == int(digits[10])


def _spain(number: str) -> bool:
    code = re.sub(r"[ .-]", "", number).upper()
    digits = code[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == code[-1]


_ITALIAN_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22,
                25, 24, 23)  # fmt: skip


def _italy(number: str) -> bool:
    places = [int(char) if char.isdigit() else ord(char) - 65 for char in number.upper()]
    total = sum(_ITALIAN_ODD[p] if at % 2 == 0 else p for at, p in enumerate(places[:15]))
    return total % 26 == places[15]


def _france(number: str) -> bool:
    code = number.upper().replace(" ", "").replace("2A", "19").replace("2B", "18")
    return 97 - int(code[:13]) % 97 == int(code[13:])


def _verhoeff_product(a: int, b: int) -> int:
    """Products of the dihedral group of order 10, for the checksum of Verhoeff."""
    if a < 5:
        return (a + b) % 5 + (5 if b >= 5 else 0)
    return (a - b) % 5 + (0 if b >= 5 else 5)


def _india(number: str) -> bool:
    permutation = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
    check = 0
    for at, char in enumerate(reversed(re.sub(r"\D", "", number))):
        digit = int(char)
        for _ in range(at % 8):
            digit = permutation[digit]
        check = _verhoeff_product(check, digit)
    return check == 0


def _korea(number: str) -> bool:
    return _is_date(number[2:4], number[4:6])


def _is_date(month: str, day: str) -> bool:
    return 1 <= int(month) <= 12 and 1 <= int(day) <= 31


def _sweden(number: str) -> bool:
    digits = re.sub(r"\D", "", number)[-10:]
    return _is_date(digits[2:4], digits[4:6]) and is_luhn(digits)


def _finland(number: str) -> bool:
    digits = int(number[:6] + number[7:10])
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[digits % 31] == number[10].upper()


def _any(number: str) -> bool:
    return True


#: A form, and what its match must fulfil.
_IDS: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    # United States
    (
        _form(rf"{_BEFORE}(?!000|666)[0-8]\d\d(\ ?-\ ?)(?!00)\d\d\1(?!0000)\d{{4}}(?![\w-])"),
        _any,
    ),
    # United Kingdom, national insurance
    (
        _form(
            r"""\b(?!bg|gb|kn|nk|nt|tn|zz)[a-ceghj-prtw-z][a-ceghj-nprtw-z]\ ?\d\d\ ?\d\d\ ?\d\d\ ?
            [a-d]\b"""
        ),
        _any,
    ),
    (
        _form(rf"{_BEFORE}[1-8]\d{{5}}(?:18|19|20)\d\d(?:0\d|1[0-2])[0-3]\d\d{{3}}[\dx]{_AFTER}"),
        _china,
    ),
    (_form(rf"{_BEFORE}\d{{3}}\.\d{{3}}\.\d{{3}}\ ?-\ ?\d\d{_AFTER}"), _brazil),
    (
        _form(rf"{_BEFORE}(?:\d{{8}}|\d\d\.\d{{3}}\.\d{{3}}|[xyz]-?\d{{7}})-?[a-z]{_AFTER}"),
        _spain,
    ),
    (_form(rf"{_BEFORE}[a-z]{{6}}\d\d[a-ehlmprst]\d\d[a-z]\d{{3}}[a-z]{_AFTER}"), _italy),
    (
        _form(
            rf"""{_BEFORE}[12]\ ?\d\d\ ?(?:0[1-9]|1[0-2])\ ?(?:\d\d|2[ab])\ ?\d{{3}}\ ?\d{{3}}
            \ ?\d\d{_AFTER}"""
        ),
        _france,
    ),
    (_form(rf"{_BEFORE}[2-9]\d{{3}}([ -])\d{{4}}\1\d{{4}}(?!\ \d){_AFTER}"), _india),
    (_form(rf"{_BEFORE}\d{{6}}-[1-8]\d{{6}}{_AFTER}"), _korea),
    (_form(rf"{_BEFORE}(?:19|20)?\d{{6}}[-+]\d{{4}}{_AFTER}"), _sweden),
    (_form(rf"{_BEFORE}\d{{6}}[-+A]\d{{3}}[\da-z]{_AFTER}"), _finland),
)
#: Any, beside a word for it.
_ANNOUNCED = _form(
    r"""(?:\b(?:ssn|social\ security|national\ insurance|tax\ id|national\ id|passport
            |aadhaa?r|pesel|bsn|steuer-?id|steuernummer|ausweisnummer|codice\ fiscale|cpf|dni|nif
    |rfc
            |tc\ kimlik|kimlik|cccd|cmnd|снилс|инн|паспорт\w{0,2}|ρφμ|αφμ)\b
            |身份证号?码?|身分證字號|マイナンバー|個人番号|주민등록번호|هوية|ת\.?ז\.?|आधार
    |เลขประจำตัวประชาชน)
            (?:\ ?(?:number|nummer|n[úu]mero|no|nr|card|is|номер|на|は|는|नंबर|رقم
    |s[ốo])(?![a-z])){0,3}[ :.\#]{0,3}
            (?<![a-z\d])\d{3}(?:[ .-]?\d{2,4}){2,4}(?![a-z\d-])"""
)


def national_ids(text: str) -> Iterator[tuple[int, int]]:
    """Where numbers lie that are told by their form and checksum; ends are exclusive."""
    for form, holds in _IDS:
        for match in form.finditer(text):
            if holds(match[0]):
                yield match.span()


def announced_ids(text: str) -> Iterator[tuple[int, int]]:
    """Where numbers lie behind a word such as "passport", with that word."""
    return (match.span() for match in _ANNOUNCED.finditer(text))
