"""Scorers with ``only_best`` see the finalists of each caption; the best of those wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_generation import Generator, Unseeded, essence, generate
from test_generation_recovery import Budget, pairs

from fake_models import FakeClip, FakeSsim
from synthvlm import Recipe
from synthvlm.checks.regenerate import regenerate
from synthvlm.checks.verify import verify
from synthvlm.errors import RecipeError, SynthVLMError, TooManyFailuresError
from synthvlm.progress.display import SilentProgress
from synthvlm.run.kept_recipe import open_folder
from synthvlm.run_folder.folder import RunFolder
from synthvlm.scorers.base import Scores
from synthvlm.stages.generation.models import Models

K, CAPTIONS = 4, 20
BEST_2, BEST_3 = "scoring.ssim.only_best=2", "scoring.ssim.only_best=3"
ALL = "scoring.ssim.only_best=null"


class Expensive(FakeSsim):
    """Counts the images that it sees, and fails where it is told to."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.most, self.left = 1000, 10**9
        self.fails: set[str] = set()

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        if len(captions) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        if len(captions) > self.left:
            raise SynthVLMError("the budget of the scorer is used up")
        self.left -= len(captions)
        self.batches.append(len(captions))
        scores = super().score(images, captions)
        for n, caption in enumerate(captions):
            if caption in self.fails:
                scores.values[n] = math.nan
        return scores


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> Expensive:
    return use(monkeypatch, Generator())[1]


def use(
    monkeypatch: pytest.MonkeyPatch, generator: Any, scorer: Expensive | None = None
) -> tuple[Any, Expensive]:
    scorer = scorer or Expensive()
    models = Models(generator, {"clip": FakeClip(), "ssim": scorer})
    monkeypatch.setattr(Models, "load", classmethod(lambda cls, recipe: models))
    return generator, scorer


def scored(rows: dict[Any, Any]) -> dict[Any, Any]:
    """What is known of each candidate."""
    names = ("status", "chosen", "clip_score", "ssim_score", "score", "seed", "problem")
    return {key: tuple(row[name] for name in names) for key, row in rows.items()}


def test_the_best_finalist_wins_and_the_others_are_outranked(
    tmp_path: Path, scorer: Expensive
) -> None:
    everything = generate(tmp_path / "all", captions=CAPTIONS)
    assert sum(scorer.batches) == CAPTIONS * K
    scorer.batches.clear()
    rows = generate(tmp_path / "run", BEST_2, captions=CAPTIONS)
    # Full batches of 8 but for the last of each shard (16 captions, and 4).
    assert scorer.batches == [8, 8, 8, 8, 8]
    assert len(pairs(tmp_path / "run")) == CAPTIONS
    surprises = 0
    for id in {id for id, _ in rows}:
        by_clip = sorted(range(K), key=lambda n: (-everything[id, n]["clip_score"], n))
        finalists = by_clip[:2]
        winner = min(finalists, key=lambda n: (-everything[id, n]["score"], n))
        surprises += winner != by_clip[0]
        for n in range(K):
            row, whole = rows[id, n], everything[id, n]
            assert row["clip_score"] == whole["clip_score"]
            if n in finalists:
                same = (row["status"], row["ssim_score"], row["score"])
                assert same == ("ok", whole["ssim_score"], whole["score"])
                assert row["chosen"] == (n == winner)
            else:
                known = (row["status"], row["ssim_score"], row["score"], row["chosen"])
                assert known == ("outranked", None, None, False)
    assert surprises
    run, recipe = open_folder(str(tmp_path / "run"))
    assert not verify(run, recipe).findings
    again = regenerate(run, recipe, id, every=True)
    assert again.is_same
    assert [len(one.scores or {}) for one in again.candidates] == [
        3 if rows[id, n]["status"] == "ok" else 1 for n in range(K)
    ]


