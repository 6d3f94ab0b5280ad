"""From the answers of raters to what they say together."""

from __future__ import annotations

import statistics as python_statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from synthvlm.estimates import Estimate, share_interval
from synthvlm.rating.folder import Answer, Choice, RatedPair, Setup
from synthvlm.rating.result import (
    Agreement,
    Preference,
    RaterResult,
    RatingResult,
    ScoreAgreement,
)
from synthvlm.rating.statistics import krippendorff_alpha, sign_test

__all__ = ["preference", "rating_result"]

#: Answers from which on a rater can be flagged.
_ENOUGH = 10
#: Flagged is who has one key for this share of answers, or one side more often than by chance with
#: this p value.
_SAME_KEY, _SIDE_P = 0.95, 0.001
#: Flagged is who gives more than this share of answers in fewer seconds.
_QUICK_S, _QUICK_SHARE = 1.0, 0.25
#: Parts into which pairs are cut by the difference of their scores, and pairs that each needs.
_PARTS, _PAIRS_PER_PART = 3, 5
#: What each choice is worth for A.
_VALUES: Mapping[Choice, float] = {"a": 1.0, "b": 0.0, "tie": 0.5, "bad": 0.5}
_WHO = "people"


def rating_result(
    folder: str, setup: Setup, pairs: Sequence[RatedPair], answers: Sequence[Answer]
) -> RatingResult:
    """Count what raters said.

    Args:
        folder: Where the ratings are.
        setup: What is rated.
        pairs: The pairs.
        answers: Those that count, as ``RatingFolder.answers`` gives them.
    """
    by_rater: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_rater[answer.rater].append(answer)
    raters = sorted(
        (_rater(name, given) for name, given in by_rater.items()),
        key=lambda rater: (rater.is_model, rater.name),
    )
    said = [answer for answer in answers if answer.choice is not None]
    of_people = [answer for answer in said if not answer.is_model]
    groups = {_WHO: of_people} if of_people else {}
    groups |= {
        rater.name: [answer for answer in said if answer.rater == rater.name]
        for rater in raters
        if rater.is_model and rater.preference is not None
    }
    return RatingResult(
        folder,
        setup,
        len(pairs),
        preference(of_people) if of_people else None,
        raters,
        _agreements(said),
        [one for by, given in groups.items() for one in _score_agreements(by, pairs, given)],
    )


def preference(answers: Sequence[Answer]) -> Preference:
    """What some answers, at least one, say of A."""
    means = _means(answers)
    wins, losses = (sum(sign * (mean - 0.5) > 0 for mean in means.values()) for sign in (1, -1))
    return Preference(
        len(means),
        dict(Counter(answer.choice for answer in answers if answer.choice is not None)),
        share_interval(sum(means.values()), len(means)),
        wins,
        losses,
        share_interval(wins, wins + losses) if wins + losses else None,
        sign_test(wins, losses),
    )


def _means(answers: Iterable[Answer]) -> dict[str, float]:
    """What each pair is worth for A, by its key: the mean over raters."""
    values: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        if answer.choice is not None:
            values[answer.pair].append(_VALUES[answer.choice])
    return {pair: sum(of_pair) / len(of_pair) for pair, of_pair in values.items()}


def _rater(name: str, answers: Sequence[Answer]) -> RaterResult:
    said = [answer for answer in answers if answer.choice is not None]
    places = _places(said)
    left, right = places["left"], places["right"]
    seconds = [answer.seconds for answer in said if answer.seconds is not None]
    both = [answer.orders for answer in said if answer.orders is not None]
    differ = sum(first != second for first, second in both)
    return RaterResult(
        name,
        any(answer.is_model for answer in answers),
        preference(said) if said else None,
        share_interval(left, left + right) if left + right else None,
        sign_test(left, right),
        python_statistics.median(seconds) if seconds else None,
        share_interval(differ, len(both)) if both else None,
        dict(Counter(answer.problem for answer in answers if answer.problem is not None)),
        list(_flags(places, seconds)),
    )


