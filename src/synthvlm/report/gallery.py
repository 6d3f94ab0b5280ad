"""The gallery: which pairs the report shows, and the content of their cards.

Texts and images are read for these pairs only.
"""

from __future__ import annotations

import base64
import heapq
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.data import fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["Card", "CardReader", "Loser", "Part", "Picture", "build_gallery", "picture"]

#: Longest side of an embedded image in pixels; larger images are scaled down.
MAX_SIDE = 384
#: Images up to this many pixels are shown without smoothing, which would invent detail.
_PIXEL_SIDE = 128
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image for the page as a data URI, and the size of the original in pixels."""

    src: str
    width: int
    height: int

    @property
    def pixelated(self) -> bool:
        """Whether it is so small that it should be shown without smoothing."""
        return max(self.width, self.height) <= _PIXEL_SIDE


def picture(data: bytes, max_side: int = MAX_SIDE) -> Picture | None:
    """Prepare an image for a page, up to so many pixels; None if the bytes are not an image."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=list(_TYPES)) as image:
            width, height = image.size
            kind = image.format or ""
            if max(width, height) > max_side:
                small = image.convert("RGB")
                small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
                sink = io.BytesIO()
                small.save(sink, "WEBP", quality=80)
                data, kind = sink.getvalue(), "WEBP"
            else:
                image.load()  # the bytes are embedded unchanged, if they decode
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    text = base64.b64encode(data).decode("ascii")
    return Picture(f"data:{_TYPES[kind]};base64,{text}", width, height)


Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Loser:
    """A candidate that was not chosen; its scores are None if it failed."""

    index: int
    score: float | None
    scores: Mapping[str, float | None]
    status: str
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class Card:
    """A pair: its place among all pairs, and its rank in the selection or why it has none.

    ``remarks`` are what scorers have to say besides their numbers, by the columns of the remarks,
    a line each.
    """

    caption_id: str
    text: str
    source: str
    index: int
    seed: int
    scores: Mapping[str, float]
    remarks: Mapping[str, Sequence[str]]
    score: float
    place: int
    rank: int | None
    reason: str | None
    picture: Picture | None
    losers: tuple[Loser, ...]


class CardReader:
    """Reads captions, images, losers and thumbnails of given pairs, shard by shard."""

    def __init__(
        self,
        run: RunFolder,
        curated: Mapping[int, Marker],
        generated: Mapping[int, Marker],
        rows: Iterable[Mapping[str, Any]],
        scores: Sequence[str],
        remarks: Sequence[str] = (),
    ) -> None:
        """Read what the cards of the given pairs need; an image may be missing.

        Args:
            run: The run folder.
            curated: Markers of the curate stage.
            generated: Markers of the generate stage.
            rows: The pairs.
            scores: The columns of the scorers' scores.
            remarks: The columns of the scorers' remarks.
        """
        self._run, self._scores, self._remarks = run, scores, remarks
        self._texts: dict[str, tuple[str, str]] = {}
        self._pictures: dict[Key, Picture | None] = {}
        self._candidates: dict[str, list[dict[str, Any]]] = {}
        self._thumbnails: dict[Key, Picture | None] = {}
        ids: dict[int, set[str]] = {}
        winners: dict[int, set[Key]] = {}
        for row in rows:
            ids.setdefault(row["shard"], set()).add(row["caption_id"])
            winners.setdefault(row["shard"], set()).add((row["caption_id"], row["index"]))
        for shard in sorted(ids):
            self._read_captions(curated.get(shard), ids[shard])
            self._read_shard(generated[shard], ids[shard], winners[shard])

    def card(
        self, place: int, row: Mapping[str, Any], lowest: Mapping[str, float], why: str
    ) -> Card:
        """The card of one of the pairs.

        Args:
            place: Zero-based, among all pairs.
            row: The pair, as given before.
            lowest: Minimum scores of the selection.
            why: Why it is not selected if it has them.
        """
        id, index = row["caption_id"], row["index"]
        text, source = self._texts.get(id, ("", ""))
        rank = row.get("rank")
        below = _below(row, lowest)
        reason = f"{below} is below the recipe's minimum" if below else why
        return Card(
            caption_id=id,
            text=text,
            source=source,
            index=index,
            seed=row["seed"],
            scores={name: row[name] for name in self._scores},
            remarks=self._remarks_of(id, index),
            score=row["score"],
            place=place + 1,
            rank=rank,
            reason=reason if "rank" in row and rank is None else None,
            picture=self._pictures.get((id, index)),
            losers=tuple(self._losers(id, index)),
        )

    def _remarks_of(self, id: str, index: int) -> dict[str, Sequence[str]]:
        rows = (row for row in self._candidates.get(id, ()) if row["index"] == index)
        return {name: row[name].splitlines() for row in rows for name in self._remarks if row[name]}

    def _losers(self, id: str, winner: int) -> Iterator[Loser]:
        """The losers of a caption that has thumbnails, best first, failed ones last."""
        rows = [row for row in self._candidates.get(id, ()) if row["index"] != winner]
        if not any((id, row["index"]) in self._thumbnails for row in rows):
            return
        for row in sorted(rows, key=lambda r: (r["score"] is None, -(r["score"] or 0), r["index"])):
            yield Loser(
                row["index"],
                row["score"],
                {name: row[name] for name in self._scores},
                row["status"],
                self._thumbnails.get((id, row["index"])),
            )

    def _read_captions(self, marker: Marker | None, ids: set[str]) -> None:
        for row in self._rows(marker, "captions", "id", ["id", "text", "source"], ids):
            self._texts[row["id"]] = row["text"], row["source"]

    def _read_shard(self, marker: Marker, ids: set[str], winners: set[Key]) -> None:
        columns = ["caption_id", "index", "score", *self._scores, *self._remarks, "status"]
        for row in self._rows(marker, "candidates", "caption_id", columns, ids):
            self._candidates.setdefault(row["caption_id"], []).append(row)
        name = marker.file("pairs")
        if name is not None:
            for row in self._run.iter_rows(name, "caption_id", ids):
                if _key(row) in winners:
                    self._pictures[_key(row)] = picture(row["image"])
        name = marker.file("previews")
        if name is not None:
            for row in self._run.iter_rows(name, "caption_id", ids):
                self._thumbnails[_key(row)] = picture(row["thumbnail"])

    def _rows(
        self, marker: Marker | None, folder: str, key: str, columns: list[str], ids: set[str]
    ) -> list[dict[str, Any]]:
        import pyarrow as pa
        import pyarrow.compute as pc

        name = marker.file(folder) if marker is not None else None
        if name is None:
            return []
        table = self._run.read_table(name, columns)
        rows: list[dict[str, Any]] = table.filter(
            pc.is_in(table[key], pa.array(sorted(ids), pa.string()))
        ).to_pylist()
        return rows


