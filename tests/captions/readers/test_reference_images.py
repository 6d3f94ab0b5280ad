"""Reference images are read from folders, pictures, tar shards and Parquet, or refused."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthvlm.captions.readers.reference_images import (
    read_reference_images,
    reference_digest,
)
from synthvlm.errors import CaptionSourceError

PLACE = "selection.image_overlap"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, a shard and a table, none of which is decoded here; and a text."""
    place = tmp_path / "references"
    (place / "below").mkdir(parents=True)
    (place / "a.png").write_bytes(b"one")
    (place / "below" / "B.JPG").write_bytes(b"two")
    (place / "notes.txt").write_text("no picture")
    with tarfile.open(place / "c.tar", "w") as archive:
        for name, data in (("x.jpg", b"three"), ("y.txt", b"a caption")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    images = [{"bytes": b"four", "path": None}, {"bytes": None, "path": None}]
    pq.write_table(pa.table({"image": images}), place / "d.parquet")
    return place


def read(*paths: Path | str, field: str = "image") -> list[tuple[str, bytes | None]]:
    images = read_reference_images(list(map(str, paths)), field, PLACE)
    return [(image.name, image.data) for image in images if image.problem is None]


def test_all_images_of_a_folder_are_read_in_order(folder: Path) -> None:
    expected = [
        (f"{folder}/a.png", b"one"),
        (f"{folder}/below/B.JPG", b"two"),
        (f"{folder}/c.tar, row 0", b"three"),
        (f"{folder}/d.parquet, row 0", b"four"),
    ]
    assert read(folder) == expected
    assert read(folder / "*.tar", folder / "a.png") == [expected[2], expected[0]]
    problems = [image.problem for image in read_reference_images([str(folder)], "image", PLACE)]
    assert [problem for problem in problems if problem] == [
        f"{folder}/c.tar, row 1: it has no image",
        f"{folder}/d.parquet, row 1: it has no image",
    ]


def test_a_folder_may_lie_behind_a_url() -> None:
    place = "memory://references"
    for name, data in (("b/two.png", b"two"), ("one.png", b"one"), ("empty.png", b"")):
        with fsspec.open(f"{place}/{name}", "wb") as file:
            file.write(data)
    images = [
        (image.data, image.problem) for image in read_reference_images([place], "image", PLACE)
    ]
    assert images == [
        (b"two", None),
        (None, "memory:///references/empty.png: the image is empty"),
        (b"one", None),
    ]
    before = reference_digest([place], PLACE)
    with fsspec.open(f"{place}/one.png", "wb") as file:
        file.write(b"ONE")
    assert reference_digest([place], PLACE) != before


def test_what_cannot_be_read_is_a_problem_of_its_own(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    images = list(read_reference_images([str(folder / "*.png")], "image", PLACE))
    assert [(image.data, image.problem) for image in images] == [
        (None, f"{folder}/a.png: the image is empty"),
        (None, f"{folder}/gone.png: cannot be read: No such file or directory"),
    ]


@pytest.mark.parametrize(
    ("path", "field", "message"),
    [
        ("none", "image", "selection.image_overlap.images: FOLDER/none: no such file"),
        (
            "notes.txt",
            "image",
            "selection.image_overlap.images: FOLDER/notes.txt: reference images are pictures, "
            ".tar shards, .parquet files, or a folder of them: name one of these",
        ),
        (
            "empty",
            "image",
            "selection.image_overlap.images: FOLDER/empty: there are no pictures, .tar or "
            ".parquet files in it",
        ),
        ("d.parquet", "picture", "FOLDER/d.parquet: there is no column 'picture', only 'image'"),
    ],
)
def test_what_is_no_source_of_images_is_refused_in_a_line(
    folder: Path, path: str, field: str, message: str
) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(CaptionSourceError) as caught:
        read(folder / path, field=field)
    assert str(caught.value).startswith(message.replace("FOLDER", str(folder)))
    assert "\n" not in str(caught.value)


def test_they_are_known_by_their_content(folder: Path, tmp_path: Path) -> None:
    before = reference_digest([str(folder)], PLACE)
    shutil.copytree(folder, tmp_path / "moved")
    (tmp_path / "moved" / "notes.txt").write_text("another text")
    assert reference_digest([str(tmp_path / "moved")], PLACE) == before
    (folder / "below" / "B.JPG").write_bytes(b"TWO")
    assert reference_digest([str(folder)], PLACE) != before
