"""The data-set card that users edit: a marked part is ours, all else stays theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from synthvlm.data import digest
from synthvlm.errors import RunFolderError

__all__ = ["BEGIN", "END", "card_facts_of", "is_intact", "merged_card"]

BEGIN = "<!-- synthvlm: each export writes this part anew; what you write outside of it stays -->"
END = "<!-- synthvlm: end of that part -->"
#: Keys of the header by which the data set is read; no user's value would be right.
_ALWAYS_OURS = ("configs", "size_categories")


class _Card(NamedTuple):
    """A card: its header, and the body before, in and after our part (None where there is none)."""

    header: dict[str, Any]
    before: str
    part: str | None
    after: str


def card_facts_of(generated: str) -> dict[str, Any]:
    """What a marker keeps of a generated card, to tell later what a user changed of it."""
    card = _parsed(generated)
    return {"part": _checksum(card.part), "header": card.header}


def is_intact(card: bytes, facts: Mapping[str, Any] | None) -> bool:
    """Whether a card still holds the part, and names the files, that an export wrote.

    Args:
        card: As it is now.
        facts: Of ``card_facts_of`` of that export; None where it kept none.
    """
    if facts is None:
        return False
    try:
        present = _parsed(card.decode("utf-8"))
    except (RunFolderError, UnicodeDecodeError):
        return False
    header = facts["header"]
    return _checksum(present.part) == facts["part"] and all(
        present.header.get(key) == header.get(key) for key in _ALWAYS_OURS
    )


def merged_card(generated: str, present: str, facts: Mapping[str, Any] | None) -> str:
    """A new card with all that a user wrote into the present one.

    Of the header, keys and values that differ from what the last export wrote are the user's.

    Args:
        generated: The new card.
        present: The card with the user's changes.
        facts: Of ``card_facts_of`` of the card that the user changed; None where none are kept.

    Raises:
        RunFolderError: The header of the present card is not readable.
    """
    new, old = _parsed(generated), _parsed(present)
    last = None if facts is None else facts["header"]
    header = yaml.safe_dump(_merged_header(new.header, old.header, last), sort_keys=False)
    before, after = (old.before, old.after) if old.part is not None else ("", old.before)
    body = f"{BEGIN}{new.part}{END}"
    return f"---\n{header}---\n{before or chr(10)}{body}{_apart(after)}"


def _apart(text: str) -> str:
    return text if text.startswith("\n") else f"\n\n{text}" if text else "\n"


def _merged_header(
    new: Mapping[str, Any], old: Mapping[str, Any], last: Mapping[str, Any] | None
) -> dict[str, Any]:
    merged = {}
    for key in dict.fromkeys([*old, *new]):
        if key in _ALWAYS_OURS or last is None:
            is_users = key not in new and key not in _ALWAYS_OURS
        else:
            is_users = old.get(key) != last.get(key)
        source = old if is_users else new
        if key in source:
            merged[key] = source[key]
    return merged


def _parsed(card: str) -> _Card:
    text = card.replace("\r\n", "\n").removeprefix("\ufeff")
    header: Any = {}
    if text.startswith("---\n"):
        front, closing, body = text[4:].partition("\n---\n")
        try:
            header = yaml.safe_load(front) if closing else None
        except (yaml.YAMLError, ValueError, RecursionError):
            header = None
        if not isinstance(header, dict):
            raise RunFolderError(
                "dataset/README.md: its header, between two lines of ---, is not valid YAML: mend "
                "it, or delete the file"
            )
        text = body
    before, begin, rest = text.partition(BEGIN)
    if not begin:
        return _Card(header, text, None, "")
    # Without its end, our part goes to the end of the file, which may have been cut off.
    part, _, after = rest.partition(END)
    return _Card(header, before, part, after)


def _checksum(part: str | None) -> str | None:
    return None if part is None else digest([part.encode("utf-8", "surrogatepass")])
