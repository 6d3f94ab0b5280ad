"""Captions in one JSON document, whatever its shape: lists, COCO, conversations, columns, by id."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

from synthvlm.captions.readers.conversations import conversations, is_turns
from synthvlm.captions.readers.file_start import without_mark
from synthvlm.captions.readers.json_rows import check_rows
from synthvlm.captions.readers.json_stream import (
    MAX_KEYS,
    SPACE,
    Member,
    items_of_list,
    members,
    pairs_of_object,
)
from synthvlm.captions.readers.json_values import parse_json
from synthvlm.captions.readers.likely_fields import TextsOfMembers
from synthvlm.captions.readers.objects import holds_text, holds_turns, records_of_object
from synthvlm.captions.readers.records import (
    DEFAULT_TEXT,
    MAX_ITEM_BYTES,
    Fields,
    MissingColumnError,
    Record,
    names_of,
    usual_name,
)
from synthvlm.captions.readers.text_files import read_jsonl
from synthvlm.errors import CaptionSourceError

__all__ = ["IMAGE_OF_SHAPE", "read_coco", "read_json", "read_json_lines", "read_llava"]

#: Stands for the field in which a document of a known shape names its images.
IMAGE_OF_SHAPE = "*"

_CONVERSATIONS = "conversations"
#: Fields of conversations, as LLaVA and as servers of models name them.
_CONVERSATION_NAMES = (_CONVERSATIONS, "messages")
_ANNOTATIONS = "annotations"
_SNIFF_BYTES = 1 << 16
#: Captions of one image; a longer list is a column.
_MOST_OF_AN_ID = 100


def read_json(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """The captions of a JSON document, by its shape.

    A list of objects, of texts or of lists of texts; an object with such a list; an object of
    parallel lists, one of them the captions'; an object of captions, or lists of them, by id; COCO
    captions; LLaVA conversations; a single object; or an object a line.
    """
    start = _start(file, fields.path)
    if start.byte != b"{":
        first = next(items_of_list(file, fields.path), None)
        file.seek(0)
        if isinstance(first, list):
            check_rows(items_of_list(file, fields.path), fields)
            file.seek(0)
        yield from _read_like(first, _read_list, file, fields)
    elif start.has_lines:
        yield from _read_like(start.value, read_jsonl, file, fields)
    else:
        yield from _read_object(file, fields)


def read_json_lines(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """An object a line; or, in such a file all the same, one JSON document."""
    start = _start(file, fields.path)
    is_document = start.byte == b"[" or (start.byte == b"{" and start.is_open)
    if is_document and not start.has_lines:
        if fields.image is None:
            fields.note("read as one JSON document, not as an object a line")
        return read_json(file, fields)
    if isinstance(start.value, list):
        check_rows(_values_of_lines(file.read(_SNIFF_BYTES)), fields)
        file.seek(0)
    return _read_like(start.value, read_jsonl, file, fields)


def _values_of_lines(start: bytes) -> Iterator[Any]:
    """The values of a file's first lines, damaged ones left out."""
    for line in start.splitlines():
        with suppress(json.JSONDecodeError):
            yield parse_json(line)


