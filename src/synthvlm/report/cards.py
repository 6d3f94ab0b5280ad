"""Everything that the card of a pair shows, read for the pairs that are shown and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.report.images import Picture, picture

if TYPE_CHECKING:
    from synthvlm.store import Marker, RunFolder

__all__ = ["Card", "CardReader", "Loser"]

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Loser:
    """A candidate that was not chosen; the scores are None where it failed."""

    index: int
    score: float | None
    scores: Mapping[str, float | None]
    status: str
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class Card:
    """A pair: ``place`` among all pairs, ``rank`` in the selection or the reason it has none."""

    caption_id: str
    text: str
    source: str
    index: int
    seed: int
    scores: Mapping[str, float]
    score: float
    place: int
    rank: int | None
    reason: str | None
    picture: Picture | None
    losers: tuple[Loser, ...]


class CardReader:
    """Reads captions, images, losers and thumbnails of the wanted pairs, shard by shard."""

    def __init__(
        self,
        run: RunFolder,
        curated: Mapping[int, Marker],
        generated: Mapping[int, Marker],
        rows: Iterable[Mapping[str, Any]],
        scores: Sequence[str],
    ) -> None:
        """Read what the cards of the given pairs need; a pair without its image gets none.

        Args:
            run: The run folder.
            curated: Markers of the curate stage.
            generated: Markers of the generate stage.
            rows: The pairs.
            scores: The columns of the scorers' scores.
        """
        self._run, self._scores = run, scores
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

    def card(self, place: int, row: Mapping[str, Any], lowest: Mapping[str, float]) -> Card:
        """The card of one of the pairs.

        Args:
            place: Zero-based, among all pairs.
            row: The pair, as given before.
            lowest: The selection's lowest scores.
        """
        id, index = row["caption_id"], row["index"]
        text, source = self._texts.get(id, ("", ""))
        rank = row.get("rank")
        below = _below(row, lowest)
        reason = f"{below} is below the recipe's minimum" if below else "below the cut"
        return Card(
            caption_id=id,
            text=text,
            source=source,
            index=index,
            seed=row["seed"],
            scores={name: row[name] for name in self._scores},
            score=row["score"],
            place=place + 1,
            rank=rank,
            reason=reason if "rank" in row and rank is None else None,
            picture=self._pictures.get((id, index)),
            losers=tuple(self._losers(id, index)),
        )

    def _losers(self, id: str, winner: int) -> Iterator[Loser]:
        """The losers of a caption that left thumbnails, best first; failed ones last."""
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
        columns = ["caption_id", "index", "score", *self._scores, "status"]
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
    """The first score that lies below the selection's minimum."""
    return next((name for name, bound in lowest.items() if row[name] < bound), None)
