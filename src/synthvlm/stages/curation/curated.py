"""Curated captions as people read them: the verdict, its reason, the measures and their bounds."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synthvlm.data import caption_schema, fingerprint
from synthvlm.errors import RunFolderError
from synthvlm.stages.curation.curate import (
    CONCEPTS,
    DUPLICATE,
    EMPTY,
    NEAR_DUPLICATE,
    STAGE,
    UNMEASURED,
    UNREADABLE,
    reasons_in_order,
    reasons_on,
    totals,
)
from synthvlm.stages.curation.rules import ALIGNMENT, bounds_of, language_bounds, rules_on

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.curation.rules import Bounds

__all__ = [
    "NEAR",
    "REASONS",
    "CuratedCaption",
    "CuratedCaptions",
    "Measure",
    "Query",
    "bounds_in_words",
    "sample_key",
    "without_measure",
]

#: How near to a bound, in proportion to it, is near: a bound looser or tighter by as much would
#: decide otherwise.
NEAR = 0.1
#: Reasons that are no measures, in words.
REASONS = {
    UNREADABLE: "could not be read",
    EMPTY: "hold no text",
    DUPLICATE: "same text as an earlier one",
    NEAR_DUPLICATE: "nearly the same text as an earlier one",
    UNMEASURED: "a rule failed on them; the next run tries again",
    ALIGNMENT: "others fit their original image better",
    CONCEPTS: "its concepts have enough captions",
}
#: Rows that are Python objects at once.
_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Query:
    """Which captions: those to which all of this applies.

    Attributes:
        kept: Whether they are kept; None for both.
        rule: A rule or step of curation: those that it rejected, and the kept ones that it
            measured.
        near_bound: Only rejected ones that their rule would keep, were its bound 10 % looser, and
            kept ones that a rule (``rule``, if there is one) would reject, were it 10 % tighter.
        search: A text within the caption, in upper or lower case.
    """

    kept: bool | None = None
    rule: str | None = None
    near_bound: bool = False
    search: str | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """What a rule measured of a caption, and its bounds for it; the alignment round has none."""

    value: float
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class CuratedCaption:
    """A caption with its verdict.

    Attributes:
        id: Its id.
        source: The name of its source.
        row: Its row there, from 0.
        text: The normalised text; empty if the row could not be read.
        rejected_by: The rule or step that rejected it; None if it is kept.
        reason: Why, in words; None if it is kept.
        measures: By name of the rule, in the order in which rules are applied.
    """

    id: str
    source: str
    row: int
    text: str
    rejected_by: str | None
    reason: str | None
    measures: Mapping[str, Measure]


class CuratedCaptions:
    """The captions of a run that a query asks for, read one row group at a time.

    Attributes:
        captions: Captions read so far.
        matches: Those of them that the query asks for.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, query: Query) -> None:
        """Look at what is curated; no caption is read yet.

        Raises:
            RunFolderError: No caption is curated, or the query names a step that the run lacks.
        """
        self._run, self._query = run, query
        self._shards = dict(sorted(run.markers(STAGE).items()))
        if not self._shards:
            raise RunFolderError(
                f"no caption of {run.url} is curated yet: synthvlm curate --out {run.url}"
            )
        rules = rules_on(recipe)
        self._bounds = bounds_of(recipe, rules)
        self._in_languages = language_bounds(recipe, rules)
        self._check(recipe)
        self.captions = self.matches = 0

    def _check(self, recipe: Recipe) -> None:
        rule = self._query.rule
        rejecting = totals(self._shards).keys() - {"captions", "kept"}
        steps = reasons_in_order(rejecting.union(reasons_on(recipe)))
        if rule is not None and rule not in steps:
            raise RunFolderError(
                f"{rule!r} is no rule or step of this run's curation (valid: {', '.join(steps)})"
            )
        if not self._query.near_bound:
            return
        bounds = self._bounds if rule is None else {rule: self._bounds.get(rule, ())}
        if not any(map(any, bounds.values())) and not self._in_languages.keys() & bounds:
            which = "no rule of this run has" if rule is None else f"{rule} does not have"
            raise RunFolderError(
                f"{which} a bound other than 0, so nothing is near to one: leave out --near-bound"
            )

    def __iter__(self) -> Iterator[CuratedCaption]:
        """All of them, in the order of sources and rows."""
        for _, table in self._matching_tables():
            for start in range(0, table.num_rows, _ROWS):
                yield from self._described(table.slice(start, _ROWS))

    def caption(self, shard: int, id: str) -> CuratedCaption:
        """A caption of a shard, whatever the query asks for.

        Raises:
            KeyError: There is none of that id.
        """
        import pyarrow.compute as pc

        for table in self._run.row_groups(_captions_file(self._shards[shard])):
            rows = table.filter(pc.equal(table["id"], id))
            if rows.num_rows:
                return next(self._described(rows))
        raise KeyError(id)

    def sample(self, size: int) -> list[CuratedCaption]:
        """Some of them, chosen by a hash of their id, in the order of sources and rows."""
        import pyarrow as pa

        chosen: list[tuple[str, int, int, CuratedCaption]] = []
        for place, table in self._matching_tables():
            ids = table["id"].to_pylist()
            worst = chosen[-1][0] if len(chosen) == size else None
            keys = [(key, row) for row, key in enumerate(map(sample_key, ids))]
            keys = heapq.nsmallest(size, (k for k in keys if worst is None or k[0] < worst))
            rows = self._described(table.take(pa.array([row for _, row in keys], pa.int64())))
            found = [(key, place, row, c) for (key, row), c in zip(keys, rows, strict=True)]
            chosen = heapq.nsmallest(size, [*chosen, *found], key=lambda entry: entry[:3])
        return [caption for *_, caption in sorted(chosen, key=lambda entry: entry[1:3])]

    def _matching_tables(self) -> Iterator[tuple[int, pa.Table]]:
        """The rows of each row group that match, and its number."""
        number = 0
        for marker in self._shards.values():
            for table in self._run.row_groups(_captions_file(marker)):
                self.captions += table.num_rows
                table = table.filter(self._mask(table))
                self.matches += table.num_rows
                number += 1
                yield number, table

    def _mask(self, table: pa.Table) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        query = self._query
        kept = table["kept"].to_numpy(zero_copy_only=False).astype(bool)
        mask = np.ones(len(kept), bool) if query.kept is None else kept == query.kept
        if query.search is not None:
            found = pc.match_substring(table["text"], query.search, ignore_case=True)
            mask &= pc.fill_null(found, False).to_numpy(zero_copy_only=False)
        if query.rule is not None or query.near_bound:
            mask &= self._about_a_rule(table, kept)
        return pa.array(mask)

    def _about_a_rule(self, table: pa.Table, kept: np.ndarray) -> np.ndarray:
        """Which rows the rule of the query, or any, decided, narrowly if that is asked for."""
        query = self._query
        reasons = np.array(table["rejected_by"].to_pylist(), np.object_)
        names = [query.rule] if query.rule is not None else list(self._bounds)
        about = np.zeros(len(kept), bool)
        for name in names:
            decided = reasons == name
            if name in table.schema.names:
                values = table[name].to_numpy(zero_copy_only=False)
                decided |= kept & ~np.isnan(values)
                if query.near_bound:
                    low, high = self._bounds_of_rows(table, name)
                    decided &= _is_near(values, low) | _is_near(values, high)
            about |= decided
        return about

    def _bounds_of_rows(self, table: pa.Table, rule: str) -> tuple[np.ndarray, np.ndarray]:
        """The bounds of a rule for each row, NaN for none: float64, shape (rows,)."""
        bounds = np.array([self._bounds[rule]] * table.num_rows, np.float64).reshape(-1, 2)
        for row, language in enumerate(self._languages(table, [rule])):
            if language in self._in_languages[rule]:
                bounds[row] = self._in_languages[rule][language]
        return bounds[:, 0], bounds[:, 1]

    def _languages(self, table: pa.Table, rules: list[str]) -> list[str | None]:
        """The language of each row; nothing if none of the rules has bounds by language."""
        if not self._in_languages.keys() & set(rules):
            return []
        from synthvlm.captions.rules.language import likely_languages

        return likely_languages(text or "" for text in table["text"].to_pylist())

    def _described(self, table: pa.Table) -> Iterator[CuratedCaption]:
        rules = [name for name in table.schema.names if name not in caption_schema().names]
        rules = reasons_in_order(rules)
        languages = self._languages(table, rules) or [None] * table.num_rows
        for row, language in zip(table.to_pylist(), languages, strict=True):
            measures = {
                rule: Measure(row[rule], self._bounds_in(rule, language))
                for rule in rules
                if row[rule] is not None
            }
            yield CuratedCaption(
                row["id"],
                row["source"],
                row["row"],
                row["text"] or "",
                row["rejected_by"],
                _reason(row, measures),
                measures,
            )

    def _bounds_in(self, rule: str, language: str | None) -> Bounds:
        general = self._bounds.get(rule, (None, None))
        return self._in_languages.get(rule, {}).get(language or "", general)