def test_rows_depend_on_neither_batches_nor_shards(tmp_path: Path, scorer: Expensive) -> None:
    found = [
        scored(generate(tmp_path / f"{n}", BEST_2, *changes, captions=CAPTIONS))
        for n, changes in enumerate(
            [("run.batch_size=1",), ("run.batch_size=7",), ("run.batch_size=8", "run.shard_size=3")]
        )
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("before", "after", "images", "seen"),
    [
        (BEST_2, BEST_3, CAPTIONS, CAPTIONS),
        (BEST_2, ALL, 2 * CAPTIONS, 2 * CAPTIONS),
        (BEST_3, BEST_2, None, 0),
        (ALL, BEST_2, None, 0),
        (f"{BEST_2} scoring.ssim.weight=0.5", f"{BEST_2} scoring.ssim.weight=3", None, 0),
    ],
    ids=["raised", "removed", "lowered", "added", "another weight"],
)
def test_a_change_generates_only_what_it_needs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    after: str,
    images: int | None,
    seen: int,
) -> None:
    """Finalists without a score, and winners whose pixels were not kept."""
    generator, scorer = use(monkeypatch, Generator())
    old = generate(tmp_path / "run", *before.split(), captions=CAPTIONS)
    winners = pairs(tmp_path / "run")
    generator.generated = 0
    scorer.batches.clear()
    rows = generate(tmp_path / "run", *after.split(), captions=CAPTIONS)
    changed = sum(pairs(tmp_path / "run")[id] != index for id, index in winners.items())
    assert 0 < changed < CAPTIONS
    if images is None:
        assert generator.generated == changed
    else:  # A winner of before that wins no more needs no image; a new one has just got one.
        assert generator.generated == images
    assert sum(scorer.batches) == seen
    fresh = generate(tmp_path / "fresh", *after.split(), captions=CAPTIONS)
    kept = {key: row["ssim_score"] for key, row in old.items()}
    for key, row in rows.items():  # What is known of one that is outranked now stays.
        if row["status"] == "outranked" and kept[key] is not None:
            assert row["ssim_score"] == kept[key]
            row["ssim_score"] = None
    assert scored(rows) == scored(fresh)
    assert pairs(tmp_path / "run") == pairs(tmp_path / "fresh")
    generator.generated = 0
    generate(tmp_path / "run", *after.split(), captions=CAPTIONS)
    assert not generator.generated


def test_a_measure_of_an_earlier_recipe_rejects_no_outranked_candidate(
    tmp_path: Path, scorer: Expensive
) -> None:
    minimum = "scoring.ssim.minimum=0.5"
    generate(tmp_path / "run", ALL, captions=CAPTIONS)
    rows = generate(tmp_path / "run", BEST_2, minimum, captions=CAPTIONS)
    fresh = generate(tmp_path / "fresh", BEST_2, minimum, captions=CAPTIONS)
    statuses = [
        {key: (row["status"], row["problem"]) for key, row in r.items()} for r in (rows, fresh)
    ]
    assert statuses[0] == statuses[1]
    assert {status for status, _ in statuses[0].values()} == {"ok", "rejected", "outranked"}


def test_a_finalist_without_a_number_fails_and_is_tried_again(
    tmp_path: Path, scorer: Expensive
) -> None:
    whole = generate(tmp_path / "whole", BEST_2, captions=CAPTIONS)
    scorer.fails = {"A red kite number 3 flies over the green hill, near the sea."}
    changes = (BEST_2, "run.max_failed_share=0.5")
    rows = generate(tmp_path / "run", *changes, captions=CAPTIONS)
    failed = [key for key, row in rows.items() if row["status"] == "failed"]
    assert len(failed) == 2
    assert failed[0][0] == failed[1][0]  # no other candidate took their place
    assert all(rows[key]["problem"] == "scorer 'ssim' gave nan" for key in failed)
    assert len(pairs(tmp_path / "run")) == CAPTIONS - 1
    scorer.fails = set()
    rows = generate(tmp_path / "run", *changes, captions=CAPTIONS)
    assert scored(rows) == scored(whole)


def test_a_scorer_that_always_fails_stops_the_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Expensive):
        def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
            return Scores(super().score(images, captions).values * math.nan)

    generator, _ = use(monkeypatch, Generator(), Broken())
    with pytest.raises(TooManyFailuresError, match=r"not even of .*scorer 'ssim' gave nan"):
        generate(tmp_path / "run", BEST_2)
    assert generator.generated < 40


def test_out_of_memory_is_halved(tmp_path: Path, scorer: Expensive) -> None:
    whole = generate(tmp_path / "whole", BEST_2, captions=CAPTIONS)
    scorer.most = 3
    scorer.batches.clear()
    rows = generate(tmp_path / "run", BEST_2, captions=CAPTIONS)
    assert max(scorer.batches) == 2
    assert sum(scorer.batches) == 2 * CAPTIONS
    assert scored(rows) == scored(whole)


