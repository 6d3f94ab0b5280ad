"""What an earlier attempt at a shard left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.data import Candidate, Pair, Preview
from synthvlm.stages.candidate_plan import Key

if TYPE_CHECKING:
    from synthvlm.store import Marker, RunFolder

__all__ = ["Earlier"]


@dataclass(frozen=True, slots=True)
class Earlier:
    """Candidates, winners and thumbnails by key, and how the winners were encoded."""

    candidates: Mapping[Key, Candidate]
    pairs: Mapping[Key, Pair]
    previews: Mapping[Key, Preview]
    encoding: object

    @classmethod
    def read(cls, run: RunFolder, marker: Marker | None) -> Earlier:
        """Read what a shard's marker names; nothing where there is none."""
        if marker is None:
            return cls({}, {}, {}, None)

        def rows(folder: str) -> list[dict[str, Any]]:
            name = marker.file(folder)
            return run.read_table(name).to_pylist() if name else []

        candidates = [Candidate(**row) for row in rows("candidates")]
        pairs = [Pair(**row) for row in rows("pairs")]
        previews = [Preview(**row) for row in rows("previews")]
        return cls(
            {(c.caption_id, c.index): c for c in candidates},
            {(p.caption_id, p.index): p for p in pairs},
            {(p.caption_id, p.index): p for p in previews},
            marker.facts.get("encoding"),
        )
