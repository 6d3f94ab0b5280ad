"""People's names by their form: lists of common names, capitals, titles and initials. No model."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from synthvlm.captions.rules.batch import ALNUM, TextBatch, WordTable
from synthvlm.captions.rules.name_text import Word, split_words
from synthvlm.captions.rules.name_words import (
    ABBREVIATIONS,
    CAPITALISED_THINGS,
    OF,
    PARTICLES,
    PLACES,
    SURE_TITLES,
    THINGS,
    TITLES,
    NameList,
    Phrases,
    set_of_words,
)
from synthvlm.captions.rules.unspaced_names import unspaced_names

__all__ = ["NameForms"]

#: What may lie between two words of a name: a space, after a title or an initial also a point.
_GAPS = frozenset({" ", "  "})
_POINTED_GAPS = frozenset({".", ". ", " . ", " .", ".  "})
#: Initials, particles and further given names between a given name and the family name.
_MAX_BETWEEN = 4

#: Behind a given name, that of the father: Russian, Ukrainian, Bulgarian.
_PATRONYMIC = re.compile(r"\w{2,}(?:(?:ов|ев|ьев)ич|ич|(?:ов|ев|ич)н)(?:а|у|ем|ом|е|ы|ои)?\Z")
#: Family names that come first, and what follows them: Chinese and Korean in Latin letters.
_CHINESE = set_of_words(
    "zhang zhao zhou zhu zheng xie deng cao peng zeng xiao cai jiang chen liu yang wang huang lin "
    "guo luo liang xu wu li gao tang feng dong cheng"
)
_SYLLABLE = (
    r"(?:zh|ch|sh|[bpmfdtnlgkhjqxrzcsyw])?"
    r"[iu]?(?:ang|eng|ong|ing|an|en|in|un|ao|ei|ou|ai|ia|ie|ua|uo|ui|[aeiou])"
)
_PINYIN = re.compile(rf"{_SYLLABLE}{{1,2}}\Z")
_KOREAN = set_of_words(
    "kim park lee choi jung jeong kang cho yoon jang lim han shin kwon hwang ahn"
)
#: Vietnamese family names and the word that often follows them.
_VIETNAMESE = set_of_words("nguyen tran le pham hoang huynh phan vu vo dang bui do ho ngo duong ly")
_VIETNAMESE_MIDDLE = set_of_words(
    "van thi huu duc minh ngoc thanh quoc xuan hong kim thuy anh bao dinh"
)


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
    - A family name first: "Zhang Wei", "Tran Thi Mai", "Nagy Istvan".
    - Names in Cyrillic and Greek letters, in their cases; in Arabic, Hebrew, Devanagari, Bengali
      and Tamil ones (both names listed, or a title); Chinese, Japanese, Korean and Thai names, see
      ``unspaced_names``.

    No names are those of brands, breeds, figures of fiction and painters in ``not_people.txt``, and
    those of which a word beside them makes a place or a thing: "Anne Frank House", "rue Victor
    Hugo".

    What it cannot do: it misses given names on their own ("Jane at the beach"), names outside its
    lists, and most names in lower case and in headlines. Of 2,500 names of contributors to Node.js
    it finds six in ten in a sentence with capitals, one in seven in lower case or in a headline. It
    takes companies, and places without such a word, for people, and does not know who is a public
    figure. It lowers the number of names; it does not ensure that none is left. For how well it did
    in which language see ``privacy_figures``. A model (``NameTagger``) finds more.
    """

    def __init__(self) -> None:
        """Load the lists."""
        self.given = NameList.load("given_names.txt")
        self.family = NameList.load("surnames.txt")
        self.no_family = NameList.load("not_surnames_en.txt")
        self._not_people = Phrases.load("not_people.txt")
        self._suspects = _table(self.given.all | TITLES | _CHINESE | _KOREAN | _VIETNAMESE)
        self._lower_case_suspects = _table(self.given.only | SURE_TITLES)

    def find(self, texts: Sequence[str]) -> list[list[str]]:
        """The names in each text, as written, in order; in time linear in its length."""
        names: list[list[str]] = [[] for _ in texts]
        for row in self._candidates(TextBatch(texts)):
            names[row] = self._names(texts[row])
        return names

    def _candidates(self, batch: TextBatch) -> list[int]:
        """Texts that may hold a name."""
        words = batch.words
        lower = np.unique(_rows(words.starts, self._lower_case_suspects.suspects(words)))
        others = np.unique(_rows(words.starts, self._suspects.suspects(words))).tolist()
        unlisted = _rows(batch.starts, _unlisted(batch)).tolist()
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
            phrase_end = self._not_people.end(reader.words, at)
            if end > max(at, phrase_end) and not reader.is_thing(at, end):
                names.append((reader.words[at].start, reader.words[end - 1].end))
            at = max(end, phrase_end, at + 1)
        if not text.isascii():
            names = sorted([*names, *unspaced_names(text)])
        return [text[start:end] for start, end in names]