def _places(answers: Iterable[Answer]) -> Counter[str]:
    """How often each key was pressed; of a judge, whether the first picture was preferred."""
    places: Counter[str] = Counter()
    for answer in answers:
        if answer.orders is not None:
            for order, first in zip(answer.orders, ("a", "b"), strict=True):
                side = "left" if order == first else "right"
                places[side if order in ("a", "b") else order] += 1
        elif answer.left is not None and answer.choice is not None:
            side = "left" if answer.choice == answer.left else "right"
            places[side if answer.choice in ("a", "b") else answer.choice] += 1
    return places


def _flags(places: Counter[str], seconds: Sequence[float]) -> Iterable[str]:
    total = places.total()
    if total >= _ENOUGH:
        key, most = places.most_common(1)[0]
        if most >= _SAME_KEY * total:
            yield f"the same key, {key}, for {most:,} of {total:,} answers"
        elif sign_test(places["left"], places["right"]) < _SIDE_P:
            side = "left" if places["left"] > places["right"] else "right"
            yield f"prefers the {side} side whatever is shown there"
    quick = sum(one < _QUICK_S for one in seconds)
    if len(seconds) >= _ENOUGH and quick > _QUICK_SHARE * len(seconds):
        yield f"{quick:,} of {len(seconds):,} answers in less than {_QUICK_S:g} s"


def _agreements(said: Sequence[Answer]) -> list[Agreement]:
    models = {answer.rater for answer in said if answer.is_model}
    names = sorted({answer.rater for answer in said}, key=lambda name: (name in models, name))
    if len(names) < 2:
        return []
    groups: list[Sequence[str]] = [names]
    people = [name for name in names if name not in models]
    if models and len(people) > 1:
        groups.append(people)
    if len(names) > 2:
        groups += [two for one in combinations(names, 2) if (two := list(one)) != people]
    return [_agreement(group, said) for group in groups]


def _agreement(names: Sequence[str], said: Sequence[Answer]) -> Agreement:
    units: dict[str, dict[str, str]] = defaultdict(dict)
    for answer in said:
        if answer.rater in names and answer.choice is not None:
            units[answer.pair][answer.rater] = answer.choice
    common = [unit for unit in units.values() if len(unit) > 1]
    same = None
    if len(names) == 2 and common:
        same = share_interval(sum(len(set(unit.values())) == 1 for unit in common), len(common))
    return Agreement(list(names), len(common), same, krippendorff_alpha(common))


def _score_agreements(
    by: str, pairs: Sequence[RatedPair], answers: Sequence[Answer]
) -> Iterable[ScoreAgreement]:
    preferred = {pair: mean > 0.5 for pair, mean in _means(answers).items() if mean != 0.5}
    names = dict.fromkeys(name for pair in pairs for name in pair.scores[0])
    for name in names:
        compared = [
            (abs(difference), 0.5 if not difference else float((difference > 0) == is_a))
            for pair in pairs
            if (is_a := preferred.get(pair.key)) is not None
            and all(name in scores for scores in pair.scores)
            for difference in [pair.scores[0][name] - pair.scores[1][name]]
        ]
        if compared:
            share = share_interval(sum(agrees for _, agrees in compared), len(compared))
            yield ScoreAgreement(name, by, share, len(compared), list(_parts(compared)))


def _parts(compared: list[tuple[float, float]]) -> Iterable[tuple[float, float, Estimate]]:
    """Agreement by the difference of the scores, from small to large."""
    compared = sorted(compared)
    if len(compared) < _PARTS * _PAIRS_PER_PART:
        return
    for number in range(_PARTS):
        start, end = (len(compared) * place // _PARTS for place in (number, number + 1))
        part = compared[start:end]
        share = share_interval(sum(agrees for _, agrees in part), len(part))
        yield part[0][0], part[-1][0], share
