"""Which texts a JSON object holds, where its captions are not found: for advice in messages."""

from __future__ import annotations

from collections import Counter
from typing import Any

from synthvlm.captions.readers.json_stream import Member
from synthvlm.captions.readers.likely_fields import likely_field
from synthvlm.captions.readers.objects import texts_of

__all__ = ["TextsOfMembers"]


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

    def found(self) -> tuple[list[str], str | None]:
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
