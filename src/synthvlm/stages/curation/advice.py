"""What `curate` says beside its funnel: rejections near a bound, and rules that do not fit.

It says only; nothing is decided here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from synthvlm.captions.rules import RULES
from synthvlm.stages.curation.rules import (
    Bounds,
    bounds_of,
    language_bounds,
    rules_on,
    text_rules_on,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.captions.rules.base import RuleSettings
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["bound_lines", "language_notes"]

#: How much looser, in proportion, the bound is that the lines compare with.
LOOSER = 0.1
#: Captions whose language is looked at, spread over all; the model reads some 20,000 a second.
_SAMPLE = 1000
#: Share of them from which on a note says that they are in another language.
_NOTED = 0.2


def bound_lines(run: RunFolder, recipe: Recipe, markers: Mapping[int, Marker]) -> list[str]:
    """A table of the bounds that rejected captions, and what each would keep were it 10 % looser.

    "kept" are the captions that fail no other rule on texts; what comes later (duplicates, rules
    with models) may still reject them. A bound of 0 cannot be looser in proportion, and a rule with
    bounds by language has no single one: they are left out.

    Args:
        run: The run folder.
        recipe: The recipe.
        markers: Of the curated shards.
    """
    by_language = language_bounds(recipe, text_rules_on(recipe))
    names = [name for name in text_rules_on(recipe) if name not in by_language]
    bounds = bounds_of(recipe, names)
    counts: dict[tuple[str, str], Counter[str]] = {
        (name, side): Counter()
        for name, both in bounds.items()
        for side, bound in zip(("min", "max"), both, strict=True)
        if bound
    }
    if not counts or not sum(
        marker.facts.get(name, 0) for name in names for marker in markers.values()
    ):
        return []
    for table in _captions(run, markers, ["problem", *names]):
        measured = {name: table[name].to_numpy(zero_copy_only=False) for name in names}
        readable = table["problem"].is_null().to_numpy(zero_copy_only=False)
        fails = {name: _outside(measured[name], bounds[name]) & readable for name in names}
        times = sum(fails.values(), np.zeros(table.num_rows, np.int64))
        for (name, side), count in counts.items():
            bound = bounds[name][side == "max"]
            assert bound is not None
            beyond = measured[name] < bound if side == "min" else measured[name] > bound
            beyond &= readable
            near = beyond & ~_outside(measured[name], _looser(bounds[name], side))
            count["rejected"] += int(beyond.sum())
            count["near"] += int(near.sum())
            count["kept"] += int((near & (times == 1)).sum())
    rows = [
        (name, side, f"{_looser(bounds[name], side)[side == 'max']:.4g}", count)
        for (name, side), count in counts.items()
        if count["rejected"]
    ]
    if not rows:
        return []
    width = max(len(name) for name, *_ in rows)
    lines = [f"{'bound':<{width + 13}}  {'rejects':>12}  {'10 % looser':>12}  {'would keep':>12}"]
    for name, side, looser, count in rows:
        today = f"{side} {bounds[name][side == 'max']:.4g}"
        lines.append(
            f"{name:<{width}} {today:<12}  {count['rejected']:>12,}  {looser:>12}  "
            f"{count['kept']:>12,}"
        )
    name, side, looser, count = max(rows, key=lambda row: row[3]["kept"])
    if count["kept"]:
        lines.append(f"another bound: --set curation.rules.{name}.{side}={looser}")
    return lines


def language_notes(run: RunFolder, recipe: Recipe, markers: Mapping[int, Marker]) -> list[str]:
    """Notes where rules for English, or on words, meet many captions that are otherwise.

    Args:
        run: The run folder.
        recipe: The recipe.
        markers: Of the curated shards.
    """
    rules = rules_on(recipe)
    rejections = {
        name: sum(marker.facts.get(name, 0) for marker in markers.values())
        for name in rules
        if RULES[name].needs_english
    }
    english = sorted(
        (name for name in rejections if rejections[name]), key=lambda name: -rejections[name]
    )
    worded = [name for name in rules if RULES[name].needs_words]
    if not english and not worded:
        return []
    texts = _sample(run, markers)
    notes = []
    if english and texts:
        notes += _other_languages(texts, {name: rules[name] for name in english})
    if worded and texts:
        notes += _unspaced(texts, worded)
    return notes


def _other_languages(texts: list[str], rules: Mapping[str, RuleSettings]) -> list[str]:
    from synthvlm.captions.rules.language import likely_languages

    others_in_sample = [
        language for language in likely_languages(texts) if language not in (None, "en")
    ]
    notes = []
    for name, rule in rules.items():
        others = Counter(
            language for language in others_in_sample if language not in rule.languages
        )
        if others.total() < _NOTED * len(texts):
            continue
        language = others.most_common(1)[0][0]
        counts = ", ".join(f"{one}: {count}" for one, count in others.most_common(3))
        notes.append(
            f"note: {others.total()} of {len(texts)} captions looked at are not in English "
            f"({counts}), and {name}, which rejects some, is for English: switch it off "
            f"(--set curation.rules.{name}=null), or give bounds for the language "
            f"(--set 'curation.rules.{name}.languages={{{language}: {{max: 0.5}}}}')"
        )
    return notes


def _unspaced(texts: list[str], rules: list[str]) -> list[str]:
    from synthvlm.captions.rules.batch import UNSPACED, TextBatch

    batch = TextBatch(texts)
    count = int((batch.share(UNSPACED) > 0.5).sum())
    if count < _NOTED * len(texts):
        return []
    return [
        f"note: {count} of {len(texts)} captions looked at are in scripts without spaces between "
        f"words; {', '.join(rules)} count{'s' if len(rules) == 1 else ''} words and "
        f"{'sees' if len(rules) == 1 else 'see'} next to nothing there"
    ]


def _outside(values: np.ndarray, bounds: Bounds) -> np.ndarray:
    low, high = bounds
    outside = np.zeros(len(values), np.bool_)
    if low is not None:
        outside |= values < low
    if high is not None:
        outside |= values > high
    return outside


def _looser(bounds: Bounds, side: str) -> Bounds:
    low, high = bounds
    if side == "min" and low is not None:
        return low - LOOSER * abs(low), high
    assert high is not None
    return low, high + LOOSER * abs(high)


def _sample(run: RunFolder, markers: Mapping[int, Marker]) -> list[str]:
    """Texts of captions at even distances, at most ``_SAMPLE``; empty ones are left out."""
    total = sum(marker.facts["captions"] for marker in markers.values())
    step = max(1, -(-total // _SAMPLE))
    texts: list[str] = []
    offset = 0
    for table in _captions(run, markers, ["text"]):
        column = table["text"]
        texts += column.take(np.arange(offset, len(column), step)).to_pylist()
        offset = (offset - len(column)) % step
    return [text for text in texts if text]


def _captions(
    run: RunFolder, markers: Mapping[int, Marker], columns: list[str]
) -> Iterator[pa.Table]:
    for _, marker in sorted(markers.items()):
        name = marker.file("captions")
        assert name is not None
        yield run.read_table(name, columns)
