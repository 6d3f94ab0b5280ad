"""Generation through the pipeline with models that cost nothing: what is generated, and when."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fake_models import FakeClip, FakeGenerator, FakeSsim, use_models
from synthvlm import Pipeline, Recipe
from synthvlm.errors import (
    GenerationError,
    ModelError,
    OutOfMemoryError,
    PluginError,
    RecipeError,
)
from synthvlm.generators.base import GeneratedImages
from synthvlm.run_folder.folder import RunFolder
from synthvlm.scorers.base import Scores
from synthvlm.stages.generation.generate import GenerationJob
from synthvlm.stages.generation.pixels import decode
from synthvlm.stages.generation.prompts import read_prompts
from synthvlm.stages.generation.requests import Prompt

CAPTIONS = [f"A red kite number {n} flies over the green hill, near the sea." for n in range(40)]


class Generator(FakeGenerator):
    """Counts its batches, and fails where it is told to."""

    def __init__(self, most: int = 1000, fails: frozenset[int] = frozenset()) -> None:
        self.most, self.fails = most, fails
        self.batches: list[int] = []

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        if len(prompts) > self.most:
            raise OutOfMemoryError(f"no memory for {len(prompts)} images")
        if any(seed % 13 in self.fails for seed in seeds):
            raise GenerationError("this seed fails")
        self.batches.append(len(prompts))
        return super().generate(prompts, seeds)


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Generator:
    generator = Generator()
    use_models(monkeypatch, generator)
    return generator


def generate(
    out: Path, *changes: str, captions: int = 40, progress: Any = None, replace_images: bool = False
) -> dict[Any, Any]:
    """Generate, and give the candidate rows by key."""
    out.parent.mkdir(exist_ok=True)
    file = out.parent / "captions.txt"
    file.write_text("\n".join(CAPTIONS[:captions]) + "\n")
    changes = ("run.shard_size=16", "curation.rules.special_char_ratio=null", *changes)
    recipe = Recipe.load("tiny", captions=[file], overrides=changes)
    Pipeline(recipe, out, progress=progress).run("generate", replace_images=replace_images)
    files = sorted((out / "candidates").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return {(row["caption_id"], row["index"]): row for row in rows}


def essence(rows: dict[Any, Any]) -> dict[Any, Any]:
    return {key: (row["status"], row["chosen"], row["score"]) for key, row in rows.items()}


ADAPTIVE = "generation.adaptive={threshold: 1.0}"


def test_adaptive_depends_on_neither_batches_nor_shards(
    tmp_path: Path, generator: Generator
) -> None:
    whole = generate(tmp_path / "whole", "generation.candidates=6")
    generated = generator.generated
    found = [
        essence(generate(tmp_path / f"{n}", "generation.candidates=6", ADAPTIVE, *changes))
        for n, changes in enumerate(
            [("run.batch_size=1",), ("run.batch_size=7",), ("run.batch_size=8", "run.shard_size=5")]
        )
    ]
    assert found[0] == found[1] == found[2]
    assert generator.generated < generated + 3 * generated
    by_hand = {}
    for id in {key[0] for key in whole}:
        scores = [whole[id, n]["score"] for n in range(6)]
        stop = next((n for n, score in enumerate(scores) if score >= 1.0), 5)
        winner = max(range(stop + 1), key=lambda n: (scores[n], -n))
        for n in range(6):
            by_hand[id, n] = (
                ("ok", n == winner, scores[n]) if n <= stop else ("skipped", False, None)
            )
    assert found[0] == by_hand


def test_a_higher_threshold_draws_what_it_needs_and_a_lower_one_nothing(
    tmp_path: Path, generator: Generator
) -> None:
    before: dict[Any, Any] = {}
    for turn, threshold in enumerate((0.6, 1.0, 0.6, 1.2)):
        adaptive = f"generation.adaptive={{threshold: {threshold}}}"
        start = generator.generated
        rows = generate(tmp_path / "run", adaptive)
        generated = generator.generated - start
        fresh = generate(tmp_path / f"fresh-{turn}", adaptive)
        generated_afresh = generator.generated - start - generated
        # What was generated before counts, too, and nothing that is paid for is lost.
        there = {key for key, row in [*before.items(), *fresh.items()] if row["status"] == "ok"}
        assert {key for key, row in rows.items() if row["status"] == "ok"} == there
        assert all_best_are_chosen(rows)
        if turn == 2:
            assert generated == 0
        elif turn:
            assert generated < generated_afresh
        before = rows


def all_best_are_chosen(rows: dict[Any, Any]) -> bool:
    """Whether of every caption the best image that there is was chosen."""
    best: dict[str, Any] = {}
    for (id, index), row in rows.items():
        if row["status"] == "ok":
            best[id] = min(best.get(id, (0.0, 0)), (-row["score"], index))
    chosen = {(id, index) for (id, index), row in rows.items() if row["chosen"]}
    return chosen == {(id, index) for id, (_, index) in best.items()}


CALIBRATED = ["generation.adaptive={sample: 8, keep_gain: 0.8}", "generation.candidates=6"]


def test_a_threshold_is_calibrated_once_and_kept(tmp_path: Path, generator: Generator) -> None:
    generate(tmp_path / "run", *CALIBRATED, captions=20)
    marker = RunFolder(tmp_path / "run").markers("calibrate")[0]
    threshold, decay = marker.facts["threshold"], marker.facts["decay"]
    assert marker.facts["captions"] == 8
    assert marker.facts["gain_kept"] >= 0.8
    before = generator.generated
    rows = generate(tmp_path / "run", *CALIBRATED, captions=40)
    assert RunFolder(tmp_path / "run").markers("calibrate")[0].facts["threshold"] == threshold
    fixed = f"generation.adaptive={{threshold: {threshold!r}, decay: {decay!r}}}"
    after = generator.generated
    same = generate(tmp_path / "other", fixed, "generation.candidates=6")
    sample = set(marker.facts["sample"])
    assert {key: row["chosen"] for key, row in rows.items() if key[0] not in sample} == {
        key: row["chosen"] for key, row in same.items() if key[0] not in sample
    }
    assert after - before < generator.generated - after


def test_of_a_calibrated_run_nothing_that_is_paid_for_is_lost(
    tmp_path: Path, generator: Generator
) -> None:
    """Whatever the batches and shards: of the sample all candidates count, none is made twice."""
    whole = generate(tmp_path / "whole", "generation.candidates=6")
    found = []
    for n, changes in enumerate(
        [("run.batch_size=1",), ("run.batch_size=7",), ("run.batch_size=8", "run.shard_size=5")]
    ):
        start = generator.generated
        rows = generate(tmp_path / f"{n}", *CALIBRATED, *changes)
        there = [row for row in rows.values() if row["status"] == "ok"]
        assert generator.generated - start == len(there) < 200
        assert {row["status"] for row in rows.values()} == {"ok", "skipped"}
        assert all_best_are_chosen(rows)
        found.append(essence(rows))
    assert found[0] == found[1] == found[2]
    sample = RunFolder(tmp_path / "0").markers("calibrate")[0].facts["sample"]
    for id in sample:
        for n in range(6):
            assert found[0][id, n] == essence(whole)[id, n]


def test_calibration_is_off_where_it_would_take_all_captions(
    tmp_path: Path, generator: Generator
) -> None:
    notes = Notes()
    adaptive = ["generation.adaptive={sample: 23}", "generation.candidates=5"]
    rows = generate(tmp_path / "run", *adaptive, captions=23, progress=notes)
    assert generator.generated == 23 * 5
    assert {row["status"] for row in rows.values()} == {"ok"}
    note = "calibration generates all candidates of 23 captions, and there are 23"
    assert len([line for line in notes.lines if note in line]) == 1
    assert not RunFolder(tmp_path / "run").markers("calibrate")
    # With more captions it pays; what there is already is not generated again.
    rows = generate(tmp_path / "run", *adaptive, captions=40)
    assert RunFolder(tmp_path / "run").markers("calibrate")
    assert generator.generated == sum(row["status"] == "ok" for row in rows.values()) < 40 * 5
    assert all_best_are_chosen(rows)


def test_what_calibration_drew_counts_when_it_is_switched_off(
    tmp_path: Path, generator: Generator
) -> None:
    generate(tmp_path / "run", *CALIBRATED)
    rows = generate(tmp_path / "run", "generation.candidates=6")
    assert generator.generated == 40 * 6
    assert essence(rows) == essence(generate(tmp_path / "fresh", "generation.candidates=6"))


def test_the_gain_of_a_calibration_is_told_with_an_interval(
    tmp_path: Path, generator: Generator
) -> None:
    finished: list[str] = []

    class Finished(Notes):
        def finish(self, stage: str, line: str = "", *ignored: Any) -> None:
            finished.append(line)

    generate(tmp_path / "run", *CALIBRATED, progress=Finished())
    value, low, high = RunFolder(tmp_path / "run").markers("calibrate")[0].facts["gain_held_out"]
    assert low < value < high
    text = f"on captions held out {value:.0%} (95% interval {low:.0%} to {high:.0%})"
    assert [line for line in finished if text in line]


@pytest.mark.parametrize("changes", [[], ["generation.adaptive={sample: 8, keep_gain: 0.8}"]])
def test_a_worker_with_other_models_than_the_driver_draws_nothing(
    tmp_path: Path, generator: Generator, monkeypatch: pytest.MonkeyPatch, changes: list[str]
) -> None:
    of_driver = "synthvlm.stages.generation.generate.image_dependencies"
    monkeypatch.setattr(of_driver, lambda recipe: {"the generator": "another"})
    with pytest.raises(ModelError, match="the same files on every machine"):
        generate(tmp_path / "run", *changes)
    assert generator.generated == 0
    assert not RunFolder(tmp_path / "run").markers("calibrate")


def test_an_up_to_date_run_makes_no_worker(
    tmp_path: Path, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = generate(tmp_path / "run")

    def refused(*ignored: Any) -> None:
        raise AssertionError("a worker was made")

    monkeypatch.setattr(GenerationJob, "__call__", refused)
    assert generate(tmp_path / "run") == rows
    with pytest.raises(AssertionError, match="a worker was made"):
        generate(tmp_path / "other")


@pytest.mark.parametrize("settings", ["{threshold: 1.0}", "{sample: 8, keep_gain: 0.8}"])
def test_without_anything_to_calibrate_captions_are_read_once(
    tmp_path: Path, generator: Generator, monkeypatch: pytest.MonkeyPatch, settings: str
) -> None:
    generate(tmp_path / "run", f"generation.adaptive={settings}")
    read = []

    def reading(run: RunFolder, shard: int, *others: Any) -> list[Prompt]:
        read.append(shard)
        return read_prompts(run, shard, *others)

    monkeypatch.setattr("synthvlm.stages.generation.generate.read_prompts", reading)
    generate(tmp_path / "run", f"generation.adaptive={settings}")
    assert len(read) == len(set(read)) == 3


class Notes:
    """Progress that keeps what is noted."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, *ignored: Any) -> None: ...

    def advance(self, *ignored: Any) -> None: ...

    def finish(self, *ignored: Any) -> None: ...

    def update_workers(self, *ignored: Any) -> None: ...

    def note(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize("size", ["8", "auto"])
def test_out_of_memory_halves_the_batch_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    use_models(monkeypatch, plain := Generator())
    expected = essence(generate(tmp_path / "plain"))
    use_models(monkeypatch, small := Generator(most=3))
    notes = Notes()
    rows = generate(tmp_path / "small", f"run.batch_size={size}", progress=notes)
    assert essence(rows) == expected
    assert small.generated == plain.generated
    assert max(small.batches) <= 3
    if size == "8":
        assert [line for line in notes.lines if "do not fit" in line] == [
            "note: 8 images at a time do not fit into memory, continuing with 4",
            "note: 4 images at a time do not fit into memory, continuing with 2",
        ]


def test_failing_candidates_spoil_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_models(monkeypatch, Generator())
    expected = generate(tmp_path / "plain")
    use_models(monkeypatch, Generator(fails=frozenset({3, 7})))
    rows = generate(tmp_path / "run", "run.max_failed_share=1.0")
    failed = {key for key, row in rows.items() if row["status"] == "failed"}
    assert failed == {key for key, row in expected.items() if row["seed"] % 13 in (3, 7)}
    assert all(rows[key]["score"] == expected[key]["score"] for key in rows if key not in failed)


def test_scoring_goes_on_while_the_next_batch_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored, generating = threading.Event(), threading.Event()

    class Waiting(Generator):
        def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
            if len(self.batches) == 2:
                generating.set()
                # The second batch is scored only now that the third is being generated.
                assert scored.wait(20)
            return super().generate(prompts, seeds)

    class Clip(FakeClip):
        batches = 0

        def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
            self.batches += 1
            # Of the first batch it is seen, before the second, whether anything works.
            assert self.batches == 1 or generating.wait(20)
            scores = super().score(images, captions)
            if self.batches == 2:
                scored.set()
            return scores

    use_models(monkeypatch, Waiting(), Clip())
    assert len(generate(tmp_path / "run", captions=16)) == 64


def test_a_scorer_that_fails_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(FakeClip):
        def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
            raise RuntimeError("broken scorer")

    use_models(monkeypatch, Generator(), Broken())
    with pytest.raises(PluginError, match="scorer 'clip' failed: RuntimeError: broken scorer"):
        generate(tmp_path / "run")
    use_models(monkeypatch, Generator())
    assert len(generate(tmp_path / "run")) == 160


def test_generation_seconds_are_recorded(tmp_path: Path, generator: Generator) -> None:
    generate(tmp_path / "run")
    events = [e for e in RunFolder(tmp_path / "run").events() if e["event"] == "shard"]
    assert len(events) == 3
    assert all(0 <= event["generation_seconds"] <= event["seconds"] for event in events)


def test_settings_that_make_no_sense_are_refused() -> None:
    for change, message in (
        ("run.batch_size=0", "batch_size must be at least 1"),
        ("run.batch_size=many", "run.batch_size"),
        ("generation.adaptive={sample: 1}", "generation.adaptive.sample"),
        ("generation.early_rejection={}", "generation.early_rejection: it was removed"),
    ):
        with pytest.raises(RecipeError, match=message):
            Recipe.load("tiny", overrides=[change])


def test_pixels_of_winners_are_theirs(tmp_path: Path, generator: Generator) -> None:
    rows = generate(tmp_path / "run", "run.batch_size=5")
    pairs = [
        row
        for file in sorted((tmp_path / "run" / "pairs").glob("*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]
    assert len(pairs) == 40
    for pair in pairs:
        row = rows[pair["caption_id"], pair["index"]]
        text = CAPTIONS[int(pair["caption_id"].rsplit("-", 1)[1])]
        image = FakeGenerator().generate([text], [row["seed"]]).pixels
        assert FakeClip().score(image, [text]).values[0] == row["clip_score"]
        assert np.isclose(FakeSsim().score(image, [text]).values[0], row["ssim_score"])


class Unseeded(Generator):
    """Generates another image each time it is asked."""

    reproducible = False

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        return super().generate(prompts, [seed + len(self.batches) for seed in seeds])


def test_images_that_cannot_be_made_again_keep_rows_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_models(monkeypatch, generator := Unseeded())
    rows = generate(tmp_path / "run")
    assert not any(row["reproducible"] for row in rows.values())
    markers = RunFolder(tmp_path / "run").markers("generate").values()
    assert sum(marker.facts["irreproducible"] for marker in markers) == 160
    generated = generator.generated
    # The winners change; their pixels are gone, and the new images have scores of their own.
    changed = generate(tmp_path / "run", "scoring.ssim.weight=3.0")
    assert 0 < generator.generated - generated < 160
    pairs = [
        row
        for file in sorted((tmp_path / "run" / "pairs").glob("*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]
    assert len(pairs) == 40
    for pair in pairs:
        text = CAPTIONS[int(pair["caption_id"].rsplit("-", 1)[1])]
        pixels = torch.from_numpy(decode(pair["image"]).transpose(2, 0, 1).copy())[None]
        row = changed[pair["caption_id"], pair["index"]]
        assert row["chosen"]
        assert FakeClip().score(pixels, [text]).values[0] == row["clip_score"]
        best = max(changed[pair["caption_id"], n]["score"] for n in range(4))
        assert row["score"] == best


class Censor:
    """Rejects images whose first pixel is dark."""

    def check(self, images: torch.Tensor) -> list[str | None]:
        return ["dark 0.90 (limit 0.5)" if image[0, 0, 0] < 128 else None for image in images]


class Faces:
    """Sees a face in images whose first pixel is dark or bright."""

    def check(self, images: torch.Tensor) -> list[str | None]:
        return ["1 face (limit 0)" if abs(int(image[0, 0, 0]) - 128) > 60 else None
                for image in images]  # fmt: skip


def test_unsafe_candidates_never_win_and_leave_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = use_models(monkeypatch, Generator(), None, Censor(), Faces())
    rows = generate(tmp_path / "run", "report.preview_share=1.0")
    unsafe = {key for key, row in rows.items() if row["status"] == "unsafe"}
    assert 40 < len(unsafe) < 140
    assert not any(rows[key]["chosen"] for key in unsafe)
    problems = [rows[key]["problem"] for key in unsafe]
    assert 40 < problems.count("dark 0.90 (limit 0.5)") < 120, "the first check has the word"
    assert problems.count("1 face (limit 0)") == len(unsafe) - problems.count(
        "dark 0.90 (limit 0.5)"
    )
    assert "1 face (limit 0)" in problems
    previews = [
        (row["caption_id"], row["index"])
        for file in (tmp_path / "run" / "previews").glob("*.parquet")
        for row in pq.read_table(file).to_pylist()
    ]
    assert previews
    assert not unsafe & set(previews)
    generated = models.generator.generated  # type: ignore[attr-defined]
    generate(tmp_path / "run", "report.preview_share=1.0")
    assert models.generator.generated == generated  # type: ignore[attr-defined]


class Blank(Generator):
    """Some of its images are black, or of one colour."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        images = super().generate(prompts, seeds)
        for n, seed in enumerate(seeds):
            if seed % 5 == 0:
                images.pixels[n] = 0
            elif seed % 5 == 1:
                images.pixels[n] = 200
        return images


def test_blank_images_are_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_models(monkeypatch, Blank())
    rows = generate(tmp_path / "run", "run.max_failed_share=1.0")
    for row in rows.values():
        problem = {0: "the image is black", 1: "the image is of one colour"}.get(row["seed"] % 5)
        assert row["problem"] == problem
        assert row["status"] == ("ok" if problem is None else "failed")


class Broken(FakeClip):
    """Gives NaN, infinity, and embeddings that are no vectors, for some of the images."""

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        scores = super().score(images, captions)
        assert scores.image_embeddings is not None
        for n, image in enumerate(images):
            kind = int(image[0, 0, 0]) % 12
            if kind < 3:
                scores.values[n] = (np.nan, np.inf, 1e308)[kind]
            elif kind < 5:
                scores.image_embeddings[n, 1] = (np.nan, -np.inf)[kind - 3]
        return scores


@pytest.mark.parametrize("adaptive", [[], [ADAPTIVE], ["generation.adaptive={sample: 8}"]])
def test_an_image_without_a_finite_score_or_embedding_fails_and_its_row_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adaptive: list[str]
) -> None:
    use_models(monkeypatch, Generator(), Broken())
    changes = ["run.max_failed_share=1.0", "scoring.clip.weight=10.0", *adaptive]
    rows = generate(tmp_path / "run", *changes)
    embedding = "scorer 'clip' gave an embedding with NaN or infinity"
    problems = {
        "scorer 'clip' gave nan",
        "scorer 'clip' gave inf",
        "the weighted sum of its scores is inf",
        embedding,
    }
    assert {row["problem"] for row in rows.values()} == problems | {None}
    for row in rows.values():
        assert (row["problem"] is None) == (row["score"] is not None or row["status"] == "skipped")
        assert row["problem"] is None or (row["status"] == "failed" and not row["chosen"])
    assert sum(row["chosen"] for row in rows.values()) > 20


class Compiled(Generator):
    """Notes the batch size that it is warmed up for."""

    warmed: int | None = None

    def warm_up(self, batch_size: int) -> None:
        assert not self.batches
        self.warmed = batch_size


def test_a_compiled_model_is_warmed_up_before_the_first_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_models(monkeypatch, generator := Compiled())
    generate(tmp_path / "run", "generation.compile=true", "run.batch_size=5", captions=4)
    assert generator.warmed == 5
