"""Conversations, read as a stream and checked record by record.

A record is one of LLaVA (``conversations`` of ``from`` and ``value``, ``image``), or of messages
(``messages`` of ``role`` and ``content``, ``images``), as TRL, ms-swift, LLaMA-Factory and Axolotl
read them. Either becomes a ``Conversation``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal

from synthvlm.captions.readers.json_stream import items_of_list
from synthvlm.captions.readers.json_values import json_names, parse_json
from synthvlm.captions.readers.objects import is_utf8
from synthvlm.errors import CaptionSourceError

__all__ = [
    "IMAGE_MARK",
    "BadRecord",
    "Conversation",
    "Turn",
    "conversation_of",
    "holds_messages",
    "read_conversations",
]

#: Stands for the image in a human turn.
IMAGE_MARK = "<image>"
_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NAMES = json_names(
    ["id", "image", "conversations", "from", "value", "messages", "images", "role", "content"]
)
_MAX_LINE_BYTES = 64 << 20

_NOT_A_RECORD = "it is no JSON object"
_NO_CONVERSATIONS = "it has no conversations"
_BAD_TURN = "a turn is not {from: human or gpt, value: text}"
_ORDER = "its turns are not human, gpt, human, gpt ..."
_NO_MARK = "it has an image, but no <image> in a human turn"
_MARKS = "it has <image> in more than one turn"
_NO_IMAGE = "it has <image>, but no image"
_ANSWER_MARK = "<image> stands in an answer"
_IMAGE_NAME = "its image is no name of a file within the folder of images"
_IMAGES = "it has more than one image"
_BAD_MESSAGE = "a message is not {role: system, user or assistant, content: text or parts of it}"
#: Parts of a message that are an image, and where they may name it.
_IMAGE_PARTS, _IMAGE_KEYS = ("image", "image_url"), ("image", "path", "url", "image_url")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker wrote."""

    speaker: Literal["human", "gpt"]
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in the order human, gpt, human, gpt ..., about at most one image.

    What LLaVA's own loader takes is taken: a first turn of gpt is left out, the last question may
    have no answer, an answer may be empty.

    Attributes:
        id: Of the record, as written; empty where it has none.
        image: As written, relative to the folder of images; None for text alone.
        turns: At least one. Where there is an image, exactly one of the human turns holds
            ``<image>``.
        where: ``FILE, record N (id X)``, for messages.
        system: What a system turn before them says; None without one.
    """

    id: str
    image: str | None
    turns: tuple[Turn, ...]
    where: str = ""
    system: str | None = None


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be used.

    Attributes:
        where: ``FILE, record N (id X)``.
        problem: One of a few fixed texts.
    """

    where: str
    problem: str


def read_conversations(path: str) -> Iterator[Conversation | BadRecord]:
    """The records of a JSON file, a list or JSON Lines, in order; one in memory at a time.

    Raises:
        CaptionSourceError: The file cannot be read, or is neither.
    """
    try:
        with open(path, "rb") as file:
            for number, value in enumerate(_values(file, path), 1):
                yield conversation_of(value, path, number)
    except OSError as error:
        raise CaptionSourceError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # NUL in the path
        raise CaptionSourceError(f"{path!r} cannot be read: {error}") from None


def _values(file: BinaryIO, path: str) -> Iterator[Any]:
    start = file.read(4096).removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)
    file.seek(0)
    if start[:1] == b"[":
        return items_of_list(file, path, _NAMES)
    if start[:1] == b"{":
        return _lines(file, path)
    raise CaptionSourceError(
        f"{path}: expected conversations or messages, a JSON list or JSON Lines"
    )


def _lines(file: BinaryIO, path: str) -> Iterator[Any]:
    number = 0
    while line := file.readline(_MAX_LINE_BYTES):
        number += 1
        line = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if not line.strip(_SPACE):
            continue
        try:
            yield parse_json(line, _NAMES)
        except json.JSONDecodeError:
            if number == 1:
                raise CaptionSourceError(
                    f"{path} line 1: neither a JSON list nor JSON Lines"
                ) from None
            yield None


def holds_messages(path: str) -> bool:
    """Whether the first record of a JSON file is one of messages.

    Raises:
        CaptionSourceError: As ``read_conversations``.
    """
    try:
        with open(path, "rb") as file:
            return _is_of_messages(next(_values(file, path), None))
    except (OSError, ValueError):
        return False  # reading it says why