def read_llava(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """LLaVA conversations, a list or one a line; the caption is the first answer of ``gpt``."""
    fields = replace(fields, text=_CONVERSATIONS, turns=True)
    start = _start(file, fields.path)
    return conversations(_read_list if start.byte != b"{" else read_jsonl, file, fields)


class _Start(NamedTuple):
    """How a JSON file starts.

    Attributes:
        byte: Its first byte that is no white space; b"" of an empty file.
        is_open: Whether the first line is no value by itself.
        has_lines: Whether it seems to hold a value a line, and more than one.
        value: That of the first line, if it is one.
    """

    byte: bytes
    is_open: bool
    has_lines: bool
    value: Any = None


def _start(file: BinaryIO, path: str) -> _Start:
    data = without_mark(file.read(_SNIFF_BYTES), path).lstrip(SPACE)
    while b"\n" not in data[:-1] and 0 < len(data) <= MAX_ITEM_BYTES:
        chunk = file.read(len(data))
        if not chunk:
            break
        data += chunk
    data += file.read(_SNIFF_BYTES)
    file.seek(0)
    line, _, rest = data.replace(b"\r", b"\n").partition(b"\n")
    line, following = line.rstrip(SPACE), rest.lstrip(SPACE)
    try:
        value = parse_json(line if len(line) <= MAX_ITEM_BYTES else b"")
    except json.JSONDecodeError:
        if line.endswith(b"},") and _is_json(line[:-1]):
            return _Start(data[:1], False, True)
        # A damaged first line, and not the start of a longer value.
        has_lines = following[:1] == b"{" and not line.endswith((b"[", b"{", b",", b":"))
        return _Start(data[:1], True, has_lines)
    return _Start(data[:1], False, bool(following), value)


def _is_json(text: bytes) -> bool:
    try:
        parse_json(text)
    except json.JSONDecodeError:
        return False
    return True


def _read_list(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    for number, value in enumerate(items_of_list(file, fields.path, fields.names), 1):
        yield from records_of_object(number, value, fields)


def _read_like(
    first: object,
    read: Callable[[BinaryIO, Fields], Iterator[Record]],
    file: BinaryIO,
    fields: Fields,
) -> Iterator[Record]:
    """The captions of objects like the first one."""
    fields = _by_first(first, fields)
    is_talk = holds_turns(first, fields)
    return conversations(read, file, fields) if is_talk else read(file, fields)


def _by_first(first: object, fields: Fields) -> Fields:
    """What to read from objects like the first one, by which LLaVA's are known."""
    name = _conversation_of(first, fields)
    if name is None:
        return _with_image(fields, None)
    if fields.image is None:
        kind = "LLaVA conversations" if name == _CONVERSATIONS else f"conversations in {name!r}"
        fields.note(f"read as {kind}; captions are the first answers")
    return _with_image(replace(fields, text=name, turns=True), "image")


def _conversation_of(value: object, fields: Fields) -> str | None:
    """The field of an object that is a conversation; None: it has none, or a caption."""
    if not isinstance(value, dict) or fields.text not in ("", DEFAULT_TEXT):
        return None
    if holds_text(value, replace(fields, text=DEFAULT_TEXT)):
        return None
    return next((name for name in _CONVERSATION_NAMES if is_turns(value.get(name))), None)


def _with_image(fields: Fields, name: str | None) -> Fields:
    """The fields, with the one in which a known shape names its images."""
    if fields.image != IMAGE_OF_SHAPE:
        return fields
    if name is None:
        raise fields.no_image_field()
    return replace(fields, image=name)


class _Shape(NamedTuple):
    """What an object is.

    Attributes:
        kind: A ``list`` of objects, ``columns``, captions by ``id``, or ``one`` caption.
        key: Of the list, or of the captions' column.
        fields: What to read.
        first: The first item of the list.
        is_named: Whether the list is named in the field that is asked for.
    """

    kind: str
    key: str
    fields: Fields
    first: object = None
    is_named: bool = False


def _read_object(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    shape = _shape(file, fields)
    file.seek(0)
    fields = shape.fields
    if shape.kind == "list" and shape.key == _ANNOTATIONS and fields.image is not None:
        yield from read_coco(file, fields)
    elif shape.kind == "list":
        read = partial(_read_list_of_object, shape)
        yield from _read_like(shape.first, read, file, fields)
    elif shape.kind == "columns":
        yield from _read_columns(file, shape.key, fields)
    elif shape.kind == "id":
        yield from _read_by_id(file, fields)
    else:
        value = {member.key: member.value() for member in members(file, fields.path, fields.names)}
        yield from records_of_object(1, value, fields)


def _shape(file: BinaryIO, fields: Fields) -> _Shape:
    """The shape of a JSON object, by its members up to the first that holds captions.

    Raises:
        MissingColumnError: None does; the message names what may be meant.
    """
    asked = fields.text or DEFAULT_TEXT
    keys: list[str] = []
    texts = TextsOfMembers()
    is_by_id, holding, value = True, 0, None
    for member in members(file, fields.path, fields.names):
        keys.append(member.key)
        if member.key == asked:
            kind = "one" if member.kind == "value" else "columns"
            return _Shape(kind, member.key, _with_image(fields, None))
        if member.kind == "list":
            items = [*islice(member.items(), _MOST_OF_AN_ID + 1)]
            first = items[0] if items else None
            if _conversation_of(first, fields) is not None:
                return _Shape("list", member.key, _by_first(first, fields), first)
            inner = replace(fields, text=asked.removeprefix(f"{member.key}."))
            if holds_text(first, inner):
                name = "file_name" if member.key == _ANNOTATIONS else None
                is_named = asked != inner.text
                inner = inner if fields.text else fields
                return _Shape("list", member.key, _with_image(inner, name), first, is_named)
            is_texts = all(isinstance(item, str) for item in items)
            is_by_id &= 0 < len(items) <= _MOST_OF_AN_ID and is_texts and asked == DEFAULT_TEXT
            holding += 1
            texts.add(member, items)
        else:
            value = member.value()
            is_by_id &= isinstance(value, dict) or (
                isinstance(value, str) and asked == DEFAULT_TEXT
            )
            holding += isinstance(value, str) or holds_text(value, fields)
            texts.add_object(member.key, value)
        if len(keys) == MAX_KEYS:
            break
    is_by_id &= 2 * holding > len(keys) and (len(keys) > 1 or isinstance(value, dict))
    if not keys or (is_by_id and usual_name(keys) is None):
        return _Shape("id", "", fields)
    raise _no_captions(keys, texts, fields)


def _no_captions(keys: list[str], texts: TextsOfMembers, fields: Fields) -> CaptionSourceError:
    """The error of a JSON object without captions, by its first keys and what they hold."""
    problem = f"this JSON object holds no {fields.text or DEFAULT_TEXT!r}"
    if keys[:3] == ["columns", "index", "data"]:
        problem += ": pandas wrote it with orient='split'; write it with orient='records'"
        return CaptionSourceError(f"{fields.path}: {problem}")
    names, likely = texts.fields()
    if not names:
        problem += ": expected a list of objects, an object with such a list, or an object a line"
    elif likely is None:
        problem += f", only {names_of(names)}"
    return MissingColumnError(fields.path, problem, fields.advice_for(fields.text, names, likely))


def _read_list_of_object(shape: _Shape, file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """The items of one list of an object: the only one with captions, unless it is named."""
    key, is_behind = shape.key, False
    for member in members(file, fields.path, fields.names):
        if member.kind != "list":
            continue
        if member.key == key:
            is_behind = True
            for number, value in enumerate(member.items(), 1):
                yield from records_of_object(number, value, fields)
        elif is_behind and not shape.is_named and holds_text(next(member.items(), None), fields):
            raise CaptionSourceError(
                f"{fields.path}: two lists hold {fields.text!r}, {key!r} and {member.key!r}"
                + fields.advice("text_field", f"{key}.{fields.text}", "; name one of them: ")
            )


def _read_columns(file: BinaryIO, key: str, fields: Fields) -> Iterator[Record]:
    """Parallel lists, or objects of one set of keys; all but the captions' are held in memory."""
    others: dict[str, list[Any]] = {}
    for member in members(file, fields.path, fields.names):
        if member.kind != "value" and member.key in (fields.id, fields.image):
            others[member.key] = [*_column(member)]
    file.seek(0)
    count = 0
    for member in members(file, fields.path, fields.names):
        if member.key == key:
            for count, text in enumerate(_column(member), 1):
                row = {name: values[count - 1 : count] for name, values in others.items()}
                row = {name: value[0] for name, value in row.items() if value}
                yield from records_of_object(count, {**row, key: text}, fields)
    for name, values in others.items():
        if len(values) != count:
            raise CaptionSourceError(
                f"{fields.path}: {key!r} has {count:,} values and {name!r} has {len(values):,}"
            )


def _column(member: Member) -> Iterator[Any]:
    return member.items() if member.kind == "list" else (value for _, value in member.pairs())


def _read_by_id(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """A caption, a list of captions or an object of each id."""
    fields = _with_image(fields, None)
    check_rows(
        (value for _, value in pairs_of_object(file, fields.path)), replace(fields, place=None)
    )
    file.seek(0)
    for number, (key, value) in enumerate(pairs_of_object(file, fields.path), 1):
        if number == 1 and fields.image is None:
            fields.note("read as captions by their ids")
        row = value if isinstance(value, dict) else {DEFAULT_TEXT: value}
        yield from records_of_object(number, {"id": key, **row}, fields)


def read_coco(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """COCO captions, an annotation a row; ``fields.image`` is a field of the image's entry.

    Where images are asked for, the image of every image id is held in memory, and the file is
    read twice: the annotations may come first.
    """
    by_content = fields.advice("format", "json", "; to find the shape by the content: ")
    if _start(file, fields.path).byte == b"[":
        raise CaptionSourceError(f"{fields.path}: a list is no file of COCO captions{by_content}")
    images: dict[Any, Record] = {}
    if fields.image is not None:
        images = _coco_images(file, fields)
        file.seek(0)
    number = 0
    for annotation in _list_named(_ANNOTATIONS, file, fields):
        number += 1
        captions = records_of_object(number, annotation, replace(fields, image=None))
        if fields.image is None or not isinstance(annotation, dict):
            yield from captions
            continue
        key = annotation.get("image_id")
        image = images.get(key) if isinstance(key, int | str) else None
        missing = Record(0, problem=f"there is no image with the id {str(key)[:80]!r}")
        yield from [(image or missing)._replace(where=number)] * len(captions)
    if not number:
        raise CaptionSourceError(
            f"{fields.path}: there is no list 'annotations' of COCO captions{by_content}"
        )


def _list_named(key: str, file: BinaryIO, fields: Fields) -> Iterator[Any]:
    for member in members(file, fields.path, fields.names):
        if member.key == key and member.kind == "list":
            yield from member.items()


def _coco_images(file: BinaryIO, fields: Fields) -> dict[Any, Record]:
    """For each image id, a record of its image or of the problem with it."""
    images: dict[Any, Record] = {}
    fields = replace(fields, text="")
    for image in _list_named("images", file, fields):
        if not isinstance(image, dict) or not isinstance(key := image.get("id"), int | str):
            continue  # no annotation can name it
        (record,) = records_of_object(0, image, fields)
        if images.setdefault(key, record) != record:
            problem = f"there are several images with the id {str(key)[:80]!r}"
            images[key] = Record(0, problem=problem)
    return images
