"""From what a page asks for to rows: search, filters, and their order."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synthvlm.errors import SynthVLMError, nearest
from synthvlm.web.explorer.columns import Column, folded, whole_words, words_in
from synthvlm.web.messages import BadRequestError

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.web.explorer.collection import Collection

__all__ = ["MARKED", "SELECTED", "SIMILARITY", "Answer", "Queries"]

#: The column of what is selected, of collections that are marked.
SELECTED = "selected"
#: The column of the reasons of marks, which changes while pages are open.
MARKED = "marked"
#: What the order of a search by meaning is by.
SIMILARITY = "similarity"
#: Answers, pictures and choices of rows that are kept.
_ANSWERS, _KEPT = 32, 64
#: Rows whose embeddings are made float32 at once: they stay in the processor's cache.
_ROWS = 512
_SIGN_AND_NUMBER = np.int32(-0x70002000)
_PARTS = ("words", "meaning", "like", "filter", "rows", "sort", "descending")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query asks for.

    Attributes:
        rows: In their order, int64.
        similarity: Of all rows of the collection to what they are searched by: float32, NaN where
            one has no embedding; None without such a search.
    """

    rows: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32] | None


class Queries:
    """Answers the queries of pages over a collection; many threads may ask."""

    def __init__(self, collection: Collection) -> None:
        """Take the collection; nothing is computed yet."""
        self._collection = collection
        self._answers: OrderedDict[Any, Answer] = OrderedDict()
        self._vectors: OrderedDict[str, npt.NDArray[np.float32]] = OrderedDict()
        self._choices: OrderedDict[str, npt.NDArray[np.int64]] = OrderedDict()
        self._lock, self._folding, self._numbers = threading.Lock(), threading.Lock(), 0

    @property
    def columns(self) -> dict[str, Column]:
        """All columns, that of the marks as they are now."""
        columns = dict(self._collection.columns)
        if self._collection.reasons:
            first = {SELECTED: columns.pop(SELECTED), MARKED: self._marked()}
            columns = first | columns
        return columns

    def _marked(self) -> Column:
        """The reasons of the marks, as they are now."""
        marks = self._collection.marks()
        names = sorted({mark.reason for mark in marks.values()})
        codes = np.full(len(self._collection.ids), -1, np.int32)
        for row, mark in marks.items():
            codes[row] = names.index(mark.reason)
        return Column(MARKED, "Marked as bad", "category", codes, names)

    def column(self, name: str) -> Column:
        """A column.

        Raises:
            BadRequestError: There is none of that name.
        """
        if name == MARKED and self._collection.reasons:
            return self._marked()
        column = self._collection.columns.get(name)
        if column is None:
            raise BadRequestError(
                f"there is no column {name!r}{nearest(name, self._collection.columns)}"
            )
        return column

    def add_picture(self, data: bytes) -> str:
        """Keep the embedding of a picture to search by; its name in queries."""
        embeddings = self._collection.embeddings
        if embeddings is None:
            raise BadRequestError(self._collection.no_embeddings)
        return self._keep(self._vectors, embeddings.of_picture(data))

    def add_rows(self, rows: Any) -> str:
        """Keep a choice of rows; its name in queries.

        Raises:
            BadRequestError: They are no rows of the collection.
        """
        return self._keep(self._choices, self.checked_rows(rows))

    def checked_rows(self, rows: Any) -> npt.NDArray[np.int64]:
        """Rows that a page names, ascending and distinct.

        Raises:
            BadRequestError: They are no rows of the collection.
        """
        count = len(self._collection.ids)
        if not isinstance(rows, list) or not all(type(row) is int for row in rows):
            raise BadRequestError("rows is not a list of whole numbers")
        if rows and not 0 <= min(rows) <= max(rows) < count:
            raise BadRequestError(f"a row is not from 0 to {count - 1:,}")
        return np.unique(np.array(rows, np.int64))

    def _keep(self, store: OrderedDict[str, Any], value: Any) -> str:
        with self._lock:
            self._numbers += 1
            name = str(self._numbers)
            store[name] = value
            while len(store) > _KEPT:
                store.popitem(last=False)
        return name

    def answer(self, query: Mapping[str, str]) -> Answer:
        """The rows that a query asks for.

        Raises:
            BadRequestError: A part of it is none.
            SynthVLMError: The model of the embeddings cannot be loaded.
        """
        asked = tuple(query.get(name, "") for name in _PARTS)
        marks = tuple((row, mark.reason) for row, mark in self._collection.marks().items())
        key = (asked, hash(marks)) if MARKED in "".join(asked) else (asked, 0)
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        answer = self._answer(query)
        with self._lock:
            self._answers[key] = answer
            while len(self._answers) > _ANSWERS:
                self._answers.popitem(last=False)
        return answer

    def _answer(self, query: Mapping[str, str]) -> Answer:
        mask = np.ones(len(self._collection.ids), bool)
        for name, asked in _filters(query.get("filter", "")).items():
            mask &= self.column(name).matches(asked)
        if query.get("rows"):
            mask &= self._chosen(query["rows"])
        words = query.get("words", "").strip()
        if words:
            mask &= words_in(self._folded, words)
        similarity = self._similarity(query)
        rows = np.flatnonzero(mask)
        descending = query.get("descending", "") in ("1", "true")
        sort = query.get("sort", "")
        if sort and sort != SIMILARITY:
            rows = self.column(sort).order(rows, descending=descending)
        elif similarity is not None:
            nearness = np.nan_to_num(similarity[rows], nan=-2.0)
            rows = rows[np.argsort(-nearness, kind="stable")]
        elif words:
            fitting = whole_words(self._folded.take(rows), words)
            rows = rows[np.argsort(-fitting, kind="stable")]
        return Answer(rows, similarity)

    @property
    def _folded(self) -> pa.Array:
        with self._folding:
            return self._folded_captions

    @cached_property
    def _folded_captions(self) -> pa.Array:
        return folded(self._collection.captions)

    def _chosen(self, name: str) -> npt.NDArray[np.bool_]:
        with self._lock:
            rows = self._choices.get(name)
        if rows is None:
            raise BadRequestError("this choice of rows is no longer kept: make it again")
        mask = np.zeros(len(self._collection.ids), bool)
        mask[rows] = True
        return mask

    def _similarity(self, query: Mapping[str, str]) -> npt.NDArray[np.float32] | None:
        meaning, like = query.get("meaning", "").strip(), query.get("like", "")
        if not meaning and not like:
            return None
        embeddings = self._collection.embeddings
        if embeddings is None:
            raise BadRequestError(self._collection.no_embeddings)
        images = embeddings.images()
        if meaning:
            vector = embeddings.of_text(meaning)
        elif like.startswith("picture:"):
            with self._lock:
                embedding = self._vectors.get(like.removeprefix("picture:"))
            if embedding is None:
                raise BadRequestError("this picture is no longer kept: choose it again")
            vector = embedding
        else:
            row = int(like) if like.isascii() and like.isdigit() and len(like) < 16 else -1
            vector = images[self.checked_rows([row])[0]].astype(np.float32)
            if np.isnan(vector).any():
                raise BadRequestError("this image has no embedding")
        if vector.shape != images.shape[1:]:
            raise SynthVLMError(
                f"the model gives embeddings of {len(vector):,} numbers, and those of the run "
                f"have {images.shape[1]:,}: they are of another model"
            )
        return _cosines(images, vector)


