"""People's names by their form: lists of common names, capitals, titles and initials. No model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from synthvlm.captions.rules.batch import TextBatch

__all__ = ["TITLES", "NameForms", "folded_words"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


#: Titles of which any capitalised word that follows is a name.
_SURE_TITLES = _set("mr mrs ms mx dr prof professor herr frau monsieur madame mme")
#: All titles: with the others, a listed name must follow ("Captain America", "Miss Universe").
TITLES = _SURE_TITLES | _set(
    "miss sir dame lady lord rev reverend fr sgt sergeant capt captain lt lieutenant cpl corporal "
    "pvt private maj major col colonel gen general adm admiral officer detective judge justice "
    "senator sen congressman congresswoman rep governor gov mayor president minister pastor "
    "father sister brother rabbi imam sheikh coach aunt auntie uncle nurse senor senora"
)
_PARTICLES = _set(
    "van von de da di del della dei der den des do dos du la le ten ter el al bin ibn ben bint abu"
)
#: Before a given name, these make a place of it.
_PLACES = _set(
    "san santa santo sao saint st ste fort port lake mount mt cape los las el new north south east "
    "west"
)
#: Capitals with points that are no initials.
_ABBREVIATIONS = _set("us uk la dc ny nyc eu un po am pm bc ad tv dj vs usa uae ussr")

#: Characters that decomposition leaves as they are.
_ASCII_LETTERS = str.maketrans(
    {
        "\xf8": "o",
        "\u0142": "l",
        "\u0111": "d",
        "\u0131": "i",
        "\xdf": "ss",
        "\xe6": "ae",
        "\u0153": "oe",
    }
)
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
#: What may lie between two words of a name: a space, after a title or an initial also a point.
_GAPS = frozenset({" ", "  "})
_POINTED_GAPS = frozenset({".", ". ", " . ", " .", ".  "})
#: An initial, or a double name: what the table of words does not know.
_UNLISTED = re.compile(r"(?<![^\W_])[A-Z] ?\.|[^\W\d_]-[A-Z]")
#: Initials, particles and further given names between a given name and the family name.
_MAX_BETWEEN = 4


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of a text: where it is, and lower case without accents or possessive."""

    start: int
    end: int
    key: str
    capital: bool
    letter: bool  # a capital letter on its own, with a point


class NameForms:
    """Recognises the names of people who have a common name, or whose name is announced.

    - A title and one to four words: "Mrs. Jane Porter", "Dr. Okafor". After titles that are also
      given to things ("Captain", "Miss"), and in lower case, the next word must be a listed name.
    - Initials and a family name: "J. R. Porter", "J. Porter" (one initial: a listed family name).
    - A given and a family name, maybe with an initial or a particle between them: "Jane Porter",
      "Maria de la Cruz". The lists hold 2,400 given and 1,300 family names of many cultures. Where
      capitals tell (some words of the text have one and some have not), any capitalised word counts
      as the family name of a given name that is nothing else, unless it is known as a part of
      places and things ("Charlotte Airport"). In all other cases the family name must be a listed
      one; where no word or every word is capitalised, the given name must not be an ordinary
      word ("rose garden", "mark", "will").

    What it cannot do: it misses given names on their own ("Jane at the beach"), names outside its
    lists, most names in lower case and in headlines, family names written first, and all scripts
    but Latin. Of 2,500 names of contributors to Node.js it finds six in ten in a sentence with
    capitals, one in seven in lower case or in a headline. It takes places, ships and companies that
    bear a person's name for people, and does not know who is a public figure. It lowers the number
    of names; it does not ensure that none is left. A model (``NameTagger``) finds more.
    """

    def __init__(self) -> None:
        """Load the lists."""
        self.given = _Lists.load("given_names.txt")
        self.family = _Lists.load("surnames.txt")
        self.no_family = _Lists.load("not_surnames_en.txt")
        # A table over 16 bits of the hash lets most texts pass unread.
        self._suspects = _table(self.given.all | TITLES)
        self._lower_case_suspects = _table(self.given.only | _SURE_TITLES)

    def find(self, texts: Sequence[str]) -> list[list[str]]:
        """The names in each text, as written, in order; in time linear in its length."""
        names: list[list[str]] = [[] for _ in texts]
        for row in self._candidates(TextBatch(texts)):
            names[row] = self._names(texts[row])
        return names

    def _candidates(self, batch: TextBatch) -> list[int]:
        """Texts that may hold a name."""
        words = batch.words
        buckets = _bucket(words.hashes)
        lower = np.unique(_rows(words.starts, np.flatnonzero(self._lower_case_suspects[buckets])))
        others = np.unique(_rows(words.starts, np.flatnonzero(self._suspects[buckets]))).tolist()
        signs = [match.start() for match in _UNLISTED.finditer(batch.joined)]
        unlisted = _rows(batch.starts, np.array(signs, np.int64)).tolist()
        return sorted(
            {
                *lower.tolist(),
                *(row for row in others if not batch.texts[row].islower()),
                *unlisted,
                *(row for row, text in enumerate(batch.texts) if not text.isascii()),
            }
        )

    def _names(self, text: str) -> list[str]:
        reader = _Reader(self, text)
        names, at = [], 0
        while at < len(reader.words):
            end = reader.name_end(at)
            if end > at:
                names.append(text[reader.words[at].start : reader.words[end - 1].end])
            at = max(end, at + 1)
        return names