def sample_key(id: str) -> str:
    """Captions are sampled for people by this hash of their id, the smallest first."""
    return fingerprint("report", id)


def bounds_in_words(bounds: Bounds, digits: int = 8) -> str:
    """Such as "at least 0.6" or "from 0.1 to 0.4"; empty if there are none."""
    low, high = (None if bound is None else f"{bound:.{digits}g}" for bound in bounds)
    if low is not None and high is not None:
        return f"from {low} to {high}"
    return f"at least {low}" if low is not None else f"at most {high}" if high is not None else ""


def without_measure(row: Mapping[str, Any]) -> str | None:
    """Why a row of ``captions/`` was rejected, as far as the row says it in words."""
    if row["duplicate_of"] is not None:
        nearly = "nearly the " if row["rejected_by"] == NEAR_DUPLICATE else ""
        return f"{nearly}same text as {row['duplicate_of']}"
    problem: str | None = row["problem"]
    return problem


def _reason(row: Mapping[str, Any], measures: Mapping[str, Measure]) -> str | None:
    reason = row["rejected_by"]
    if reason is None:
        return None
    measure = measures.get(reason)
    if measure is not None and (bounds := bounds_in_words(measure.bounds)):
        return f"{measure.value:.6g}, must be {bounds}"
    return without_measure(row) or REASONS.get(reason, "rejected by a rule that is off since")


def _is_near(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    near = np.abs(values - bounds) <= NEAR * np.abs(bounds)
    return np.asarray(near & (bounds != 0))


def _captions_file(marker: Marker) -> str:
    name = marker.file("captions")
    assert name is not None
    return name
