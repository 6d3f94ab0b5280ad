"""What is concluded from ratings: by hand, and equal to scipy's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import scipy.stats

from synthvlm.rating.counting import preference, rating_result
from synthvlm.rating.folder import Answer, Choice, RatedPair, RatingFolder, Setup, Side
from synthvlm.rating.prepare import Rating, summary
from synthvlm.rating.result import RaterResult, RatingResult

SETUP = Setup(("a", "b"), ("mine", "theirs"), "Which?", 0, 100)


def answers_of(
    rater: str, choices: str, left: str = "", seconds: float = 3.0, *, is_model: bool = False
) -> list[Answer]:
    """A letter for each pair: a, b, t(ie), x (both bad), dot (not rated)."""
    meaning: dict[str, Choice] = {"a": "a", "b": "b", "t": "tie", "x": "bad"}
    sides: list[Side] = ["a" if side == "a" else "b" for side in left or "ab" * len(choices)]
    return [
        Answer(
            f"p{n}", rater, meaning[one], side, seconds=seconds, is_model=is_model, time=float(n)
        )
        for n, (one, side) in enumerate(zip(choices, sides, strict=False))
        if one != "."
    ]


def pairs_of(differences: Sequence[float]) -> list[RatedPair]:
    """Pairs whose CLIPScores differ so much; of the last one B has none."""
    scores = [({"clip": d, "ssim": 0.5}, {"clip": 0.0, "ssim": 0.5}) for d in differences]
    pairs = [
        RatedPair(f"p{n}", f"caption {n}", f"c{n}", ("x", "y"), one) for n, one in enumerate(scores)
    ]
    return [*pairs, RatedPair("last", "caption", "last", ("x", "y"), ({"clip": 1.0}, {}))]


def result_of(*raters: list[Answer], differences: Sequence[float] = ()) -> RatingResult:
    pairs = pairs_of(differences or [0.0] * 100)
    return rating_result("folder", SETUP, pairs, [one for answers in raters for one in answers])


def rater_of(result: RatingResult, name: str) -> RaterResult:
    return next(rater for rater in result.raters if rater.name == name)


def test_one_rater_is_scipys_binomial_proportion() -> None:
    found = preference(answers_of("rater-1", "a" * 63 + "b" * 37))
    test = scipy.stats.binomtest(63, 100)
    interval = test.proportion_ci(method="wilson")
    assert found.without_ties is not None
    for estimate in (found.win_rate, found.without_ties):
        assert estimate.value == 0.63
        assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(test.pvalue)


def test_ties_count_half_and_are_left_out_of_the_test() -> None:
    found = preference(answers_of("rater-1", "aaaaaabbttx"))
    assert found.answers == {"a": 6, "b": 2, "tie": 2, "bad": 1}
    assert found.win_rate.value == pytest.approx((6 + 1.5) / 11)
    assert (found.wins, found.losses) == (6, 2)
    assert found.p == pytest.approx(scipy.stats.binomtest(6, 8).pvalue)
    assert found.without_ties is not None
    assert found.without_ties.value == 0.75


def test_of_several_raters_a_pair_is_one_observation() -> None:
    # Pair by pair: both A; A and tie; A and B; both B: 1, 3/4, 1/2, 0.
    result = result_of(answers_of("rater-1", "aaab"), answers_of("rater-2", "atbb"))
    assert result.people is not None
    assert result.people.pairs == 4
    assert result.people.win_rate.value == pytest.approx((1 + 0.75 + 0.5 + 0) / 4)
    assert (result.people.wins, result.people.losses) == (2, 1)


def test_models_are_not_people() -> None:
    people = answers_of("rater-1", "aaab"), answers_of("rater-2", "atbb")
    result = result_of(*people, answers_of("judge", "bbbb", is_model=True))
    assert result.people is not None
    assert result.people.win_rate.value == pytest.approx(2.25 / 4)
    assert [rater.name for rater in result.raters] == ["rater-1", "rater-2", "judge"]
    groups = [tuple(one.raters) for one in result.agreement]
    two = [("rater-1", "rater-2"), ("rater-1", "judge"), ("rater-2", "judge")]
    assert groups == [("rater-1", "rater-2", "judge"), *two]
    same = {tuple(one.raters): one.same for one in result.agreement}["rater-1", "rater-2"]
    assert same is not None
    assert same.value == 0.5


def test_agreement_is_krippendorffs_alpha_of_the_choices() -> None:
    # As in `test_alpha_by_hand`; the pair that one of them rated tells nothing.
    result = result_of(answers_of("rater-1", "aaba"), answers_of("rater-2", "abb."))
    (one,) = result.agreement
    assert one.alpha is not None
    assert (one.pairs, one.alpha.value) == (3, pytest.approx(1 - (2 / 6) / (18 / 30)))


def test_who_always_presses_one_key_is_flagged() -> None:
    sides = "abbabaabbaab"  # what was on the left
    always_left = answers_of("left", sides, left=sides)
    honest = answers_of("honest", "aaaabbbbaabb", left=sides)
    ties = answers_of("ties", "t" * 12, left=sides)
    few = answers_of("few", sides[:9], left=sides)
    result = result_of(always_left, honest, ties, few)
    flags = {rater.name: list(rater.flags) for rater in result.raters}
    assert flags == {
        "left": ["the same key, left, for 12 of 12 answers"],
        "honest": [],
        "ties": ["the same key, tie, for 12 of 12 answers"],
        "few": [],
    }
    left = rater_of(result, "left")
    assert left.left is not None
    assert (left.left.value, left.left_p) == (1.0, pytest.approx(2 / 2**12))
    assert "DOUBTFUL: left: the same key" in result.text()


def test_who_prefers_a_side_is_flagged() -> None:
    sides = "ab" * 20
    swapped = sides.translate(str.maketrans("ab", "ba"))
    biased = answers_of("biased", swapped[:33] + sides[33:], left=sides)
    rater = rater_of(result_of(biased), "biased")
    assert list(rater.flags) == ["prefers the right side whatever is shown there"]
    assert rater.left is not None
    assert rater.left.value == pytest.approx(7 / 40)


def test_who_is_too_quick_is_flagged() -> None:
    quick = answers_of("quick", "abbaabba", "abababab", 0.4) + answers_of("quick", "." * 8 + "ab")
    rater = rater_of(result_of(quick), "quick")
    assert list(rater.flags) == ["8 of 10 answers in less than 1 s"]
    assert rater.seconds == 0.4


def test_how_often_the_preferred_picture_has_the_higher_score() -> None:
    # Preferred A, A, B, B, none; A's CLIPScore higher, lower, lower, the same, higher.
    differences = [0.2, -0.1, -0.3, 0.0, 0.5]
    result = result_of(answers_of("rater-1", "aabbt"), differences=differences)
    clip, ssim = result.scores
    assert (clip.score, clip.by, clip.pairs) == ("clip", "people", 4)
    assert clip.share.value == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert ssim.share.value == 0.5
    assert clip.by_difference == []


def test_agreement_with_a_score_by_its_difference() -> None:
    # Of 15 pairs, the 5 closest are as often right as wrong, but for one; the others are right.
    differences = [0.01 * (n + 1) for n in range(15)]
    result = result_of(answers_of("rater-1", "abaaa" + "b" + "a" * 9), differences=differences)
    parts = result.scores[0].by_difference
    assert [share.value for *_, share in parts] == pytest.approx([0.8, 0.8, 1.0])
    assert parts[0][:2] == pytest.approx((0.01, 0.05))


def test_a_judges_orders_and_failures() -> None:
    def judged(n: int, first: Choice, second: Choice) -> Answer:
        choice: Choice = first if first == second else "tie"
        return Answer(f"p{n}", "vlm", choice, orders=(first, second), is_model=True)

    answers = [judged(n, *orders) for n, orders in enumerate([("a", "a"), ("a", "b"), ("b", "b")])]
    answers.append(Answer("p3", "vlm", None, is_model=True, problem="no answer in time"))
    rater = rater_of(result_of(answers), "vlm")
    assert rater.preference is not None
    assert rater.preference.pairs == 3
    assert rater.orders_differ is not None
    assert rater.orders_differ.value == pytest.approx(1 / 3)
    assert rater.failed == {"no answer in time": 1}
    # The first picture once for the first pair, twice for the second, once for the third.
    assert rater.left is not None
    assert rater.left.value == pytest.approx(4 / 6)
    text = result_of(answers).text()
    assert "1 answers failed, the command tries again: no answer in time" in text


def test_nothing_is_rated() -> None:
    result = result_of()
    assert result.people is None
    assert "nothing is rated yet" in result.text()
    assert json.loads(json.dumps(result.values()))["setup"]["labels"] == ["mine", "theirs"]


def test_damaged_lines_are_counted_and_told(tmp_path: Path) -> None:
    folder = RatingFolder(tmp_path)
    pair = folder.add_pair("a kite", "a", (b"1", b"2"), ({}, {}))
    folder.write(SETUP, [pair])
    folder.add(Answer(pair.key, "rater-1", "a", left="a", seconds=2.0))
    file = folder.file_of("rater-1")
    file.write_bytes(file.read_bytes() + b'\n{"pair": "torn\n[1]\n')
    result = summary(Rating(folder, SETUP, [pair]))
    assert result.damaged_lines == 2
    assert f"2 damaged lines in {tmp_path}/ratings are left out" in result.text()
    assert [rater.name for rater in result.raters] == ["rater-1"]