def conversation_of(value: Any, path: str, number: int) -> Conversation | BadRecord:
    """A record, checked.

    Args:
        value: As parsed from JSON, or the row of a table.
        path: Of its file, for messages.
        number: Of the record in it, from 1.
    """
    identity = value.get("id") if isinstance(value, dict) else None
    name = str(identity) if isinstance(identity, str | int) and is_utf8(str(identity)) else ""
    shown = " ".join(name[:80].split())  # a line break would forge lines of ours
    where = f"{path}, record {number}" + (f" (id {shown})" if shown else "")
    system = problem = None
    if _is_of_messages(value):
        value, system = _of_messages(value)
        problem = value if isinstance(value, str) else None
    problem = problem or _problem(value)
    if problem is not None:
        return BadRecord(where, problem)
    turns = tuple(Turn(turn["from"], turn["value"]) for turn in _talk(value["conversations"]))
    return Conversation(name, value.get("image"), turns, where, system)


def _is_of_messages(value: Any) -> bool:
    return isinstance(value, dict) and "messages" in value and "conversations" not in value


def _of_messages(value: dict[str, Any]) -> tuple[dict[str, Any] | str, str | None]:
    """A record of messages as one of LLaVA, or what is wrong with it; and the system turn."""
    given = value.get("images", value.get("image"))
    images = [] if given is None else list(given) if isinstance(given, list) else [given]
    messages = value["messages"]
    if not isinstance(messages, list) or not messages:
        return _NO_CONVERSATIONS, None
    turns: list[dict[str, Any]] = []
    system = None
    for message in messages:
        text = _text_of(message, images)
        role = message.get("role") if text is not None else None
        if text is None or role not in ("system", "user", "assistant"):
            return _BAD_MESSAGE, None
        if role != "system":
            turns.append({"from": "human" if role == "user" else "gpt", "value": text})
        elif turns or system is not None:
            return _ORDER, None
        else:
            system = text
    names = [one.get("path") if isinstance(one, dict) else one for one in images]
    if len(names) > 1:
        return _IMAGES, None
    if names and turns and not any(IMAGE_MARK in turn["value"] for turn in turns):
        # As TRL and ms-swift read it: the image stands before the first question.
        turns[0]["value"] = f"{IMAGE_MARK}\n{turns[0]['value']}"
    return {"image": names[0] if names else None, "conversations": turns}, system


def _text_of(message: Any, images: list[Any]) -> str | None:
    """The text of a message, with marks for images; those that its parts name join ``images``."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content if is_utf8(content) else None
    if not isinstance(content, list):
        return None
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str) and is_utf8(part["text"]):
            texts.append(part["text"])
        elif kind in _IMAGE_PARTS:
            texts.append(IMAGE_MARK)
            images += [part[key] for key in _IMAGE_KEYS if part.get(key) is not None][:1]
        else:
            return None
    return "\n".join(texts)


def _problem(value: Any) -> str | None:
    if not isinstance(value, dict):
        return _NOT_A_RECORD
    turns, image = value.get("conversations"), value.get("image")
    if not isinstance(turns, list) or not turns:
        return _NO_CONVERSATIONS
    if not all(_is_turn(turn) for turn in turns):
        return _BAD_TURN
    talk = _talk(turns)
    if not talk or any(turn["from"] != ("human", "gpt")[n % 2] for n, turn in enumerate(talk)):
        return _ORDER
    if any(IMAGE_MARK in turn["value"] for turn in talk[1::2]):
        return _ANSWER_MARK
    return _image_problem(image, sum(IMAGE_MARK in turn["value"] for turn in talk[::2]))


def _talk(turns: list[Any]) -> list[Any]:
    """The turns from the first that may be a question on."""
    return turns[turns[0]["from"] == "gpt" :]


def _image_problem(image: Any, marks: int) -> str | None:
    if image is None:
        return _NO_IMAGE if marks else None
    if not isinstance(image, str) or not is_utf8(image) or not _is_inside(image):
        return _IMAGE_NAME
    if marks != 1:
        return _MARKS if marks else _NO_MARK
    return None


def _is_turn(turn: Any) -> bool:
    return (
        isinstance(turn, dict)
        and turn.get("from") in ("human", "gpt")
        and isinstance(turn.get("value"), str)
        and is_utf8(turn["value"])
    )


def _is_inside(name: str) -> bool:
    """Whether a name can only be of a file within the folder of images: it is untrusted."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (
        bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name
    )
