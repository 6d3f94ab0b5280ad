"""Postal addresses by their form: a street and a house number, as each language writes them.

A number beside a street is a house number only in some places: a year, a count ("calle con 12
árboles"), a route and a gate are none. So names of streets are capitalised where a script has
capitals, and what follows the number must not be counted by it. The patterns are matched against
texts whose digits, dashes and spaces are ASCII. All repetitions are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["addresses"]


def _form(pattern: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile(pattern, re.VERBOSE | flags)


# -- English -----------------------------------------------------------------------------------

_NUMBER = r"(?<![\w.,:$/#-])(?!(?:1[89]|20)\d\d\b)\d{1,5}[A-Za-z]?(?:\ ?-\ ?\d{1,5})?,?\ "
_ROAD = r"(?:street|avenue|boulevard|road|st|ave|blvd|rd)"
_ANY_ROAD = r"""(?:street|avenue|boulevard|road|lane|drive|court|place|terrace|crescent|square|close
    |mews|gardens|parkway|highway|way|st|str|ave|av|blvd|rd|ln|dr|ct|pl|sq|hwy|pkwy)"""
#: Words that between a number and a "road" tell that the number counts something.
_COUNTED = r"""(?!(?i:way|lanes?|miles?|hours?|hrs?|min|mins|minutes?|days?|years?|feet|foot|inch
    |meters?|metres?|km|best|top|most|great|greatest|scenic|people|person|cars?|men|women|kids
    |dogs|bedrooms?
    |piece|pack|set|step|gb|tb|mb|usb|ssd|flash|hard|test|wheel|volt|of|on|in|at|the|and|a|an|to|for
    |from|with|by|is|are|per|x|pm|am|old|new|different|beautiful|amazing|cross|crossing|block)\b)"""
_NAME = rf"{_COUNTED}(?:[^\W\d_][^\W\d_.'-]{{0,29}}\.?|\d{{1,3}}(?:st|nd|rd|th))\ "
_CAPITALISED = rf"(?=[^\W\d_a-z]|\d){_NAME}"
_END = r"(?=\ ?\.?\ ?(?:$|[,;()\#\n]|(?i:in|near|apt|suite|unit|floor|[ns][ew]?|[ew])\b))"
#: United States, Britain, Canada, Australia, India.
_POSTCODE = r"""(?:\b\d{5}(?:-\d{4})?\b|\b[a-z]{1,2}\d[a-z\d]?\ ?\d[a-z]{2}\b
    |\b[a-z]\d[a-z]\ ?\d[a-z]\d\b|\b(?:nsw|vic|qld|wa|sa|tas|act|nt)\ \d{4}\b
    |\b[1-9]\d\d\ ?\d{3}\b)"""

# -- Europe, Latin America, Turkey, Indonesia ---------------------------------------------------

#: A letter that is no lower-case one; Latin, Greek and Cyrillic lower case is listed.
_CAPITAL = r"(?=[^\W\d_])[^a-zß-öø-ÿāăąćčďđēęěğīįıķłńňōőœřśşšťūůűźżžά-ώа-џ]"
_PARTICLE = r"""(?:d[aeiou]s?|del|della|delle|dei|degli|dell'|d'|l'|la|las|le|les|los|el|il|lo|y
    |e|i|van|von|der
    |den|het|sv\.|św\.|gen\.|ks\.|της|του|των)"""
_STREET_NAME = rf"""(?:{_PARTICLE}\ ?){{0,3}}(?:[^\W\d_]{{2,10}}\ )?
    (?:{_CAPITAL}[\w.'’-]{{0,29}}|\d{{1,3}})
    (?:\ (?:{_PARTICLE}\ ){{0,2}}{_CAPITAL}[\w.'’-]{{0,29}}){{0,3}}"""
_PREFIX = r"(?i:n[.°ºr]{0,2}|nr|no|núm|num|č|br|д|дом|буд|αρ|κτ|numara|km|szám)\.?\ ?:?\ ?"
_HOUSE = r"(?!(?:1[89]|20)\d\d(?!\d))\d{1,4}(?!\d)(?:\ ?[/-]\ ?\d{1,4}(?!\d))?\ ?[a-zа-г]?(?![\w])"
#: Nothing that the number counts or measures may follow.
_NOT_COUNTING = r"(?!\ ?[%°€$:]|[.,]\d|\ [a-zß-öø-ÿąćęłńśźžčšřěůάέήίόύώα-ωа-џ]{3})"

_STREET_WORD = r"""(?i:calle|avenida|avda|paseo|pza|plaza|plaça|pla[çc]a|carrer|passeig|camino
    |carretera|ronda
    |travesía|cuesta|rua|travessa|praça|praceta|alameda|largo|estrada|rodovia|via|viale|corso|piazza
    |piazzale|piazzetta|vicolo|lungotevere|largo|strada|bulevardul|calea|șoseaua|soseaua|aleea
    |ulica|ulicy
    |aleja|alei|aleje|plac|placu|osiedle|ulice|ulici|náměstí|třída|nábřeží|trg|trgu|námestie
    |jalan|gang
    |rue|boulevard|οδός|οδού|οδό|λεωφόρος|λεωφόρου|λεωφόρο|πλατεία|πλατείας|улица|улице|улицы|улицу
    |проспект|проспекте|проспекта|переулок|переулке|бульвар|бульваре|набережная|набережной|шоссе
    |площадь
    |площади|булевард|вулиця|вулиці|проспекті|площа|площі)"""
_STREET_SHORT = r"""(?i:c/|c\.|avda\.|av\.|pza\.|pl\.|r\.|v\.|v\.le|p\.zza|c\.so|str\.|bd\.|bul\.
    |ul\.|al\.|os\.|tř\.
    |nám\.|jl\.|λεωφ\.|λ\.|ул\.|пр-т|пр\.|просп\.|пер\.|бул\.|б-р|наб\.|пл\.|вул\.)"""
#: Names of streets that end in the word for it, and words that follow the name.
_STREET_ENDING = r"""(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|ring|damm|ufer|steig|straat
    |laan|plein|gracht
    |kade|singel|dijk|gatan|vägen|gränd|gata|veien|vegen|gade|vej|stræde|katu|kuja|polku)"""
_WORD_BEHIND = r"""(?i:utca|út|útja|tér|körút|sétány|caddesi|cad\.|sokak|sokağı|sok\.|bulvarı
    |blv\.|iela|gatvė|g\.|pr\.
    |tänav|mnt|ulica|ulice|улица|проспект|проспект|бульвар|гудамж)"""

_STREET = rf"\b{_STREET_WORD}\ "
_EUROPE = (
    # the number behind the street, nothing counted behind it
    rf"{_STREET}{_STREET_NAME},?\ {_HOUSE}{_NOT_COUNTING}",
    # ... with a word or comma for it, or a street in short: that is an address
    rf"{_STREET}{_STREET_NAME},?\ {_PREFIX}{_HOUSE}",
    rf"\b{_STREET_SHORT}\ ?{_STREET_NAME},?\ (?:{_PREFIX})?{_HOUSE}",
    rf"\b(?=[^\W\d_]{{5,40}}){_CAPITAL}[^\W\d_]{{2,30}}?{_STREET_ENDING}\ {_HOUSE}{_NOT_COUNTING}",
    rf"""\b{_CAPITAL}\w{{1,29}}(?:\ {_CAPITAL}\w{{0,29}}){{0,2}}\ {_WORD_BEHIND}\ ?
    (?:{_PREFIX})?{_HOUSE}{_NOT_COUNTING}""",
    # ... in any case, with a postcode
    rf"""(?i:{_STREET}[^\d\n,]{{2,40}},?\ {_HOUSE},\ (?:\d{{5}}|\d{{3}}\ \d\d|\d\d-\d{{3}})
    (?!\d))""",
    # no word for a street: name, number, and at once postcode and town
    rf"""\b{_CAPITAL}[\w.'-]{{2,29}}(?:\ [\w.'-]{{2,29}}){{0,3}}\ {_HOUSE},\ (?!(?:1[89]|20)\d\d\ )
    (?:[A-Z]{{1,2}}-)?(?:\d{{4,5}}|\d{{3}}\ \d\d|\d\d-\d{{3}}|\d{{4}}\ ?[A-Z]{{2}}|\d{{4}}-\d{{3}})
    \ {_CAPITAL}\w""",
)
#: French: the number before the street.
_FRENCH_NUMBER = r"(?<![\w.,:$/#-])\d{1,4}\ ?(?:bis|ter|[ab])?,?\ "

# -- Scripts without capitals -----------------------------------------------------------------

_HAN = "\u4e00-\u9fff\u3005"
_JAPANESE = f"{_HAN}\u3041-\u30ff"
_JAPAN_IN_LATIN = (
    r"\b(?:\d{1,2}-){2}\d{1,2},?\ [A-Z][a-z]{2,20}(?:-cho|-machi)?,\ [A-Z][a-z]{2,20}-(?:ku|shi)\b"
)
_VIETNAM = rf"""(?<![\w/.,-])\d{{1,4}}[A-Z]?(?:/\d{{1,4}}){{0,2}},?
    \ {_CAPITAL}\w{{1,9}}(?:\ {_CAPITAL}\w{{0,9}}){{1,4}},
    \ (?:quận|phường|q\.|p\.|tp\b|thành\ phố)"""
#: Of these, only the two above can match a text in ASCII.
_OTHERS = (
    # China, Taiwan: district or street, number, and the sign for a number
    rf"""[{_HAN}]{{2,12}}(?:路|街|大道|巷|弄|胡同|里|村
    |段)\ ?(?:\d{{1,4}}[巷弄段]\ ?){{0,2}}\d{{1,5}}
    (?:[-之]\d{{1,3}})?[号號](?![线線码碼])""",
    # Japan: a postcode; a place and two or three numbers
    r"〒\ ?\d{3}-?\d{4}",
    rf"[{_JAPANESE}]{{1,12}}[区市町村郡条丁目台][{_JAPANESE}]{{0,12}}\d{{1,4}}-\d{{1,4}}(?:-\d{{1,4}})?(?!\d)",
    rf"""[{_JAPANESE}]{{1,12}}(?:\d{{1,2}}|[一二三四五六七八九十]{{1,2}})丁目\ ?\d{{1,4}}
    (?:番地?\ ?の?\d{{0,4}}号?|-\d{{1,4}})""",
    rf"[{_JAPANESE}]{{1,12}}[区市町村郡][{_JAPANESE}]{{0,12}}\d{{1,5}}番地",
    _JAPAN_IN_LATIN,
    # Korea
    r"[가-힣]{1,8}(?:시|군|구|도|읍|면)\ [가-힣\d]{1,10}(?:로|길)\ ?\d{1,4}(?:-\d{1,4})?(?!\d)",
    r"[가-힣]{1,8}(?:동|리|가)\ ?\d{1,4}(?:-\d{1,4})?\ ?번지",
    # Thailand
    r"""(?:เลขที่\ ?\d{1,4}(?:/\d{1,4})?|(?<![\d/])\d{1,4}/\d{1,4})\ ?,?\ ?
    (?:หมู่|ม\.|ถนน|ถ\.|ซอย|ซ\.|ต\.)""",
    # Vietnam
    r"""(?<![\w/.,-])\d{1,4}[A-Z]?(?:/\d{1,4}){0,2},?\ (?:đường|phố|ngõ
    |hẻm)\ (?-i:[A-ZĐÂÁÀẢÃẠÊÉÔÓƠƯÚ])\w""",
    _VIETNAM,
    # Arabic, Persian, Hebrew: the number at the end of its phrase, or announced
    r"(?<![\d.,/-])\d{1,4}\ ?،?\ (?:شارع|طريق|نهج)\ \w",
    r"(?:شارع|طريق|نهج|حي)\ (?:[^\W\d]{2,20}\ ){1,4}رقم\ \d{1,4}",
    r"(?:شارع|طريق|نهج)\ (?:[^\W\d]{2,20}\ ){0,3}[^\W\d]{2,20}[،,]?\ \d{1,4}(?=\ ?(?:$|[،,.;()]))",
    r"(?:خیابان|کوچه|بلوار)[^\d\n]{2,60}(?:پلاک|شماره)\ ?\d{1,4}",
    r"(?:רחוב|רח'|שדרות|שד'|סמטת)\ (?:[^\W\d]{2,20}\ ){1,3}\d{1,3}(?=\ ?(?:$|[,.;()]))",
    # India, in its scripts: with a postcode
    r"""\d{1,5}[^\d\n]{2,50}(?:मार्ग|रोड|नगर|गली|सड़क|রোড|সড়ক|சாலை|தெரு|రోడ్)[^\d\n]{0,40}
    \d{3}\ ?\d{3}(?!\d)""",
)

_ADDRESSES = (
    _form(r"\bp\ ?\.?\ ?o\ ?\.?\ ?box\ ?(?:no\.?|number|\#)?\ ?\d{1,6}\b"),
    # number, name and kind of street, and soon a postcode (United States, Britain, Canada ...)
    _form(rf"{_NUMBER}(?:{_NAME}){{1,3}}{_ANY_ROAD}\b[^\n]{{0,60}}?{_POSTCODE}"),
    # ... capitalised; a kind that has other meanings must end the phrase
    _form(
        rf"""{_NUMBER}(?:{_CAPITALISED}){{1,3}}
        (?:(?:Street|Avenue|Boulevard|Road)\b|(?=[A-Z])(?i:{_ANY_ROAD})\b{_END})""",
        0,
    ),
    # ... in any case, with two digits at least, at the end of its phrase
    _form(rf"(?=\d\d){_NUMBER}(?:{_NAME}){{1,2}}{_ROAD}\b{_END}"),
    # German in any case; French
    _form(r"\b[^\W\d_]{3,30}(?:stra(?:ß|ss)e|str\.)\ \d{1,4}\ ?[a-z]?\b"),
    _form(
        rf"""{_NUMBER}(?:bis\ |ter\ )?(?:rue|all[ée]e|chemin|impasse|quai)\ (?:d[eu]s?\ )?
        (?:l[ae]\ |l'|d')?[^\W\d_]{{2,30}}"""
    ),
    _form(
        rf"{_FRENCH_NUMBER}(?i:avenue|av\.|boulevard|bd)\ (?:{_PARTICLE}\ ?){{0,2}}{_CAPITAL}\w", 0
    ),
    _form(
        rf"""{_FRENCH_NUMBER}(?i:place|cours|route|passage|square|faubourg
    |sentier)\ [^\d\n]{{2,40}},?
        \ \d{{5}}\ {_CAPITAL}\w""",
        0,
    ),
    *(_form(pattern, 0) for pattern in _EUROPE),
    *(_form(pattern) for pattern in _OTHERS),
)
#: What the forms that begin with a word for a street have in common, to be looked for once.
_ANY_STREET = _form(_STREET, 0)
#: Each form, and whether it begins with that.
_ANY_TEXT = tuple((form, _STREET in form.pattern) for form in _ADDRESSES)
_ASCII_TEXT = tuple(
    (form, begins)
    for form, begins in _ANY_TEXT
    if form.pattern not in _OTHERS or form.pattern in (_JAPAN_IN_LATIN, _VIETNAM)
)

#: Before a street: it is written on a sign in the street.
_SIGN = _form(
    r"""(?:(?:street|road)\ ?signs?|stra(?:ß|ss)enschild|plaque\ de\ rue|placa\ de\ (?:rua|calle)
    |letrero\ de\ calle
    |cartello\ stradale|targa\ stradale|tabliczka|straatnaambord|табличк\w{1,2}|οδωνυμική
    |sokak\ tabelası
    |路牌|街牌|門牌|门牌|道路標識|街区表示板|도로명판|ป้ายชื่อถนน|biển\ tên\ đường|لوحة\ شارع
    |שלט\ רחוב)[^\d\n]{0,40}\Z"""
)


def addresses(text: str) -> Iterator[tuple[int, int]]:
    """Where postal addresses lie in a text, those on street signs left out; ends are exclusive."""
    has_street = _ANY_STREET.search(text) is not None
    for form, begins_with_street in _ASCII_TEXT if text.isascii() else _ANY_TEXT:
        for match in form.finditer(text) if has_street or not begins_with_street else ():
            if _SIGN.search(text[max(0, match.start() - 80) : match.start()]) is None:
                yield match.span()
