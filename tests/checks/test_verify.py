"""`synthvlm verify`: it names what is damaged, and has that redone, and no more."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from spoilt_runs import (
    SETTINGS,
    bad,
    calibrated,
    checked,
    data_set,
    do,
    flip,
    generated_candidates,
    marker_of,
    mended,
    truncate,
    winners,
)

from commands import run as command
from fake_models import use_fake_models
from synthvlm.checks import discard
from synthvlm.run.kept_recipe import open_folder
from synthvlm.run_folder.marker import Marker, marker_name

pytestmark = pytest.mark.usefixtures("free_rule")


def test_of_a_run_just_finished_nothing_is_to_be_said(whole: Path) -> None:
    found = checked(whole)
    assert found.findings == ()
    assert found.notes == ()
    assert {check.stage: check.shards for check in found.stages} == {
        "sources": 1, "measure": 3, "measures-perplexity": 3, "curate": 3, "calibrate": 1,
        "generate": 3, "select": 1, "export": 3, "dataset": 1,
    }  # fmt: skip
    assert sum(check.files for check in found.stages) > 40
    assert "No damage" in found.text()


#: A file of each kind: stage, shard or part, where its name begins, and what it takes to redo it.
KINDS = [
    ("measure", 1, "measures/", lambda out: 0),
    ("measures-perplexity", 1, "measures-perplexity/", lambda out: 0),
    ("curate", 1, "captions/", lambda out: 0),
    ("calibrate", 0, "calibrate/", lambda out: 0),
    ("calibrate", 0, "calibrate-pairs/", lambda out: 0),
    ("generate", 1, "candidates/", None),
    ("generate", 1, "pairs/", lambda out: winners(out, 1)),
    ("generate", 1, "previews/", lambda out: 0),
    ("select", 0, "selection.parquet", lambda out: 0),
    ("export", 1, "export-parts/files-", lambda out: 0),
    ("export", 1, "export-parts/llava-", lambda out: 0),
]


@pytest.mark.parametrize("spoil", [flip, truncate, Path.unlink], ids=["flip", "cut", "delete"])
@pytest.mark.parametrize(("stage", "shard", "start", "images"), KINDS, ids=[k[2] for k in KINDS])
def test_a_file_that_is_spoilt_is_named_and_redone(
    out: Path,
    whole: Path,
    captions: Path,
    stage: str,
    shard: int,
    start: str,
    images: Callable[[Path], int] | None,
    spoil: Callable[[Path], None],
) -> None:
    files = [f.path for f in marker_of(out, stage, shard).files if f.path.startswith(start)]
    assert len(files) == 1
    # Rows that are lost are generated again, but for those that calibration knows.
    expected = images(out) if images else generated_candidates(out, shard)
    spoil(out / files[0])
    kind = "missing" if spoil is Path.unlink else "damaged"
    assert bad(out) == [(stage, shard, files[0], kind)]
    generated = mended(out, captions, whole)
    if images is None:
        known = calibrated(whole, shard)
        assert known
        assert generated == expected - known
    else:
        assert generated == expected


@pytest.mark.parametrize("spoil", [flip, truncate, Path.unlink], ids=["flip", "cut", "delete"])
@pytest.mark.parametrize(
    ("pattern", "stage"),
    [
        ("images/*/*.png", "export"),
        ("data/*.parquet", "export"),
        ("README.md", "dataset"),
        ("llava.json", "dataset"),
    ],
)
def test_a_spoilt_file_of_the_data_set_is_named_and_written_again(
    out: Path,
    whole: Path,
    captions: Path,
    pattern: str,
    stage: str,
    spoil: Callable[[Path], None],
) -> None:
    file = sorted((out / "dataset").glob(pattern))[-1]
    spoil(file)
    part = 2 if stage == "export" else 0
    kind = "missing" if spoil is Path.unlink else "damaged"
    assert bad(out) == [(stage, part, str(file.relative_to(out)), kind)]
    assert mended(out, captions, whole) == 0


@pytest.mark.parametrize(
    ("stage", "shard", "images"),
    [
        ("sources", 0, 0),
        ("measure", 1, 0),
        ("measures-perplexity", 1, 0),
        ("curate", 1, 0),
        ("calibrate", 0, 0),
        ("generate", 1, 0),
        ("select", 0, 0),
        ("export", 1, 0),
        ("dataset", 0, 0),
    ],
)
@pytest.mark.parametrize("spoil", [truncate, lambda file: file.write_bytes(b"")])
def test_a_marker_that_is_none_is_named_and_its_shard_redone(
    out: Path,
    whole: Path,
    captions: Path,
    stage: str,
    shard: int,
    images: int,
    spoil: Callable[[Path], None],
) -> None:
    name = marker_name(stage, shard)
    spoil(out / name)
    assert (stage, shard, name, "damaged") in bad(out)
    assert len(bad(out)) == 1
    assert mended(out, captions, whole) == images


@pytest.mark.parametrize(
    ("stage", "shard", "fact", "images"),
    [
        ("measure", 1, "captions", 0),
        ("measure", 1, "rules", 0),
        ("curate", 1, "kept", 0),
        ("calibrate", 0, "threshold", 0),
        ("generate", 1, "candidates", 0),
        ("generate", 1, "encoding", 0),
        ("select", 0, "selected", 0),
        ("dataset", 0, "files", 0),
    ],
)
def test_a_marker_that_says_something_else_than_its_rows_is_named(
    out: Path, whole: Path, captions: Path, stage: str, shard: int, fact: str, images: int
) -> None:
    marker = marker_of(out, stage, shard)
    wrong = {**marker.facts, fact: 4711}
    (out / marker_name(stage, shard)).write_bytes(
        Marker(marker.fingerprint, marker.files, wrong).to_json()
    )
    assert (stage, shard, marker_name(stage, shard), "damaged") in bad(out)
    assert mended(out, captions, whole) == images


def test_every_bit_counts(out: Path) -> None:
    files = [
        f.path
        for path in (out / "done").rglob("*.json")
        for f in (Marker.from_json(path.read_bytes()) or Marker("")).files
    ] + [str(p.relative_to(out)) for p in (out / "dataset").rglob("*") if p.is_file()]
    files = [name for name in files if (out / name).stat().st_size]
    dice = random.Random(0)
    for _ in range(25):
        name = dice.choice(files)
        bit = dice.randrange((out / name).stat().st_size * 8)
        flip(out / name, bit)
        assert [f.file for f in checked(out).bad] == [name]
        flip(out / name, bit)
    assert not checked(out).bad


def test_winners_of_a_lossy_run_are_generated_again_where_nobody_knows_how_they_were_encoded(
    tmp_path: Path, captions: Path
) -> None:
    jpeg = "generation.image={format: jpeg, quality: 80}"
    do(tmp_path / "run", captions, jpeg)
    whole = Path(shutil.copytree(tmp_path / "run", tmp_path / "whole"))
    assert not checked(whole).findings
    truncate(tmp_path / "run" / marker_name("generate", 1))
    generated = mended(tmp_path / "run", captions, whole, jpeg)
    assert generated == winners(whole, 1)


@pytest.mark.parametrize(
    ("gone", "stages"),
    [
        ("done", {"sources", "measure", "curate", "calibrate", "generate", "select", "export"}),
        ("done/generate", {"generate"}),
        ("done/generate/00001.json", {"generate"}),
        ("done/curate", {"curate"}),
        ("done/measure", {"measure"}),
        ("done/sources", {"sources"}),
        ("done/select", {"select"}),
        ("done/export", {"export"}),
        ("done/export/00001.json", {"export"}),
        ("done/dataset", set()),
    ],
)
def test_commits_that_are_gone_are_found_and_their_images_are_kept(
    gone: str, stages: set[str], out: Path, whole: Path, captions: Path
) -> None:
    path = out / gone
    path.unlink() if path.is_file() else shutil.rmtree(path)
    lost = stages | ({"dataset"} if gone in ("done", "done/dataset") else set())
    found = checked(out)
    assert {f.stage for f in found.bad} == lost
    assert {f.kind for f in found.bad} == {"missing"}
    assert {f.file for f in found.bad} <= {
        str(p.relative_to(whole)) for p in (whole / "done").rglob("*.json")
    }
    assert "No damage" not in found.text()
    assert f"synthvlm verify {out} --discard" in found.text()
    assert mended(out, captions, whole) == 0


def test_a_selection_without_the_candidates_it_ranks_is_found(out: Path) -> None:
    for folder in ("done/generate", "candidates", "pairs", "previews"):
        shutil.rmtree(out / folder)
    assert {(f.stage, f.shard) for f in checked(out).bad} >= {("generate", n) for n in range(3)}


def test_a_run_on_another_file_system(captions: Path) -> None:
    url = "memory://verified/run"
    do(url, captions)
    assert not checked(url).findings
    run, _ = open_folder(url)
    marker = run.marker("generate", 1)
    assert marker is not None
    name = str(marker.file("pairs"))
    before = run.read(str(marker.file("candidates")))
    run.write(name, run.read(name)[:-1] + b"?")
    assert bad(url) == [("generate", 1, name, "damaged")]
    with run.held():
        discard(run, checked(url))
    assert 0 < do(url, captions) <= 8
    assert not checked(url).findings
    after = run.marker("generate", 1)
    assert after is not None
    assert run.read(str(after.file("candidates"))) == before


def test_the_command(out: Path, captions: Path, tmp_path: Path) -> None:
    words: list[str | Path] = ["run", "tiny", "--captions", captions, "--out", tmp_path / "plain"]
    for setting in SETTINGS:
        if "perplexity" not in setting:
            words += ["--set", setting]
    words += ["--set", "selection.top_fraction=1.0"]
    assert command(words, tmp_path, use_fake_models).code == 0
    out = tmp_path / "plain"
    before = data_set(out)
    sound = command(["verify", out], tmp_path)
    assert (sound.code, sound.err) == (0, "")
    assert "No damage: every committed file" in sound.out
    images = sorted((out / "dataset").glob("images/*/*"))
    for image in images:
        image.unlink()
    pairs = str(marker_of(out, "generate", 0).file("pairs"))
    flip(out / pairs)
    found = command(["verify", out], tmp_path)
    assert found.code == 1
    assert f"damaged: {pairs} (generate, shard 0): its " in found.out
    assert f"... and {len(images) + 1 - 20} more (--json lists all)" in found.out
    assert f"  synthvlm verify {out} --discard\n  synthvlm run --out {out}\n" in found.out
    machine = command(["verify", out, "--json"], tmp_path)
    assert machine.code == 1
    values = json.loads(machine.out)
    assert len(values["findings"]) == len(images) + 1
    assert not values["sound"]
    gone = command(["verify", out, "--discard"], tmp_path)
    assert gone.code == 1
    assert "generate, shard 0: its winners are generated again" in gone.out
    assert command(words, tmp_path, use_fake_models).code == 0
    assert data_set(out) == before
    assert command(["verify", out, "--json"], tmp_path).code == 0
    nothing = command(["verify", tmp_path], tmp_path)
    assert (nothing.code, "is not a run folder" in nothing.err) == (1, True)
