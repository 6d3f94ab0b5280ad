"""The experiment on the paper's claim: its data are what they say, its tables add up."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from synthvlm import Recipe
from synthvlm.tiny.questions import TOPICS


def test_the_web_is_as_noisy_as_it_says(tmp_path: Path) -> None:
    from experiments.claim.truth import right_share
    from experiments.claim.web import SHARES, make_web

    make_web(tmp_path / "noisy", pairs=200, seed=5)
    make_web(tmp_path / "clean", pairs=100, noise=0.0, seed=5)
    noisy, clean = (
        right_share(tmp_path / name / "llava.json", tmp_path / name / "images")
        for name in ("noisy", "clean")
    )
    assert clean > 0.97  # the checker passes 99 % of true drawings
    assert noisy == pytest.approx(1 - sum(SHARES.values()), abs=0.1)


def test_a_sample_is_part_of_the_whole(tmp_path: Path) -> None:
    from experiments.claim.arms import data_of, sample
    from experiments.claim.web import make_web

    make_web(tmp_path / "a", pairs=20)
    sample(tmp_path / "a", tmp_path / "d", 6, seed=4)
    records, images = data_of(tmp_path, "d")
    some = json.loads(records.read_bytes())
    every = json.loads((tmp_path / "a" / "llava.json").read_bytes())
    assert len({one["id"] for one in some}) == 6
    assert all(one in every for one in some)
    assert all((images / one["image"]).exists() for one in some)


def test_quotas_keep_what_captions_name_and_take_the_best_of_each_kind(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from experiments.claim.arms import select_by_quotas

    with_background, without = "a red circle on a blue background", "a red circle"
    texts = [without] * 12 + [with_background] * 6
    records = [
        {"id": f"{n:02}", "conversations": [{"value": "?"}, {"value": text}]}
        for n, text in enumerate(texts)
    ]
    run = tmp_path / "run"
    (run / "dataset").mkdir(parents=True)
    (run / "dataset" / "llava.json").write_text(json.dumps(records))
    ids = [str(record["id"]) for record in records]
    ranking = pa.table({"caption_id": ids, "rank": list(range(1, 19))})
    pq.write_table(ranking, run / "selection.parquet")
    select_by_quotas(run, tmp_path / "to", 6)
    kept = {record["id"] for record in json.loads((tmp_path / "to" / "llava.json").read_bytes())}
    assert kept == {"00", "01", "02", "03", "12", "13"}


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("easy_vqa")
    from experiments.claim.questions import make_questions

    folder = tmp_path_factory.mktemp("claim") / "questions"
    make_questions(folder)
    return folder


def test_questions_are_as_many_as_they_should_be(questions: Path) -> None:
    from experiments.claim.questions import INSTRUCTIONS, PER_GROUP, PER_TOPIC, PROBES

    files = {file.stem: json.loads(file.read_bytes()) for file in questions.glob("*.json")}
    groups = Counter(entry["group"] for entry in files["easy-vqa"])
    assert groups == dict.fromkeys(("colour", "shape", "yes-no"), PER_GROUP)
    topics = Counter(entry["group"] for entry in files["world"])
    assert topics == dict.fromkeys(TOPICS, PER_TOPIC)
    assert len(files["text"]) == PROBES
    instructions = files["instructions"]
    assert len(instructions) == INSTRUCTIONS
    assert sum(entry["image"].startswith("easy-train-") for entry in instructions) == 1000
    for entry in (*files["easy-vqa"], *files["world"], *instructions):
        assert (questions / "images" / entry["image"]).is_file()
    tested = {entry["image"] for entry in (*files["easy-vqa"], *files["world"])}
    assert not tested & {entry["image"] for entry in instructions}


def test_the_commands_in_small(questions: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from experiments.claim import arms, summary
    from experiments.claim.run import Run, carry_out

    out = tmp_path / "claim"
    arms.main(["--out", str(out), "--pairs", "12", "--arms", "a", "d"])
    assert Recipe.load(str(arms.HERE / "pipeline.yaml"), overrides=arms.CURATION_OFF)  # arm B
    few = out / "questions"
    few.mkdir()
    (few / "images").symlink_to(questions / "images")
    for file in questions.glob("*.json"):
        (few / file.name).write_text(json.dumps(json.loads(file.read_bytes())[::200]))
    # What `run` does in a process of its own for each run.
    threads = torch.get_num_threads()
    carry_out(out, Run("d", 0, False, (8,)))
    torch.set_num_threads(threads)
    summary.main(["--out", str(out), "--to", str(out / "results.md")])
    rows = (out / "results.md").read_text("utf-8").splitlines()
    assert any(row.startswith("| D: the web, B's size | 2 |") for row in rows)
    assert "8 instruction samples, 1 seeds:" in rows


def test_every_arm_has_every_seed_once() -> None:
    from experiments.claim.run import ARMS, EQUAL_STEPS, planned

    assert len(list(planned(ARMS, 3, (500,), equal=False))) == 3 * len(ARMS)
    runs = list(planned(ARMS, 3, (500,), equal=True))
    assert len({run.name for run in runs}) == len(runs) == 3 * (len(ARMS) + len(EQUAL_STEPS))


def result(arm: str, seed: int, right: int) -> dict[str, object]:
    """Of a run with so many right answers of 10 in each group."""
    tests = {
        "easy-vqa": {"colour": [right, 10], "shape": [right, 10], "yes-no": [right, 10]},
        "world": {"relation": [right, 10], "place": [0, 10]},
        "text": {"colour": [9, 10]},
    }
    stage2 = {"steps": 1, "loss": 0.1, "cpu_s": 1.0, "tests": tests}
    stage1 = {"steps": 7, "captions": 0.5, "tests": {"text": {"colour": [8, 10]}}}
    return {
        "arm": arm, "seed": seed, "equal_steps": False, "pairs": 0, "stage1": stage1,
        "stage2": {"500": stage2},
    }  # fmt: skip


def test_tables_hold_means_and_paired_differences() -> None:
    from experiments.claim.summary import difference_tables, language_table, score_tables

    results = {
        ("b", False): [result("b", seed, 6 + seed) for seed in range(3)],
        ("none", False): [result("none", seed, 4 + seed) for seed in range(3)],
    }
    _, scores = score_tables(results, ("none", "b"), [500], equal=False)
    # Student's t of 60, 70, 80: 4.3027 * 10 / sqrt(3) = 24.8.
    assert "| B: curated, generated, selected | 70.0 ± 24.8 |" in scores
    assert scores.splitlines()[-1].split("|")[5].strip() == "35.0 ± 12.4"  # world, both topics
    pairs = [(("b", False), ("none", False)), (("b", False), ("absent", False))]
    _, differences = difference_tables(results, [500], pairs)
    assert "| B - no stage 1 | +20.0 ± 0.0 |" in differences
    assert len(differences.splitlines()) == 3
    assert "| no stage 1 | 80.0 ± 0.0 | 90.0 ± 0.0 |" in language_table(results, [500])
