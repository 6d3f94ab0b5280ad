"""Phone numbers by their form: international, national ones of many countries, and announced ones.

The patterns are matched against texts whose digits, dashes and spaces are ASCII. All repetitions
are bounded. A table of forms rather than a library: a library that knows all numbering plans takes
48 MB, and what it finds would change with its version, unseen by a run's fingerprints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["DATE", "announced_phones", "phones"]


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.VERBOSE | re.IGNORECASE)


#: No part of a longer number, a price, a time, a path.
_FREE = r"(?<![\w$\#/-])(?<!\d[.,:])(?<![$€£¥]\ )"
_BEFORE = rf"{_FREE}(?<!\+)(?<!\d\ )"
_AFTER = r"(?![\w-]|[.,]\d|\ ?(?:€|[%x×]\ ?\d|zł|eur|usd|kr|руб|円|元|원))"

_FORMS = (
    # international
    _form(
        r"""(?:(?<![\w+])\+\ ?|(?<![\w+-])(?<!\d[.,: ])00\ ?(?=\d{1,3}[ (/.-]))
        [1-9](?:[ ()./-]{0,3}\d){7,13}(?![\w-])"""
    ),
    # North America: the area code in parentheses, or one separator throughout
    _form(
        rf"""{_FREE}(?:1\ ?[ .-]\ ?)?(?:\(\ ?[2-9]\d\d\ ?\)\ ?[2-9]\d\d\ ?[ .-]\ ?\d{{4}}
        |[2-9]\d\d(\ ?-\ ?|\.|\ )[2-9]\d\d\1\d{{4}})(?![\w-]|\.\d)"""
    ),
    # North America, free of charge, maybe in letters
    _form(
        rf"""{_FREE}1\ ?[ -]\ ?8(?:00|33|44|55|66|77|88)\ ?[ -]\ ?
        (?:\d{{3}}\ ?[ -]?\ ?\d{{4}}|[a-z]{{7}}|\d{{3}}\ ?-\ ?[a-z]{{4}}
        |[a-z]{{3}}\ ?-\ ?[\da-z]{{4}})(?!\w)"""
    ),
    # a zero before the area code, 9 to 12 digits; no ZIP+4 code
    _form(
        rf"""{_BEFORE}(?:\(\ ?)?(?!\d{{5}}-\d{{4}}(?!\d))
        (?=0(?:[ ()/.-]{{0,4}}\d){{8,11}}(?!\d))0[1-9]\d{{0,4}}(?:\ ?\))?
        (?:[ /.-]{{1,3}}\d{{2,9}}){{1,4}}(?![\w-]|\.\d)"""
    ),
    # any area code in parentheses
    _form(rf"{_BEFORE}\(\ ?\d{{2,4}}\ ?\)\ ?9?\ ?\d{{3,4}}(?:\ ?-\ ?|\ )\d{{4}}{_AFTER}"),
    # China, Russia, mobile
    _form(rf"{_BEFORE}1[3-9]\d(?P<s>[ -]?)\d{{4}}(?P=s)\d{{4}}{_AFTER}"),
    _form(rf"{_BEFORE}[78]9\d{{9}}{_AFTER}"),
    # Groups of 3-3-4 (Italy, Greece, Colombia), 2-4-4 (Brazil, Mexico, Argentina), 1-4-4 (Chile)
    _form(rf"{_BEFORE}[2-9]\d\d(?P<s>[ -])\d{{3}}(?P=s)\d{{4}}{_AFTER}"),
    _form(rf"{_BEFORE}3[2-9]\d[ /-]\d{{6,7}}{_AFTER}"),
    _form(rf"{_BEFORE}[1-9]\d\ 9?\d{{4}}[ -]\d{{4}}{_AFTER}"),
    _form(rf"{_BEFORE}9\ \d{{4}}[ -]\d{{4}}{_AFTER}"),
    # 3-3-3 (Spain, Portugal, Poland, Czechia, Peru), 3-2-2-2 and 2-3-2-2 (Spain, Poland)
    _form(rf"{_BEFORE}[5-9]\d\d(?P<s>[ -])\d{{3}}(?P=s)\d{{3}}(?!\ \d){_AFTER}"),
    _form(rf"{_BEFORE}[5-9]\d\d(?P<s>[ -])\d\d(?P=s)\d\d(?P=s)\d\d(?!\ \d){_AFTER}"),
    _form(rf"{_BEFORE}[1-9]\d(?P<s>[ -])\d{{3}}(?P=s)\d\d(?P=s)\d\d(?!\ \d){_AFTER}"),
    # 3-3-2-2, maybe behind an 8 (Russia, Turkey); 5-5 (India); free of charge (Australia, China)
    _form(
        rf"""{_BEFORE}(?:8[ -]?)?(?:\(\d{{3}}\)\ ?|[2-9]\d\d[ -])\d{{3}}[ -]\d\d[ -]\d\d
        (?!\ \d){_AFTER}"""
    ),
    _form(rf"{_BEFORE}[6-9]\d{{4}}[ -]\d{{5}}{_AFTER}"),
    _form(rf"{_BEFORE}(?:1[38]00|1-?800|400)(?P<s>[ -])\d{{3}}(?P=s)\d{{3,4}}{_AFTER}"),
)

#: What announces a number: words, and what is written in front without a space.
_WORD = r"""(?:\b(?:tel|telephone|telefon\w{0,2}|telef|t[ée]l[ée]phone|tel[ée]fono?|telefone|phone
    |mobile?|mob|m[óo]vil|celular|cellulare|cel|cell|portable|handy|gsm|fax|hotline|whatsapp|call
    |dial|sms|text|contact|ring|llam(?:e|a|ar)|ligue|ligar|appele[zr]|chiam(?:a|are)|anrufen|ruf
    |rufnummer|bel|zadzwo[ńn]|kom[óo]rka|dzwo[ńn]|volejte|hívjon|sunați|telp|hp|hubungi|cep
    |ara(?:y[ıi]n)?|puh|tlf|[đd]i[ệe]n\ tho[ạa]i|[đd]t|s[đd]t|g[ọo]i|тел|телефон\w{0,2}|моб|сот
    |звон\w{2,5}|позвон\w{2,5}|дзвон\w{2,5}|τηλ|τηλ[έε]φωνο|κιν|κινητ[όο])\b
    |电话|電話|手机|手機|热线|熱線|致电|致電|拨打|撥打|微信|携帯|連絡先|전화|연락처|휴대폰|핸드폰
    |문의
    |โทร|เบอร์|มือถือ|هاتف|جوال|موبايل|تليفون|تلفن|همراه|اتصل|واتساب|טלפון|נייד|טל'|חייגו
    |फ़ोन|फोन|मोबाइल|कॉल|संपर्क)"""
_FILLER = r"""(?:\ ?(?:us|me|now|at|on|no|nr|n[°º]|num[eé]ro?|n[úu]mero|number|is|al|a|à|ao|le|il
    |la|el
    |au|den|di|unter|an|pod|na|по|на|στο|s[ốo]|nomor|номер\w{0,2}|号码|號碼|号|番号|번호|는|은|は
    |を|ศัพท์
    |على|رقم|שמספרו|नंबर|करें|पर)(?![a-z]))"""
_ANNOUNCED = _form(
    rf"""{_WORD}{_FILLER}{{0,3}}\ ?[:.\#]?\ ?\+?(?:\(\ ?)?(?<![a-z\d])
    \d(?:[ ()./-]{{0,3}}\d){{6,14}}(?![a-z\d-]|\.\d)"""
)

#: Dates and ranges of years, which may look like a phone number.
DATE = re.compile(
    r"""(?<!\d)(?:
    (?:1[5-9]|20)\d\d\ ?[-/. ]\ ?(?:1[5-9]|20)\d\d
    |(?:1[5-9]|20)\d\d(\ ?[-/.]?\ ?)(?:0?[1-9]|1[0-2])\1[0-3]?\d
    |[0-3]?\d(\ ?[-/.]\ ?|\ )[0-3]?\d\2(?:1[5-9]|20)\d\d)(?!\d)""",
    re.VERBOSE,
)


def phones(text: str) -> Iterator[tuple[int, int]]:
    """Where phone numbers lie that are told by their form; ends are exclusive."""
    for form in _FORMS:
        yield from _no_dates(form, text)


def announced_phones(text: str) -> Iterator[tuple[int, int]]:
    """Where numbers of seven digits and more lie behind a word such as "call", with that word."""
    yield from _no_dates(_ANNOUNCED, text)


def _no_dates(form: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    for match in form.finditer(text):
        if DATE.search(match[0]) is None:
            yield match.span()