def _cosines(
    vectors: npt.NDArray[np.float16], vector: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Products of many vectors, NaN in the first place or finite, with one: float32, shape (n,).

    numpy makes float32 of float16 number by number, which takes 20 times as long as the products.
    Moved by 13 bits, the bits of a float16 are those of a float32 that is 2**112 times smaller.
    """
    result = np.empty(len(vectors), np.float32)
    bits = np.empty((_ROWS, vectors.shape[1]), np.int32)
    scaled = vector.astype(np.float32) * np.float32(2.0**56)
    for start in range(0, len(vectors), _ROWS):
        part = vectors[start : start + _ROWS].view(np.int16)
        moved = bits[: len(part)]
        np.copyto(moved, part)  # the sign in all the upper bits
        moved <<= 13
        moved &= _SIGN_AND_NUMBER
        result[start : start + _ROWS] = moved.view(np.float32) @ scaled
    result *= np.float32(2.0**56)
    result[np.isnan(vectors[:, 0])] = np.nan
    return result


def _filters(text: str) -> dict[str, Any]:
    """The filters of a query, by the names of their columns."""
    if not text:
        return {}
    try:
        filters = json.loads(text)
    except (ValueError, RecursionError):
        filters = None
    if not isinstance(filters, dict):
        raise BadRequestError("filter is not a JSON object")
    return filters
