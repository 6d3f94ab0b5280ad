"""Read, normalise and measure every input caption, in one streaming pass; no verdict yet.

The pass runs in the driver: text is read once, in order, and the model-free measures cost less
than sending it elsewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from synthvlm.data import RULE_MEASURES, Caption, fingerprint, measure_schema
from synthvlm.errors import TooManyFailuresError
from synthvlm.recipe import TINY, source_name
from synthvlm.stages.summary import StageSummary

if TYPE_CHECKING:
    from synthvlm.captions.rules import Rule
    from synthvlm.progress import Progress
    from synthvlm.recipe import Recipe, SourceSettings
    from synthvlm.store import Marker, RunFolder

__all__ = ["measure"]

STAGE = "measure"
#: Its only marker says that all sources were read to their end.
TOTAL = "sources"


def measure(run: RunFolder, recipe: Recipe, progress: Progress) -> StageSummary:
    """Bring ``measures/`` up to date with the sources.

    Raises:
        CaptionSourceError: A source is missing or not what it should be.
        TooManyFailuresError: More rows are unreadable than ``run.max_failed_share`` allows.
    """
    began = time.monotonic()
    content = _content_fingerprint(recipe)
    whole = fingerprint(content, recipe.limit)
    done = run.markers(STAGE)
    total = run.markers(TOTAL).get(0)
    if _is_complete(total, whole, done):
        return StageSummary(STAGE, len(done), len(done), {"read": 0}, time.monotonic() - began)
    progress.start(STAGE, recipe.limit, "captions")
    rules = _rules(recipe)
    size = recipe.run.shard_size
    rows = islice(_captions(recipe), recipe.limit)
    read = reused = unreadable = 0
    first_problem: str | None = None
    shards: dict[int, Marker] = {}
    for shard, batch in enumerate(_batches(rows, size)):
        wanted = fingerprint(STAGE, content, shard * size, len(batch))
        problems = [f"{c.source}: {c.problem}" for c in batch if c.problem is not None]
        unreadable += len(problems)
        first_problem = first_problem or next(iter(problems), None)
        old = done.get(shard)
        if old is not None and old.fingerprint == wanted:
            shards[shard] = old
            reused += 1
        else:
            shards[shard] = _measure_shard(run, shard, batch, rules, wanted)
        read += len(batch)
        progress.advance(len(batch))
    allowed = math.ceil(recipe.run.max_failed_share * read)
    if unreadable > allowed:
        raise TooManyFailuresError(
            f"{unreadable} of {read} captions are unreadable, more than run.max_failed_share "
            f"({recipe.run.max_failed_share}) allows; the first: {first_problem}"
        )
    run.sweep(STAGE, ["measures"], shards)
    facts = {"captions": read, "shards": len(shards), "unreadable": unreadable}
    run.commit(TOTAL, 0, whole, facts=facts)
    seconds = time.monotonic() - began
    run.event("stage", stage=STAGE, seconds=round(seconds, 3), rows=read)
    if first_problem is not None:
        progress.note(f"warning: {unreadable} unreadable captions; the first: {first_problem}")
    return StageSummary(STAGE, len(shards), reused, {"read": read}, seconds)


def _is_complete(total: Marker | None, whole: str, done: dict[int, Marker]) -> bool:
    return (
        total is not None
        and total.fingerprint == whole
        and sorted(done) == list(range(int(total.facts["shards"])))
    )


def _content_fingerprint(recipe: Recipe) -> str:
    from synthvlm.captions.sources import source_digest

    sources = [
        (source.model_dump(exclude={"path"}), source_name(source), source_digest(_path(source)))
        for source in recipe.sources
    ]
    curation = recipe.curation
    normalization = (curation.fix_unicode, curation.normalize_punctuation)
    return fingerprint(sources, normalization, _rule_settings(recipe))


def _path(source: SourceSettings) -> str:
    from synthvlm import tiny

    return str(tiny.captions_path()) if source.path == TINY else source.path


def _captions(recipe: Recipe) -> Iterator[Caption]:
    from synthvlm.captions.normalize import normalize
    from synthvlm.captions.sources import read_captions

    curation = recipe.curation
    normalizer = partial(
        normalize,
        fix_unicode=curation.fix_unicode,
        normalize_punctuation=curation.normalize_punctuation,
    )
    return chain.from_iterable(
        read_captions(
            _path(source),
            name=source_name(source),
            format=source.format,
            text_field=source.text_field,
            id_field=source.id_field,
            normalize=normalizer,
        )
        for source in recipe.sources
    )


def _rule_settings(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """For each rule that is on, the plain arguments that its measure depends on."""
    from synthvlm.captions.rules import load_flagged_words

    settings: dict[str, dict[str, Any]] = {}
    rules = recipe.curation.rules
    for name in RULE_MEASURES:
        bounds = getattr(rules, name)
        if bounds is not None:
            settings[name] = bounds.model_dump(exclude={"min", "max", "words"})
    if rules.flagged_words_ratio is not None:
        words = load_flagged_words(rules.flagged_words_ratio.words)
        settings["flagged_words_ratio"]["words"] = sorted(words)
    return settings


def _rules(recipe: Recipe) -> list[Rule]:
    from synthvlm.captions.rules import RULES

    settings = _rule_settings(recipe)
    if "flagged_words_ratio" in settings:
        words = frozenset(settings["flagged_words_ratio"]["words"])
        settings["flagged_words_ratio"]["words"] = words
    return [RULES[name](**arguments) for name, arguments in settings.items()]


def _batches(captions: Iterator[Caption], size: int) -> Iterator[list[Caption]]:
    while batch := list(islice(captions, size)):
        yield batch


def _measure_shard(
    run: RunFolder, shard: int, batch: list[Caption], rules: list[Rule], wanted: str
) -> Marker:
    import pyarrow as pa

    from synthvlm.captions.rules import measure as measure_texts

    measures = measure_texts([caption.text for caption in batch], rules)
    columns: dict[str, Any] = {
        name: [getattr(caption, name) for caption in batch]
        for name in ("id", "source", "row", "text_raw", "text", "problem")
    }
    for name in RULE_MEASURES:
        columns[name] = measures.get(name, [None] * len(batch))
    table = pa.Table.from_pydict(columns, measure_schema())
    return run.commit(STAGE, shard, wanted, [run.write_table("measures", shard, table)])
