"""The method's caption rules and those on length; how texts are measured and judged by rules.

The ratios are those of arXiv 2407.20756 (supplement), that is of the Data-Juicer operators it
names, value for value; so are their default bounds. The rules on length are no part of the method.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthvlm.captions.rules.base import RuleSettings, TextRule, check_measures
from synthvlm.captions.rules.batch import ALNUM, SPECIAL, TextBatch, WordTable
from synthvlm.captions.rules.ngrams import rows_with_repeats, top_repetition, total_repetition
from synthvlm.captions.rules.word_files import entries, package_text, read_text
from synthvlm.components.component import LoadContext
from synthvlm.components.contract import contract
from synthvlm.components.settings import Identify, InHash
from synthvlm.errors import RecipeError

__all__ = [
    "AlnumRatio",
    "CharCount",
    "CharRepRatio",
    "FlaggedWordsRatio",
    "SpecialCharRatio",
    "TextBatch",
    "WordCount",
    "WordRepRatio",
    "failed_rule",
    "load_flagged_words",
    "measure",
]

#: Characters of a batch that ``measure`` makes: its arrays stay within a core's cache.
_BATCH_CHARS = 1 << 16


class AlnumRatio(TextRule):
    """Characters for which ``str.isalnum`` holds over all characters; 0 for an empty text."""

    name: ClassVar[str] = "alnum_ratio"
    label = "Alphanumeric characters"
    needs_english = True  # its bound: vowel signs of Indic scripts are no letters
    default = RuleSettings(min=0.60)

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The share (0 .. 1) of each text, shape (len(batch),)."""
        return batch.share(ALNUM)


class SpecialCharRatio(TextRule):
    """Special characters (spaces, digits, punctuation, emoji, ...) over all; 0 if empty.

    The set is ``batch.special_characters()``.
    """

    name: ClassVar[str] = "special_char_ratio"
    label = "Special characters"
    needs_english = True  # its bounds: by the length of words
    default = RuleSettings(min=0.16534802, max=0.42023757)

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The share (0 .. 1) of each text, shape (len(batch),)."""
        return batch.share(SPECIAL)


class NgramSettings(RuleSettings):
    """Bounds on a repetition ratio of n-grams."""

    ngram: Annotated[int, InHash.ALWAYS] = Field(
        10, ge=1, description="Characters or words of an n-gram."
    )


class CharRepRatio(TextRule):
    """Repetition of character n-grams, see ``ngrams.top_repetition``."""

    name: ClassVar[str] = "char_rep_ratio"
    label = "Character repetition"
    Settings = NgramSettings
    default = NgramSettings(max=0.09373663)

    def __init__(self, ngram: int = 10) -> None:
        """Take n-grams of ``ngram`` characters; ValueError unless at least 1."""
        self.ngram = _positive(ngram)

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The ratio (0 .. 1) of each text, shape (len(batch),)."""
        result = np.zeros(len(batch))
        n = self.ngram
        for row in rows_with_repeats(batch.code_points, batch.starts, n):
            text = batch.texts[row]
            result[row] = top_repetition([text[i : i + n] for i in range(len(text) - n + 1)])
        return result


class WordRepRatio(TextRule):
    """Repetition of n-grams of refined words, see ``ngrams.total_repetition``."""

    name: ClassVar[str] = "word_rep_ratio"
    label = "Word repetition"
    needs_words = True
    Settings = NgramSettings
    default = NgramSettings(max=0.03085751)

    def __init__(self, ngram: int = 10) -> None:
        """Take n-grams of ``ngram`` words; ValueError unless at least 1."""
        self.ngram = _positive(ngram)

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The ratio (0 .. 1) of each text, shape (len(batch),)."""
        result = np.zeros(len(batch))
        n = self.ngram
        for row in rows_with_repeats(batch.words.hashes, batch.words.starts, n):
            words = batch.words.of(row)
            ngrams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
            result[row] = total_repetition(ngrams)
        return result


class FlaggedWordsSettings(RuleSettings):
    """Bounds on the share of flagged words."""

    words: str | None = Field(None, description="JSON word list; default: the built-in list.")


class FlaggedWordsRatio(TextRule):
    """Refined words that are in a list over all refined words; 0 where there is no word."""

    name: ClassVar[str] = "flagged_words_ratio"
    label = "Flagged words"
    needs_english = True  # its built-in list
    needs_words = True
    Settings = FlaggedWordsSettings
    default = FlaggedWordsSettings(max=0.0)

    @classmethod
    def load(cls, settings: FlaggedWordsSettings, context: LoadContext) -> FlaggedWordsRatio:
        """Read the list of words.

        Raises:
            RecipeError: See ``load_flagged_words``.
        """
        return cls(load_flagged_words(settings.words))

    @classmethod
    def identity(cls, settings: FlaggedWordsSettings, identify: Identify) -> object:
        """The words."""
        return sorted(load_flagged_words(settings.words))

    def __init__(self, words: frozenset[str] | None = None) -> None:
        """Flag these words, which must be in lower case; None is the built-in list."""
        self.words = load_flagged_words() if words is None else words
        self._table = WordTable(self.words)

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The share (0 .. 1) of each text, shape (len(batch),)."""
        words = batch.words
        suspects = self._table.suspects(words).tolist()
        flagged = [number for number in suspects if words.word(number) in self.words]
        rows = np.searchsorted(words.starts, flagged, side="right") - 1
        counts = np.bincount(rows, minlength=len(batch))
        return counts / np.maximum(np.diff(words.starts), 1)


