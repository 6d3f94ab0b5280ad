"""What `synthvlm verify` says of what is stale, stray or foreign, and beside a run that works."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from spoilt_runs import SETTINGS, checked, do, flip, marker_of

from commands import run as command
from fake_models import FakeClip, FakeGenerator, fake_scorers, run_with
from synthvlm import Recipe
from synthvlm.checks import Finding, discard, verify
from synthvlm.checks.snapshot import Snapshot
from synthvlm.errors import RunFolderError
from synthvlm.run.kept_recipe import open_folder
from synthvlm.run_folder.folder import RunFolder
from synthvlm.run_folder.marker import Marker, StoredFile, marker_name
from synthvlm.stages.generation.models import Models

pytestmark = pytest.mark.usefixtures("free_rule")


def test_what_the_recipe_does_not_want_any_more_is_stale_and_no_damage(whole: Path) -> None:
    run, recipe = open_folder(str(whole))

    def stages(*changes: str) -> dict[str, int]:
        found = verify(run, recipe.changed(overrides=changes))
        assert not found.bad
        assert found.text().count("stale: done/") == len(found.findings) <= 20
        stale = [f.stage for f in found.findings if f.kind == "stale"]
        return {stage: stale.count(stage) for stage in stale}

    assert stages("generation.steps=9") == {"calibrate": 1, "generate": 3, "dataset": 1}
    assert stages("generation.image.format=webp") == {"generate": 3, "dataset": 1}
    assert stages("selection.top_fraction=0.5") == {"select": 1}
    assert stages("export.license=mit") == {"dataset": 1}
    assert stages("curation.rules.char_count={max: 9}") == {
        "measure": 3,
        "curate": 3,
        "dataset": 1,
    }
    assert stages("curation.rules.perplexity.model=org/other") == {
        "measures-perplexity": 3,
        "curate": 3,
        "dataset": 1,
    }
    assert stages("limit=9") == {"sources": 1, "dataset": 1}


def test_sources_that_are_gone_are_no_damage(out: Path, captions: Path, tmp_path: Path) -> None:
    run, recipe = open_folder(str(out))
    values = recipe.model_dump(mode="json")
    values["sources"][0]["path"] = str(tmp_path / "gone.txt")
    found = verify(run, Recipe.from_values(values))
    assert not found.bad
    assert any("cannot tell whether it is up to date" in note for note in found.notes)


def test_strays_are_counted_and_harmless(out: Path) -> None:
    for name in ("pairs/part-00001-0badcafe.parquet", "captions/x", "dataset/images/00000/x.md"):
        (out / name).write_bytes(b"x")
    found = checked(out)
    assert [(f.stage, f.kind) for f in found.findings] == [
        ("curate", "stray"),
        ("generate", "stray"),
        ("dataset", "stray"),
    ]
    assert not found.bad


@pytest.mark.parametrize(
    "name",
    [
        "data/train-00000-of-00001.parquet",
        "data/x.jsonl.gz",
        "images/9/x.PNG",
        "more/x.tar",
        "x.csv",
    ],
)
def test_what_readers_would_take_for_a_part_of_the_data_set_is_a_finding(
    name: str, out: Path, captions: Path
) -> None:
    extra = out / "dataset" / name
    extra.parent.mkdir(exist_ok=True, parents=True)
    extra.write_bytes(b"x")
    found = checked(out)
    assert [(f.stage, f.file, f.kind) for f in found.bad] == [
        ("dataset", f"dataset/{name}", "foreign")
    ]
    assert found.text().splitlines()[-1].endswith(f"To remove: synthvlm export --out {out}")
    assert do(out, captions) == 0
    assert not extra.exists()
    assert checked(out).findings == ()


def test_candidates_that_failed_are_stale(tmp_path: Path, captions: Path) -> None:
    class Failing(FakeClip):
        def score(self, images: Any, captions: Sequence[str]) -> Any:
            if any("number 3 " in caption for caption in captions):
                raise MemoryError("out of memory")
            return super().score(images, captions)

    models = Models(FakeGenerator(), fake_scorers(Failing()))
    changes = [*SETTINGS, "generation.adaptive=null", "run.max_failed_share=1.0"]
    recipe = Recipe.load("tiny", captions=[captions], overrides=changes)
    run_with(recipe, tmp_path / "run", lambda _: models)
    found = checked(tmp_path / "run")
    assert not found.bad
    assert [(f.stage, f.shard, f.kind) for f in found.findings] == [("generate", 0, "stale")]


def test_a_shard_that_is_committed_anew_meanwhile_is_no_damage(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Snapshot.load
    moved = []

    def load_and_commit(self: Snapshot, file: StoredFile, **options: Any) -> bytes:
        if file.path.startswith("pairs/") and len(moved) < 2:
            shard = int(file.path[11:16])
            marker = marker_of(out, "generate", shard)
            name = f"pairs/part-{shard:05d}-{len(moved):08d}.parquet"
            old = next(f for f in marker.files if f.path == marker.file("pairs"))
            (out / old.path).rename(out / name)
            files = [StoredFile(name, f.size, f.checksum) if f is old else f for f in marker.files]
            (out / marker_name("generate", shard)).write_bytes(
                Marker(marker.fingerprint, tuple(files), marker.facts).to_json()
            )
            moved.append(name)
        return load(self, file, **options)

    monkeypatch.setattr(Snapshot, "load", load_and_commit)
    assert not checked(out).findings
    assert len(moved) == 2


def test_beside_a_running_run_nothing_is_taken_for_damage(out: Path, captions: Path) -> None:
    failures: list[Finding] = []
    looks = 0
    ending = threading.Event()

    def watch() -> None:
        nonlocal looks
        while not ending.is_set():
            failures.extend(checked(out).bad)
            looks += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for change in ("scoring.ssim.weight=0.9", "generation.image.format=webp",
                       "selection.top_fraction=0.4", "generation.candidates=5"):  # fmt: skip
            do(out, captions, change)
    finally:
        ending.set()
        watcher.join()
    assert failures == []
    assert looks > 3


def test_only_who_discards_needs_the_folder_for_itself(out: Path, tmp_path: Path) -> None:
    flip(out / str(marker_of(out, "generate", 1).file("pairs")))
    before = (out / marker_name("generate", 1)).read_bytes()
    with RunFolder(out).held():
        assert command(["verify", out], tmp_path).code == 1
        refused = command(["verify", out, "--discard"], tmp_path)
    assert refused.code == 1
    assert "is working in" in refused.err
    assert (out / marker_name("generate", 1)).read_bytes() == before
    run, _ = open_folder(str(out))
    found = checked(out)
    with run.held():
        (out / ".lock.json").write_text(json.dumps({"owner": "another"}))
        run._lock._checked = -math.inf
        with pytest.raises(RunFolderError, match="took over"):
            discard(run, found)
    assert (out / marker_name("generate", 1)).read_bytes() == before
