"""`synthvlm verify`: it names what is damaged, and has that redone, and no more."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import random
import shutil
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from commands import run as command
from fake_models import FakeClip, FakeGenerator, fake_scorers, run_with, use_fake_models
from synthvlm import Recipe
from synthvlm.captions.rules.base import Measured, Subject
from synthvlm.checks import Finding, Verification, discard, verify
from synthvlm.checks.images import image_problem
from synthvlm.checks.snapshot import Snapshot
from synthvlm.data import digest
from synthvlm.errors import RunFolderError
from synthvlm.pipeline import open_run
from synthvlm.run_folder.folder import RunFolder, table_bytes
from synthvlm.run_folder.marker import Marker, StoredFile, marker_name
from synthvlm.stages.generation.models import Models

CAPTIONS = [f"A red kite number {n} flies over the green hill, near the sea." for n in range(20)]
SETTINGS = [
    "run.shard_size=8",
    "run.threads=1",
    "curation.rules.special_char_ratio=null",
    "curation.rules.perplexity={model: org/fake, max: 5000}",
    "generation.candidates=3",
    "generation.adaptive={sample: 8}",
    "report.preview_share=1.0",
    "selection.top_fraction=0.8",
    "export.images_per_folder=6",
]


class Perplexity:
    """A rule with a model that costs nothing."""

    def measure(self, subjects: Sequence[Subject]) -> Measured:
        return Measured(np.array([float(len(s.text)) for s in subjects]), (None,) * len(subjects))


@pytest.fixture(autouse=True)
def _free_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "synthvlm.stages.curation.model_measure.load_model_rule", lambda *_: Perplexity()
    )


def do(out: Path | str, captions: Path, *changes: str) -> int:
    """Do a run; how many images that took."""
    generator = FakeGenerator()
    models = Models(generator, fake_scorers())
    recipe = Recipe.load("tiny", captions=[captions], overrides=[*SETTINGS, *changes])
    run_with(recipe, out, lambda _: models)
    return generator.generated


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("captions") / "captions.txt"
    file.write_text("\n".join(CAPTIONS) + "\n")
    return file


@pytest.fixture(scope="module")
def whole(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "synthvlm.stages.curation.model_measure.load_model_rule", lambda *_: Perplexity()
        )
        do(out, captions)
    return out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def checked(out: Path | str) -> Verification:
    return verify(*open_run(str(out)))


def bad(out: Path | str) -> list[tuple[str, int | None, str, str]]:
    return [(f.stage, f.shard, f.file, f.kind) for f in checked(out).bad]


def mended(out: Path, captions: Path, whole: Path, *changes: str) -> int:
    """Discard what is damaged and run again: all must be as before; how many images that took."""
    run, recipe = open_run(str(out))
    with run.held():
        discard(run, verify(run, recipe, is_held=True))
    generated = do(out, captions, *changes)
    after = checked(out)
    assert [f for f in after.findings if f.kind != "stray"] == []
    assert data_set(out) == data_set(whole)
    return generated


def data_set(out: Path) -> dict[str, bytes]:
    files = [p for p in (out / "dataset").rglob("*") if p.is_file()]
    return {str(p.relative_to(out)): p.read_bytes() for p in files}


def marker_of(out: Path, stage: str, shard: int) -> Marker:
    marker = Marker.from_json((out / marker_name(stage, shard)).read_bytes())
    assert marker is not None
    return marker


def flip(file: Path, bit: int | None = None) -> None:
    data = bytearray(file.read_bytes())
    bit = len(data) * 4 + 3 if bit is None else bit
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def winners(out: Path, shard: int) -> int:
    """Winners of a shard of which there is no other image: calibration keeps its best, too."""
    names = [
        marker_of(out, "generate", shard).file("pairs"),
        marker_of(out, "calibrate", 0).file("calibrate-pairs"),
    ]
    of_shard, calibrated = (
        {(row["caption_id"], row["index"]) for row in pq.read_table(out / str(name)).to_pylist()}
        for name in names
    )
    assert of_shard & calibrated
    return len(of_shard - calibrated)


def generated_candidates(out: Path, shard: int) -> int:
    name = marker_of(out, "generate", shard).file("candidates")
    rows = pq.read_table(out / str(name)).to_pylist()
    return sum(row["status"] == "ok" for row in rows)


def calibrated(out: Path, shard: int) -> int:
    """Candidates of a shard whose scores are known from the calibration."""
    sample = pq.read_table(out / str(marker_of(out, "calibrate", 0).file("calibrate")))
    keys = {(row["caption_id"], row["index"]) for row in sample.to_pylist()}
    name = marker_of(out, "generate", shard).file("candidates")
    rows = pq.read_table(out / str(name)).to_pylist()
    return sum(row["status"] == "ok" and (row["caption_id"], row["index"]) in keys for row in rows)


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


def rewrite(out: Path, stage: str, folder: str, change: Callable[[list[dict[str, Any]]], Any],
            shard: int = 1) -> str:  # fmt: skip
    """Change rows of a file as if they had been written so, checksum and all; its name."""
    marker = marker_of(out, stage, shard)
    name = next(f.path for f in marker.files if f.path.startswith(folder))
    table = pq.read_table(out / name)
    rows = table.to_pylist()
    change(rows)
    data = table_bytes(pa.Table.from_pylist(rows, table.schema))
    (out / name).write_bytes(data)
    files = [StoredFile(name, len(data), digest([data])) if f.path == name else f
             for f in marker.files]  # fmt: skip
    (out / marker_name(stage, shard)).write_bytes(
        Marker(marker.fingerprint, tuple(files), marker.facts).to_json()
    )
    return name


def chosen(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in rows if row["chosen"])


def two_winners(rows: list[dict[str, Any]]) -> None:
    next(r for r in rows if r["status"] == "ok" and not r["chosen"])["chosen"] = True


def bomb(side: int) -> bytes:
    """The beginning of a PNG that says it is large."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT" + zlib.compress(b"x")


