"""The requests that the explorer's page makes, and their answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.web.explorer.queries import SIMILARITY, Queries
from synthvlm.web.explorer.thumbnails import Thumbnails, image_type
from synthvlm.web.server import BadRequestError, Handler, Request, Response, as_json, files

if TYPE_CHECKING:
    from synthvlm.web.explorer.collection import Collection

__all__ = ["Explorer"]

#: Pairs that a page may ask for at once.
_MOST = 1000


class Explorer:
    """Answers the explorer's page; see docs/explorer.md for each request."""

    def __init__(self, collection: Collection) -> None:
        """Take the collection that is shown."""
        self._collection = collection
        self._queries = Queries(collection)
        self._thumbnails = Thumbnails(collection.image)

    def routes(self) -> dict[tuple[str, str], Handler]:
        """The routes of the page, its files among them."""
        here = Path(__file__).parent
        folders = [
            folder for folder in (here / "static", here.parent / "static") if folder.is_dir()
        ]
        return {
            **files(*filter(Path.is_dir, folders)),
            ("GET", "/api/collection"): self._describe,
            ("GET", "/api/pairs"): self._pairs,
            ("GET", "/api/pair/"): self._pair,
            ("GET", "/thumbnail/"): self._thumbnail,
            ("GET", "/image/"): self._image,
            ("POST", "/api/picture"): self._picture,
            ("POST", "/api/rows"): self._rows,
            ("POST", "/api/marks"): self._mark,
        }

    def _describe(self, request: Request) -> Response:
        collection = self._collection
        has_meaning = collection.embeddings is not None
        return as_json(
            {
                "name": collection.name,
                "kind": collection.kind,
                "pairs": len(collection.ids),
                "columns": [column.description for column in self._queries.columns.values()],
                "search": {
                    "words": True,
                    "meaning": has_meaning,
                    "picture": has_meaning,
                    "reason_if_not": collection.no_embeddings or None,
                },
                "marks": {
                    "writable": bool(collection.reasons),
                    "reason_if_not": collection.not_markable or None,
                    "count": len(collection.marks()),
                    "reasons": list(collection.reasons),
                },
                "notes": list(collection.notes),
            }
        )

    def _pairs(self, request: Request) -> Response:
        began = time.perf_counter()
        answer = self._queries.answer(request.query)
        offset = request.number("offset", 0, 2**53)
        limit = request.number("limit", 100, _MOST)
        marks = self._collection.marks()
        pairs = []
        for row in answer.rows[offset : offset + limit].tolist():
            pair = self._row(row, marks)
            if answer.similarity is not None:
                pair["values"][SIMILARITY] = float(answer.similarity[row])
            pairs.append(pair)
        milliseconds = round(1000 * (time.perf_counter() - began), 2)
        return as_json({"total": len(answer.rows), "pairs": pairs, "milliseconds": milliseconds})

    def _row(self, row: int, marks: Mapping[int, Any]) -> dict[str, Any]:
        collection = self._collection
        mark = marks.get(row)
        columns = collection.columns
        values = {name: column.value(row) for name, column in columns.items()}
        return {
            "row": row,
            "caption_id": collection.ids[row].as_py(),
            "index": values.get("index"),
            "caption": collection.captions[row].as_py(),
            "selected": values.get("selected"),
            "mark": None if mark is None else {"reason": mark.reason, "note": mark.note},
            "values": values,
        }

    def _pair(self, request: Request) -> Response:
        row = self._row_of(request.path)
        story = self._collection.story(row)
        for candidate in story["candidates"]:
            if candidate["image"] is not None:
                candidate["image"] = f"/image/{row}/{candidate['index']}"
        return as_json({**self._row(row, self._collection.marks()), **story})

    def _thumbnail(self, request: Request) -> Response:
        data, kind = self._thumbnails.of(self._row_of(request.path))
        return Response(data, kind, lasting=True)

    def _image(self, request: Request) -> Response:
        first, slash, second = request.path.partition("/")
        row = self._row_of(first)
        if not slash:
            data: bytes | None = self._collection.image(row)
        else:
            if not (second.isascii() and second.isdigit() and len(second) < 9):
                raise BadRequestError("a candidate is a whole number")
            data = self._collection.candidate_image(row, int(second))
        if data is None:
            return as_json({"error": "no image of this candidate is kept"}, 404)
        return Response(data, image_type(data), lasting=True)

    def _picture(self, request: Request) -> Response:
        return as_json({"picture": self._queries.add_picture(request.body)})

    def _rows(self, request: Request) -> Response:
        return as_json({"rows": self._queries.add_rows(request.json().get("rows"))})

    def _mark(self, request: Request) -> Response:
        asked = request.json()
        if not self._collection.reasons:
            raise BadRequestError(self._collection.not_markable)
        rows = self._queries.checked_rows(asked.get("rows")).tolist()
        reason, note = asked.get("reason") or "", asked.get("note") or ""
        if not isinstance(reason, str) or not isinstance(note, str):
            raise BadRequestError("reason and note are texts")
        removed = asked.get("removed") is True
        if not reason.strip() and not removed:
            raise BadRequestError("a mark needs a reason")
        self._collection.mark(rows, "" if removed else reason.strip(), note)
        return as_json({"count": len(self._collection.marks())})

    def _row_of(self, text: str) -> int:
        count = len(self._collection.ids)
        if not (text.isascii() and text.isdigit() and len(text) < 16) or int(text) >= count:
            raise BadRequestError(f"there is no row {text!r:.40}: rows are 0 to {count - 1:,}")
        return int(text)
