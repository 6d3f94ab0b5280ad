"""What `curate` says beside its funnel: rejections near a bound, and rules that do not fit.

It says only; nothing is decided here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthvlm.captions.rules import RULES
from synthvlm.stages.curation.curated import NEAR
from synthvlm.stages.curation.rules import (
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

__all__ = ["MovedBound", "bound_lines", "language_notes", "moved_bounds"]

#: Captions whose language is looked at, spread over all; the model reads some 20,000 a second.
_SAMPLE = 1000
#: Share of them from which on a note says that they are in another language.
_NOTED = 0.2


def bound_lines(run: RunFolder, recipe: Recipe, markers: Mapping[int, Marker]) -> list[str]:
    """``moved_bounds`` as a table, and the setting of the looser bound that would keep most.

    Args:
        run: The run folder.
        recipe: The recipe.
        markers: Of the curated shards.
    """
    bounds = moved_bounds(run, recipe, markers)
    if not bounds:
        return []
    width = max(len(bound.rule) for bound in bounds)
    lines = [
        f"{'bound':<{width + 13}}  {'rejects':>12}  {'10 % looser':>12}  {'would keep':>12}  "
        f"{'10 % tighter':>12}  {'would reject':>12}"
    ]
    lines += [
        f"{bound.rule:<{width}} {f'{bound.side} {bound.value:.4g}':<12}  {bound.rejected:>12,}  "
        f"{bound.looser:>12.4g}  {bound.regained:>12,}  {bound.tighter:>12.4g}  {bound.lost:>12,}"
        for bound in bounds
    ]
    best = max(bounds, key=lambda bound: bound.regained)
    if best.regained:
        setting = f"curation.rules.{best.rule}.{best.side}={best.looser:.4g}"
        lines.append(f"the looser bound that would keep most: --set {setting}")
    return lines


def moved_bounds(run: RunFolder, recipe: Recipe, markers: Mapping[int, Marker]) -> list[MovedBound]:
    """What the bounds of rules on texts reject, and would keep or reject were they moved by 10 %.

    A bound counts that rejects captions, or would if it were tighter. A bound of 0 cannot be moved
    in proportion, and a rule with bounds by language has no single one: they are left out.

    Args:
        run: The run folder.
        recipe: The recipe.
        markers: Of the curated shards.
    """
    by_language = language_bounds(recipe, text_rules_on(recipe))
    names = [name for name in text_rules_on(recipe) if name not in by_language]
    bounds = _bounds(recipe, names)
    if not bounds:
        return []
    for table in _captions(run, markers, ["problem", "kept", *names]):
        readable = table["problem"].is_null().to_numpy(zero_copy_only=False)
        kept = table["kept"].to_numpy(zero_copy_only=False).astype(bool)
        measures = {name: table[name].to_numpy(zero_copy_only=False) for name in names}
        rejections = [bound.rejects(measures[bound.rule]) & readable for bound in bounds]
        reasons = sum(rejections, np.zeros(table.num_rows, np.int64))
        for bound, rejected in zip(bounds, rejections, strict=True):
            bound.rejected += int(rejected.sum())
            still_rejected = bound.rejects(measures[bound.rule], bound.looser)
            bound.regained += int((rejected & (reasons == 1) & ~still_rejected).sum())
            bound.lost += int((kept & bound.rejects(measures[bound.rule], bound.tighter)).sum())
    return [bound for bound in bounds if bound.value and (bound.rejected or bound.lost)]


@dataclass(slots=True)
class MovedBound:
    """A bound of a rule, what it rejects, and what it would were it moved.

    Attributes:
        rule: The name of the rule.
        side: ``min`` or ``max``.
        value: The bound.
        looser: The bound, 10 % looser.
        tighter: The bound, 10 % tighter.
        rejected: Captions that it rejects.
        regained: Those that fail no other bound, and pass the looser one; what comes later
            (duplicates, rules with models) may still reject them.
        lost: Captions that are kept, and fail the tighter one.
    """

    rule: str
    side: str
    value: float
    looser: float
    tighter: float
    rejected: int = 0
    regained: int = 0
    lost: int = 0

    def rejects(self, measures: np.ndarray, bound: float | None = None) -> np.ndarray:
        """Which measures, shape (n,), lie beyond this bound, or beyond another one."""
        value = self.value if bound is None else bound
        return np.asarray(measures < value if self.side == "min" else measures > value)


def _bounds(recipe: Recipe, names: Iterable[str]) -> list[MovedBound]:
    bounds = []
    for name, (low, high) in bounds_of(recipe, names).items():
        for side, value, looser in (("min", low, -1), ("max", high, 1)):
            if value is not None:
                step = looser * NEAR * abs(value)
                bounds.append(MovedBound(name, side, value, value + step, value - step))
    return bounds


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
