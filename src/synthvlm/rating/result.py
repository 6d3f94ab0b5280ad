"""What ratings say: who is preferred, how sure that is, whether raters and scores agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from synthvlm.estimates import Estimate, aligned
from synthvlm.rating.folder import Setup
from synthvlm.scorers import SCORERS

__all__ = ["Agreement", "Preference", "RaterResult", "RatingResult", "ScoreAgreement"]

_HEAD = ("", "pairs", "A", "B", "tie", "both bad", "A preferred", "without ties", "p")


@dataclass(frozen=True, slots=True)
class Preference:
    """How often A is preferred to B, by one or several raters.

    Attributes:
        pairs: Pairs that were rated.
        answers: How often each choice was made, by all raters.
        win_rate: Mean over the pairs of what the raters say: 1 for A, 0 for B, a half for a tie or
            where both are bad; with Wilson's 95 % interval by the number of pairs.
        wins: Pairs of which more raters prefer A.
        losses: Pairs of which more prefer B.
        without_ties: Share of wins among wins and losses, with Wilson's 95 % interval; None where
            there are neither.
        p: Of the sign test: the exact two-sided binomial test of wins against one half.
    """

    pairs: int
    answers: Mapping[str, int]
    win_rate: Estimate
    wins: int
    losses: int
    without_ties: Estimate | None
    p: float


@dataclass(frozen=True, slots=True)
class RaterResult:
    """What one rater said, and how.

    Attributes:
        name: The rater.
        is_model: Whether it is a model.
        preference: What was said; None where all answers failed.
        left: Of answers that prefer a side, the share that prefers the left one; of a judge the
            picture that it was shown first. None where there is none.
        left_p: Of the sign test of left against right.
        seconds: Median of a person's seconds for an answer.
        orders_differ: Of a judge that saw both orders: the share of pairs of which its answers
            differ; these count as ties.
        failed: Answers that a judge failed to give, with a reason for each.
        flags: What makes the answers doubtful.
    """

    name: str
    is_model: bool
    preference: Preference | None
    left: Estimate | None
    left_p: float
    seconds: float | None
    orders_differ: Estimate | None
    failed: Mapping[str, int]
    flags: Sequence[str]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far raters say the same.

    Attributes:
        raters: Their names.
        pairs: Pairs that at least two of them rated.
        same: Of two raters, the share of pairs of which they say the same; else None.
        alpha: Krippendorff's alpha of nominal data (A, B, tie, both bad), with its bootstrap
            interval; None where it is not defined.
    """

    raters: Sequence[str]
    pairs: int
    same: Estimate | None
    alpha: Estimate | None


@dataclass(frozen=True, slots=True)
class ScoreAgreement:
    """How often the preferred picture is the one with the higher score.

    Attributes:
        score: Name of the scorer, or ``score`` for the weighted sum.
        by: ``people``, or the judge.
        share: Of the pairs that are no tie; equal scores count half: the area under the ROC curve
            of a choice between two. With Wilson's 95 % interval.
        pairs: Those pairs.
        by_difference: The same for the pairs with the smallest, middle and largest difference of
            their scores: (smallest difference, largest difference, share); empty for few pairs.
    """

    score: str
    by: str
    share: Estimate
    pairs: int
    by_difference: Sequence[tuple[float, float, Estimate]]


@dataclass(frozen=True, slots=True)
class RatingResult:
    """What all raters said.

    Attributes:
        folder: Where the ratings are.
        setup: What is rated.
        pairs: Pairs to rate.
        people: What all people together prefer; None where none rated.
        raters: Each rater, people first.
        agreement: Of all raters, of people alone where there are models too, and of each two.
        scores: Agreement with what the run recorded.
        damaged_lines: Lines of ``ratings/`` that are no answers.
    """

    folder: str
    setup: Setup
    pairs: int
    people: Preference | None
    raters: Sequence[RaterResult]
    agreement: Sequence[Agreement]
    scores: Sequence[ScoreAgreement]
    damaged_lines: int = 0

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Text to print."""
        return "\n".join(_lines(self))


def _lines(result: RatingResult) -> list[str]:
    """A table of what raters prefer, and lines on how far that can be trusted."""
    a, b = result.setup.labels
    lines = [f"A: {a}, B: {b}; {result.pairs:,} pairs; {result.setup.question}"]
    lines += result.setup.notes
    if result.damaged_lines:
        lines.append(
            f"{result.damaged_lines:,} damaged lines in {result.folder}/ratings are left out"
        )
    if not result.raters:
        return [*lines, "nothing is rated yet"]
    lines += ["", *_preferences(result), "", *_trust(result)]
    lines += [*_agreement(result), *_scores(result), f"ratings: {result.folder}"]
    return lines


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
            yield f"{rater.name}: {number:,} answers failed, the command tries again: {problem}"


def _agreement(result: RatingResult) -> Iterator[str]:
    for one in result.agreement:
        names = " and ".join(one.raters) if len(one.raters) == 2 else ", ".join(one.raters)
        alpha = "not defined" if one.alpha is None else _number(one.alpha)
        same = "" if one.same is None else f"; the same answer: {_percent(one.same)}"
        yield f"agreement of {names}: {one.pairs:,} pairs; Krippendorff's alpha {alpha}{same}"


def _scores(result: RatingResult) -> Iterator[str]:
    for one in result.scores:
        label = "score" if one.score == "score" else SCORERS.label(one.score)
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
