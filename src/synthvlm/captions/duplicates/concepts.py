"""Concept balancing: which concepts a caption mentions, and no more than so many of each.

After MetaCLIP ("Demystifying CLIP Data", arXiv 2309.16671, algorithm 1): a caption is sampled for
each concept it mentions with probability min(1, cap / captions that mention it), and stays if it
is sampled for any. Frequent concepts are cut, and a caption with a rare concept always stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from synthvlm.captions.rules.batch import TextBatch
from synthvlm.captions.rules.ngrams import BASE, mix
from synthvlm.errors import RecipeError

__all__ = ["ConceptMatcher", "Mentions", "cap_per_concept", "frequent_concepts", "word_forms"]

#: Distinct words that ``frequent_concepts`` counts at once.
_MAX_DISTINCT_WORDS = 2_000_000


@dataclass(frozen=True, slots=True)
class Mentions:
    """Which concepts each text mentions: the layout of an Arrow list array.

    Attributes:
        concepts: Numbers of concepts, row after row; increasing and distinct within a row; int32,
            shape (mentions,).
        starts: Where each row starts in ``concepts``, and the length of it; int64, shape
            (rows + 1,).
    """

    concepts: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1

    def of(self, row: int) -> list[int]:
        """The concepts of one row."""
        numbers: list[int] = self.concepts[self.starts[row] : self.starts[row + 1]].tolist()
        return numbers

    @classmethod
    def concatenate(cls, parts: Sequence[Mentions]) -> Mentions:
        """The rows of all parts, one part after another."""
        counts = [np.diff(part.starts) for part in parts]
        concepts = [np.zeros(0, np.int32), *(part.concepts for part in parts)]
        return cls(np.concatenate(concepts), _starts(np.concatenate([np.zeros(0, int), *counts])))


class ConceptMatcher:
    """Finds the concepts that texts mention.

    A concept is a word or phrase. It is mentioned where its refined words stand in that order as
    whole words; the last of them may be in the singular or the plural (``word_forms``): "hot dog"
    finds "Hot dogs!", not "hotdog". A mention of a phrase is also one of a concept within it
    ("dog" in "hot dogs").

    Attributes:
        concepts: The concepts by number, as given. One that has the same forms as an earlier one
            ("dogs" after "dog") is left out.
    """

    def __init__(self, concepts: Sequence[str]) -> None:
        """Prepare the search.

        Raises:
            RecipeError: There is no concept, or one without a word.
        """
        words = TextBatch(concepts).words
        owner: dict[str, int] = {}
        used: list[str] = []
        for row, concept in enumerate(concepts):
            phrase = words.of(row)
            if not phrase:
                raise RecipeError(f"concepts: {concept!r} (entry {row + 1}) holds no word")
            if " ".join(phrase) in owner:
                continue
            for form in sorted(word_forms(phrase[-1])):
                owner.setdefault(" ".join([*phrase[:-1], form]), len(used))
            used.append(concept)
        if not used:
            raise RecipeError("concepts: the list is empty; name at least one")
        self.concepts = tuple(used)
        self._tables = _hash_tables(owner)

    def match(self, batch: TextBatch) -> Mentions:
        """The concepts that each text mentions; len(batch) rows."""
        words = batch.words
        rows_of_words = np.repeat(np.arange(len(batch)), np.diff(words.starts))
        mention_keys = [np.zeros(0, np.int64)]
        for length, (hashes, numbers) in self._tables.items():
            if len(words.hashes) < length:
                continue
            grams = _phrase_hashes(words.hashes, length)
            at = np.minimum(np.searchsorted(hashes, grams), len(hashes) - 1)
            rows = rows_of_words[: len(grams)]
            # A phrase must not run over the end of its text.
            whole = rows == rows_of_words[length - 1 :]
            # 64 bits tell all phrases apart, so the words are not compared again.
            hit = np.flatnonzero((hashes[at] == grams) & whole)
            mention_keys.append(rows[hit] << 32 | numbers[at[hit]])
        keys = np.unique(np.concatenate(mention_keys))
        counts = np.bincount(keys >> 32, minlength=len(batch))
        return Mentions((keys & 0xFFFFFFFF).astype(np.int32), _starts(counts))


def cap_per_concept(
    mentions: Mentions,
    cap: int,
    order_keys: npt.NDArray[Any] | tuple[npt.NDArray[Any], ...],
    *,
    keep_unmatched: bool = True,
) -> npt.NDArray[np.bool_]:
    """Which captions stay when each concept picks its first ``cap`` captions.

    This is MetaCLIP's sampling (see the module) with the draws replaced by an order that all
    concepts share: a caption stays if it is among the first ``cap`` of any concept it mentions.
    So every concept keeps at least min(cap, captions that mention it), a caption with a concept of
    at most ``cap`` captions always stays, and a frequent concept keeps more than ``cap`` only
    through captions that another concept picked. The result depends on the keys, not on the order
    of the rows, as long as no two captions are equal in all keys (of those, the earlier row comes
    first).

    Args:
        mentions: The concepts of each caption.
        cap: Captions that each concept picks, at least 1.
        order_keys: One sortable number per caption, smaller first; shape (n,). A stable hash of
            the caption's id draws at random, a negative score prefers the best. Of a tuple of
            arrays the first decides, and each next one breaks the ties left. No NaN.
        keep_unmatched: Whether a caption that mentions no concept stays (MetaCLIP drops it).

    Returns:
        True where a caption stays, shape (n,).

    Raises:
        ValueError: ``cap`` is below 1, or the number of keys is not that of captions.
    """
    if cap < 1:
        raise ValueError(f"cap must be at least 1, got {cap}")
    keys = order_keys if isinstance(order_keys, tuple) else (order_keys,)
    if not keys or any(key.shape != (len(mentions),) for key in keys):
        raise ValueError(f"order_keys must hold one key for each of the {len(mentions)} captions")
    counts = np.diff(mentions.starts)
    is_kept: npt.NDArray[np.bool_] = (counts == 0) & keep_unmatched
    by_rank = np.lexsort(keys[::-1])  # lexsort's last key is the first to decide
    rank = np.empty(len(mentions), np.int64)
    rank[by_rank] = np.arange(len(mentions))
    # One flat sort puts the captions of each concept in order.
    picks = mentions.concepts.astype(np.int64) << 32 | np.repeat(rank, counts)
    picks.sort()
    concepts = picks >> 32
    firsts = np.flatnonzero(np.diff(concepts, prepend=-1))
    places = np.arange(len(picks)) - np.repeat(firsts, np.diff(firsts, append=len(picks)))
    is_kept[by_rank[picks[places < cap] & 0xFFFFFFFF]] = True
    return is_kept


def frequent_concepts(batches: Iterable[TextBatch], n: int) -> list[str]:
    """Propose the n words that most captions mention, stop words left out; English.

    What is left of a caption's refined words without ``data/stop_words_en.txt``, words under three
    characters and words with no letter at all is mostly its nouns. Singular and plural count as
    one word, written in the singular if any caption does. Beyond two million distinct words, those
    seen once are forgotten, so that memory stays bounded.

    Returns:
        Up to n words, most frequent first, equally frequent ones in alphabetical order.
    """
    counts: dict[str, int] = {}
    for batch in batches:
        words = batch.words
        rows = np.repeat(np.arange(len(batch)), np.diff(words.starts))
        order = np.lexsort((rows, words.hashes))
        hashes, rows = words.hashes[order], rows[order]
        is_new_word = np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]
        is_new_row = np.append(True, rows[1:] != rows[:-1])[: len(rows)]
        captions = np.append(0, np.cumsum(is_new_word | is_new_row))  # before each place
        firsts = np.flatnonzero(is_new_word)
        captions_per_word = np.diff(captions[np.append(firsts, len(hashes))])
        for number, count in zip(order[firsts].tolist(), captions_per_word.tolist(), strict=True):
            word = words.word(number)
            counts[word] = counts.get(word, 0) + count
        if len(counts) > _MAX_DISTINCT_WORDS:
            counts = {word: count for word, count in counts.items() if count > 1}
    counts = {word: count for word, count in counts.items() if _may_be_concept(word)}
    for word in sorted(counts):
        plural = _plural(word)
        if plural != word and word in counts and plural in counts:
            counts[word] += counts.pop(plural)
    return sorted(counts, key=lambda word: (-counts[word], word))[:n]


def word_forms(word: str) -> frozenset[str]:
    """Singular and plural of an English noun, itself among them, whichever of them it is.

    The plural is the word with "s", "es" after s, x, z, ch and sh, "ies" for a "y" after a
    consonant, or what ``data/irregular_plurals_en.txt`` says. A singular is any word that has this
    plural, real or not ("movie" and "movy"); no word on -ss, -us or -is is taken for a plural.
    """
    singulars = {one for one in _singular_candidates(word) if _plural(one) == word}
    return frozenset({word, *singulars} | ({_plural(word)} if not singulars else set()))


def _plural(word: str) -> str:
    irregular = _irregular_plurals().get(word)
    if irregular is not None:
        return irregular
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in {"a", "e", "i", "o", "u", ""}:
        return f"{word[:-1]}ies"
    return f"{word}s"


def _singular_candidates(word: str) -> set[str]:
    irregular = {one for one, many in _irregular_plurals().items() if many == word}
    if irregular or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return irregular
    candidates = {word[:-1]}
    if word.endswith("es"):
        candidates |= {word[:-2], f"{word[:-3]}y"}
    return candidates


def _may_be_concept(word: str) -> bool:
    return len(word) > 2 and word not in _stop_words() and any(map(str.isalpha, word))


@cache
def _irregular_plurals() -> dict[str, str]:
    return dict(line.split() for line in _data_lines("irregular_plurals_en.txt"))


@cache
def _stop_words() -> frozenset[str]:
    return frozenset(word for line in _data_lines("stop_words_en.txt") for word in line.split())


def _data_lines(name: str) -> list[str]:
    lines = files(__package__).joinpath("data", name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _hash_tables(
    owner: dict[str, int],
) -> dict[int, tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]]:
    """For each number of words: the sorted hashes of the phrases, and their concepts."""
    batch = TextBatch(list(owner))
    lengths = np.diff(batch.words.starts)
    numbers = np.fromiter(owner.values(), np.int64, len(owner))
    tables = {}
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        hashes = _phrase_hashes(batch.words.hashes, length)[batch.words.starts[rows]]
        order = np.argsort(hashes)
        tables[length] = hashes[order], numbers[rows[order]]
    return tables


def _phrase_hashes(words: npt.NDArray[np.uint64], length: int) -> npt.NDArray[np.uint64]:
    """Hash of the ``length`` words from each word on, shape (len(words) - length + 1,)."""
    hashes = words.copy()
    for offset in range(1, length):
        hashes = hashes[:-1] * np.uint64(BASE) + words[offset:]
    return mix(hashes)


def _starts(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
