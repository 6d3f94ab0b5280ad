"""A candidate below the minimum of a scorer is rejected, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_generation import ADAPTIVE, Generator, essence, generate
from test_generation_recovery import pairs

from fake_models import use_models
from synthvlm import Recipe
from synthvlm.checks.status import status
from synthvlm.checks.verify import verify
from synthvlm.data import Candidate
from synthvlm.report.pairs import read_candidates
from synthvlm.run.kept_recipe import open_folder
from synthvlm.run_folder.folder import RunFolder
from synthvlm.stages.card_facts import card_counts
from synthvlm.stages.generation.candidate_plan import CandidatePlan, reusable_row
from synthvlm.stages.summary import StageSummary, describe

CAPTIONS = 12
MINIMUM, NONE = "scoring.clip.minimum=0.6", "scoring.clip.minimum=null"


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Generator:
    use_models(monkeypatch, generator := Generator())
    return generator


def test_a_candidate_below_cannot_win_and_a_caption_of_such_has_no_pair(
    tmp_path: Path, generator: Generator
) -> None:
    before = generate(tmp_path / "run", captions=CAPTIONS)
    winners = pairs(tmp_path / "run")
    generator.generated = 0
    # Measured first, decided later: of the images only new winners are made again.
    rows = generate(tmp_path / "run", MINIMUM, captions=CAPTIONS)
    now = pairs(tmp_path / "run")
    assert 0 < len(now) < CAPTIONS
    assert generator.generated == sum(winners[id] != index for id, index in now.items())
    for (id, index), row in rows.items():
        assert row["clip_score"] == before[id, index]["clip_score"]
        if row["clip_score"] < 0.6:
            problem = f"clip_score {row['clip_score']:.6g} is below scoring.clip.minimum 0.6"
            assert (row["status"], row["score"], row["problem"]) == ("rejected", None, problem)
            assert not row["chosen"]
        else:
            assert row["status"] == "ok"
            assert row["problem"] is None
    usable = {id for (id, _), row in rows.items() if row["status"] == "ok"}
    assert now.keys() == usable
    facts = RunFolder(tmp_path / "run").markers("generate")[0].facts
    rejected = sum(row["status"] == "rejected" for row in rows.values())
    assert (facts["failed"], facts["rejected"]) == (0, rejected)
    assert facts["captions_rejected"] == CAPTIONS - len(now)
    assert_told(tmp_path / "run", rejected, CAPTIONS - len(now))
    fresh = generate(tmp_path / "fresh", MINIMUM, captions=CAPTIONS)
    assert essence(fresh) == essence(rows)
    assert not verify(*open_folder(str(tmp_path / "run"))).findings

    generator.generated = 0
    rows = generate(tmp_path / "run", NONE, captions=CAPTIONS)
    assert essence(rows) == essence(before)
    assert generator.generated == sum(now.get(id) != index for id, index in winners.items())
    assert "rejected" not in RunFolder(tmp_path / "run").markers("generate")[0].facts


def assert_told(out: Path, rejected: int, captions: int) -> None:
    """Status, report, card and the summary of the stage say how many there are."""
    run, recipe = open_folder(str(out))
    rejections = f"{rejected} below a minimum ({captions} captions have no pair for that)"
    assert rejections in status(run, recipe).text()
    candidates, _ = read_candidates(run, recipe, run.markers("generate"))
    assert (candidates.statuses["rejected"], candidates.captions_rejected) == (rejected, captions)
    assert candidates.images == CAPTIONS * 4
    counts = card_counts(run.markers("curate"), run.markers("generate"))
    assert ("candidates below the minimum of a scorer", rejected) in counts
    assert ("captions without a pair: all candidates rejected", captions) in counts
    (event,) = [e for e in run.events() if e.get("captions_rejected")]
    summary = StageSummary("generate", 1, 0, event, 1.0)
    line = describe(summary)
    assert f"{rejected} below a minimum, " in line
    assert f"{captions} captions without a pair, all rejected" in line


def test_a_rejected_candidate_does_not_count_as_the_best_so_far(
    tmp_path: Path, generator: Generator
) -> None:
    whole = generate(tmp_path / "whole", MINIMUM, captions=CAPTIONS)
    rows = generate(tmp_path / "run", MINIMUM, ADAPTIVE, captions=CAPTIONS)
    stopped = 0
    for id in {id for id, _ in rows}:
        reached = [n for n in range(4) if (whole[id, n]["score"] or 0) >= 1.0]
        last = min(reached, default=3)
        stopped += last < 3
        states = [rows[id, n]["status"] for n in range(4)]
        assert states[last + 1 :] == ["skipped"] * (3 - last)
        assert states[: last + 1] == [whole[id, n]["status"] for n in range(last + 1)]
    assert stopped


def row(index: int, **scores: float) -> Candidate:
    return Candidate("a", index, 1, "ok", "f", scores=scores)


def winner(recipe: Recipe, rows: list[Candidate]) -> tuple[int | None, dict[int, str], list[int]]:
    known: dict[Any, Any] = {("a", one.index): reusable_row(one, recipe) for one in rows}
    plan = CandidatePlan(["a"], recipe, None, {k: one for k, one in known.items() if one})
    statuses = {n: one.status for n, one in plan.rows["a"].items()}
    return plan.winner("a"), statuses, plan.unscored("a")


def test_minimums_of_scorers_that_see_all_and_of_those_that_see_the_best() -> None:
    """Rejected by the first, a candidate makes room for another; by the second, it does not."""
    changes = ["generation.candidates=4", "scoring.ssim.only_best=2", "scoring.ssim.weight=1"]
    rows = [
        row(0, clip=0.9, ssim=0.1),
        row(1, clip=0.8, ssim=0.3),
        row(2, clip=0.7),
        row(3, clip=0),
    ]
    plain = Recipe.load("tiny", overrides=changes)
    assert winner(plain, rows) == (1, {0: "ok", 1: "ok", 2: "outranked", 3: "outranked"}, [])
    late = Recipe.load("tiny", overrides=[*changes, "scoring.ssim.minimum=0.2"])
    assert winner(late, rows) == (1, {0: "rejected", 1: "ok", 2: "outranked", 3: "outranked"}, [])
    none = Recipe.load("tiny", overrides=[*changes, "scoring.ssim.minimum=0.5"])
    assert winner(none, rows)[0] is None
    early = Recipe.load("tiny", overrides=[*changes, "scoring.clip.minimum=0.75"])
    assert winner(early, rows)[0] == 1
    rows[0] = row(0, clip=0.74, ssim=0.1)
    room = Recipe.load("tiny", overrides=[*changes, "scoring.clip.minimum=0.1"])
    assert winner(room, rows)[2] == []
    rows[1] = row(1, clip=0.05, ssim=0.3)
    assert winner(room, rows)[1:] == ({0: "ok", 1: "rejected", 2: "outranked", 3: "rejected"}, [2])


def test_ties_among_contenders_go_to_the_lower_index() -> None:
    recipe = Recipe.load("tiny", overrides=["generation.candidates=4", "scoring.ssim.only_best=2"])
    assert winner(recipe, [row(n, clip=0.5) for n in range(4)])[2] == [0, 1]
