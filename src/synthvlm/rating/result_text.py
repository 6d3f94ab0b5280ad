"""The result of a rating as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from synthvlm.estimates import Estimate, aligned
from synthvlm.scorers import SCORERS

if TYPE_CHECKING:
    from synthvlm.rating.result import Preference, RaterResult, RatingResult

__all__ = ["text_of"]

_HEAD = ("", "pairs", "A", "B", "tie", "both bad", "A preferred", "without ties", "p")


def text_of(result: RatingResult) -> str:
    """A table of what raters prefer, and lines on how far that can be trusted."""
    a, b = result.setup.labels
    lines = [f"A: {a}, B: {b}; {result.pairs:,} pairs; {result.setup.question}"]
    lines += result.setup.notes
    if not result.raters:
        return "\n".join([*lines, "nothing is rated yet"])
    lines += ["", *_preferences(result), "", *_trust(result)]
    lines += [*_agreement(result), *_scores(result), f"ratings: {result.folder}"]
    return "\n".join(lines)


def _preferences(result: RatingResult) -> list[str]:
    rows: list[tuple[str, ...]] = [_HEAD]
    people = [rater for rater in result.raters if not rater.is_model]
    if result.people is not None and len(people) > 1:
        rows.append(_row(f"people ({len(people)})", result.people))
    rows += [
        _row(_name(rater), rater.preference)
        for rater in result.raters
        if rater.preference is not None
    ]
    return aligned(rows)


def _name(rater: RaterResult) -> str:
    return f"{rater.name} (model)" if rater.is_model else rater.name


def _row(name: str, preference: Preference) -> tuple[str, ...]:
    answers = preference.answers
    without = preference.without_ties
    return (
        name,
        f"{preference.pairs:,}",
        *(f"{answers.get(choice, 0):,}" for choice in ("a", "b", "tie", "bad")),
        _percent(preference.win_rate),
        "-" if without is None else _percent(without),
        "-" if without is None else _p(preference.p),
    )


def _trust(result: RatingResult) -> Iterator[str]:
    for rater in result.raters:
        facts = []
        if rater.left is not None:
            side = "the first picture" if rater.is_model else "left"
            facts.append(f"{side} preferred: {_percent(rater.left)}, p {_p(rater.left_p)}")
        if rater.orders_differ is not None:
            facts.append(f"both orders differ (ties): {_percent(rater.orders_differ)}")
        if rater.seconds is not None:
            facts.append(f"median {rater.seconds:.1f} s")
        if facts:
            yield f"{_name(rater)}: {'; '.join(facts)}"
        for flag in rater.flags:
            yield f"DOUBTFUL: {rater.name}: {flag}; to leave this rater out, move the file away"
        for problem, number in rater.failed.items():
            yield f"{rater.name}: {number:,} answers failed, and are asked for again: {problem}"


def _agreement(result: RatingResult) -> Iterator[str]:
    for one in result.agreement:
        names = " and ".join(one.raters) if len(one.raters) == 2 else ", ".join(one.raters)
        alpha = "not defined" if one.alpha is None else _number(one.alpha)
        same = "" if one.same is None else f"; the same answer: {_percent(one.same)}"
        yield f"agreement of {names}: {one.pairs:,} pairs; Krippendorff's alpha {alpha}{same}"


def _scores(result: RatingResult) -> Iterator[str]:
    for one in result.scores:
        label = "the score" if one.score == "score" else SCORERS.label(one.score)
        line = (
            f"the picture preferred by {one.by} has the higher {label}: {_percent(one.share)} of "
            f"{one.pairs:,} pairs"
        )
        parts = [f"{share.value:.0%}" for _, _, share in one.by_difference]
        if parts:
            line += f"; by growing difference: {', '.join(parts)}"
        yield line


def _percent(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f} %"
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:.1f} % ({low:.1f} to {high:.1f})"


def _number(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
