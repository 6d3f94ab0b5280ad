"""Which files of a data set ``datasets`` reads: its configurations and their splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import get_args

from synthvlm.exporters import EXPORTERS, Split

__all__ = ["Configurations", "configurations"]

#: More files than these, each of up to 400 MB, are named by a pattern.
_MOST_NAMED = 1000

#: For each configuration the files of its splits, or one pattern.
Configurations = Mapping[str, Mapping[str, Sequence[str]]]


def configurations(formats: Sequence[str], names: Iterable[str]) -> Configurations:
    """What the card names: files, so that one that was put beside them is no part of the data set.

    The first format that ``datasets`` reads is the configuration ``default``. Others have the name
    of their format; they need the same kind of file, for ``datasets`` reads one kind by a card.

    Args:
        formats: Names of exporters.
        names: All files of the data set.
    """
    tables = {name: pattern for name in formats if (pattern := EXPORTERS[name].tables)}
    kind = next((pattern.rpartition(".")[2] for pattern in tables.values()), "")
    patterns = {
        ("default" if number == 0 else name, split): pattern.format(split=split)
        for number, (name, pattern) in enumerate(tables.items())
        if pattern.endswith(kind)
        for split in get_args(Split)
    }
    files: dict[tuple[str, str], list[str]] = {place: [] for place in patterns}
    for name in names:
        for place, pattern in patterns.items():
            if fnmatchcase(name, pattern):
                files[place].append(name)
    found: dict[str, dict[str, Sequence[str]]] = {}
    for place, those in files.items():
        if those:
            are_few = len(those) <= _MOST_NAMED
            found.setdefault(place[0], {})[place[1]] = those if are_few else [patterns[place]]
    return found
