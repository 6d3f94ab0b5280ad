"""What an earlier attempt at a shard left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.data import Candidate, Pair, Preview
from synthvlm.stages.generation.candidate_plan import Key

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["PreviousShard"]


@dataclass(frozen=True, slots=True)
class PreviousShard:
    """Candidates, winners and thumbnails by key, and how the winners were encoded."""

    candidates: Mapping[Key, Candidate]
    pairs: Mapping[Key, Pair]
    previews: Mapping[Key, Preview]
    encoding: object

    @classmethod
    def read(cls, run: RunFolder, marker: Marker | None) -> PreviousShard:
        """Read what a shard's marker names; nothing where there is none."""
        if marker is None:
            return cls({}, {}, {}, None)

        def rows(folder: str) -> Iterator[dict[str, Any]]:
            name = marker.file(folder)
            yield from _rows(run.read_table(name)) if name else ()

        candidates = [Candidate.of_row(row) for row in rows("candidates")]
        pairs = [Pair(**row) for row in rows("pairs")]
        previews = [Preview(**row) for row in rows("previews")]
        return cls(
            {(c.caption_id, c.index): c for c in candidates},
            {(p.caption_id, p.index): p for p in pairs},
            {(p.caption_id, p.index): p for p in previews},
            marker.facts.get("encoding"),
        )


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table; an embedding is an array, for as a list it is a thousand objects."""
    import pyarrow as pa

    columns = {
        name: (value.values.to_numpy() if value.is_valid else None for value in table[name])
        if pa.types.is_list(table.schema.field(name).type)
        else table[name].to_pylist()
        for name in table.column_names
    }
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))
