"""Read or write, normalise and measure every input caption, in one streaming pass; no verdict yet.

The pass runs in the driver: text is read once, in order, and the model-free measures cost less
than sending it elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any

from synthvlm.captions.readers.normalize import has_invisible
from synthvlm.captions.rules import RULES
from synthvlm.data import Caption, measure_schema
from synthvlm.errors import TooManyFailuresError
from synthvlm.recipe import source_name
from synthvlm.stages.curation.losses import Losses
from synthvlm.stages.curation.resources import (
    content_digest,
    is_written,
    limited_captions,
    normalizer,
    source_captions,
)
from synthvlm.stages.curation.rules import load_text_rules
from synthvlm.stages.curation.written import stages_of, written_captions
from synthvlm.stages.fingerprints import (
    content_fingerprint,
    measured_fingerprint,
    sources_fingerprint,
    text_rule_fingerprints,
)
from synthvlm.stages.summary import StageSummary

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.captions.rules.base import TextRule
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.recipe.sources import SourceSettings
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["captions_changed", "measure"]

STAGE = "measure"
#: Its only marker means that all sources were read to their end.
TOTAL = "sources"


def captions_changed(run: RunFolder, recipe: Recipe, digests: Sequence[str]) -> bool:
    """Whether captions are others than those that the folder measured, whatever the limit.

    Args:
        run: The run folder.
        recipe: The recipe; no model writes its captions.
        digests: ``content_digest`` of each source.
    """
    marker = run.marker(STAGE, 0)
    if marker is None:
        return True
    rows = [("", None)] * int(marker.facts["captions"])
    content = content_fingerprint(recipe, digests)
    return marker.fingerprint != measured_fingerprint(recipe, content, 0, rows)


def measure(
    run: RunFolder, recipe: Recipe, progress: Progress, digests: Sequence[str] | None = None
) -> StageSummary:
    """Bring ``measures/`` up to date with the sources and the model-free rules.

    The sources are read again where they, or how they are read, changed; a rule that is new or
    changed measures the texts that are already there.

    Args:
        run: The run folder.
        recipe: The recipe.
        progress: Shows captions done.
        digests: ``content_digest`` of each source, where they are known.

    Raises:
        CaptionSourceError: A source is missing or not what it should be.
        TooManyFailuresError: More rows are unreadable than ``run.max_failed_share`` allows.
    """
    began = time.monotonic()
    if digests is None:
        digests = [content_digest(source) for source in recipe.sources]
    content = content_fingerprint(recipe, digests)
    all_sources = sources_fingerprint(recipe, content)
    done = run.markers(STAGE)
    measurer = _Measurer(run, recipe)
    total = run.marker(TOTAL, 0)
    if total is not None and _is_complete(total, all_sources, done):
        progress.start(STAGE, sum(marker.facts["captions"] for marker in done.values()), "captions")
        captions_read, shards = 0, {}
        for note in total.facts.get("notes", []):
            progress.note(note)
        for shard, marker in done.items():
            shards[shard] = measurer.complete(shard, marker)
            progress.advance(marker.facts["captions"])
    else:
        progress.start(STAGE, recipe.limit, "captions")
        with ExitStack() as resources:
            notes: list[str] = []

            def say(note: str) -> None:
                notes.append(note)
                progress.note(note)

            captions = _captions(run, recipe, digests, resources, say)
            captions_read, shards, unwritten = _read(
                captions, recipe, content, done, measurer, progress, say
            )
        if not unwritten:  # what could not be written is tried again by the next run
            # Notes are shown again as long as the captions are as they were read.
            facts = {"captions": captions_read, "shards": len(shards), "notes": notes}
            run.commit(TOTAL, 0, all_sources, facts=facts)
        for stage in stages_of(recipe):
            run.sweep(stage, [stage], run.markers(stage))
    run.sweep(STAGE, ["measures"], shards)
    seconds = time.monotonic() - began
    if measurer.measured:
        run.event(
            "stage", stage=STAGE, seconds=round(seconds, 3), rows=captions_read or measurer.measured
        )
        for name, spent in measurer.seconds.items():
            run.event("rule", rule=name, seconds=round(spent, 4), captions=measurer.measured)
    reused = len(shards) - measurer.shards
    return StageSummary(STAGE, len(shards), reused, {"read": captions_read}, seconds)


def _read(
    captions: Iterator[Caption],
    recipe: Recipe,
    content: str,
    done: dict[int, Marker],
    measurer: _Measurer,
    progress: Progress,
    say: Callable[[str], None],
) -> tuple[int, dict[int, Marker], int]:
    """Read all sources once.

    Returns:
        The captions read, their shards, and how many captions a model should have written and did
        not.
    """
    size = recipe.run.shard_size
    writers = {source_name(source) for source in recipe.sources if is_written(source)}
    read = unwritten = invisible = 0
    losses = Losses()
    shards: dict[int, Marker] = {}
    for shard, batch in enumerate(_batches(losses.counted(captions), size)):
        unwritten += sum(c.problem is not None and c.source in writers for c in batch)
        if not recipe.curation.remove_invisible:
            invisible += sum(has_invisible(caption.text) for caption in batch)
        rows = [(caption.id, caption.problem) for caption in batch]
        expected = measured_fingerprint(recipe, content, shard, rows)
        old = done.get(shard)
        if old is not None and old.fingerprint == expected:
            shards[shard] = measurer.complete(shard, old)
        else:
            shards[shard] = measurer.fresh(shard, batch, expected)
        read += len(batch)
        progress.advance(len(batch))
    excess = losses.excess(recipe.run.max_failed_share)
    if excess is not None:
        raise TooManyFailuresError(excess)
    if losses.count:
        say(f"warning: {losses.count} unreadable captions; the first: {losses.first}")
    if invisible:
        say(
            f"note: {invisible} captions hold characters that show nothing, such as zero-width "
            f"spaces, which can hide duplicates and personal data; to drop them: "
            f"--set curation.remove_invisible=true"
        )
    return read, shards, unwritten


class _Measurer:
    """Measures shards by the model-free rules, and keeps count."""

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        self._run, self._recipe = run, recipe
        self._rule_fingerprints = text_rule_fingerprints(recipe)
        self._ready: dict[str, TextRule] = {}
        self.seconds: dict[str, float] = {}
        self.measured = self.shards = 0

    def fresh(self, shard: int, batch: list[Caption], shard_fingerprint: str) -> Marker:
        """Measure and commit captions just read."""
        import pyarrow as pa

        columns: dict[str, Any] = {
            name: [getattr(caption, name) for caption in batch]
            for name in ("id", "source", "row", "text_raw", "text", "problem")
        }
        columns |= self._measures(columns["text"], self._rule_fingerprints)
        table = pa.Table.from_pydict(columns, measure_schema(list(self._rule_fingerprints)))
        return self._commit(shard, table, shard_fingerprint)

    def complete(self, shard: int, marker: Marker) -> Marker:
        """Measure a committed shard by the rules whose measures it lacks."""
        import pyarrow as pa

        known = marker.facts["rules"]
        missing = [
            name
            for name, expected in self._rule_fingerprints.items()
            if known.get(name) != expected
        ]
        if not missing:
            return marker
        name = marker.file("measures")
        assert name is not None
        table = self._run.read_table(name)
        for rule, values in self._measures(table["text"].to_pylist(), missing).items():
            place = table.schema.get_field_index(rule)
            if place >= 0:
                table = table.remove_column(place)
            table = table.append_column(rule, pa.array(values, pa.float64()))
        # The same columns in the same order, whatever was measured first.
        base = measure_schema().names
        measured = RULES.in_order(table.column_names)
        unknown = sorted({*table.column_names} - {*base, *measured})  # of plug-ins not loaded now
        table = table.select([*base, *measured, *unknown])
        return self._commit(shard, table, marker.fingerprint, known)

    def _measures(self, texts: list[str], names: Iterable[str]) -> dict[str, Any]:
        from synthvlm.captions.rules.method import measure as measure_texts

        new = [name for name in names if name not in self._ready]
        self._ready |= {rule.name: rule for rule in load_text_rules(self._recipe, new)}
        self.measured += len(texts)
        self.shards += 1
        return measure_texts(texts, [self._ready[name] for name in names], self.seconds)

    def _commit(
        self,
        shard: int,
        table: pa.Table,
        shard_fingerprint: str,
        known: Mapping[str, str] | None = None,
    ) -> Marker:
        facts = {"captions": table.num_rows, "rules": {**(known or {}), **self._rule_fingerprints}}
        file = self._run.write_table("measures", shard, table)
        return self._run.commit(STAGE, shard, shard_fingerprint, [file], facts)


def _is_complete(total: Marker, expected: str, done: dict[int, Marker]) -> bool:
    shards = range(int(total.facts["shards"]))
    return total.fingerprint == expected and sorted(done) == list(shards)


def _captions(
    run: RunFolder,
    recipe: Recipe,
    digests: Sequence[str],
    resources: ExitStack,
    say: Callable[[str], None],
) -> Iterator[Caption]:
    """The captions of all sources in order, read or written as they are asked for."""
    digest_of = dict(zip(map(source_name, recipe.sources), digests, strict=True))

    def read(source: SourceSettings, most: int | None) -> Iterator[Caption]:
        digest = digest_of[source_name(source)]
        return _captions_of(run, recipe, source, digest, most, resources, say)

    return limited_captions(recipe, read, say)


def _captions_of(
    run: RunFolder,
    recipe: Recipe,
    source: SourceSettings,
    digest: str,
    most: int | None,
    resources: ExitStack,
    say: Callable[[str], None],
) -> Iterator[Caption]:
    normalize = normalizer(recipe)
    if is_written(source):
        return written_captions(run, recipe, source, digest, most, normalize, resources, say)
    return source_captions(recipe, source, normalize, say)


def _batches(captions: Iterator[Caption], size: int) -> Iterator[list[Caption]]:
    while batch := list(islice(captions, size)):
        yield batch