@dataclass(frozen=True, slots=True)
class _Lists:
    """A list of names.

    Attributes:
        all: All of them.
        capital: Without those that are something else even where they have a capital ("Rose").
        only: Without those that are another word in lower case ("mark"), too.
    """

    all: frozenset[str]
    capital: frozenset[str]
    only: frozenset[str]

    @classmethod
    def load(cls, name: str) -> _Lists:
        """Read a list where ``~`` marks what is no name in lower case, and ``?`` in no case."""
        lines = files(__package__).joinpath("data", name).read_text("utf-8").splitlines()
        entries = {word for line in lines if not line.startswith("#") for word in line.split()}
        never = {word[:-1] for word in entries if word.endswith("?")}
        lower = {word[:-1] for word in entries if word.endswith("~")}
        everything = frozenset(word.rstrip("?~") for word in entries)
        return cls(everything, everything - never, everything - never - lower)


class _Reader:
    """Reads names from a text, word by word. Ends are exclusive; "no name" ends where it began."""

    def __init__(self, forms: NameForms, text: str) -> None:
        self.words = _words(text)
        self._text = text
        self._forms = forms
        capitals = sum(word.capital for word in self.words)
        # Capitals tell nothing where (nearly) every word has one, but for a name on its own.
        some = 0 < capitals <= 0.7 * len(self.words)
        self._told = (some or 0 < capitals <= len(self.words) <= 3) and not text.isupper()

    def name_end(self, at: int) -> int:
        """Where the name that begins with a word ends."""
        first = at
        while first - at < 3 and self.words[first].key in TITLES and self._joined(first, True):
            first += 1
        if first > at:
            end = self._full_name(first)
            if end > first or self._is_titled(self.words[first - 1], self.words[first]):
                return self._more(max(end, first + 1))
        return self._full_name(at)

    def _is_titled(self, title: _Word, word: _Word) -> bool:
        """Whether a word behind a title is a name."""
        sure = title.key in _SURE_TITLES
        listed = word.key in self._forms.given.all or word.key in self._forms.family.all
        if not self._told:
            return sure and listed
        known_thing = word.key in self._forms.no_family.all
        return word.capital and len(word.key) > 1 and (listed or (sure and not known_thing))

    def _full_name(self, at: int) -> int:
        """The end of a given name or initials with a family name."""
        if at and self.words[at - 1].key in _PLACES and self._joined(at - 1):
            return at
        if self.words[at].letter:
            return self._initials(at)
        word = self.words[at]
        if word.key not in self._forms.given.all or (self._told and not word.capital):
            return at
        here = at
        while self._joined(here, self.words[here].letter) and here - at <= _MAX_BETWEEN:
            here += 1
            if self._is_family(word, self.words[here]) and not self._is_second_given(word, here):
                return self._more(here + 1)
            if not self._is_between(self.words[here]):
                break
        return at

    def _initials(self, at: int) -> int:
        here = at
        while here - at < 3 and self.words[here].letter and self._joined(here, True):
            here += 1
        word, initials = self.words[here], "".join(w.key for w in self.words[at:here])
        if word.letter or not word.capital or len(word.key) < 3 or initials in _ABBREVIATIONS:
            return at
        listed = word.key in self._forms.family.all
        free = len(initials) > 1 and self._told and word.key not in self._forms.no_family.all
        return self._more(here + 1) if here > at and (listed or free) else at

    def _is_family(self, given: _Word, word: _Word) -> bool:
        """Whether a word behind that given name is a family name."""
        family = self._forms.family
        if not self._told:
            known_thing = word.key in self._forms.no_family.all and word.key not in family.only
            return (
                given.key in self._forms.given.only and word.key in family.all and not known_thing
            )
        sure = given.key in self._forms.given.capital
        if not word.capital or len(word.key) < 2 or word.letter:
            return False
        if word.key in family.only or (sure and word.key in family.all):
            return True
        return sure and word.key not in self._forms.no_family.all and word.key not in TITLES

    def _is_second_given(self, given: _Word, at: int) -> bool:
        """Whether a word that may be a family name is a given name or particle before one."""
        key = self.words[at].key
        listed = key in self._forms.given.all or key in _PARTICLES
        return listed and self._joined(at) and self._is_family(given, self.words[at + 1])

    def _is_between(self, word: _Word) -> bool:
        is_given = word.key in self._forms.given.all and (word.capital or not self._told)
        return word.letter or is_given or word.key in _PARTICLES

    def _more(self, end: int) -> int:
        """The end of a name with the further family names behind it."""
        while (
            self._told
            and self._joined(end - 1)
            and self.words[end].capital
            and self.words[end].key in self._forms.family.only
        ):
            end += 1
        return end

    def _joined(self, at: int, pointed: bool = False) -> bool:
        """Whether a word and the next one may be of one name."""
        if at + 1 >= len(self.words):
            return False
        gap = self._text[self.words[at].end : self.words[at + 1].start]
        return gap in _GAPS or (pointed and gap in _POINTED_GAPS)


