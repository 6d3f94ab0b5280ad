"""Which fields of a file hold texts, and which one is likely to hold captions, for advice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from synthvlm.captions.readers.appearance import kind_of_text
from synthvlm.captions.readers.conversations import first_answer, is_turns
from synthvlm.captions.readers.json_stream import Member
from synthvlm.captions.readers.records import usual_name

__all__ = ["TextsOfMembers", "likely_field", "texts_of"]

#: From so many texts on, it counts how different they are.
_SOME = 3
_FEW_VALUES = 0.2
#: Words of a caption, on average, in a field of an unknown name.
_LEAST_WORDS = 3
#: Parts of places in which texts are of something else than of images.
_OTHERS = re.compile(
    r"(^|\.)(licen[cs]es?|categories|info)\.|(^|[._])(id|url|key|path|split|image|licen[cs]e|name"
    r"|file_?name|column|role|type|(super)?category|language|index)s?$",
    re.IGNORECASE,
)


def likely_field(texts: Mapping[str, Sequence[str]]) -> str | None:
    """The field that is the likeliest for captions; None: none looks like them.

    Args:
        texts: Some texts of each field, by its name or place.
    """
    known = [name for name in texts if _is_plausible(texts[name])]
    if (usual := usual_name(known)) is not None:
        return usual
    words = {name: _words(texts[name]) for name in known if not _OTHERS.search(name)}
    for name, count in words.items():
        if usual_name(re.split(r"[\W_]+", name)) and (count >= _LEAST_WORDS or not texts[name]):
            return name
    if words and max(words.values()) >= _LEAST_WORDS:
        return max(words, key=lambda name: words[name])
    sole = [name for name in texts if not _OTHERS.search(name)]
    return sole[0] if len(sole) == 1 and sole[0] in known and len(texts[sole[0]]) < _SOME else None


def _is_plausible(texts: Sequence[str]) -> bool:
    """Whether texts may be captions: of most, nothing shows that they are something else."""
    texts = [text.strip() for text in texts if text.strip()]
    kinds = [kind_of_text(text) for text in texts]
    are_some = len(texts) >= _SOME
    others = sum(kind is not None and (are_some or kind != "words") for kind in kinds)
    if 2 * others > len(texts):
        return False
    return not are_some or len(set(texts)) > max(1.0, _FEW_VALUES * len(texts))


def _words(texts: Sequence[str]) -> float:
    """Words of a text, on average; of scripts without blanks, two characters are one."""
    sizes = [max(len(text.split()), sum(c > "\u2e80" for c in text) // 2) for text in texts]
    sizes = [size for size in sizes if size]
    return sum(sizes) / max(len(sizes), 1)


def texts_of(values: Iterable[object]) -> dict[str, list[str]]:
    """The fields of objects that hold text, or lists of it, by the places of nested ones."""
    texts: dict[str, list[str]] = {}
    for value in values:
        if isinstance(value, dict):
            _add_texts(texts, value, "", 3)
    return texts


def _add_texts(texts: dict[str, list[str]], value: dict[str, Any], place: str, depth: int) -> None:
    for name, inner in value.items():
        one = inner[0] if isinstance(inner, list) and inner else inner
        if is_turns(inner):
            answer = first_answer(inner)[0]
            texts.setdefault(place + name, []).append(answer if isinstance(answer, str) else "")
        elif isinstance(one, str):
            texts.setdefault(place + name, []).append(one)
        elif isinstance(one, dict) and depth:
            _add_texts(texts, one, f"{place}{name}.", depth - 1)


class TextsOfMembers:
    """The texts that the lists of an object hold, or the objects of an object by ids."""

    def __init__(self) -> None:
        """Nothing is seen yet."""
        self._lists: list[tuple[int, str, dict[str, list[str]]]] = []
        self._values: list[object] = []
        self._other: list[str] = []

    def add(self, member: Member, items: list[Any]) -> None:
        """Take the first items of a list; the rest is read and counted."""
        texts = texts_of(items)
        strings = [item for item in items if isinstance(item, str)]
        if strings:
            texts[member.key] = strings
        count = len(items) + sum(1 for _ in member.items())
        self._lists.append((count, member.key, texts))

    def add_object(self, key: str, value: object) -> None:
        """Take a member that is no list."""
        if isinstance(value, str):
            self._other.append(key)
        self._values.append(value)

    def fields(self) -> tuple[list[str], str | None]:
        """The fields that hold text, and the likeliest for captions, of the longest list."""
        if not self._lists and all(isinstance(value, dict) for value in self._values):
            texts = texts_of(self._values)
            return [*texts], likely_field(texts)
        names = Counter(name for _, _, texts in self._lists for name in texts)
        places, best = [*self._other], None
        for _, key, texts in sorted(self._lists, key=lambda one: -one[0]):
            # A name that stands in several lists does not tell which one.
            own = {name if names[name] == 1 else f"{key}.{name}": texts[name] for name in texts}
            places += own
            best = best or likely_field(own)
        return places, best
