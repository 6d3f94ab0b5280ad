"""Whether captions look like captions, or like something else that was read in their place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from synthvlm.captions.readers.records import Fields, usual_name, wordiest_column
from synthvlm.data import Caption

__all__ = ["Appearance", "kind_of_text"]

#: The first captions are looked at, and one of so many of all; their values, of fewer.
_FIRST, _EACH, _EACH_VALUE = 1000, 10, 50
#: Captions of a block, and of a stretch of blocks that is long.
_BLOCK, _LONG = 500, 1000
#: Fewer captions may well be short, or equal.
_FEW, _MANY = 3, 100
#: Of captions, the share of different ones below which they are labels.
_FEW_VALUES = 0.02
_PICTURE = r"\.(?:jpe?g|png|webp|gif|bmp|tiff?)"
_TAGS = (
    "a|b|body|br|div|em|figure|h[1-6]|head|html|i|img|li|meta|p|script|span|strong|table|td|tr|ul"
)
_YAML_KEYS = "captions?|text|prompt|image(?:_id)?|id|url|file_?name"
_IDS = r"(?=\S*[a-z])\S*\d{5,}\S*|\d{9,}\S*|[a-z]\S*_\d\S*|[0-9a-f]{16,}"
_MARKS = r"\(?#?\d{1,7}[.):]|\(?[a-z][.)]|#+|#\d+|\[\d+\]|[-*+\u2022\u2023\u25aa\u25cf\u2013]"
_CODE = (
    r"(?:def|class|function)\s+\w+[:({]|@\w+\{|import\s+[\w.]+(?:\s+as\s+\w+)?;?$|from\s+[\w.]+\s+import\s"
    r"|#include|//|/\*|\*/|@\w+$|(?:return|raise|yield|assert|public|private|static|const|let|var)\s.*[;=({\])]"
    r"|(?:if|for|while|elif|with|else|try|except)\b.*[:{]$|[a-z_][\w.\[\]]*\s*[-+*/]?=\s*\S"
    r"|[a-z_][\w.]*\(.*\)\s*;?$|.*[;{]$|\};?$"
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
    _kind(
        "nulls",
        "stand for no value",
        r"(?:\(?null\)?|none|nil|nan|#?n/?a|<na>|\\n|undefined|-+|\?+)\.?$",
    ),
    _kind("entities", "hold the marks of Flickr30k Entities", r".*\[/EN#\d+"),
    _kind("sql", "are SQL", r"(?:insert into|(?:create|drop) table)\s|\(\d+,\s*'.*\)\s*[,;]$"),
    _kind("rtf", "are RTF or LaTeX", r"\{?\\[a-z]+\d*(?:[\\{\s]|$)|.*\\(?:par|line|\\)$"),
    _kind("yaml", "are YAML", rf"-\s+[\w-]+:(?:\s|$)|(?:{_YAML_KEYS}):\s"),
    _kind(
        "json",
        "are JSON",
        r"\[?\s*\{\s*[\"'}]|[\[(]\s*(?:\d+\s*,\s*)?[\"']|\"[^\"]*\"\s*:|[\[\]{}],?$",
    ),
    _kind("quoted", "are in quotes, as in a list", r"([\"']).*\1\s*[,\]]+;?$"),
    _kind("quoted", "are in single quotes", r"'.*'$"),
    _kind("flickr", "begin with names of files", rf"\S+{_PICTURE}(?:\.\d)?#\d+\s"),
    _kind("columns", "are columns, separated by tabs or bars", r"[^\t]*\t|\|.*\|$"),
    _kind("fields", "begin with names of files", rf"\"?\S+{_PICTURE}\"?\s*[,;|\s]"),
    _kind("fields", "hold URLs as fields", r".*[,;|]\s*\"?https?://\S+\"?$|\"?https?://\S+[,;|]\s"),
    _kind("urls", "are URLs", r"(?:https?://|s3://|www\.|data:)\S+$"),
    _kind("files", "are names of files", rf"[^,;]*{_PICTURE}$|(?:[A-Z]:\\|\.{{0,2}}/)\S+$"),
    _kind("html", "are HTML or XML", rf"<(?:!|\?|/?(?:{_TAGS})\b)[^>]*>|<(\w+)[^>]*>.*</\1>$"),
    _kind("code", "are program code", _CODE),
    _kind("numbers", "are numbers or dates", r"(?=.*\d)[\d\s.,:;/+\-%()\[\]>TZex]+$"),
    _kind("fields", "begin with numbers, as rows of a table do", r"\"?\d+\"?\s*[,;|]\s*\D"),
    _kind("fields", "end in numbers, as rows of a table do", r"\S+\s.*[^\s\d]\"?[,;|]\"?\d+\"?$"),
    _kind("fields", "begin with ids", rf"(?:{_IDS})\s+\S"),
    _kind("lists", "begin with the marks of a list", rf"(?:{_MARKS})\s+\S|\d{{1,7}}\u3001"),
    _kind("ids", "are ids or codes", r"(?=[^\s,]*\d)[!-+\--~]+$|[A-Z0-9+/=_-]{40,}$"),
    _kind("words", "are single words", r"[a-z\u00c0-\u058f][a-z\u00c0-\u058f'_-]*$"),
    _kind("damaged", "hold characters that could not be read", r".*(?:\ufffd.*){3}"),
)


def kind_of_text(text: str) -> str | None:
    """What a text is instead of a caption; None where nothing shows that it is no caption."""
    kind = _kind_of(text)
    return None if kind is None else kind.name


def _kind_of(text: str) -> _Kind | None:
    return next((kind for kind in _KINDS if kind.pattern.match(text[:1000])), None)


class _Tally:
    """How many of some captions are of each kind, with examples."""

    def __init__(self) -> None:
        self.seen = 0
        self.kinds: Counter[_Kind] = Counter()
        self.examples: dict[_Kind, list[str]] = {}

    def add(self, text: str, kind: _Kind | None) -> None:
        self.seen += 1
        if kind is not None:
            self.kinds[kind] += 1
            examples = self.examples.setdefault(kind, [])
            if len(examples) < _MANY:
                examples.append(text)

    @property
    def is_doubtful(self) -> bool:
        """Whether most are something else; a few may well be short."""
        are_short = all(kind.name in ("words", "ids") for kind in self.kinds)
        return 2 * self.kinds.total() > self.seen >= (_FEW if are_short else 1)

    def finding(self) -> tuple[_Kind, str]:
        """The most frequent kind, and a message that counts it."""
        kind = self.kinds.most_common(1)[0][0]
        example = self.examples[kind][0]
        example = repr(example if len(example) <= 60 else f"{example[:57]}...")
        count = self.kinds[kind]
        return kind, f"of {self.seen:,} looked at, {count:,} {kind.are}, such as {example}"


class _Stretch(_Tally):
    """Blocks of captions, one behind the other, in each of which most are something else.

    Attributes:
        first: The number of the first caption, from 1.
        last: That of the last one.
    """

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first, self.last = first, first

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    def join(self, other: _Stretch) -> None:
        self.last = other.last
        self.seen += other.seen
        self.kinds.update(other.kinds)
        self.examples = {**other.examples, **self.examples}


class Appearance:
    """Looks at captions of a source as they pass."""

    def __init__(self, *, are_lines: bool) -> None:
        """Nothing is seen yet.

        Args:
            are_lines: Whether captions are lines of a text file, not fields of something.
        """
        self._are_lines = are_lines
        self._start, self._sample = _Tally(), _Tally()
        self._block: _Stretch | None = None
        self._stretch: _Stretch | None = None
        self._longest: _Stretch | None = None
        self._values: set[int] = set()
        self._valued = 0
        self._first = ""

    def watched(self, captions: Iterable[Caption]) -> Iterator[Caption]:
        """Pass captions on, and look at some of them."""
        for number, caption in enumerate(captions):
            if number < _FIRST or number % _EACH == 0:
                self._look(number, caption.text_raw.strip())
            yield caption

    def _look(self, number: int, text: str) -> None:
        if number % _BLOCK == 0:
            self._end_block()
            self._block = _Stretch(number + 1)
        if not text:
            return
        self._first = self._first or text
        kind = _kind_of(text)
        if number < _FIRST:
            self._start.add(text, kind)
        if number % _EACH == 0:
            self._sample.add(text, kind)
            if self._block is not None:
                self._block.add(text, kind)
                self._block.last = number + _EACH
        if number < _FIRST or number % _EACH_VALUE == 0:
            self._values.add(hash(text))
            self._valued += 1

    def _end_block(self) -> None:
        """Join the last block to those before it, if most of it is something else."""
        block, self._block = self._block, None
        if block is None:
            return
        if not block.is_doubtful:
            self._stretch = None
            return
        if self._stretch is None:
            self._stretch = block
        else:
            self._stretch.join(block)
        if self._longest is None or self._stretch.size > self._longest.size:
            self._longest = self._stretch

    def warn(self, fields: Fields) -> None:
        """Warn if most captions, or most of a long stretch, are something else.

        Args:
            fields: Of the source; its path is the name in the warning.
        """
        self._end_block()
        whole = self._start if self._sample.seen * _EACH <= _FIRST else self._sample
        long = self._longest
        if whole.is_doubtful:
            kind, message = whole.finding()
            advice = self._advice(kind, whole.examples[kind], fields)
            fields.warn(f"most texts do not look like captions: {message}{advice}")
        elif long is not None and long.size >= _LONG:
            _, message = long.finding()
            fields.warn(
                f"most texts from about number {long.first:,} to {long.last:,} do not look like "
                f"captions: {message}; if they are something else, take them out of the file"
            )
        elif len(self._values) < _FEW_VALUES * self._valued and self._valued >= _MANY:
            fields.warn(
                f"most texts do not look like captions: {self._valued:,} looked at are only "
                f"{len(self._values)} different ones, as labels are{self._other_field(fields)}"
            )

    def _advice(self, kind: _Kind, examples: list[str], fields: Fields) -> str:
        if not self._are_lines:
            return self._other_field(fields)
        if kind.name == "json" or (kind.name == "quoted" and self._first[0] in "[{"):
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
                name = str(wordiest_column(text.split(mark) for text in examples) + 1)
                advice += fields.advice("header", False, " ")
            return advice + fields.advice("text_field", name, " ")
        return "; name the file of captions: --captions FILE"

    @staticmethod
    def _other_field(fields: Fields) -> str:
        return fields.advice("text_field", "NAME", "; if captions are in another field, name it: ")
