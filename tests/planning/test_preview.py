"""A preview: a few captions through every stage, as a whole run would take them."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import synthvlm
from fake_models import FakeGenerator, use_models
from synthvlm import Pipeline, Recipe
from synthvlm.cli import app
from synthvlm.data import Candidate
from synthvlm.errors import GenerationError, RecipeError, RunFolderError
from synthvlm.generators.base import GeneratedImages
from synthvlm.stages.reasons import why_chosen

RULES = ["curation.rules.special_char_ratio=null", "curation.rules.word_count={min: 5}"]


class Generator(FakeGenerator):
    """Fails at every image of some captions."""

    def __init__(self) -> None:
        self.fails = ""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        if self.fails and any(self.fails in prompt for prompt in prompts):
            raise GenerationError("this prompt fails")
        return super().generate(prompts, seeds)


@pytest.fixture(autouse=True)
def generator(monkeypatch: pytest.MonkeyPatch) -> Generator:
    generator = Generator()
    use_models(monkeypatch, generator)
    return generator


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made in a test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """60 captions, of which every third is too short."""
    texts = [
        f"Kite {n}." if n % 3 == 0 else f"A red kite number {n}, by the sea." for n in range(60)
    ]
    path = tmp_path / "kites.txt"
    path.write_text("\n".join(texts) + "\n")
    return path


def recipe(file: Path, *changes: str, limit: int | None = None) -> Recipe:
    overrides = [*RULES, "run.threads=1", "generation.candidates=3", *changes]
    return Recipe.load("tiny", captions=[file], overrides=overrides, limit=limit)


def test_its_pairs_are_those_of_the_whole_run(
    file: Path, tmp_path: Path, temporary: Path, generator: Generator
) -> None:
    settings = recipe(file, "selection.top_fraction=0.5")
    before = sorted(tmp_path.iterdir())
    found = synthvlm.preview(settings, pairs=5)
    assert sorted(tmp_path.iterdir()) == before
    assert not list(temporary.iterdir()), "something is left behind"
    assert len(found.captions) == 5
    assert generator.generated == 15

    run = Pipeline(settings, tmp_path / "run").run("generate")
    candidates = {(row["caption_id"], row["index"]): row for row in run.candidates}
    for caption in found.captions:
        assert [row.index for row in caption.candidates] == [0, 1, 2]
        for row in caption.candidates:
            whole = candidates[caption.id, row.index]
            assert (row.seed, row.score, row.chosen) == (
                whole["seed"], whole["score"], whole["chosen"]
            )  # fmt: skip
        assert sorted(caption.pictures) == [0, 1, 2], "losers are shown, too"
        (winner,) = [row.index for row in caption.candidates if row.chosen]
        assert caption.why.startswith(f"candidate {winner} of 3 won: ")
    # Half of five pairs, rounded up.
    assert sorted(one.rank for one in found.captions if one.rank is not None) == [1, 2, 3]
    assert [one.selection for one in found.captions].count(
        "not selected: its score is not among the best 3"
    ) == 2


def test_captions_are_chosen_by_the_seed_and_the_rejected_ones_are_shown(file: Path) -> None:
    chosen = {}
    for seed in (0, 1):
        found = synthvlm.preview(recipe(file, f"seed={seed}"), pairs=8)
        assert found.rejected, "none of the captions before the eighth kept one is rejected"
        for one in found.rejected:
            assert one.rejected_by == "word_count"
            assert f"{one.id}  word_count: 1, must be at least 5\n      {one.text}" in found.text()
        chosen[seed] = {one.id for one in (*found.captions, *found.rejected)}
        first = f"{len(chosen[seed]):,} captions curated, 8 kept\ncaptions: chosen from 60 captions"
        assert found.text().startswith(f"{first}, by a hash with the seed {seed}\n")
        assert chosen[seed] != {f"kites-{n}" for n in range(len(chosen[seed]))}, "the first lines"
    assert chosen[0] != chosen[1]


def test_rules_that_keep_few_are_given_more_captions(file: Path) -> None:
    few = recipe(file, "curation.rules.word_count={min: 0, max: 4}")
    # 20 of 60 are kept: the first 4 captions for each pair may not do.
    assert len(synthvlm.preview(few, pairs=20).captions) == 20
    found = synthvlm.preview(few, pairs=30)
    assert (len(found.captions), len(found.rejected)) == (20, 40)
    more = "  and 20 more: give --keep FOLDER, then: synthvlm captions FOLDER --rejected\n"
    assert more in found.text()
    with pytest.raises(RecipeError, match=r"keeps none of 60 sampled captions \(60 fail word_co"):
        synthvlm.preview(recipe(file, "curation.rules.word_count={min: 50}"), pairs=20)


def test_what_only_a_whole_run_shows_is_left_out_and_named(file: Path) -> None:
    settings = recipe(
        file,
        "selection.top_fraction=null",
        "selection.top_n=1000",
        "selection.min_scores={score: 0.9}",
        "generation.adaptive={sample: 50}",
        "curation.near_duplicates={}",
        limit=30,
    )
    found = synthvlm.preview(settings, pairs=6)
    assert found.notes[0].startswith("captions: chosen from 30 captions, by")
    assert found.notes[1].endswith(
        ": curation.near_duplicates, generation.adaptive, selection.top_n"
    )
    for caption in found.captions:
        best = max(row.score or 0.0 for row in caption.candidates)
        assert (caption.rank is None) == (best < 0.9)
        below = f"not selected: score {best:.3f} is below selection.min_scores.score 0.9"
        assert caption.rank is not None or caption.selection == below
    assert {caption.rank is None for caption in found.captions} == {True, False}


def test_failing_images_are_shown(file: Path, generator: Generator) -> None:
    whole = synthvlm.preview(recipe(file), pairs=4)
    generator.fails = whole.captions[0].text
    found = synthvlm.preview(recipe(file), pairs=4)
    failed, *others = found.captions
    assert failed.why == "no winner: none of 3 candidates is usable"
    assert failed.text_lines()[1] == "candidate 0: failed, this prompt fails"
    assert failed.selection == "not selected: it has no winner"
    assert [row.score for one in others for row in one.candidates] == [
        row.score for one in whole.captions[1:] for row in one.candidates
    ]
    generator.fails = "kite"
    with pytest.raises(RecipeError, match="none of 12 images is of use: this prompt fails"):
        synthvlm.preview(recipe(file), pairs=4)


def test_the_kept_folder_is_a_run(file: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    found = synthvlm.preview(recipe(file), pairs=3, keep=tmp_path / "kept", contact_sheet=sheet)
    assert [Path(report).name for report in found.reports] == ["index.html", "curation.html"]
    assert all(Path(report).is_file() for report in found.reports)
    with pytest.raises(RunFolderError, match="is not empty: --keep names a new folder"):
        synthvlm.preview(recipe(file), keep=tmp_path / "kept")

    shutil.move(tmp_path / "kept", tmp_path / "moved")
    run = synthvlm.open_run(tmp_path / "moved")
    assert {row["id"] for row in run.pairs} == {caption.id for caption in found.captions}
    assert {row["source"] for row in run.captions} == {"kites"}
    outdated = synthvlm.status(run)
    assert (outdated.next, outdated.reason) == ("export", None)
    Pipeline(run.recipe, tmp_path / "moved").run()
    assert synthvlm.status(run).next is None

    with Image.open(sheet) as image:
        assert image.format == "PNG"
        assert found._repr_png_() == sheet.read_bytes()
        for caption in found.captions:
            (winner,) = [row.index for row in caption.candidates if row.chosen]
            with Image.open(io.BytesIO(caption.pictures[winner])) as picture:
                pixels = {color for _, color in picture.convert("RGB").getcolors(999) or ()}
            shown = {color for _, color in image.convert("RGB").getcolors(1 << 24) or ()}
            assert pixels <= shown


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sheet.jpg", "is a PNG: name a file that ends with .png"),
        ("missing/sheet.png", "which is no folder: name a file"),
        ("folder.png", "is a folder: name a file"),
    ],
)
def test_a_contact_sheet_that_cannot_be_written_is_refused_at_once(
    file: Path, tmp_path: Path, generator: Generator, name: str, message: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(RunFolderError, match=message):
        synthvlm.preview(recipe(file), contact_sheet=tmp_path / name)
    assert generator.generated == 0


def test_texts_are_inert_in_text_and_picture(tmp_path: Path) -> None:
    texts = ["\x1b[2Ja red kite \u202e over the sea", "מגדלור 🏮 " + "x" * 5000, "a b c d e\tf" * 9]
    path = tmp_path / "kites.jsonl"
    path.write_text("".join(json.dumps({"caption": text}) + "\n" for text in texts))
    off = [f"curation.rules.{rule}=null" for rule in recipe(path).curation.rules]
    changes = [part for rule in off for part in ("--set", rule)]
    sheet = tmp_path / "sheet.png"
    command = ["preview", "tiny", "--captions", path, "--contact-sheet", sheet, *changes]
    done = CliRunner().invoke(app, [*map(str, command), "--set", "run.threads=1"])
    assert done.exit_code == 0, done.output
    assert not {"\x1b", "\u202e", "▀"} & set(done.output), "it is no terminal"
    assert "3 captions curated, 3 kept" in done.output
    with Image.open(sheet) as image:
        assert image.height < 1500


def test_json_is_all_that_is_printed(file: Path) -> None:
    changes = [part for change in [*RULES, "run.threads=1"] for part in ("--set", change)]
    command = ["preview", "tiny", "--captions", str(file), "--pairs", "2", "--json", *changes]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert len(values["captions"]) == 2
    assert set(values["captions"][0]["candidates"][0]["scores"]) == {"clip", "ssim"}
    assert values["folder"] is None


def candidate(index: int, clip: float, ssim: float, status: str = "ok") -> Candidate:
    scores = {"clip": clip, "ssim": ssim}
    score = clip + 0.5 * ssim if status == "ok" else None
    return Candidate("a", index, 0, status, "f", scores, score=score)


@pytest.mark.parametrize(
    ("candidates", "why"),
    [
        (
            [candidate(0, 0.3, 0.9), candidate(1, 0.25, 0.98), candidate(2, 0.9, 0.9, "unsafe")],
            "candidate 0 of 3 won: 0.750 = clip 0.300 + 0.5 x ssim 0.900; next is candidate 1, "
            "0.01 lower, mostly by its clip",
        ),
        (
            [candidate(0, 0.3, 0.5), candidate(1, 0.3, 0.5)],
            "candidate 0 of 2 won: 0.550 = clip 0.300 + 0.5 x ssim 0.500; candidate 1 has the same "
            "score, and the lower number wins",
        ),
        (
            [candidate(0, 0.3, 0.5, "rejected"), candidate(1, 0.25, 0.5)],
            "candidate 1 of 2 won: 0.500 = clip 0.250 + 0.5 x ssim 0.500; no other one is usable",
        ),
        (
            [candidate(0, 0.3, 0.5)],
            "candidate 0 of 1 won: 0.550 = clip 0.300 + 0.5 x ssim 0.500",
        ),
        ([candidate(0, 0.3, 0.5, "failed")], "no winner: none of 1 candidates is usable"),
    ],
)
def test_why_a_candidate_won(candidates: list[Candidate], why: str) -> None:
    assert why_chosen(candidates, Recipe.load("tiny")) == why
