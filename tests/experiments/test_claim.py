"""The experiment on the paper's claim: its data are what they say, its tables add up."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from synthvlm.tiny.captions import Claim, holds, parse, sample_claim, sample_scene
from synthvlm.tiny.questions import TOPICS


def test_the_web_is_as_noisy_as_it_says(tmp_path: Path) -> None:
    from experiments.claim.truth import facts_of
    from experiments.claim.web import SHARES, make_web

    make_web(tmp_path / "noisy", pairs=120, seed=5)
    make_web(tmp_path / "clean", pairs=40, noise=0.0, seed=5)
    noisy, clean = (
        facts_of(tmp_path / name / "llava.json", tmp_path / name / "images")
        for name in ("noisy", "clean")
    )
    assert clean["right"] > 0.97  # the checker passes 99 % of true drawings
    assert noisy["right"] == pytest.approx(1 - sum(SHARES.values()), abs=0.12)
    assert noisy["right in content"] >= noisy["right"]
    assert clean["names background"] == pytest.approx(0.5, abs=0.2)


def erring(systematic: float, random: float, kind: Any, count: int = 2_000) -> list[Claim]:
    """Claims of a kind, and what is drawn of them, where that is something else."""
    from experiments.claim.generator import faulty

    rng, wrong = Random(3), []
    for _ in range(count):
        claim = sample_claim(rng, kind)
        drawn = faulty(claim, rng, systematic, random)
        if not holds(claim, sample_scene(drawn, rng)):
            wrong.append(drawn)
    return wrong


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        ("one", 0.85 * 0.98 * (1 - 0.15 / 2)),  # half of these name a place
        ("count", 0.39 * 0.85 * 0.98),
        ("pair", 0.23),  # both there, and in their colours
        ("relation", 0.23 * 0.15 / 0.74),
    ],
)
def test_rates_are_those_of_sdxl_on_geneval(kind: Any, right: float) -> None:
    assert 1 - len(erring(1.0, 0.0, kind)) / 2_000 == pytest.approx(right, abs=0.03)


def test_factors_make_a_third_or_more_than_half_of_the_candidates_wrong() -> None:
    from experiments.claim.arms import FAULTS

    shares = {
        name: len(erring(**{"systematic": 0.0, "random": 0.0, **factors}, kind=None)) / 2_000
        for name, factors in FAULTS.items()
    }
    assert shares == pytest.approx({"third": 0.3, "random": 0.3, "sdxl": 0.58}, abs=0.03)
    assert not erring(0.0, 0.0, None)


def test_systematic_faults_take_the_same_for_the_same() -> None:
    from experiments.claim.generator import faulty

    claim = parse("a red star to the left of a blue circle on a mint background")
    assert claim is not None
    rng = Random(0)
    drawn = Counter(str(faulty(claim, rng, 1.0, 0.0)) for _ in range(300))
    swapped, turned = ("blue", "red"), "below"
    assert set(drawn) == {
        str(Claim("one", ("star",), ("red",), 1, background="mint")),
        *(
            str(Claim("relation", ("star", "circle"), colours, 2, None, None, side, "mint"))
            for colours in (("red", "blue"), swapped)
            for side in ("left", turned)
        ),
    }
    assert len({str(faulty(claim, rng, 0.0, 1.0)) for _ in range(300)}) > 15


def test_a_picture_is_the_same_but_for_its_faults() -> None:
    from experiments.claim.generator import FaultyRenderer

    prompts, seeds = ["two red stars on a mint background"] * 40, list(range(40))
    some = FaultyRenderer(systematic=0.6).generate(prompts, seeds)
    true = FaultyRenderer().generate(prompts, seeds)
    again = FaultyRenderer(systematic=0.6).generate(prompts[3:], seeds[3:])
    assert torch.equal(some.pixels[3:], again.pixels)
    same = [torch.equal(x, y) for x, y in zip(some.pixels, true.pixels, strict=True)]
    assert 10 < sum(same) < 35
    assert some.pixels.shape == (40, 3, 64, 64)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from experiments.claim import arms

    out = tmp_path_factory.mktemp("claim")
    arms.main(["--out", str(out), "--pairs", "40", "--no-captioner"])
    return out


def records_of(out: Path, arm: str, seed: int, to: Path) -> list[dict[str, Any]]:
    from experiments.claim.arms import data_of

    records, images = data_of(out, "sdxl", arm, seed, to / "pairs.json")
    found: list[dict[str, Any]] = json.loads(records.read_bytes())
    assert all((images / record["image"]).is_file() for record in found)
    return found


def test_arms_take_of_the_pool_what_they_say(pool: Path, tmp_path: Path) -> None:
    from experiments.claim.arms import LARGE, OF_FAULTS

    candidates = json.loads((pool / "pools" / "sdxl" / "candidates.json").read_bytes())
    taken: dict[str, dict[str, str]] = {}
    for arm in {"real", *OF_FAULTS} - {LARGE}:
        rows = [record["id"].rpartition("-") for record in records_of(pool, arm, 0, tmp_path)]
        taken[arm] = {id: index for id, _, index in rows}
        assert len(taken[arm]) == 7  # 18 % of 40
    ids = set(taken["c"])
    assert ids == set(taken["real"]) == set(taken["best"]) == set(taken["wrong"])
    assert set(taken["c"].values()) == {"0"}
    assert set(taken["real"].values()) == {"real"}
    for id, index in taken["best"].items():
        scores = [row["score"] for row in candidates[id]]
        assert scores[int(index)] == max(scores)
    assert all(candidates[id][int(index)]["right"] for id, index in taken["right"].items())
    for id, index in taken["wrong"].items():
        can_be_wrong = any(not row["right"] for row in candidates[id])
        assert candidates[id][int(index)]["right"] is not can_be_wrong
    best = {id: max(row["score"] for row in rows) for id, rows in candidates.items()}
    assert set(taken["top"]) == set(sorted(best, key=lambda id: -best[id])[:7])


def test_what_is_random_goes_with_the_seed(pool: Path, tmp_path: Path) -> None:
    for arm in ("c", "d"):
        first, again, other = (records_of(pool, arm, seed, tmp_path) for seed in (0, 0, 1))
        assert first == again != other
        assert len({record["id"] for record in other}) == len(other) == 7
    assert len(records_of(pool, "a", 0, tmp_path)) == 40


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("easy_vqa")
    from experiments.claim.questions import make_questions

    folder = tmp_path_factory.mktemp("claim") / "questions"
    make_questions(folder)
    return folder


def test_questions_are_as_many_as_they_should_be(questions: Path) -> None:
    from experiments.claim.questions import INSTRUCTIONS, PER_TOPIC, RELATIONS

    files = {file.stem: json.loads(file.read_bytes()) for file in questions.glob("*.json")}
    topics = Counter(entry["group"] for entry in files["world"])
    assert topics == {**dict.fromkeys(TOPICS, PER_TOPIC), "relation": RELATIONS}
    instructions = files["instructions"]
    assert len(instructions) == INSTRUCTIONS == 500
    assert sum(entry["image"].startswith("easy-train-") for entry in instructions) == 250
    for entry in (*files["world"], *instructions):
        assert (questions / "images" / entry["image"]).is_file()
    tested = {entry["image"] for entry in files["world"]}
    assert not tested & {entry["image"] for entry in instructions}


def test_the_commands_in_small(questions: Path, pool: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from experiments.claim import summary
    from experiments.claim.run import Run, carry_out

    few = pool / "questions"
    few.mkdir()
    (few / "images").symlink_to(questions / "images")
    for file in questions.glob("*.json"):
        (few / file.name).write_text(json.dumps(json.loads(file.read_bytes())[::100]))
    # What `run` does in a process of its own for each run.
    threads = torch.get_num_threads()
    carry_out(pool, Run("sdxl", "c", 0), instructions=4, drawings=30)
    torch.set_num_threads(threads)
    result = json.loads((pool / "results" / "sdxl-c-0.json").read_bytes())
    assert (result["pairs"], result["steps"]) == (7, 3)  # the last step has one pair
    assert 0 < result["loss"] < 20
    assert all(right <= asked for right, asked in result["told_apart"].values())
    assert result["told_apart"]["colour"][1] == 30  # every caption names one
    summary.main(["--out", str(pool), "--to", str(tmp_path / "results.md")])
    rows = (tmp_path / "results.md").read_text("utf-8").splitlines()
    assert any(row.startswith("| C: random captions, candidate 0 | 7 | 1 |") for row in rows)


def test_what_is_made_only_when_asked_for_is_trained_on_only_when_asked_for() -> None:
    from experiments.claim import arms, run

    assert not arms.make_parser().parse_args([]).large
    assert {*arms.ARMS} - {*run.make_parser().parse_args([]).arms} == {arms.LARGE}


def test_every_arm_has_every_seed_once() -> None:
    from experiments.claim.arms import ARMS, FAULTLESS
    from experiments.claim.run import planned

    runs = [run.name for run in planned(ARMS, ("third", "sdxl"), [0, 1, 2])]
    assert len(set(runs)) == len(runs) == 3 * (2 * len(ARMS) - len(FAULTLESS))


def result(arm: str, seed: int, right: int) -> dict[str, Any]:
    """Of a run with so many right answers of 10."""
    return {
        "faults": "sdxl", "arm": arm, "seed": seed, "pairs": 1004, "captions": right / 20,
        "loss": 1.0 - right / 100, "questions": {"relation": [right, 10], "place": [0, 10]},
        "told_apart": {"relation": [right, 20], "place": [20, 20]},
    }  # fmt: skip


def test_tables_hold_means_and_paired_differences() -> None:
    from experiments.claim.summary import PILOT, best_method, difference_table, score_table

    rows = {
        "c": {seed: result("c", seed, 4 + seed) for seed in range(3)},
        "top": {seed: result("top", seed, 6 + seed) for seed in range(3)},
        "best": {9: result("best", 9, 4)},
    }
    # Student's t of 60, 70, 80: 4.3027 * 10 / sqrt(3) = 24.8.
    values = "70.0 ± 24.8 | 35.0 ± 12.4 | 930.0 ± 24.8 | 67.5 ± 6.2 | 35.0 ± 12.4 | 35.0 ± 12.4"
    assert f"| B: top by score | 1,004 | 3 | {values} |" in score_table(rows)
    differences = difference_table(rows)
    assert "| B: top by score - C | 3 | +20.0 ± 0.0 | +10.0 ± 0.0 | -20.0 ± 0.0 |" in differences
    assert len(differences.splitlines()) == 3  # no seed of ``best`` is one of C
    assert best_method(rows) is None
    piloted = {arm: {PILOT: result(arm, PILOT, 5 + (arm == "best"))} for arm in ("top", "best")}
    assert best_method(piloted) == "best"