class _Reader:
    """Reads names from a text, word by word. Ends are exclusive; "no name" ends where it began."""

    def __init__(self, forms: NameForms, text: str) -> None:
        self.words = split_words(text)
        self._text = text
        self._forms = forms
        cased = sum(word.cased for word in self.words)
        capitals = sum(word.capital for word in self.words)
        # Capitals tell nothing where (nearly) every word has one, but for a name on its own.
        some = 0 < capitals <= 0.7 * cased
        self._mixed_case = (some or 0 < capitals <= cased <= 3) and not text.isupper()

    def _capitals_tell(self, word: Word) -> bool:
        """Whether a capital says of a word that it may be a name, and none that it is not."""
        return self._mixed_case and word.cased

    def name_end(self, at: int) -> int:
        """Where the name that begins with a word ends."""
        first = at
        while first - at < 3 and self.words[first].key in TITLES and self._joined(first, True):
            first += 1
        if first > at:
            end = self._full_name(first)
            if end > first or self._is_titled(self.words[first - 1], self.words[first]):
                return self._more(max(end, first + 1))
        end = self._full_name(at)
        return self._family_first(at) if end == at else end

    def is_thing(self, at: int, end: int) -> bool:
        """Whether the words around a name make a place or a thing of it, "Anne Frank House"."""
        if at and self._joined(at - 1, True):
            before = self.words[at - 1].key
            if before in PLACES:
                return True
            if before in OF and at > 1 and self._joined(at - 2):
                return self.words[at - 2].key in PLACES
        if not self._joined(end - 1):
            return False
        behind = self.words[end]
        return behind.key in THINGS or (behind.capital and behind.key in CAPITALISED_THINGS)

    def _is_titled(self, title: Word, word: Word) -> bool:
        """Whether a word behind a title is a name."""
        sure = title.key in SURE_TITLES
        listed = word.key in self._forms.given.all or word.key in self._forms.family.all
        if not self._capitals_tell(word):
            return sure and listed
        known_thing = word.key in self._forms.no_family.all
        return word.capital and len(word.key) > 1 and (listed or (sure and not known_thing))

    def _full_name(self, at: int) -> int:
        """The end of a given name or initials with a family name."""
        if self.words[at].letter:
            return self._initials(at)
        word = self.words[at]
        if word.key not in self._forms.given.all or (
            self._capitals_tell(word) and not word.capital
        ):
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
        if word.letter or not word.capital or len(word.key) < 3 or initials in ABBREVIATIONS:
            return at
        listed = word.key in self._forms.family.all
        free = len(initials) > 1 and self._mixed_case and word.key not in self._forms.no_family.all
        return self._more(here + 1) if here > at and (listed or free) else at

    def _family_first(self, at: int) -> int:
        """The end of a name whose family name comes first."""
        if not self._joined(at):
            return at
        word, following = self.words[at], self.words[at + 1]
        given, family = self._forms.given, self._forms.family
        if word.key in PLACES:
            return at
        if not self._capitals_tell(word):
            is_name = word.key in family.only and following.key in given.only and not word.cased
            return at + 2 if is_name else at
        if not (word.capital and following.capital) or following.letter:
            return at
        if word.key in _VIETNAMESE and following.key in _VIETNAMESE_MIDDLE:
            return at + 3 if self._joined(at + 1) and self.words[at + 2].capital else at
        if (
            (word.key in family.only and following.key in given.capital)
            or (word.key in _CHINESE and _PINYIN.match(following.key))
            or (word.key in _KOREAN and following.double)
        ):
            return self._more(at + 2)
        return at

    def _is_family(self, given: Word, word: Word) -> bool:
        """Whether a word behind that given name is a family name."""
        family = self._forms.family
        is_patronymic = _PATRONYMIC.match(word.key) is not None
        if not self._capitals_tell(word):
            known_thing = word.key in self._forms.no_family.all and word.key not in family.only
            listed = is_patronymic or (word.key in family.all and not known_thing)
            return given.key in self._forms.given.only and listed
        sure = given.key in self._forms.given.capital
        if not word.capital or len(word.key) < 2 or word.letter or word.key in THINGS:
            return False
        if is_patronymic or word.key in family.only or (sure and word.key in family.all):
            return True
        return sure and word.key not in self._forms.no_family.all and word.key not in TITLES

    def _is_second_given(self, given: Word, at: int) -> bool:
        """Whether a word that may be a family name is a given name or particle before one."""
        key = self.words[at].key
        listed = key in self._forms.given.all or key in PARTICLES
        return listed and self._joined(at) and self._is_family(given, self.words[at + 1])

    def _is_between(self, word: Word) -> bool:
        is_given = word.key in self._forms.given.all and (
            word.capital or not self._capitals_tell(word)
        )
        return word.letter or is_given or word.key in PARTICLES

    def _more(self, end: int) -> int:
        """The end of a name with the further family names behind it."""
        while (
            self._mixed_case
            and self._joined(end - 1)
            and (self.words[end].capital or not self.words[end].cased)
            and (
                self.words[end].key in self._forms.family.only
                or _PATRONYMIC.match(self.words[end].key)
            )
        ):
            end += 1
        return end

    def _joined(self, at: int, pointed: bool = False) -> bool:
        """Whether a word and the next one may be of one name."""
        if at + 1 >= len(self.words):
            return False
        gap = self._text[self.words[at].end : self.words[at + 1].start]
        return gap in _GAPS or (pointed and gap in _POINTED_GAPS)