def _key(row: Mapping[str, Any]) -> Key:
    return row["caption_id"], row["index"]


def _below(row: Mapping[str, Any], lowest: Mapping[str, float]) -> str | None:
    """The first score below the minimum of the selection, if any."""
    return next((name for name, bound in lowest.items() if row[name] < bound), None)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the gallery."""

    name: str
    title: str
    about: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    name: str
    title: str
    about: str
    places: Sequence[int]


def build_gallery(
    run: RunFolder,
    pairs: pa.Table,
    curated: Mapping[int, Marker],
    generated: Mapping[int, Marker],
    *,
    size: int,
    min_scores: Mapping[str, float],
    is_by_score: bool,
    scores: Sequence[str],
    remarks: Sequence[str] = (),
) -> tuple[Part, ...]:
    """Choose up to ``size`` pairs for each part, and read what their cards show.

    Args:
        run: The run folder.
        pairs: From ``read_candidates``, best first; with ``rank`` if there is a selection.
        curated: Markers of the captions.
        generated: Markers of the candidates.
        size: Cards in each part.
        min_scores: Minimum scores of the selection: they explain why a pair was left out.
        is_by_score: Whether the best by score are selected: there is a border then.
        scores: The columns of the scorers' scores.
        remarks: The columns of the scorers' remarks.
    """
    if not size or not pairs.num_rows:
        return ()
    choices = _by_score(pairs, size, min_scores, is_by_score=is_by_score)
    contested = _contested(run, pairs, generated, size)
    if contested:
        about = "Captions chosen by a hash of their id, with the candidates that lost."
        choices.append(_Choice("losers", "Winner and losers", about, contested))
    places = sorted({place for choice in choices for place in choice.places})
    rows = {place: pairs.slice(place, 1).to_pylist()[0] for place in places}
    reader = CardReader(run, curated, generated, list(rows.values()), scores, remarks)
    why = "below the cut" if is_by_score else "not selected"
    cards = {place: reader.card(place, row, min_scores, why) for place, row in rows.items()}
    return tuple(
        Part(c.name, c.title, c.about, tuple(cards[place] for place in c.places)) for c in choices
    )


def _by_score(
    pairs: pa.Table, size: int, lowest: Mapping[str, float], *, is_by_score: bool
) -> list[_Choice]:
    import numpy as np

    count = pairs.num_rows
    if "rank" not in pairs.column_names:
        bottom = range(count - 1, max(-1, count - 1 - size), -1)
        return [
            _Choice(
                "best", "Best", "The highest scores; no selection yet.", range(min(size, count))
            ),
            _Choice("rejected", "Lowest", "The lowest scores; no selection yet.", bottom),
        ]
    rejected = pairs["rank"].is_null().to_numpy()
    selected, left_out = np.flatnonzero(~rejected).tolist(), np.flatnonzero(rejected).tolist()
    bounded = np.zeros(count, np.bool_)
    for name, bound in lowest.items():
        bounded |= pairs[name].to_numpy() < bound
    # Nearest to the cut are pairs left out by rank alone, then those below a minimum score.
    missed = [*np.flatnonzero(rejected & ~bounded), *np.flatnonzero(rejected & bounded)]
    just_missed = [int(place) for place in missed[: size // 2]]
    has_border = is_by_score and bool(just_missed)
    border = [*selected[-(size - len(just_missed)) :], *just_missed] if has_border else []
    parts = [
        _Choice("best", "Best", "The highest scores of the selection.", selected[:size]),
        _Choice("border", "Borderline", "The last pairs selected and the first left out.", border),
        _Choice("rejected", "Rejected", "The lowest scores, left out.", left_out[: -size - 1 : -1]),
    ]
    return [part for part in parts if part.places]


def _contested(
    run: RunFolder, pairs: pa.Table, generated: Mapping[int, Marker], size: int
) -> list[int]:
    """Places of some captions that have thumbnails of losers, chosen by a hash."""
    import pyarrow as pa
    import pyarrow.compute as pc

    chosen: list[tuple[str, str]] = []
    for marker in generated.values():
        name = marker.file("previews")
        if name is not None:
            ids = pc.unique(run.read_table(name, ["caption_id"])["caption_id"]).to_pylist()
            entries = [(fingerprint("report", id), id) for id in ids]
            chosen = heapq.nsmallest(size, [*chosen, *entries])
    ids = pa.array([id for _, id in chosen], pa.string())
    places = pc.index_in(ids, pairs["caption_id"])
    return [place for place in places.to_pylist() if place is not None]