def measure(
    texts: Iterable[str], rules: Sequence[TextRule], seconds: dict[str, float] | None = None
) -> dict[str, npt.NDArray[np.float64]]:
    """Measure any number of texts by several rules, in memory bounded apart from the result.

    Args:
        texts: The captions.
        rules: They share what is computed of a batch; the first that needs it pays for it.
        seconds: To each rule's name the time that it took is added.

    Returns:
        For each rule's name, its measure of each text in order; float64, shape (texts,).

    Raises:
        PluginError: A rule fails, or does not give one number for each text; the message names it.
    """
    texts = texts if isinstance(texts, Sequence) else list(texts)
    result = {rule.name: np.zeros(len(texts)) for rule in rules}
    for rows in _batches(texts):
        batch = TextBatch([texts[row] for row in rows])
        for rule in rules:
            began = time.perf_counter()
            with contract("rule", rule.name):
                values = rule.measure(batch)
            check_measures(rule.name, values, len(batch))
            result[rule.name][rows] = values
            if seconds is not None:
                spent = time.perf_counter() - began
                seconds[rule.name] = seconds.get(rule.name, 0.0) + spent
    return result


def failed_rule(
    measures: Mapping[str, npt.ArrayLike],
    bounds: Mapping[str, tuple[float | None, float | None]],
) -> npt.NDArray[np.object_]:
    """Name the first rule that each text fails, None where it fails none.

    Args:
        measures: For each rule's name, one value per text. NaN (or None) means not measured,
            and fails no bound: a rule may not apply, or an earlier one has already failed.
        bounds: For each rule's name its lowest and highest allowed value, both inclusive, None
            for no bound; in the order in which the rules are applied.

    Returns:
        An object array of names and None, shape (n,).

    Raises:
        KeyError: A rule has bounds and no measure.
    """
    size = max((np.size(values) for values in measures.values()), default=0)
    result = np.full(size, None, np.object_)
    for name in reversed(list(bounds)):  # the earliest failure is written last
        low, high = bounds[name]
        values = np.asarray(measures[name], np.float64)
        if low is not None:
            result[values < low] = name
        if high is not None:
            result[values > high] = name
    return result


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Cut texts into batches (of row numbers) of bounded size, ASCII texts apart from others."""
    # One character beyond ASCII would make the arrays of a whole batch four times as wide.
    is_ascii = np.fromiter(map(str.isascii, texts), np.bool_, len(texts))
    sizes = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    for rows in (np.flatnonzero(is_ascii), np.flatnonzero(~is_ascii)):
        numbers = np.cumsum(sizes[rows]) // _BATCH_CHARS
        parts = np.split(rows, np.flatnonzero(np.diff(numbers)) + 1)
        yield from (part.tolist() for part in parts if len(part))


def _positive(ngram: int) -> int:
    if ngram < 1:
        raise ValueError(f"ngram must be at least 1, got {ngram}")
    return ngram


def load_flagged_words(path: str | os.PathLike[str] | None = None) -> frozenset[str]:
    """Read a list of flagged words, in lower case.

    A word is compared with the refined words of a caption, so an entry of several words, or one
    with punctuation at an end, never matches.

    Args:
        path: A JSON object that gives a list of words per language, ``{"en": ["...", ...]}``
            (the format of Data-Juicer; that of ``en`` is read), or a text file with one word a line
            and comment lines that begin with ``#``. None is the built-in English list.

    Raises:
        RecipeError: The file is missing, unreadable, or not of such a format.
    """
    if path is None:
        text = package_text("flagged_words_en.txt")
    else:
        text = read_text(path, "flagged words")
        if Path(path).suffix == ".json":
            return _words_of_json(text, str(path))
    return frozenset(word.lower() for word in entries(text))


def _words_of_json(text: str, path: str) -> frozenset[str]:
    import orjson

    try:
        lists = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RecipeError(f"flagged words: {path} is not valid JSON: {error}") from error
    words = lists.get("en") if isinstance(lists, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise RecipeError(
            f'flagged words: {path} must be a JSON object with a list "en" of strings'
        )
    return frozenset(word.lower() for word in words)


class CharCount(TextRule):
    """Number of characters (code points, spaces too)."""

    name: ClassVar[str] = "char_count"
    label = "Characters"

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The number (0 or more, whole) of each text, shape (len(batch),)."""
        return batch.lengths.astype(np.float64)


class WordCount(TextRule):
    """Number of refined words, see ``batch.Words``: a lone dash or number is none."""

    name: ClassVar[str] = "word_count"
    label = "Words"
    needs_words = True

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The number (0 or more, whole) of each text, shape (len(batch),)."""
        return np.diff(batch.words.starts).astype(np.float64)