def _table(words: frozenset[str]) -> WordTable:
    """A table of the words in ASCII; texts with others are all read."""
    return WordTable((word for word in words if word.isascii()), bits=20)


def _unlisted(batch: TextBatch) -> npt.NDArray[np.int64]:
    """Where a name may lie in a text in ASCII that no list knows: an initial, "Al-Sayed".

    A capital letter that begins a word and has a point behind it, maybe after a space, or that
    follows a letter and a hyphen.
    """
    symbols = batch.code_points
    places = np.flatnonzero((symbols >= ord("A")) & (symbols <= ord("Z")))

    def near(offset: int) -> npt.NDArray[np.integer]:  # beyond the ends any other character
        return symbols.take(places + offset, mode="clip")

    starts_word = (places == 0) | ((batch.classes.take(places - 1, mode="clip") & ALNUM) == 0)
    points = (near(1) == ord(".")) | ((near(1) == ord(" ")) & (near(2) == ord(".")))
    lower = near(-2) | 0x20
    joined = (near(-1) == ord("-")) & (lower >= ord("a")) & (lower <= ord("z"))
    unlisted: npt.NDArray[np.int64] = places[(starts_word & points) | joined]
    return unlisted


def _rows(starts: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The row that holds each place."""
    return np.searchsorted(starts, places, side="right") - 1
