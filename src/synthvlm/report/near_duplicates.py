"""Near-duplicates that were dropped, beside the captions that were kept in their place."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.data import fingerprint
from synthvlm.stages.curate import NEAR_DUPLICATE

if TYPE_CHECKING:
    from synthvlm.store import Marker, RunFolder

__all__ = ["NearDuplicate", "read_near_duplicates"]

_SAMPLES = 10


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """The text of a dropped caption, and of its twin (None where that is not to be found)."""

    dropped: str
    kept: str | None


def read_near_duplicates(
    run: RunFolder, curated: Mapping[int, Marker]
) -> tuple[NearDuplicate, ...]:
    """At most ten near-duplicates, drawn by a hash of their id."""
    files = [name for _, marker in sorted(curated.items()) if (name := marker.file("captions"))]
    drawn: list[tuple[str, str, str]] = []
    for file in files:
        table = run.read_table(file, ["id", "rejected_by", "duplicate_of"]).to_pydict()
        rows = zip(table["id"], table["rejected_by"], table["duplicate_of"], strict=True)
        found = [
            (fingerprint("report", id), id, twin)
            for id, reason, twin in rows
            if reason == NEAR_DUPLICATE
        ]
        drawn = heapq.nsmallest(_SAMPLES, [*drawn, *found])
    wanted = {id for _, *pair in drawn for id in pair}
    texts: dict[str, str] = {}
    for file in files if wanted else ():
        texts |= _texts(run, file, wanted)
    return tuple(NearDuplicate(texts[id], texts.get(twin)) for _, id, twin in drawn)


def _texts(run: RunFolder, file: str, ids: set[str]) -> dict[str, str]:
    """The texts of those of some ids that a table holds; it is read only if there are any."""
    import pyarrow as pa
    import pyarrow.compute as pc

    here = pc.is_in(run.read_table(file, ["id"])["id"], pa.array(sorted(ids), pa.string()))
    if not pc.any(here).as_py():
        return {}
    table = run.read_table(file, ["id", "text"]).filter(here)
    return dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
