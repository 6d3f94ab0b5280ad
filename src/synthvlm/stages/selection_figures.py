"""What a selection covers, beside the best pairs by score of the same number.

Captions, images and words are looked at in fixed samples, by a hash of the caption's id, so that
the figures of a million pairs take a minute and of a small run are exact. Embeddings are read shard
by shard: never are all in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synthvlm.data import is_sampled
from synthvlm.selectors.base import IMAGE_EMBEDDING, TEXT_EMBEDDING
from synthvlm.selectors.clusters import unit_vectors
from synthvlm.stages.selection_columns import shard_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = [
    "concept_table",
    "figure_table",
    "figure_tables",
    "selection_figures",
    "shift_note",
]

#: About so many captions, images of each selection, and captions whose words are counted.
_CAPTIONS, _IMAGES, _TEXTS = 4000, 2000, 20_000
#: Images are near twins above this cosine of their embeddings.
_TWINS = 0.98
#: Concepts that are counted, and those shown.
_CONCEPTS, _SHOWN = 50, 12
#: A share has shifted if it changed by this factor, this much, and by so many standard errors.
_FACTOR, _CHANGE, _ERRORS = 1.5, 0.05, 3.0
#: Concepts that a note on it names.
_NAMED = 3

Floats = npt.NDArray[np.float32]


@dataclass(slots=True)
class _Sample:
    """Vectors, and the highest similarity of each to a vector of a selection."""

    ids: list[str] = field(default_factory=list)
    parts: list[Floats] = field(default_factory=list)
    vectors: Floats | None = None
    nearest: Floats | None = None

    def add(self, ids: Sequence[str], vectors: Floats) -> None:
        """Take further vectors into the sample."""
        self.ids += ids
        self.parts.append(vectors)

    def compare(self, ids: Sequence[str], vectors: Floats, *, with_itself: bool) -> None:
        """Take further vectors of the selection into account."""
        if self.vectors is None or self.nearest is None:
            self.vectors = np.concatenate(self.parts)
            self.nearest = np.full(len(self.ids), -1, np.float32)
        if not self.ids or not ids:
            return
        similarity = self.vectors @ vectors.T
        if not with_itself:
            places = {id: place for place, id in enumerate(ids)}
            for row, id in enumerate(self.ids):
                if id in places:
                    similarity[row, places[id]] = -1
        np.maximum(self.nearest, similarity.max(axis=1), out=self.nearest)


def selection_figures(
    run: RunFolder,
    recipe: Recipe,
    captions: Mapping[int, Marker],
    generated: Mapping[int, Marker],
    pairs: int,
    selected: pa.Table,
    top: pa.Table,
) -> dict[str, Any]:
    """Figures of a selection, as plain values.

    Args:
        run: The run folder.
        recipe: Its recipe.
        captions: Markers of the stage curate.
        generated: Markers of the stage generate.
        pairs: How many there are.
        selected: The selected pairs: ``caption_id``, ``shard``, ``score``.
        top: The same number of pairs, the best by score.

    Returns:
        ``score``, the mean of both; ``captions``: how many were looked at, and the mean of their
        highest similarity to a selected one; ``twins``: the share of images that have a near twin
        in the same selection; ``concepts``: name, share of curated captions that mention it, and
        of those of both selections. What cannot be told is left out.
    """
    sets = {"selected": selected, "top": top}
    figures: dict[str, Any] = {
        "score": {name: _mean(table["score"].to_numpy()) for name, table in sets.items()}
    }
    if not len(selected):
        return figures
    is_top = set(selected["caption_id"].to_pylist()) == set(top["caption_id"].to_pylist())
    if is_top:
        del sets["top"]
    figures |= _nearness(run, generated, pairs, sets)
    figures |= _concepts(run, recipe, captions, generated, sets)
    if is_top:
        _repeat_for_top(figures)
    return figures


def _repeat_for_top(figures: dict[str, Any]) -> None:
    """Where the best pairs by score are selected, their figures are those of the selection."""
    for name in {"captions", "twins", "concepts_of"}.intersection(figures):
        figures[name]["top"] = figures[name]["selected"]
    for line in figures.get("concepts", ()):
        line.append(line[-1])


def _nearness(
    run: RunFolder, generated: Mapping[int, Marker], pairs: int, sets: Mapping[str, pa.Table]
) -> dict[str, Any]:
    """Captions covered, and near twins, by the embeddings in ``pairs/``."""
    members = {name: _members(table) for name, table in sets.items()}
    share = min(1.0, _IMAGES / len(sets["selected"]))
    covered = {name: _Sample() for name in sets}
    twins = {name: _Sample() for name in sets}
    shards = [shard for shard in sorted(generated) if generated[shard].file("pairs") is not None]
    share_of_captions = min(1.0, _CAPTIONS / pairs)
    for shard in shards:
        ids, texts, images = _embeddings(run, generated[shard])
        if texts is None or images is None:
            return {}
        if not ids:
            continue
        rows = [n for n, id in enumerate(ids) if is_sampled(id, share_of_captions)]
        for name, sample in covered.items():
            sample.add([ids[n] for n in rows], texts[rows])
            rows_of_set = members[name].get(shard, frozenset())
            looked_at = [
                n for n, id in enumerate(ids) if id in rows_of_set and is_sampled(id, share)
            ]
            twins[name].add([ids[n] for n in looked_at], images[looked_at])
    for shard in shards:
        ids, texts, images = _embeddings(run, generated[shard])
        assert texts is not None
        assert images is not None
        if not ids:
            continue
        for name, by_shard in members.items():
            rows = [n for n, id in enumerate(ids) if id in by_shard.get(shard, frozenset())]
            present = [ids[n] for n in rows]
            covered[name].compare(present, texts[rows], with_itself=True)
            twins[name].compare(present, images[rows], with_itself=False)
    if not covered["selected"].ids:
        return {}
    figures: dict[str, Any] = {"captions": {"of": len(covered["selected"].ids)}}
    figures["twins"] = {"of": len(twins["selected"].ids)}
    for name in sets:
        figures["captions"][name] = _mean(covered[name].nearest)
        nearest = twins[name].nearest
        figures["twins"][name] = None if nearest is None else _mean(nearest > _TWINS)
    return figures


def _concepts(
    run: RunFolder,
    recipe: Recipe,
    captions: Mapping[int, Marker],
    generated: Mapping[int, Marker],
    sets: Mapping[str, pa.Table],
) -> dict[str, Any]:
    """Shares of captions that mention a concept: those of the recipe, else the frequent words."""
    from synthvlm.captions.duplicates.concepts import ConceptMatcher, frequent_concepts
    from synthvlm.captions.rules.batch import TextBatch

    kept = sum(int(captions[n].facts.get("kept", 0)) for n in generated if n in captions)
    members = {name: _members(table) for name, table in sets.items()}
    shares = {"curated": min(1.0, _TEXTS / max(1, kept))}
    shares |= {name: min(1.0, _TEXTS / len(table)) for name, table in sets.items()}
    texts: dict[str, list[str]] = {name: [] for name in shares}
    for shard in sorted(generated):
        name = captions[shard].file("captions") if shard in captions else None
        if name is None:
            continue
        rows = run.read_table(name, ["id", "text", "kept"])
        rows = rows.filter(rows["kept"])
        for id, text in zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True):
            for group, share in shares.items():
                is_in = group == "curated" or id in members[group].get(shard, frozenset())
                if is_in and is_sampled(id, share):
                    texts[group].append(text)
    if not texts["curated"] or not texts["selected"]:
        return {}
    batches = {group: TextBatch(some) for group, some in texts.items()}
    named = recipe.curation.concepts
    concepts = (
        frequent_concepts([batches["curated"]], _CONCEPTS) if named is None else named.concepts
    )
    if not concepts:
        return {}
    matcher = ConceptMatcher(concepts)
    table = {}
    for group, batch in batches.items():
        mentioned = np.bincount(matcher.match(batch).concepts, minlength=len(matcher.concepts))
        table[group] = mentioned / max(1, len(batch))
    order = np.argsort(-table["curated"], kind="stable")[:_CONCEPTS]
    return {
        "concepts": [
            [matcher.concepts[n], *(round(float(table[group][n]), 6) for group in table)]
            for n in order.tolist()
        ],
        "concepts_of": {group: len(some) for group, some in texts.items()},
    }


def shift_note(figures: Mapping[str, Any]) -> str | None:
    """A line on the concepts whose share a selection has changed strongly; None without any."""
    count = figures.get("concepts_of", {}).get("selected", 0)
    shifted = [
        (name, before, after)
        for name, before, after, _ in figures.get("concepts", ())
        if _has_shifted(before, after, count)
    ]
    if not shifted:
        return None
    shifted.sort(key=lambda one: -abs(one[2] - one[1]))
    changes = [f"{name!r} {before:.0%} and {after:.0%}" for name, before, after in shifted[:_NAMED]]
    more = f", and {len(shifted) - _NAMED:,} more" if len(shifted) > _NAMED else ""
    return (
        f"it shifts what captions name, in % of the curated and of the selected ones: "
        f"{', '.join(changes)}{more}; selection.method=coverage or quotas keeps more of it"
    )


def _has_shifted(before: float, after: float, count: int) -> bool:
    change = abs(after - before)
    error = math.sqrt(before * (1 - before) / max(1, count))
    factor = max(before, after) / max(1e-9, min(before, after))
    return factor >= _FACTOR and change >= _CHANGE and change > _ERRORS * error


def figure_tables(figures: Any) -> list[list[list[str]]] | None:
    """Both tables; none of a selection without figures. None if the figures are damaged.

    They are read from a marker, whose facts have no checksum.
    """
    if not figures:
        return []
    try:
        return [figure_table(figures), concept_table(figures)]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def figure_table(figures: Mapping[str, Any]) -> list[list[str]]:
    """The figures for people: a header, and a row for each figure that is known."""
    rows = [["", "selected", "the same number, best by score"]]
    captions, twins = figures.get("captions"), figures.get("twins")
    if captions:
        label = f"captions covered (mean highest similarity, {captions['of']:,} looked at)"
        rows.append([label, *(_number(captions[name], ".3f") for name in ("selected", "top"))])
    if twins:
        label = f"images with a near twin (cosine above {_TWINS}, {twins['of']:,} looked at)"
        rows.append([label, *(_number(twins[name], ".1%") for name in ("selected", "top"))])
    score = figures["score"]
    rows.append(["mean score", *(_number(score[name], ".3f") for name in ("selected", "top"))])
    return rows


def concept_table(figures: Mapping[str, Any]) -> list[list[str]]:
    """Shares of captions that name a concept: a header, and the most frequent concepts."""
    concepts = figures.get("concepts", ())[:_SHOWN]
    header = ["named by captions", "curated", "selected", "the same number, best by score"]
    return [header, *([name, *(f"{s:.1%}" for s in shares)] for name, *shares in concepts)]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _mean(values: npt.NDArray[Any] | None) -> float | None:
    return None if values is None or not len(values) else round(float(np.mean(values)), 6)


def _members(table: pa.Table) -> dict[int, frozenset[str]]:
    """The caption ids of some pairs, by shard."""
    import pyarrow as pa

    ids = table["caption_id"]
    return {
        shard: frozenset(ids.take(pa.array(rows)).to_pylist()) for shard, rows in shard_rows(table)
    }


def _embeddings(run: RunFolder, marker: Marker) -> tuple[list[str], Floats | None, Floats | None]:
    """Ids and unit vectors of the captions and images of a shard; None where any has none."""
    name = marker.file("pairs")
    assert name is not None
    table = run.read_table(name, ["caption_id", TEXT_EMBEDDING, IMAGE_EMBEDDING])
    both = [_matrix(table[column]) for column in (TEXT_EMBEDDING, IMAGE_EMBEDDING)]
    return table["caption_id"].to_pylist(), *both


def _matrix(column: pa.ChunkedArray) -> Floats | None:
    if column.null_count:
        return None
    if not len(column):
        return np.zeros((0, 0), np.float32)
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return unit_vectors(values.reshape(len(column), -1))
