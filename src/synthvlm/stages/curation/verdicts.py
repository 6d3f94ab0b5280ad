"""The verdicts of curation: which captions are still in, and why the others are rejected.

Here are also the verdicts that need the whole data set: duplicates, near-duplicates, the
best-aligned share, and concepts.
"""

from __future__ import annotations

import hashlib
import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthvlm.data import fingerprint
from synthvlm.errors import CaptionSourceError

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.progress.display import Progress
    from synthvlm.recipe.curation import ConceptSettings, NearDuplicateSettings
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.curation.rules import Bounds

__all__ = [
    "CONCEPTS",
    "DUPLICATE",
    "EMPTY",
    "NEAR_DUPLICATE",
    "UNMEASURED",
    "UNREADABLE",
    "Positions",
    "Verdicts",
    "balance_concepts",
    "keep_best_aligned",
    "refuse_equal_ids",
    "refuse_nothing",
    "reject_duplicates",
    "reject_near_duplicates",
]

#: Reasons other than the names of rules.
UNREADABLE = "unreadable"
EMPTY = "empty"
DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near_duplicate"
CONCEPTS = "concepts"
UNMEASURED = "unmeasured"


class Verdicts:
    """The verdicts on all captions, a shard at a time; a rejected caption is never let in again.

    Attributes:
        measures: The markers of the measured shards.
        twins: For each shard, by row, the id of the caption that was kept instead.
        problems: For each shard, by row, why a rule could not measure the caption.
    """

    def __init__(self, run: RunFolder, measures: Mapping[int, Marker]) -> None:
        """All captions are in that could be read and are not empty."""
        import pyarrow.compute as pc

        self._run = run
        self.measures = dict(sorted(measures.items()))
        self.twins: dict[int, dict[int, str]] = {shard: {} for shard in self.measures}
        self.problems: dict[int, dict[int, str]] = {shard: {} for shard in self.measures}
        self._reasons: dict[int, np.ndarray] = {}
        for shard in self.measures:
            table = self.table(shard, ["problem", "text"])
            reasons = np.full(table.num_rows, None, np.object_)
            # No image can be generated from it, whatever rules are on.
            empty = pc.fill_null(pc.equal(table["text"], ""), False)
            reasons[empty.to_numpy(zero_copy_only=False)] = EMPTY
            unreadable = table["problem"].is_valid()
            reasons[unreadable.to_numpy(zero_copy_only=False)] = UNREADABLE
            self._reasons[shard] = reasons

    def table(self, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The measures of a shard."""
        name = self.measures[shard].file("measures")
        assert name is not None
        return self._run.read_table(name, columns)

    def surviving(self, shard: int) -> np.ndarray:
        """Rows of a shard that are still in; int64, ascending."""
        passing: np.ndarray = self._reasons[shard] == None  # noqa: E711 (element by element)
        return passing.nonzero()[0]

    def remaining(self) -> int:
        """How many captions are still in."""
        return sum(len(self.surviving(shard)) for shard in self.measures)

    def reasons(self, shard: int) -> np.ndarray:
        """For each row of a shard the reason of its rejection, or None; an object array."""
        return self._reasons[shard]

    def reject(self, shard: int, rows: np.ndarray | Sequence[int], reason: str) -> None:
        """Reject rows of a shard."""
        self._reasons[shard][np.asarray(rows, np.int64)] = reason

    def apply_text_bounds(
        self, bounds: Mapping[str, Bounds], in_languages: Mapping[str, Mapping[str, Bounds]]
    ) -> None:
        """Reject what fails a model-free rule, each caption by the first that it fails.

        Args:
            bounds: By name of the rule.
            in_languages: By name of the rule and language, as in ``failed_rule``.
        """
        for shard in self.measures if bounds else ():
            table = self.table(shard, list(bounds))
            rows = self.surviving(shard)
            values = {name: table[name].to_numpy(zero_copy_only=False)[rows] for name in bounds}
            self._reasons[shard][rows] = self.failed_rule(shard, rows, values, bounds, in_languages)

    def failed_rule(
        self,
        shard: int,
        rows: np.ndarray,
        measures: Mapping[str, np.ndarray],
        bounds: Mapping[str, Bounds],
        in_languages: Mapping[str, Mapping[str, Bounds]],
    ) -> np.ndarray:
        """The first rule that each of some rows of a shard fails, or None; an object array.

        Args:
            shard: The shard.
            rows: Rows of it, shape (n,).
            measures: By name of the rule, shape (n,); NaN fails nothing.
            bounds: By name of the rule, in the order in which the rules are applied.
            in_languages: By name of the rule the bounds that captions in other languages have
                instead. A caption whose language is not clear has the general ones.
        """
        from synthvlm.captions.rules.method import failed_rule

        failed = failed_rule(measures, bounds)
        if not in_languages or not len(rows):
            return failed
        from synthvlm.captions.rules.language import check_known, likely_languages

        named = sorted({language for ones in in_languages.values() for language in ones})
        check_known(named)
        texts = self.table(shard, ["text"])["text"].take(rows).to_pylist()
        languages = np.array(likely_languages(texts), np.object_)
        for language in named:
            own = {name: in_languages.get(name, {}).get(language, bounds[name]) for name in bounds}
            here = languages == language
            failed[here] = failed_rule({n: values[here] for n, values in measures.items()}, own)
        return failed


_KEY_BYTES = 16


class Positions:
    """Numbers all captions that are still in, in the order of sources and rows."""

    def __init__(self, verdicts: Verdicts) -> None:
        """Number the captions that are in now."""
        self._verdicts = verdicts
        self._shards = list(verdicts.measures)
        self._rows = [verdicts.surviving(shard) for shard in self._shards]
        self._starts = [0]
        for rows in self._rows:
            self._starts.append(self._starts[-1] + len(rows))

    def __len__(self) -> int:
        """How many captions are numbered."""
        return self._starts[-1]

    def locate(self, position: int) -> tuple[int, int]:
        """Shard and row of a position."""
        part = bisect_right(self._starts, position) - 1
        return self._shards[part], int(self._rows[part][position - self._starts[part]])

    def columns(self, name: str) -> Iterable[list[Any]]:
        """The values of a column of ``measures/``, a shard at a time."""
        for shard, rows in zip(self._shards, self._rows, strict=True):
            yield self._verdicts.table(shard, [name])[name].take(rows).to_pylist()

    def values(self, name: str, positions: Iterable[int]) -> dict[int, Any]:
        """The values of a column at some positions; a shard is read once."""
        rows_of_shard: dict[int, list[tuple[int, int]]] = {}
        for position in positions:
            shard, row = self.locate(position)
            rows_of_shard.setdefault(shard, []).append((position, row))
        values_at: dict[int, Any] = {}
        for shard, places in rows_of_shard.items():
            column = self._verdicts.table(shard, [name])[name]
            values = column.take([row for _, row in places]).to_pylist()
            values_at.update(zip((position for position, _ in places), values, strict=True))
        return values_at

    def reject(self, kept: np.ndarray, reason: str) -> None:
        """Reject the captions whose position is False in a mask, shape (len(self),)."""
        for shard, rows, start in zip(self._shards, self._rows, self._starts, strict=False):
            self._verdicts.reject(shard, rows[~kept[start : start + len(rows)]], reason)

    def reject_twins(self, twins: dict[int, int], reason: str) -> None:
        """Reject positions for the sake of others, whose ids are recorded."""
        ids = self.values("id", set(twins.values()))
        for position, twin in twins.items():
            shard, row = self.locate(position)
            self._verdicts.reject(shard, [row], reason)
            self._verdicts.twins[shard][row] = ids[twin]


def reject_duplicates(verdicts: Verdicts) -> None:
    """Of equal texts only the first in the order of sources and rows stays."""
    positions = Positions(verdicts)
    keys = b"".join(_keys(texts) for texts in positions.columns("text"))
    positions.reject_twins(_equal_to_earlier(keys), DUPLICATE)


def reject_near_duplicates(
    run: RunFolder, verdicts: Verdicts, settings: NearDuplicateSettings, progress: Progress
) -> None:
    """Of similar texts only the first in the order of sources and rows stays."""
    from synthvlm.captions.duplicates.near_duplicates import near_duplicates

    began = time.monotonic()
    positions = Positions(verdicts)
    progress.start(NEAR_DUPLICATE, len(positions), "captions")

    def texts() -> Iterator[list[str]]:
        for part in positions.columns("text"):
            yield part
            progress.advance(len(part))

    result = near_duplicates(texts(), threshold=settings.similarity)
    positions.reject_twins(result.twins, NEAR_DUPLICATE)
    if result.refused:
        progress.note(
            f"warning: {NEAR_DUPLICATE}: {result.refused:,} kept captions share words with so many "
            f"others that not all were compared with them; some near-duplicates may have stayed"
        )
    seconds = round(time.monotonic() - began, 3)
    run.event("rule", rule=NEAR_DUPLICATE, seconds=seconds, captions=len(positions))


def keep_best_aligned(
    verdicts: Verdicts, values: Callable[[int], dict[str, float]], top_fraction: float, reason: str
) -> None:
    """Keep the captions that fit their original image best; those without one stay.

    The best ``ceil(top_fraction * n)`` of the n captions with a value stay, ties by id (method,
    second round: the top 40 % by CLIPScore).

    Args:
        verdicts: To be changed.
        values: For a shard, the measure by caption id, NaN where there is none.
        top_fraction: Above 0, at most 1.
        reason: Of the rejection.
    """
    positions = Positions(verdicts)
    ids = np.array([id for part in positions.columns("id") for id in part], np.object_)
    measures: list[float] = []
    for shard, part in zip(verdicts.measures, positions.columns("id"), strict=True):
        known = values(shard)
        measures += [known[id] for id in part]
    scores = np.array(measures, np.float64)
    measured = np.flatnonzero(~np.isnan(scores))
    # Rounded first: 0.55 * 20 is 11.000000000000002 and must not become 12.
    count = math.ceil(round(top_fraction * len(measured), 6))
    order = np.lexsort((ids[measured], -scores[measured])) if len(measured) else measured
    kept = np.isnan(scores)
    kept[measured[order[:count]]] = True
    positions.reject(kept, reason)


def balance_concepts(verdicts: Verdicts, settings: ConceptSettings, reason: str) -> None:
    """Let no concept dominate: each picks its first captions, in an order by a hash of the id."""
    from synthvlm.captions.duplicates.concepts import ConceptMatcher, Mentions, cap_per_concept
    from synthvlm.captions.rules.batch import TextBatch

    positions = Positions(verdicts)
    matcher = ConceptMatcher(settings.concepts)
    mentions = [matcher.match(TextBatch(texts)) for texts in positions.columns("text")]
    keys = [
        int(fingerprint("concepts", id)[:15], 16) for part in positions.columns("id") for id in part
    ]
    kept = cap_per_concept(
        Mentions.concatenate(mentions),
        settings.cap,
        np.array(keys, np.int64),
        keep_unmatched=settings.keep_unmatched,
    )
    positions.reject(kept, reason)


def refuse_equal_ids(verdicts: Verdicts, sources: Sequence[str]) -> None:
    """Check that no id occurs twice.

    Args:
        verdicts: Their measures hold the ids.
        sources: The names of the recipe's sources, in their order.

    Raises:
        CaptionSourceError: One does; the message names both rows.
    """
    keys, places, starts = bytearray(), list(verdicts.measures), [0]
    for shard in places:
        keys += _keys(verdicts.table(shard, ["id"])["id"].to_pylist())
        starts.append(len(keys) // _KEY_BYTES)
    twins = _equal_to_earlier(bytes(keys))
    if not twins:
        return

    def name(position: int) -> tuple[str, str, str]:
        part = bisect_right(starts, position) - 1
        table = verdicts.table(places[part], ["id", "source", "row"])
        row = table.slice(position - starts[part], 1).to_pylist()[0]
        return row["id"], row["source"], f"row {row['row']} of source {row['source']!r}"

    position = min(twins)
    id, source, second = name(position)
    _, _, first = name(twins[position])
    more = f" (and {len(twins) - 1} more)" if len(twins) > 1 else ""
    raise CaptionSourceError(
        f"two captions have the id {id!r}: {first} and {second}{more}; make the ids unique, or "
        f"number the rows instead: --set sources.{sources.index(source)}.id_field=null"
    )


def refuse_nothing(verdicts: Verdicts) -> None:
    """Check that some caption is not empty.

    Raises:
        CaptionSourceError: All that could be read are empty.
    """
    if verdicts.remaining():
        return
    empty = sum(int((verdicts.reasons(shard) == EMPTY).sum()) for shard in verdicts.measures)
    if empty:
        raise CaptionSourceError(
            f"the sources hold no captions: {empty} are empty; if they are in "
            f"another column, name it: --set sources.0.text_field=NAME"
        )


def _keys(values: list[str]) -> bytes:
    return b"".join(
        hashlib.blake2b(value.encode("utf-8"), digest_size=_KEY_BYTES).digest() for value in values
    )


def _equal_to_earlier(keys: bytes) -> dict[int, int]:
    """For each key that occurred before, its position and that of the first one."""
    parts = np.frombuffer(keys, dtype=[("high", "<u8"), ("low", "<u8")])
    # lexsort is stable: among equal keys the earliest position comes first.
    order = np.lexsort((parts["low"], parts["high"]))
    ordered = parts[order]
    repeats = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    twins: dict[int, int] = {}
    for place in repeats:
        earlier = int(order[place - 1])
        twins[int(order[place])] = twins.get(earlier, earlier)
    return twins