CONTENTS: dict[str, tuple[str, str, Callable[[list[dict[str, Any]]], Any], str]] = {
    "no score": ("generate", "candidates", lambda r: chosen(r).update(score=None), "not usable"),
    "two": ("generate", "candidates", two_winners, "2 candidates of"),
    "row gone": ("generate", "candidates", lambda r: r.pop(), "rows, not 3 for each of"),
    "order": ("generate", "candidates", lambda r: r.reverse(), "is in the place of"),
    "twice": ("generate", "candidates", lambda r: r.append(r[0]), "occurs 2 times"),
    "image": ("generate", "pairs", lambda r: r[0].update(image=r[0]["image"][:-40]), "decode"),
    "kind": ("generate", "pairs", lambda r: r[0].update(format="webp"), "is not a webp image"),
    "eps": ("generate", "pairs", lambda r: r[0].update(image=b"%!PS-Adobe", format="eps"), "eps"),
    "width": ("generate", "pairs", lambda r: r[0].update(width=17), "is 16 x 16, but 17 x 16"),
    "winner gone": ("generate", "pairs", lambda r: r.pop(), "is chosen, but has no image"),
    "no winner": ("generate", "pairs", lambda r: r[0].update(index=99), "(and 1 more)"),
    "thumbnail": ("generate", "previews", lambda r: r[0].update(thumbnail=b"x"), "is not a webp"),
    "winner's": ("generate", "previews", lambda r: r[0].update(index=99), "did not lose"),
    "id twice": ("measure", "measures", lambda r: r[0].update(id=r[1]["id"]), "is not unique"),
    "caption": ("curate", "captions", lambda r: r[0].update(text="else"), "text differs from"),
    "unknown": ("measures-perplexity", "measures-perplexity",
                lambda r: r[0].update(id="who"), "'who' is not a caption here"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTENTS)
def test_rows_that_contradict_each_other_are_found_whatever_their_checksum(
    out: Path, whole: Path, captions: Path, name: str
) -> None:
    stage, folder, change, problem = CONTENTS[name]
    file = rewrite(out, stage, folder, change)
    found = [f for f in checked(out).bad if f.file == file]
    assert [(f.stage, f.shard, f.kind) for f in found] == [(stage, 1, "damaged")]
    assert problem in found[0].problem
    mended(out, captions, whole)


def test_a_selection_of_other_rows_than_winners_is_found(
    out: Path, whole: Path, captions: Path
) -> None:
    marker = marker_name("select", 0)
    changes: list[tuple[Callable[[list[dict[str, Any]]], Any], str, str]] = [
        (lambda r: r[0].update(rank=5), "selection.parquet", "ranks are not 1, 2, 3"),
        (lambda r: r[1].update(index=r[1]["index"] + 1), "selection.parquet", "is not a winner of"),
        (lambda r: r[1].update(caption_id="who"), "selection.parquet", "'who' is not a winner"),
        (lambda r: r[1].update({**r[0], "rank": 2}), "selection.parquet", "is selected 2 times"),
        (lambda r: r.pop(), marker, "but 15 in its rows"),
    ]
    for change, file, problem in changes:
        rewrite(out, "select", "selection", change, shard=0)
        [finding] = [f for f in checked(out).bad if f.stage == "select"]
        assert (finding.file, finding.kind) == (file, "damaged")
        assert problem in finding.problem
        assert mended(out, captions, whole) == 0


def test_a_file_of_another_kind_is_found(out: Path, whole: Path, captions: Path) -> None:
    marker = marker_of(out, "generate", 1)
    name = str(marker.file("pairs"))
    for data, problem in (
        (b"not Parquet", "not a Parquet file"),
        (table_bytes(pa.table({"caption_id": ["x"]})), "columns are not the expected ones: format"),
    ):
        (out / name).write_bytes(data)
        files = [StoredFile(name, len(data), digest([data])) if f.path == name else f
                 for f in marker.files]  # fmt: skip
        (out / marker_name("generate", 1)).write_bytes(
            Marker(marker.fingerprint, tuple(files), marker.facts).to_json()
        )
        [finding] = checked(out).bad
        assert finding.file == name
        assert problem in finding.problem
    assert mended(out, captions, whole) == winners(whole, 1)


def test_a_disk_that_cannot_read_a_file_has_damaged_it_and_no_other_trouble_has(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(marker_of(out, "generate", 1).file("pairs"))
    image = next(str(p.relative_to(out)) for p in (out / "dataset").glob("images/*/*"))
    number = errno.EIO
    cat_file = LocalFileSystem.cat_file

    def broken(self: Any, path: str, *args: Any, **options: Any) -> bytes:
        if str(path).endswith((name, image)):
            raise OSError(number, os.strerror(number))
        return bytes(cat_file(self, path, *args, **options))

    monkeypatch.setattr(LocalFileSystem, "cat_file", broken)
    assert [(f.file, f.kind) for f in checked(out).bad] == [(name, "damaged"), (image, "damaged")]
    number = errno.EACCES
    with pytest.raises(RunFolderError, match="permission denied"):
        checked(out)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_is_not_decoded_if_it_says_that_it_is_huge() -> None:
    assert "too many to decode" in str(image_problem(bomb(10_000), "png", 10_000, 10_000))
    assert "does not decode" in str(image_problem(bomb(60_000), "png", 60_000, 60_000))
    assert "but 16 x 16 in its row" in str(image_problem(bomb(9_000), "png", 16, 16))


def test_images_of_all_formats_decode() -> None:
    from PIL import Image

    picture = Image.new("RGB", (16, 8), "red")
    for format in ("png", "jpeg", "webp"):
        sink = io.BytesIO()
        picture.save(sink, format)
        assert image_problem(sink.getvalue(), format, 16, 8) is None
        assert (
            image_problem(sink.getvalue()[: len(sink.getvalue()) // 2], format, 16, 8) is not None
        )


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


def test_what_the_recipe_does_not_want_any_more_is_stale_and_no_damage(whole: Path) -> None:
    run, recipe = open_run(str(whole))

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
    run, recipe = open_run(str(out))
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
    run, _ = open_run(str(out))
    found = checked(out)
    with run.held():
        (out / ".lock.json").write_text(json.dumps({"owner": "another"}))
        run._lock._checked = -math.inf
        with pytest.raises(RunFolderError, match="took over"):
            discard(run, found)
    assert (out / marker_name("generate", 1)).read_bytes() == before


def test_a_run_on_another_file_system(captions: Path) -> None:
    url = "memory://verified/run"
    do(url, captions)
    assert not checked(url).findings
    run, _ = open_run(url)
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
