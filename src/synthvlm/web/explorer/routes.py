"""The requests that the explorer's page makes, and their answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.data import scorer_of
from synthvlm.web.explorer.pair_map import PairMap
from synthvlm.web.explorer.queries import SELECTED, SIMILARITY, Queries
from synthvlm.web.explorer.thumbnails import Thumbnails, media_type
from synthvlm.web.messages import BadRequestError, Handler, Request, Response, as_json, files

if TYPE_CHECKING:
    from synthvlm.run_folder.marks import Mark
    from synthvlm.web.explorer.collection import Collection
    from synthvlm.web.explorer.columns import Column

__all__ = ["Explorer"]

#: Pairs that a page may ask for at once.
_MOST = 200
#: Characters of a caption in a list of pairs.
_CAPTION = 400


class Explorer:
    """Answers the explorer's page; see docs/explorer.md for each request."""

    def __init__(self, collection: Collection) -> None:
        """Take the collection that is shown."""
        self._collection = collection
        self._queries = Queries(collection)
        self._map = PairMap(collection)
        self._thumbnails = Thumbnails(collection.image)

    def routes(self) -> dict[tuple[str, str], Handler]:
        """The routes of the page, its files among them."""
        return {
            **files(Path(__file__).parent / "static"),
            ("GET", "/api/collection"): self._describe,
            ("GET", "/api/pairs"): self._pairs,
            ("GET", "/api/pair/"): self._pair,
            ("GET", "/thumbnail/"): self._thumbnail,
            ("GET", "/image/"): self._image,
            ("GET", "/api/map"): self._map_content,
            ("GET", "/api/map/state"): lambda request: as_json(self._map.state()),
            ("POST", "/api/map"): lambda request: as_json(self._map.start()),
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
                    "meaning": has_meaning,
                    "picture": has_meaning,
                    "reason_if_not": collection.no_embeddings or None,
                },
                "map": self._map.state(),
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
        began, collection = time.perf_counter(), self._collection
        answer = self._queries.answer(request.query)
        offset = request.number("offset", 0, 2**53)
        limit = request.number("limit", 100, _MOST)
        marks = collection.marks()
        shown = self._shown(request.query.get("sort", ""))
        pairs = []
        rows = answer.rows[offset : offset + limit].tolist()
        collection.expect(rows)
        for row in rows:
            pair = self._row(row, marks, shown)
            if answer.similarity is not None:
                pair["values"][SIMILARITY] = float(answer.similarity[row])
            pairs.append(pair)
        milliseconds = round(1000 * (time.perf_counter() - began), 2)
        return as_json({"total": len(answer.rows), "pairs": pairs, "milliseconds": milliseconds})

    def _shown(self, sort: str) -> list[Column]:
        """The columns whose values a list of pairs shows: the scores, and what it is sorted by."""
        columns = self._collection.columns
        names = [name for name in columns if name == "score" or scorer_of(name) is not None]
        if sort in columns and sort not in names:
            names.append(sort)
        return [columns[name] for name in names]

    def _row(self, row: int, marks: Mapping[int, Mark], shown: Sequence[Column]) -> dict[str, Any]:
        collection = self._collection
        caption = collection.captions[row].as_py()
        selected = collection.columns.get(SELECTED)
        return {
            "row": row,
            "caption_id": collection.ids[row].as_py(),
            "caption": caption[:_CAPTION],
            "is_cut": len(caption) > _CAPTION,
            "selected": None if selected is None else selected.value(row),
            "mark": _mark(marks.get(row)),
            "values": {column.name: column.value(row) for column in shown},
        }

    def _pair(self, request: Request) -> Response:
        row = self._row_of(request.path)
        story = self._collection.story(row)
        for candidate in story["candidates"]:
            index, has_image = candidate["index"], candidate["image"]
            candidate["image"] = f"/image/{row}/{index}" if has_image else None
        pair = self._row(row, self._collection.marks(), ())
        caption = self._collection.captions[row].as_py()
        return as_json({**pair, "caption": caption, "image": f"/image/{row}", **story})

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
        return Response(data, media_type(data), lasting=True)

    def _map_content(self, request: Request) -> Response:
        color = request.query.get("color", "")
        column = self._queries.column(color) if color else None
        matches = self._queries.answer(request.query).rows
        return Response(self._map.content(matches, column), "application/octet-stream")

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
        changed = self._collection.mark(rows, "" if removed else reason.strip(), note)
        marks = self._collection.marks()
        now = {str(row): _mark(marks.get(row)) for row in rows}
        return as_json({"changed": changed, "count": len(marks), "marks": now})

    def _row_of(self, text: str) -> int:
        count = len(self._collection.ids)
        if not (text.isascii() and text.isdigit() and len(text) < 16) or int(text) >= count:
            raise BadRequestError(f"there is no row {text!r:.40}: rows are 0 to {count - 1:,}")
        return int(text)


def _mark(mark: Mark | None) -> dict[str, str] | None:
    return None if mark is None else {"reason": mark.reason, "note": mark.note}
