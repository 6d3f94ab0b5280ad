"""Which pairs the report shows."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.data import fingerprint
from synthvlm.report.cards import Card, CardReader

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.store import Marker, RunFolder

__all__ = ["Part", "build_gallery"]


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
    scores: Sequence[str],
) -> tuple[Part, ...]:
    """Choose up to ``size`` pairs for each part and read what their cards show.

    Args:
        run: The run folder.
        pairs: Of ``read_candidates``, best first; with ``rank`` where there is a selection.
        curated: Markers of the captions.
        generated: Markers of the candidates.
        size: Cards in each part.
        min_scores: The selection's lowest scores, which explain why a pair was left out.
        scores: The columns of the scorers' scores.
    """
    if not size or not pairs.num_rows:
        return ()
    choices = _by_score(pairs, size, min_scores)
    contested = _contested(run, pairs, generated, size)
    if contested:
        about = "Captions sampled by a hash of their id, with the candidates that lost."
        choices.append(_Choice("losers", "Winner and losers", about, contested))
    wanted = sorted({place for choice in choices for place in choice.places})
    rows = {place: pairs.slice(place, 1).to_pylist()[0] for place in wanted}
    reader = CardReader(run, curated, generated, list(rows.values()), scores)
    cards = {place: reader.card(place, row, min_scores) for place, row in rows.items()}
    return tuple(
        Part(c.name, c.title, c.about, tuple(cards[place] for place in c.places)) for c in choices
    )


def _by_score(pairs: pa.Table, size: int, lowest: Mapping[str, float]) -> list[_Choice]:
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
    # Next to the cut stand the pairs that only their rank kept out, then those below a minimum.
    missed = [*np.flatnonzero(rejected & ~bounded), *np.flatnonzero(rejected & bounded)]
    just_missed = [int(place) for place in missed[: size // 2]]
    border = [*selected[-(size - len(just_missed)) :], *just_missed] if just_missed else []
    parts = [
        _Choice("best", "Best", "The top of the selection.", selected[:size]),
        _Choice("border", "Borderline", "The last pairs selected and the first left out.", border),
        _Choice("rejected", "Rejected", "The lowest scores, left out.", left_out[: -size - 1 : -1]),
    ]
    return [part for part in parts if part.places]


def _contested(
    run: RunFolder, pairs: pa.Table, generated: Mapping[int, Marker], size: int
) -> list[int]:
    """Places of sampled captions that have thumbnails of losers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: list[tuple[str, str]] = []
    for marker in generated.values():
        name = marker.file("previews")
        if name is not None:
            ids = pc.unique(run.read_table(name, ["caption_id"])["caption_id"]).to_pylist()
            entries = [(fingerprint("report", id), id) for id in ids]
            found = heapq.nsmallest(size, [*found, *entries])
    ids = pa.array([id for _, id in found], pa.string())
    places = pc.index_in(ids, pairs["caption_id"].combine_chunks())
    return [place for place in places.to_pylist() if place is not None]
