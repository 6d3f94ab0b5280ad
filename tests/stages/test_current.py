"""What in a run folder still counts, and that every command which reads one goes by that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_models import load_fake_models, run_with
from synthvlm.checks import verify
from synthvlm.checks.current import refuse_outdated_files
from synthvlm.checks.status import status
from synthvlm.comparison.command import open_inputs
from synthvlm.errors import RunFolderError
from synthvlm.pipeline import Pipeline
from synthvlm.progress.display import SilentProgress
from synthvlm.publishing import publish
from synthvlm.recipe import Recipe
from synthvlm.run.kept_recipe import open_folder, resumed_recipe
from synthvlm.stages.curation.measure import measure
from synthvlm.stages.current import CurrentWork, Outdated, check_none_gone
from synthvlm.training.recipe import TrainingRecipe
from synthvlm.training.train import train

WORDS = ("red", "blue", "green", "black", "white", "brown", "grey")


def sentences(*words: str) -> str:
    return "".join(f"a {word} horse beside a small wooden barn\n" for word in words)


def write_captions(out: Path, text: str) -> Path:
    file = out.parent / "captions.txt"
    file.write_text(text)
    return file


def finish(
    out: Path, until: str = "report", *, captions: Path | None = None, **values: str
) -> None:
    """Resume a run with changes, up to a stage."""
    changes = [f"{key.replace('__', '.')}={value}" for key, value in values.items()]
    named = [] if captions is None else [captions]
    pipeline = Pipeline(resumed_recipe(out, captions=named, overrides=changes), out)
    pipeline._load_models = load_fake_models
    pipeline.run(until, replace_images=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of seven captions, in shards of three."""
    out = tmp_path_factory.mktemp("whole") / "run"
    captions = write_captions(out, sentences(*WORDS))
    settings = ["generation.candidates=2", "selection.top_fraction=1.0", "run.shard_size=3"]
    settings += ["run.threads=1", "export.images_per_folder=3", "curation.rules.perplexity=null"]
    run_with(Recipe.load("tiny", captions=[captions], overrides=settings), out)
    return out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, with captions of its own."""
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    captions = write_captions(out, sentences(*WORDS))
    recipe = out / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(whole.parent / "captions.txt"), str(captions)))
    finish(out, "export")  # its card names the captions
    return out


def outdated(out: Path) -> Outdated | None:
    return CurrentWork(*open_folder(str(out))).outdated


def test_candidates_that_go_while_a_run_works_are_missed(out: Path) -> None:
    run, _ = open_folder(str(out))
    captions, generated = run.markers("curate"), run.markers("generate")
    check_none_gone(captions, generated, ())
    for file in (out / "candidates").glob("part-00001*"):
        file.unlink()
    fewer = run.markers("generate")
    assert fewer.keys() == generated.keys() - {1}
    check_none_gone(captions, fewer, [1])
    with pytest.raises(RunFolderError, match="shard 1 are no longer there"):
        check_none_gone(captions, fewer, ())


def test_a_finished_run_is_current(whole: Path) -> None:
    assert outdated(whole) is None
    assert status(*open_folder(str(whole))).next is None
    refuse_outdated_files(str(whole))


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "selected anew": (lambda out: finish(out, "select", selection__top_fraction="0.3"), "export"),
    "other captions curated": (
        lambda out: finish(out, "curate", captions=other_captions(out)),
        "generate",
    ),
    "fewer captions kept": (
        lambda out: finish(out, "curate", curation__rules__alnum_ratio="{min: 0.85}"),
        "generate",
    ),
    "more captions curated": (
        lambda out: (write_captions(out, sentences(*WORDS, "pink", "old")), finish(out, "curate"))[
            1
        ],
        "generate",
    ),
    "only rejected captions added": (
        lambda out: (write_captions(out, sentences(*WORDS, "red")), finish(out, "select"))[1],
        "export",
    ),
    "generated with another seed": (lambda out: finish(out, "generate", seed="5"), "select"),
    "captions edited": (lambda out: write_captions(out, sentences(*WORDS[1:])) and None, "measure"),
    "captions read, the run then killed": (lambda out: only_measure(out), "curate"),
    "the recipe edited": (lambda out: edit(out, "candidates: 2", "candidates: 3"), "generate"),
    "its licence edited": (lambda out: edit(out, "license: null", "license: mit"), "export"),
    "its bounds edited": (
        lambda out: edit(out, "deduplicate: true", "deduplicate: false"),
        "curate",
    ),
}


def other_captions(out: Path) -> Path:
    file = out.parent / "other.txt"
    file.write_text(sentences("tall", "small", "wet", "dry", "calm", "wild", "lame"))
    return file


def only_measure(out: Path) -> None:
    write_captions(out, sentences("tall", *WORDS[1:]))
    run, recipe = open_folder(str(out))
    measure(run, recipe, SilentProgress())


def edit(out: Path, before: str, after: str) -> None:
    recipe = out / "recipe.yaml"
    text = recipe.read_text()
    assert before in text
    recipe.write_text(text.replace(before, after))


def refusals(out: Path, tmp_path: Path) -> list[str]:
    """What each command says that takes the data set of a run."""
    link = tmp_path / "link"
    link.symlink_to(out / "dataset")
    training = TrainingRecipe.load("tiny-pretrain", data=[str(out)])
    commands: list[Callable[[], object]] = [
        lambda: publish(str(out), str(tmp_path / "published"), progress=SilentProgress()),
        lambda: train(training, tmp_path / "trained"),
        lambda: open_inputs([str(out)]),
        lambda: open_inputs([str(out / "dataset")]),
        lambda: open_inputs([str(out / "dataset" / "llava.json")]),
        lambda: open_inputs([str(out / "dataset" / "data" / "*.parquet")]),
        lambda: open_inputs([f"linked={link}"]),
    ]
    lines = []
    for command in commands:
        with pytest.raises(RunFolderError) as refused:
            command()
        lines.append(str(refused.value))
    assert not (tmp_path / "published").exists()
    assert not (tmp_path / "trained").exists()
    return lines


@pytest.mark.parametrize("name", CHANGES)
def test_what_has_been_overtaken_is_refused_by_every_command_until_it_is_exported(
    name: str, out: Path, tmp_path: Path
) -> None:
    change, stage = CHANGES[name]
    before = (out / "dataset" / "README.md").read_text()
    change(out)
    found = outdated(out)
    assert found is not None
    assert found.stage == stage
    told = status(*open_folder(str(out)))
    assert (told.next, told.reason) == (stage, found.reason)
    assert found.reason in told.text()
    assert any(one.kind == "stale" for one in verify(*open_folder(str(out))).findings)
    for line in refusals(out, tmp_path):
        assert f"is out of date (stage {stage})" in line
        assert line.endswith(f"bring it up to date: synthvlm export --out {out}")
    assert (out / "dataset" / "README.md").read_text() == before
    finish(out)  # what the line advises, and the report
    assert outdated(out) is None
    assert status(*open_folder(str(out))).next is None
    assert verify(*open_folder(str(out))).findings == ()
    publish(str(out), str(tmp_path / "published"), progress=SilentProgress())


def test_a_copy_of_the_data_set_is_a_data_set_of_its_own(out: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(out / "dataset", tmp_path / "copy" / "dataset")
    finish(out, "select", selection__top_fraction="0.3")
    refuse_outdated_files(str(copy))
    open_inputs([str(copy)])


def test_what_cannot_be_told_here_counts_as_current(out: Path, tmp_path: Path) -> None:
    """On a machine that has neither captions nor models nor the images of the run's winners."""
    (tmp_path / "captions.txt").unlink()
    assert outdated(out) is None
    for file in (out / "pairs").iterdir():
        file.unlink()
    assert outdated(out) is None
    publish(str(out), str(tmp_path / "published"), progress=SilentProgress())


