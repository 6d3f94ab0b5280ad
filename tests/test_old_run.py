"""A run folder of the first versions: it opens, says what is made again, and is finished.

``tests/data/run_of_0_0/`` was made by commit 7582e5c, before scorers, rules and generators were
components, with this command; its report, its data set and its events were removed.

    synthvlm run tiny --limit 4 --set run.threads=1 --set run.device=cpu \
        --set 'curation.near_duplicates={}' --out run_of_0_0
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

import synthvlm
from commands import run as command
from synthvlm.checks.status import status
from synthvlm.errors import RecipeError
from synthvlm.recipe import Recipe
from synthvlm.run.kept_recipe import open_folder

OLD = Path(__file__).parent / "data" / "run_of_0_0"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "run"))


def test_the_folder_is_as_old_as_it_should_be(run: Path) -> None:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert recipe["generation"]["early_rejection"] is None
    assert recipe["selection"]["min_scores"] == {
        "clip_score": None,
        "ssim_score": None,
        "score": None,
    }
    assert recipe["curation"]["rules"]["judge"] is None
    (candidates,) = (run / "candidates").iterdir()
    assert "preview_score" in pq.read_schema(candidates).names
    assert sum(file.stat().st_size for file in run.rglob("*")) < 200_000


def test_its_recipe_is_read(run: Path) -> None:
    _, recipe = open_folder(str(run))
    assert recipe.selection.min_scores == {}
    assert list(recipe.scorers) == ["clip", "ssim"]
    assert list(recipe.curation.rules) == [
        "alnum_ratio",
        "char_rep_ratio",
        "flagged_words_ratio",
        "special_char_ratio",
        "word_rep_ratio",
    ]
    assert Recipe.from_values(yaml.safe_load(recipe.to_yaml())) == recipe


def test_a_removed_setting_that_was_on_is_named(run: Path) -> None:
    file = run / "recipe.yaml"
    text = file.read_text().replace("early_rejection: null", "early_rejection: {after: 2}")
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"generation\.early_rejection: it was removed, for"):
        open_folder(str(run))


def test_status_tells_what_is_there(run: Path) -> None:
    found = status(*open_folder(str(run)))
    assert found.candidates is not None
    assert (found.candidates.done, found.candidates.total) == (0, 16)
    assert "candidates: 0 of 16 done" in found.text()  # an earlier version made them


def test_verify_tells_what_is_made_again(run: Path) -> None:
    text = synthvlm.verify(run).text()
    assert (
        "stale: done/generate/00000.json (generate, shard 0): it was made by an earlier version "
        "of synthvlm; its images are generated again" in text
    )
    # Of the removed data set alone is anything missing; nothing is damaged.
    bad = [line for line in text.splitlines() if line.startswith(("missing:", "damaged:"))]
    assert bad
    assert all(line.startswith("missing: dataset/") for line in bad)


def test_an_image_of_it_can_be_made_again(run: Path) -> None:
    again = synthvlm.regenerate(run, "tiny-000")
    assert again.is_same, again.text()
    reason = "its row was made with another recipe, caption or models than the current ones"
    assert reason in again.text()


def test_it_is_finished_and_says_first_what_is_made_again(run: Path, tmp_path: Path) -> None:
    refused = command(["run", "--out", run], tmp_path)
    assert refused.code == 1
    assert "holds 4 images that would be lost: the folder is of an earlier version" in refused.err
    done = command(["run", "--out", run, "--replace-images"], tmp_path)
    assert done.code == 0, done.err
    output = done.out + done.err
    note = "note: 16 images are made again: the folder is of an earlier version of synthvlm"
    assert output.index(note) < output.index("generate: 16 candidates generated")
    assert "Traceback" not in output
    found = synthvlm.verify(run)
    assert not found.bad
    assert "stale:" not in found.text()
    # The seeds are the same, and so are the images.
    old, new = (
        pq.read_table(next((folder / "pairs").iterdir())).to_pylist() for folder in (OLD, run)
    )
    assert [(row["caption_id"], row["index"]) for row in old] == [
        (row["caption_id"], row["index"]) for row in new
    ]
    again = command(["run", "--out", run], tmp_path)
    assert again.code == 0
    assert "made again" not in again.out + again.err
    assert "generate: 0 candidates generated" in again.out + again.err
