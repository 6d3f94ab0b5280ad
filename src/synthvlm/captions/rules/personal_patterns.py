"""The forms that ``personal_data`` looks for, as regular expressions.

Every repetition is bounded, and where one part may end is plain from the next character, so the
time per character is bounded on any text. They are matched against texts whose digits, dashes and
spaces are ASCII. Captions may be tokenised, with spaces around punctuation.
"""

from __future__ import annotations

import re

__all__ = [
    "ADDRESSES",
    "CARD",
    "DATE",
    "EMAIL_DOMAIN",
    "EMAIL_LOCAL",
    "EMAIL_MARK",
    "IBAN_LENGTHS",
    "IBAN_START",
    "PHONES",
    "PLATES",
    "SOCIAL_SECURITY",
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
