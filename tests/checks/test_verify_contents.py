"""`synthvlm verify` looks into files: rows that contradict each other, images, a failing disk."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from spoilt_runs import checked, marker_of, mended, winners

from synthvlm.checks.images import image_problem
from synthvlm.data import digest
from synthvlm.errors import RunFolderError
from synthvlm.run_folder.folder import table_bytes
from synthvlm.run_folder.marker import Marker, StoredFile, marker_name

pytestmark = pytest.mark.usefixtures("free_rule")


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
