"""Conversations, as LLaVA writes them or of roles: their captions, and those about no image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, BinaryIO

from synthvlm.captions.readers.records import NO_IMAGE, Fields, Record

__all__ = ["IMAGE_NAMES", "conversations", "first_answer", "has_image", "is_turns"]

#: Fields that name the image of a conversation.
IMAGE_NAMES = re.compile("image|img|photo|picture|^file_?name$|^path$|^url$", re.IGNORECASE)


def conversations(
    read: Callable[[BinaryIO, Fields], Iterator[Record]], file: BinaryIO, fields: Fields
) -> Iterator[Record]:
    """The records of a file of conversations; those without an image are left out if any has one.

    The file is read up to the first that has an image, and then from its start.

    Args:
        read: Reads the file.
        file: The file.
        fields: What is asked for; rows of images are as many either way.
    """
    if fields.image is None:
        chosen = replace(fields, only_with_image=True, say=lambda line: None)
        rows = (row.text is not NO_IMAGE for row in read(file, chosen) if row.problem is None)
        if any(rows):
            fields = replace(fields, only_with_image=True)
        else:
            fields.note("no conversation has an image: all are read")
        file.seek(0)
    yield from read(file, fields)


def is_turns(value: object) -> bool:
    """Whether a value is a conversation, as LLaVA writes it or of roles and contents."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and ({"from", "value"} <= first.keys() or _is_of_roles(value))


def _is_of_roles(value: object) -> bool:
    """Whether turns have roles and contents, as those for servers of models."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and "role" in first and "content" in first


def first_answer(turns: object) -> tuple[object, str | None]:
    """The caption of a conversation, or the problem with it."""
    for turn in turns if isinstance(turns, list) else ():
        if not isinstance(turn, dict):
            continue
        if turn.get("from") == "gpt":
            text = turn.get("value")
            if isinstance(text, str):
                return text, None
            return None, "the first turn from 'gpt' has no text"
        if turn.get("role") == "assistant":
            text = _content(turn.get("content"))
            return text, (None if text else "the first turn of the assistant has no text")
    who = "of the assistant" if _is_of_roles(turns) else "from 'gpt'"
    return None, f"the conversation has no turn {who}"


def _content(content: object) -> str | None:
    """The text of a turn, which may stand in parts of several types."""
    if isinstance(content, list):
        parts = [one.get("text") for one in content if isinstance(one, dict)]
        content = " ".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None


def has_image(value: dict[str, Any], turns: object) -> bool:
    """Whether a conversation is about an image: a field names one, or a question shows one."""
    if any(inner and IMAGE_NAMES.search(name) for name, inner in value.items()):
        return True
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("from") != "gpt" and turn.get("role") != "assistant":
            shown = str(turn.get("value") or turn.get("content"))
            if "<image>" in shown or "'type': 'image" in shown:
                return True
    return False
