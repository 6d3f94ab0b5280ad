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

__all__ = ["bound_lines", "language_notes"]

#: How much looser, in proportion, the bound is that the lines compare with.
LOOSER = 0.1
#: Captions whose language is looked at, spread over all; the model reads some 20,000 a second.
_SAMPLE = 1000
#: Share of them from which on a note says that they are in another language.
_NOTED = 0.2


def bound_lines(run: RunFolder, recipe: Recipe, markers: Mapping[int, Marker]) -> list[str]:
    """A table of the bounds that rejected captions, and what each would keep were it 10 % looser.

    It would keep those that fail no other rule on texts; what comes later (duplicates, rules with
    models) may still reject them. A bound of 0 cannot be looser in proportion, and a rule with
    bounds by language has no single one: they are left out.

    Args:
        run: The run folder.
        recipe: The recipe.
        markers: Of the curated shards.
    """
    by_language = language_bounds(recipe, text_rules_on(recipe))
    names = [name for name in text_rules_on(recipe) if name not in by_language]
    bounds = _bounds(recipe, names)
    if not any(marker.facts.get(name, 0) for name in names for marker in markers.values()):
        return []
    for table in _captions(run, markers, ["problem", *names]):
        readable = table["problem"].is_null().to_numpy(zero_copy_only=False)
        measures = {name: table[name].to_numpy(zero_copy_only=False) for name in names}
        rejections = [bound.rejects(measures[bound.rule]) & readable for bound in bounds]
        reasons = sum(rejections, np.zeros(table.num_rows, np.int64))
        for bound, rejected in zip(bounds, rejections, strict=True):
            bound.rejected += int(rejected.sum())
            still_rejected = bound.rejects(measures[bound.rule], bound.looser)
            bound.regained += int((rejected & (reasons == 1) & ~still_rejected).sum())
    rows = [bound for bound in bounds if bound.value and bound.rejected]
    if not rows:
        return []
    width = max(len(bound.rule) for bound in rows)
    lines = [f"{'bound':<{width + 13}}  {'rejects':>12}  {'10 % looser':>12}  {'would keep':>12}"]
    lines += [
        f"{bound.rule:<{width}} {f'{bound.side} {bound.value:.4g}':<12}  {bound.rejected:>12,}  "
        f"{bound.looser:>12.4g}  {bound.regained:>12,}"
        for bound in rows
    ]
    best = max(rows, key=lambda bound: bound.regained)
    if best.regained:
        setting = f"curation.rules.{best.rule}.{best.side}={best.looser:.4g}"
        lines.append(f"another bound: --set {setting}")
    return lines


@dataclass(slots=True)
class _Bound:
    """A bound of a rule, and what it rejects.

    Attributes:
        rule: The name of the rule.
        side: ``min`` or ``max``.
        value: The bound.
        looser: The one that it is compared with.
        rejected: Captions that it rejects.
        regained: Those that fail no other bound, and pass the looser one.
    """

    rule: str
    side: str
    value: float
    looser: float
    rejected: int = 0
    regained: int = 0

    def rejects(self, measures: np.ndarray, bound: float | None = None) -> np.ndarray:
        """Which measures, shape (n,), lie beyond this bound, or beyond another one."""
        value = self.value if bound is None else bound
        return np.asarray(measures < value if self.side == "min" else measures > value)


def _bounds(recipe: Recipe, names: Iterable[str]) -> list[_Bound]:
    bounds = []
    for name, (low, high) in bounds_of(recipe, names).items():
        if low is not None:
            bounds.append(_Bound(name, "min", low, low - LOOSER * abs(low)))
        if high is not None:
            bounds.append(_Bound(name, "max", high, high + LOOSER * abs(high)))
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
