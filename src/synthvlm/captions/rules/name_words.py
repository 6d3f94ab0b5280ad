"""Lists of names; words beside a name: titles, particles, what makes a place of it. Folded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from synthvlm.captions.rules.name_text import Word, fold
from synthvlm.captions.rules.word_files import entries, package_text

__all__ = [
    "ABBREVIATIONS",
    "CAPITALISED_THINGS",
    "OF",
    "PARTICLES",
    "PLACES",
    "SURE_TITLES",
    "THINGS",
    "TITLES",
    "NameList",
    "Phrases",
    "set_of_words",
]


def set_of_words(words: str) -> frozenset[str]:
    """Words, folded."""
    return frozenset(map(fold, words.split()))


#: Titles of which any capitalised word that follows is a name.
SURE_TITLES = set_of_words(
    "mr mrs ms mx dr prof professor herr herrn frau monsieur madame mme mlle mademoiselle signor "
    "signora signorina senhor senhora meneer mevrouw dhr mevr fru господин госпожа доктор "
    "профессор κυριος κυρια κυριου κυριας κα السيد السيدة الدكتور الدكتورة الأستاذ الأستاذة آقای "
    "خانم دکتر גברת מר פרופסור श्री श्रीमती सुश्री डॉ কুমারী জনাব ডাঃ"
)
#: All titles: with the others, a listed name must follow ("Captain America", "Miss Universe").
TITLES = SURE_TITLES | set_of_words(
    "miss sir dame lady lord rev reverend fr sgt sergeant capt captain lt lieutenant cpl corporal "
    "pvt private maj major col colonel gen general adm admiral officer detective judge justice "
    "senator sen congressman congresswoman rep governor gov mayor president minister pastor "
    "father sister brother rabbi imam sheikh coach aunt auntie uncle nurse senor senora sr sra "
    "srta don dona donna sig pan pani pana bapak ibu pak bu encik puan cik тетя дядя бабушка "
    "дедушка пан пани"
)
PARTICLES = set_of_words(
    "van von de da di del della dei der den des do dos du la le ten ter el al bin ibn ben bint "
    "abu بن ابن بنت أبو آل בן בת"
)
#: Before a name, these make a place or a thing of it.
PLACES = set_of_words(
    # saints, geography, ships
    "san santa santo sao saint st ste sankt szent sveti svata swiety agios agia hagia fort port "
    "lake mount mt cape los las el new north south east west uss hms rms mv "
    # streets, squares, buildings, monuments
    "rue avenue av place boulevard quai pont lycee college ecole musee eglise hopital gare stade "
    "theatre basilique cathedrale chapelle chateau universite calle plaza museo avenida iglesia "
    "parque teatro instituto colegio aeropuerto estadio paseo basilica catedral capilla convento "
    "monumento puente rua praca igreja largo ponte escola aeroporto via piazza corso viale chiesa "
    "scuola stadio palazzo strasse platz denkmal museum ulica ulicy ul plac pomnik pomnika "
    "pomniku kosciol muzeum szkola lotnisko imienia im ulice namesti socha duong pho truong cau "
    "tuong jalan jl masjid bandara стадион памятник памятника памятником памятнику памятнике "
    "улица улице улицы площадь площади музей музея музее театр театра храм храма собор церковь "
    "проспект проспекте имени им станция парк парке усадьба бюст могила мост вулиця вулиці площа "
    "паметник паметника οδος οδο οδου πλατεια ναος ναο ναου αγιος αγιου αγιο αγια αγιας μουσειο "
    "αεροδρομιο شارع مسجد جامع مطار قصر ميدان متحف مدينة جامعة مدرسة مستشفى تمثال جسر ضريح مقام "
    "ساحة حي ملعب برج خیابان میدان آرامگاه رحوب רחוב כיכר שדרות קבר נמל מגדל בית"
)
#: The same with a word for "of" between them: "statue of", "estatua de".
OF = set_of_words("of de di da do del du von des dem dell d")
#: Behind a name, these make a place or a thing of it.
THINGS = set_of_words(
    "airport memorial stadium arena bridge museum tower highway boulevard avenue university "
    "library hospital institute foundation monument cathedral basilica expressway freeway parkway "
    "academy statue huis haus platz strasse brucke denkmal schule flughafen plein straat brug "
    "havalimani havaalani caddesi camii muzesi parki stadi bulvari koprusu lisesi turbesi aniti "
    "meydani universitesi utca ter hid bridge мост मार्ग रोड नगर चौक स्टेडियम विश्वविद्यालय "
    "संग्रहालय मंदिर पुल রোড সড়ক"
)
#: ... where they are capitalised, too.
CAPITALISED_THINGS = set_of_words(
    "house school college center centre theatre theater hall cup prize award day street road "
    "square beach church park lane drive building island islands lake river mountain falls bay "
    "county city plaza gallery market station field garden gardens trophy foundation fund company "
    "band orchestra ave blvd rd st dr"
)
#: Capitals with points that are no initials.
ABBREVIATIONS = set_of_words("us uk la dc ny nyc eu un po am pm bc ad tv dj vs usa uae ussr")


@dataclass(frozen=True, slots=True)
class NameList:
    """A list of names, folded.

    Attributes:
        all: All of them.
        capital: Without those that are something else even where they have a capital ("Rose").
        only: Without those that are another word in lower case ("mark"), too.
    """

    all: frozenset[str]
    capital: frozenset[str]
    only: frozenset[str]

    @classmethod
    def load(cls, name: str) -> NameList:
        """Read a list where ``~`` marks what is no name in lower case, and ``?`` in no case."""
        words = {word for line in entries(package_text(name)) for word in line.split()}
        never = _inflected(word for word in words if word.endswith("?"))
        lower = _inflected(word for word in words if word.endswith("~"))
        everything = _inflected(words)
        return cls(everything, everything - never, everything - never - lower)


def _inflected(words: Iterator[str] | set[str]) -> frozenset[str]:
    return frozenset(form for word in words for form in _cases(fold(word.rstrip("?~"))))


#: Endings of a name in Russian and in Greek, and what other cases and the feminine have instead.
_CASES = (
    (re.compile(r"(?<=ск|цк)ии\Z"), "ого ому им ом ая ои ую"),
    (re.compile(r"(?<=ов|ев|ин)\Z"), "а у ым е ои"),
    (re.compile(r"(?<=[бвгджзклмнпрстфхцчшщ])\Z"), "а у ом ем е"),
    (re.compile(r"(?<=[а-я])и\Z"), "я ю ем е"),
    (re.compile(r"(?<=[а-я])ия\Z"), "ии ию иеи"),
    (re.compile(r"(?<=[а-я])я\Z"), "и е ю еи"),
    (re.compile(r"(?<=[а-я])а\Z"), "ы и е у ои еи"),
    (re.compile(r"(?<=[α-ω])οσ\Z"), "ο ου ε"),
    (re.compile(r"(?<=[α-ω])([αη])σ\Z"), r"\1"),
    (re.compile(r"(?<=[α-ω])([αη])\Z"), r"\1σ"),
)


def _cases(word: str) -> Iterator[str]:
    """A folded name in its cases, itself first; in Latin letters and most scripts only itself."""
    yield word
    if not word.isascii():
        for ending, others in _CASES:
            if ending.search(word):
                yield from (ending.sub(other, word) for other in others.split())


class Phrases:
    """Names that are of no private person: "Jack Russell", "Harry Potter"."""

    def __init__(self, phrases: Sequence[str]) -> None:
        """Take phrases of folded words."""
        self._by_first: dict[str, list[tuple[str, ...]]] = {}
        for phrase in phrases:
            words = tuple(fold(phrase).split())
            self._by_first.setdefault(words[0], []).append(words)

    @classmethod
    def load(cls, name: str) -> Phrases:
        """Read a file of the package's data with one phrase a line."""
        return cls(entries(package_text(name)))

    def end(self, words: Sequence[Word], at: int) -> int:
        """Where the longest phrase that begins with a word ends; ``at`` where none does."""
        sizes = (
            len(phrase)
            for phrase in self._by_first.get(words[at].key, ())
            if tuple(word.key for word in words[at : at + len(phrase)]) == phrase
        )
        return at + max(sizes, default=0)
