"""Captions in one JSON document: a list of objects, COCO captions, LLaVA conversations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

from synthvlm.captions.readers.json_lists import items_of_document, items_of_list, items_of_lists
from synthvlm.captions.readers.records import Fields, Record, record_of_object
from synthvlm.errors import CaptionSourceError

__all__ = ["read_coco", "read_json", "read_llava"]


def read_json(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """A list of objects, or an object with one such list, as VQAv2's files of questions are."""
    for number, value in enumerate(items_of_document(file, fields.path), 1):
        yield record_of_object(number, value, fields)


def read_llava(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """A list of LLaVA conversations; the caption is the first answer (``from: gpt``)."""
    fields = replace(fields, text="conversations")
    for number, value in enumerate(items_of_list(file, fields.path), 1):
        record = record_of_object(number, value, fields)
        if record.problem is None and fields.image is None:
            record = record._replace(**_first_answer(record.text))
        yield record


def _first_answer(conversations: object) -> dict[str, Any]:
    for turn in conversations if isinstance(conversations, list) else ():
        if isinstance(turn, dict) and turn.get("from") == "gpt":
            text = turn.get("value")
            if isinstance(text, str):
                return {"text": text}
            return {"text": None, "problem": "the first turn from 'gpt' has no text"}
    return {"text": None, "problem": "'conversations' has no turn from 'gpt'"}


def read_coco(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """COCO captions, an annotation a row; ``fields.image`` is a field of the image's entry.

    Where images are asked for, the image of every image id is held in memory, and the file is
    read twice: the annotations may come first.
    """
    images: dict[Any, Record] = {}
    if fields.image is not None:
        images = _coco_images(file, fields)
        file.seek(0)
    number = 0
    for _, annotation in items_of_lists(file, fields.path, {"annotations"}):
        number += 1
        if fields.image is None or not isinstance(annotation, dict):
            yield record_of_object(number, annotation, fields)
        elif fields.wants(number - 1):
            key = annotation.get("image_id")
            image = images.get(key) if isinstance(key, int | str) else None
            missing = Record(0, problem=f"there is no image with the id {str(key)[:80]!r}")
            yield (image or missing)._replace(where=number)
        else:
            yield Record(number)
    if not number:
        raise CaptionSourceError(f"{fields.path}: there is no list 'annotations' of COCO captions")


def _coco_images(file: BinaryIO, fields: Fields) -> dict[Any, Record]:
    """For each image id, a record of its image or of the problem with it."""
    images: dict[Any, Record] = {}
    for _, image in items_of_lists(file, fields.path, {"images"}):
        if not isinstance(image, dict) or not isinstance(key := image.get("id"), int | str):
            continue  # no annotation can name it
        record = record_of_object(0, image, fields)
        if images.setdefault(key, record) != record:
            problem = f"there are several images with the id {str(key)[:80]!r}"
            images[key] = Record(0, problem=problem)
    return images