@pytest.mark.parametrize("ends", ["generator", "scorer"])
def test_a_run_that_ends_early_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    generator, scorer = use(monkeypatch, Budget())
    whole = generate(tmp_path / "whole", BEST_2, captions=CAPTIONS)
    used_up = 0
    for _ in range(20):
        generator.left = 33 if ends == "generator" else 10**9
        scorer.left = 11 if ends == "scorer" else 10**9
        try:
            rows = generate(tmp_path / "run", BEST_2, "run.batch_size=4", captions=CAPTIONS)
            break
        except SynthVLMError:
            used_up += 1
            markers = RunFolder(tmp_path / "run").markers("generate").values()
            assert any(marker.facts["pending"] for marker in markers)
    assert used_up > 1
    assert scored(rows) == scored(whole)
    assert pairs(tmp_path / "run") == pairs(tmp_path / "whole")


def test_images_that_cannot_be_made_again_are_scored_before_they_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Unseeded())
    for changes in (BEST_2, BEST_3, BEST_2):
        rows = generate(tmp_path / "run", changes, captions=CAPTIONS)
        assert len(pairs(tmp_path / "run")) == CAPTIONS
        for id, index in pairs(tmp_path / "run").items():
            assert rows[id, index]["chosen"]
            finalists = [rows[id, n] for n in range(K) if rows[id, n]["status"] == "ok"]
            assert len(finalists) == (2 if changes == BEST_2 else 3)
            assert rows[id, index]["score"] == max(row["score"] for row in finalists)


def test_the_log_says_what_each_scorer_did(tmp_path: Path, scorer: Expensive) -> None:
    generate(tmp_path / "run", BEST_2, captions=CAPTIONS)
    events = [e for e in RunFolder(tmp_path / "run").events() if e["event"] == "shard"]
    work = [event["scorers"] for event in events if event["stage"] == "generate"]
    assert [(w["clip"]["images"], w["clip"]["batches"]) for w in work] == [(64, 8), (16, 2)]
    assert [(w["ssim"]["images"], w["ssim"]["batches"]) for w in work] == [(32, 4), (8, 1)]
    assert all(w[name]["device"] == "cpu" and w[name]["seconds"] >= 0 for w in work for name in w)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["scoring.clip.only_best=2", BEST_2], "no scorer without only_best has a weight"),
        ([BEST_2, "scoring.clip.weight=0"], "no scorer without only_best has a weight"),
        ([BEST_2, "generation.adaptive={threshold: 1.0}"], "generation.adaptive are both set"),
        (
            [BEST_2, "scoring.siglip={model: tiny, only_best: 3}"],
            "scoring.ssim.only_best is 2, scoring.siglip.only_best is 3",
        ),
        (["scoring.ssim.only_best=0"], "scoring.ssim.only_best"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        Recipe.load("tiny", overrides=changes)
    assert "\n" not in str(error.value)


def test_embeddings_are_kept_when_a_scorer_of_finalists_embeds(
    tmp_path: Path, scorer: Expensive
) -> None:
    """Those of a winner that is made again, too."""
    first, second = ("scoring.clip.only_best=2", "scoring.ssim.weight=0.5"), "scoring.clip.weight=9"
    generate(tmp_path / "run", *first, captions=CAPTIONS)
    generate(tmp_path / "run", *first, second, captions=CAPTIONS)
    generate(tmp_path / "fresh", *first, second, captions=CAPTIONS)
    found, expected = (embeddings(tmp_path / name) for name in ("run", "fresh"))
    assert len(found) == CAPTIONS
    assert all(image and text for image, text in found.values())
    assert found == expected


def embeddings(out: Path) -> dict[str, Any]:
    run = RunFolder(out)
    tables = [run.read_table(str(m.file("pairs"))) for m in run.markers("generate").values()]
    return {
        row["caption_id"]: (row["image_embedding"], row["text_embedding"])
        for table in tables
        for row in table.to_pylist()
    }


def test_the_last_batch_is_done_when_its_finalists_are_scored(
    tmp_path: Path, scorer: Expensive
) -> None:
    """What `plan` takes for the time of a batch holds the work of all scorers."""

    class Shown(SilentProgress):
        def __init__(self) -> None:
            self.steps: list[tuple[int, int]] = []

        def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
            self.stage = stage

        def advance(self, amount: int) -> None:
            if amount and self.stage == "generate":
                self.steps.append((amount, sum(scorer.batches)))

    generate(tmp_path / "run", BEST_2, captions=8, progress=(shown := Shown()))
    assert sum(amount for amount, _ in shown.steps) == 8 * K
    assert shown.steps[-1] == (8, 8 * 2)


def test_an_essence_of_all_finalists_is_that_of_no_limit(tmp_path: Path, scorer: Expensive) -> None:
    limited = generate(tmp_path / "limited", f"scoring.ssim.only_best={K}", captions=CAPTIONS)
    assert essence(limited) == essence(generate(tmp_path / "all", captions=CAPTIONS))