def test_candidates_that_failed_are_tried_again_and_do_not_outdate_a_data_set(out: Path) -> None:
    marker = out / "done" / "generate" / "00001.json"
    marker.write_text(marker.read_text().replace('"failed": 0', '"failed": 1'))
    assert outdated(out) is None
    assert status(*open_folder(str(out))).next == "generate"


def test_a_lowered_limit_leaves_no_trace_of_the_shards_beyond_it(out: Path) -> None:
    finish(out, limit="3")
    assert len(os.listdir(out / "done" / "generate")) == 3  # their images may be used again
    told = status(*open_folder(str(out)))
    assert told.next is None
    assert told.candidates is not None
    assert (told.candidates.done, told.candidates.total) == (6, 6)
    assert {s.stage: (s.done, s.total) for s in told.stages}["generate"] == (1, 1)
    page = " ".join((out / "report" / "index.html").read_text().split())
    for word in WORDS[3:]:
        assert f"a {word} horse" not in page
    card = (out / "dataset" / "README.md").read_text()
    assert "1 shard attempts; 6 candidates generated" in page
    for row in ("captions read | 3", "captions kept | 3", "candidates | 6", "pairs | 3"):
        assert f"| {row} |" in card


def test_other_captions_leave_no_trace_of_the_former_ones(out: Path) -> None:
    other = other_captions(out)
    other.write_text("".join(other.read_text().splitlines(keepends=True)[:2]))
    finish(out, captions=other)
    page = (out / "report" / "index.html").read_text()
    assert "a tall horse" in page
    for word in WORDS:
        assert f"a {word} horse" not in page
    assert "| captions read | 2 |" in (out / "dataset" / "README.md").read_text()
    told = status(*open_folder(str(out)))
    assert told.candidates is not None
    assert (told.candidates.done, told.candidates.total) == (4, 4)
