"""LLaVA conversations, read as a stream and checked record by record."""

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

__all__ = ["IMAGE_MARK", "BadRecord", "Conversation", "Turn", "read_conversations"]

#: Stands for the image in a human turn.
IMAGE_MARK = "<image>"
_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NAMES = json_names(["id", "image", "conversations", "from", "value"])
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
    """

    id: str
    image: str | None
    turns: tuple[Turn, ...]
    where: str = ""


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
    """The records of a LLaVA JSON file, a list or JSON Lines, in order; one in memory at a time.

    Raises:
        CaptionSourceError: The file cannot be read, or is neither.
    """
    try:
        with open(path, "rb") as file:
            for number, value in enumerate(_values(file, path), 1):
                yield _record(value, path, number)
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
    raise CaptionSourceError(f"{path}: expected LLaVA conversations, a JSON list or JSON Lines")


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


def _record(value: Any, path: str, number: int) -> Conversation | BadRecord:
    identity = value.get("id") if isinstance(value, dict) else None
    name = str(identity) if isinstance(identity, str | int) and is_utf8(str(identity)) else ""
    shown = " ".join(name[:80].split())  # a line break would forge lines of ours
    where = f"{path}, record {number}" + (f" (id {shown})" if shown else "")
    problem = _problem(value)
    if problem is not None:
        return BadRecord(where, problem)
    turns = tuple(Turn(turn["from"], turn["value"]) for turn in _talk(value["conversations"]))
    return Conversation(name, value.get("image"), turns, where)


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
