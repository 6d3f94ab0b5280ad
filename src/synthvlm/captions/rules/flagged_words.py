"""The list of words that a caption must not hold."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from synthvlm.errors import RecipeError

__all__ = ["load_flagged_words"]


def load_flagged_words(
    path: str | os.PathLike[str] | None = None, language: str = "en"
) -> frozenset[str]:
    """Read a list of flagged words, in lower case.

    A word is compared with the refined words of a caption, so an entry of several words, or one
    with punctuation at an end, never matches.

    Args:
        path: A JSON object that gives a list of words per language, ``{"en": ["...", ...]}``
            (the format of Data-Juicer), or a text file with one word a line and comment lines
            that begin with ``#``. None is the built-in English list.
        language: Which list of a JSON file.

    Raises:
        RecipeError: The file is missing, unreadable, or not of such a format.
    """
    if path is None:
        source = files(__package__).joinpath("data", "flagged_words_en.txt")
        return _words_of_lines(source.read_text("utf-8"))
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RecipeError(f"flagged words: cannot read {path}: {reason}") from error
    if Path(path).suffix == ".json":
        return _words_of_json(text, str(path), language)
    return _words_of_lines(text)


def _words_of_lines(text: str) -> frozenset[str]:
    lines = (line.strip().lower() for line in text.splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _words_of_json(text: str, path: str, language: str) -> frozenset[str]:
    import orjson

    try:
        lists = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RecipeError(f"flagged words: {path} is not valid JSON: {error}") from error
    words = lists.get(language) if isinstance(lists, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise RecipeError(
            f'flagged words: {path} must be a JSON object with a list "{language}" of strings'
        )
    return frozenset(word.lower() for word in words)
