"""Whether captions look like captions, or like something else that was read in their place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from synthvlm.captions.readers.records import Fields, usual_name
from synthvlm.data import Caption

__all__ = ["Appearance"]

#: The first captions are looked at, then one of so many.
_FIRST, _EACH = 1000, 50
#: Fewer captions may well be short, or equal.
_FEW, _MANY = 3, 100
#: Of captions, the share of different ones below which they are labels.
_FEW_VALUES = 0.02
_PICTURE = r"\.(?:jpe?g|png|webp|gif|bmp|tiff?)"
_TAGS = (
    "a|b|body|br|div|em|figure|h[1-6]|head|html|i|img|li|meta|p|script|span|strong|table|td|tr|ul"
)


class _Kind(NamedTuple):
    """Something that captions are not.

    Attributes:
        name: Of the kind.
        are: What captions of it are, in words.
        pattern: Matches such a text from its start.
    """

    name: str
    are: str
    pattern: re.Pattern[str]


def _kind(name: str, are: str, pattern: str) -> _Kind:
    return _Kind(name, are, re.compile(pattern, re.IGNORECASE | re.DOTALL))


#: The first that matches counts. Words are of scripts that put blanks between words.
_KINDS = (
    _kind("json", "are JSON", r"\[?\s*\{\s*[\"'}]|[\[(]\s*[\"']|\"[^\"]*\"\s*:|[\[\]{}],?$"),
    _kind("flickr", "begin with names of files", rf"\S+{_PICTURE}(?:\.\d)?#\d+\s"),
    _kind("columns", "are columns, separated by tabs or bars", r"[^\t]*\t|\|.*\|$"),
    _kind("fields", "begin with names of files", rf"\"?\S+{_PICTURE}\"?\s*[,;|\s]"),
    _kind("fields", "hold URLs as fields", r".*[,;|]\s*\"?https?://\S+\"?$|\"?https?://\S+[,;|]\s"),
    _kind("urls", "are URLs", r"(?:https?://|s3://|www\.|data:)\S+$"),
    _kind("files", "are names of files", rf"[^,;]*{_PICTURE}$|(?:[A-Z]:\\|\.{{0,2}}/)\S+$"),
    _kind("html", "are HTML or XML", rf"<(?:!|\?|/?(?:{_TAGS})\b)[^>]*>|<(\w+)[^>]*>.*</\1>$"),
    _kind("numbers", "are numbers or dates", r"(?=.*\d)[\d\s.,:;/+\-%()\[\]>TZex]+$"),
    _kind("fields", "begin with numbers, as rows of a table do", r"\"?\d+\"?\s*[,;|]\s*\D"),
    _kind("ids", "are ids or codes", r"(?=[^\s,]*\d)[!-+\--~]+$|[A-Z0-9+/=_-]{40,}$"),
    _kind("words", "are single words", r"[a-z\u00c0-\u058f][a-z\u00c0-\u058f'_-]*$"),
    _kind("damaged", "hold characters that could not be read", r".*(?:\ufffd.*){3}"),
)


class Appearance:
    """Looks at captions of a source as they pass."""

    def __init__(self, *, are_lines: bool) -> None:
        """Nothing is seen yet.

        Args:
            are_lines: Whether captions are lines of a text file, not fields of something.
        """
        self._are_lines = are_lines
        self._kinds: Counter[_Kind] = Counter()
        self._examples: dict[_Kind, list[str]] = {}
        self._values: set[int] = set()
        self._seen = 0
        self._first = ""

    def watched(self, captions: Iterable[Caption]) -> Iterator[Caption]:
        """Pass captions on, and look at some of them."""
        for caption in captions:
            if caption.row < _FIRST or caption.row % _EACH == 0:
                self._look(caption.text_raw.strip())
            yield caption

    def _look(self, text: str) -> None:
        if not text:
            return
        self._seen += 1
        self._first = self._first or text
        self._values.add(hash(text))
        kind = next((kind for kind in _KINDS if kind.pattern.match(text[:1000])), None)
        if kind is not None:
            self._kinds[kind] += 1
            examples = self._examples.setdefault(kind, [])
            if len(examples) < _MANY:
                examples.append(text)

    def doubts(self, fields: Fields) -> None:
        """Warn if most captions that were looked at are something else, with what may mend it.

        Args:
            fields: Of the source; its path is the name in the warning.
        """
        if 2 * self._kinds.total() > self._seen >= (_FEW if self._are_short() else 1):
            kind = self._kinds.most_common(1)[0][0]
            example = self._examples[kind][0]
            example = repr(example if len(example) <= 60 else f"{example[:57]}...")
            fields.warn(
                f"most texts do not look like captions: of {self._seen:,} looked at, "
                f"{self._kinds[kind]:,} {kind.are}, such as {example}{self._advice(kind, fields)}"
            )
        elif len(self._values) < _FEW_VALUES * self._seen and self._seen >= _MANY:
            fields.warn(
                f"most texts do not look like captions: {self._seen:,} looked at are only "
                f"{len(self._values)} different ones, as labels are{self._other_field(fields)}"
            )

    def _are_short(self) -> bool:
        return all(kind.name in ("words", "ids") for kind in self._kinds)

    def _advice(self, kind: _Kind, fields: Fields) -> str:
        if not self._are_lines:
            return self._other_field(fields)
        examples = self._examples[kind]
        if kind.name == "json":
            has_lines = all(text[0] in "[{" and text[-1] in "]}" for text in examples)
            format = "jsonl" if has_lines and len(examples[0]) > 1 else "json"
            return fields.advice("format", format, "; to read the file as JSON, add ")
        if kind.name == "flickr":
            return fields.advice("format", "flickr", "; to read them apart, add ")
        if kind.name in ("columns", "fields"):
            marks = {mark: sum(mark in text for text in examples) for mark in "\t|;,"}
            mark = max(marks, key=lambda one: marks[one])
            advice = fields.advice("delimiter", mark, "; to read the columns apart, add ")
            name = usual_name([cell.strip(' "') for cell in self._first.split(mark)])
            if name is None:
                name = _longest_column(examples, mark)
                advice += fields.advice("header", False, " ")
            return advice + fields.advice("text_field", name, " ")
        return "; name the file of captions: --captions FILE"

    @staticmethod
    def _other_field(fields: Fields) -> str:
        return fields.advice("text_field", "NAME", "; if captions are in another field, name it: ")


def _longest_column(examples: list[str], mark: str) -> str:
    """The number, from 1, of the column with the most words."""
    words: Counter[int] = Counter()
    for text in examples:
        for number, cell in enumerate(text.split(mark), 1):
            words[number] += len(cell.split())
    return str(words.most_common(1)[0][0])