def folded_words(text: str) -> list[str]:
    """The words of a text in lower case, without accents and possessives."""
    return [_fold(_without_possessive(word)) for word in _WORD.findall(text)]


def _words(text: str) -> list[_Word]:
    words = []
    for match in _WORD.finditer(text):
        word = _without_possessive(match[0])
        end = match.start() + len(word)
        capital = word[0].isupper()
        letter = capital and len(word) == 1 and text[end : end + 2].lstrip(" ").startswith(".")
        key = _fold(word).partition("-")[0]  # of a double name the first tells
        words.append(_Word(match.start(), end, key, capital, letter))
    return words


def _without_possessive(word: str) -> str:
    return word[:-2] if word[-2:] in {"'s", "\u2019s", "'S", "\u2019S"} else word


def _fold(word: str) -> str:
    """Lower case without accents."""
    key = word.lower().replace("\u2019", "'")
    if not key.isascii():
        parts = unicodedata.normalize("NFD", key.translate(_ASCII_LETTERS))
        key = "".join(char for char in parts if not unicodedata.combining(char))
    return key


def _table(words: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Which buckets of hashes the words fall into."""
    table = np.zeros(1 << 16, np.bool_)
    table[_bucket(TextBatch(sorted(words)).words.hashes)] = True
    return table


def _rows(starts: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The row that holds each place."""
    return np.searchsorted(starts, places, side="right") - 1


def _bucket(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    return (hashes >> np.uint64(48)).astype(np.intp)
