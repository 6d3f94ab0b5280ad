"""What a run would lose of the images that its folder holds, and what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fake_models import FakeGenerator, use_models
from synthvlm import Pipeline, Recipe
from synthvlm.checks.status import status
from synthvlm.checks.verify import verify
from synthvlm.data import Candidate, candidate_table
from synthvlm.errors import RunFolderError, SynthVLMError
from synthvlm.generators.base import GeneratedImages
from synthvlm.report.pairs import read_candidates
from synthvlm.run.kept_recipe import open_folder

CAPTIONS = [f"A red kite number {n} flies over the green hill, near the sea." for n in range(12)]
SETTINGS = ["run.shard_size=5", "run.threads=1", "curation.rules.special_char_ratio=null"]
SETTINGS += ["generation.candidates=2", "curation.near_duplicates=null", "run.batch_size=4"]


class Generator(FakeGenerator):
    """Fails for good, or is interrupted, after so many images."""

    def __init__(self) -> None:
        self.ends_at: int | None = None
        self.error: BaseException = KeyboardInterrupt()

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        if self.ends_at is not None and self.generated >= self.ends_at:
            raise self.error
        return super().generate(prompts, seeds)


class Job:
    """Runs in one folder with one file of captions."""

    def __init__(self, folder: Path, generator: Generator) -> None:
        self.out, self.file = folder / "run", folder / "captions.txt"
        self.generator = generator
        self.write(CAPTIONS)

    def write(self, captions: Sequence[str]) -> None:
        self.file.write_text("\n".join(captions) + "\n")

    def run(
        self, *changes: str, limit: int | None = None, until: str = "select", agreed: bool = False
    ) -> int:
        """How many images were generated."""
        before = self.generator.generated
        recipe = Recipe.load(
            "tiny", captions=[self.file], overrides=[*SETTINGS, *changes], limit=limit
        )
        Pipeline(recipe, self.out).run(until, replace_images=agreed)
        return self.generator.generated - before

    def rows(self, folder: str) -> list[dict[str, object]]:
        files = sorted((self.out / folder).glob("*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    def images(self) -> dict[object, object]:
        return {row["caption_id"]: row["image"] for row in self.rows("pairs")}

    def contents(self) -> dict[str, bytes]:
        """All files but the log of events."""
        files = [file for file in self.out.rglob("*") if file.is_file()]
        names = {str(file.relative_to(self.out)): file.read_bytes() for file in files}
        return {name: data for name, data in names.items() if not name.startswith("events/")}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    generator = Generator()
    use_models(monkeypatch, generator)
    return Job(tmp_path, generator)


OTHERS = [f"A grey whale number {n} swims below the old bridge, at night." for n in range(12)]


@pytest.mark.parametrize(
    ("captions", "changes", "count", "reason"),
    [
        (OTHERS, [], 12, "12 captions changed or are gone, first 'captions-0'"),
        (OTHERS[:3], [], 5, "5 captions changed or are gone, first 'captions-0'"),
        ([*CAPTIONS[:7], OTHERS[7], *CAPTIONS[8:]], [], 1, "1 captions changed .* 'captions-7'"),
        (CAPTIONS[1:], [], 12, "12 captions changed or are gone"),
        (CAPTIONS[:8], [], 2, "2 captions changed or are gone, first 'captions-8'"),
        (CAPTIONS, ["seed=1"], 12, "the seed changed"),
        (CAPTIONS, ["generation.steps=4"], 12, "the generator, its model or its settings changed"),
        (CAPTIONS, ["scoring.ssim.side=48"], 12, "the scorer ssim changed"),
        (CAPTIONS, ["scoring.ssim=null"], 12, "the scorer ssim changed"),
        (CAPTIONS, ["sources.0.name=other"], 12, "12 captions changed or are gone"),
    ],
)
def test_a_run_that_would_lose_images_is_refused_before_anything_changes(
    job: Job, captions: list[str], changes: list[str], count: int, reason: str
) -> None:
    assert job.run() == 24
    before = job.contents()
    job.write(captions)
    with pytest.raises(RunFolderError, match=rf"holds {count} images that would be lost: {reason}"):
        job.run(*changes)
    assert job.contents() == before
    assert job.run(*changes, until="curate") == 0  # which touches no image
    with pytest.raises(RunFolderError, match=f"holds {count} images .*--replace-images"):
        job.run(*changes)
    job.write(CAPTIONS)
    assert job.run() == 0
    job.write(captions)
    job.run(*changes, agreed=True)
    assert job.run(*changes) == 0


def test_a_damaged_marker_is_no_reason_to_refuse(job: Job) -> None:
    job.run()
    marker = job.out / "done" / "generate" / "00000.json"
    marker.write_text(marker.read_text().replace('"the seed"', '"the sEed"'))
    assert job.run() == 0


def test_captions_that_a_folder_was_curated_with_since_are_refused_too(job: Job) -> None:
    job.run()
    job.write(OTHERS)
    job.run(until="curate")
    images = job.images()
    with pytest.raises(RunFolderError, match="holds 12 images that would be lost: 12 captions"):
        job.run()
    assert job.images() == images


@pytest.mark.parametrize(
    "changes",
    [
        ["selection.top_fraction=1.0"],
        ["scoring.ssim.weight=0.0"],
        ["generation.candidates=3"],
        ["generation.candidates=1"],
        ["generation.image.format=webp"],
        ["run.batch_size=2"],
        ["report.preview_share=1.0"],
    ],
)
def test_what_loses_no_image_is_not_refused(job: Job, changes: list[str]) -> None:
    job.run()
    job.run(*changes)
    assert len(job.images()) == 12


def test_captions_at_the_end_are_not_refused(job: Job) -> None:
    job.run()
    images = job.images()
    job.write([*CAPTIONS, *OTHERS])
    assert job.run() == 24
    assert job.images().items() >= images.items()


@pytest.mark.parametrize("limit", [10, 7, 3])
def test_a_lowered_limit_keeps_images_for_later(job: Job, limit: int) -> None:
    job.run()
    images = job.images()
    assert job.run(limit=limit) == 0
    assert job.run(limit=limit, until="report") == 0
    assert job.run() == 0
    assert job.images() == images


def test_a_lowered_limit_hides_no_other_captions(job: Job) -> None:
    job.run()
    job.write([*CAPTIONS[:7], *OTHERS[7:]])
    with pytest.raises(RunFolderError, match=r"holds 3 images .*first 'captions-7'"):
        job.run(limit=7)


def test_a_tightened_rule_keeps_images_for_later(job: Job) -> None:
    job.run()
    images, rows = job.images(), job.rows("candidates")
    tight = "curation.rules.char_count={max: 60}"  # numbers of one digit
    assert job.run(tight) == 0
    assert len(job.images()) == 10
    assert {row["caption_id"] for row in job.rows("unused-pairs")} == {"captions-10", "captions-11"}
    assert len(job.rows("unused-candidates")) == 4
    assert not verify(*open_folder(str(job.out))).findings
    assert job.run("curation.rules.char_count={max: 1}") == 0
    assert len(job.rows("unused-pairs")) == 12
    assert job.run(tight, "seed=0") == 0
    assert job.run() == 0
    assert job.images() == images
    assert job.rows("candidates") == rows
    assert not job.rows("unused-pairs")


def test_images_of_rejected_captions_are_lost_with_another_seed(job: Job) -> None:
    job.run()
    tight = "curation.rules.char_count={max: 1}"
    job.run(tight)
    with pytest.raises(RunFolderError, match="holds 12 images that would be lost: the seed"):
        job.run(tight, "seed=1")
    job.run(tight, "seed=1", agreed=True)
    assert not job.rows("unused-pairs")


def test_what_was_not_generated_when_a_run_was_stopped_is_pending(job: Job) -> None:
    job.generator.ends_at = 4
    with pytest.raises(KeyboardInterrupt):
        job.run("run.max_failed_share=0.0")
    states = [row["status"] for row in job.rows("candidates")]
    assert states == ["ok"] * 4 + ["pending"] * 6
    assert {row["problem"] for row in job.rows("candidates") if row["status"] == "pending"} == {
        "not generated: interrupted"
    }
    run, recipe = open_folder(str(job.out))
    facts = run.markers("generate")[0].facts
    assert (facts["failed"], facts["pending"], facts["candidates"]) == (0, 6, 10)
    shown = status(run, recipe)
    assert shown.candidates is not None
    assert (shown.candidates.done, shown.candidates.failed) == (4, 0)
    assert "failed" not in shown.text()
    assert shown.next == "generate"
    assert "6 candidates are pending" in verify(run, recipe).text()
    counts, _ = read_candidates(run, recipe, run.markers("generate"))
    assert counts.statuses["failed"] == 0
    assert not counts.problems
    job.generator.ends_at = None
    assert job.run("run.max_failed_share=0.0") == 20
    assert {row["status"] for row in job.rows("candidates")} == {"ok"}


def test_a_run_that_is_stopped_keeps_the_earlier_winners(job: Job) -> None:
    job.run()
    images = job.images()
    job.generator.ends_at = job.generator.generated + 4
    job.generator.error = SynthVLMError("the budget is used up")
    with pytest.raises(SynthVLMError, match="budget"):
        job.run("generation.candidates=4")
    assert job.images().keys() == images.keys()
    assert sum(row["status"] == "pending" for row in job.rows("candidates")) == 6
    job.generator.ends_at = None
    assert job.run("generation.candidates=4") == 24 - 4


def test_candidates_that_an_earlier_version_recorded_as_failed_are_tried_again(job: Job) -> None:
    job.generator.ends_at = 4
    with pytest.raises(KeyboardInterrupt):
        job.run()
    run, recipe = open_folder(str(job.out))
    marker = run.markers("generate")[0]
    rows = [Candidate.of_row(row) for row in job.rows("candidates")]
    rows = [replace(row, status="failed") if row.status == "pending" else row for row in rows]
    table = run.write_table("candidates", 0, candidate_table(rows, list(recipe.scorers)))
    files = [table, *(file for file in marker.files if file.folder != "candidates")]
    facts = {name: value for name, value in marker.facts.items() if name != "pending"}
    whole = marker.fingerprint.removeprefix("unfinished ")
    assert whole != marker.fingerprint
    run.commit("generate", 0, whole, files, {**facts, "failed": 6})
    assert "4 of 24 done, 6 failed" in status(run, recipe).text()
    job.generator.ends_at = None
    assert job.run() == 20
    assert {row["status"] for row in job.rows("candidates")} == {"ok"}
