"""Data sets of the Hugging Face hub: local folders of them, and a hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthvlm.captions.readers.sources import (
    OriginalImage,
    read_captions,
    read_images,
    source_digest,
)
from synthvlm.data import Caption
from synthvlm.errors import CaptionSourceError, MissingExtraError

pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Two shards of a split, another split, and pictures as Hugging Face stores them."""
    folder = tmp_path / "parquet"
    (folder / "data").mkdir(parents=True)
    for name, start in (("train-0000", 0), ("train-0001", 50), ("validation-0000", 100)):
        rows = [
            {
                "key": number,
                "caption": f"caption {number}",
                "image": {"bytes": b"picture %d" % number, "path": f"{number}.jpg"},
            }
            for number in range(start, start + 50)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / "data" / f"{name}.parquet")
    return folder


def read(path: Path | str, **options: Any) -> list[Caption]:
    return list(read_captions(path, name="hub", format="huggingface", normalize=str, **options))


def test_a_folder_of_parquet(parquet: Path) -> None:
    captions = read(parquet)
    assert [(c.id, c.row, c.text) for c in captions] == [
        (f"hub-{number}", number, f"caption {number}") for number in range(100)
    ]
    validation = read(parquet, split="validation", id_field="key")
    assert [c.id for c in validation] == [str(number) for number in range(100, 150)]


def test_images_as_they_are_stored(parquet: Path) -> None:
    rows = [0, 49, 50, 99]
    found = read_images(parquet, format="huggingface", image_field="image", rows=rows)
    assert list(found) == [OriginalImage(row, b"picture %d" % row) for row in rows]


def test_images_beside_the_captions(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
    lines = [{"file_name": f"{n}.png", "caption": f"caption {n}"} for n in range(2)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [c.text for c in read(folder)] == ["caption 0", "caption 1"]
    found = read_images(folder, format="huggingface", image_field="image", rows=[1])
    assert list(found) == [OriginalImage(1, (folder / "1.png").read_bytes())]


def test_a_folder_of_jsonl_with_subsets(tmp_path: Path) -> None:
    folder = tmp_path / "jsonl"
    folder.mkdir()
    for subset in ("web", "books"):
        rows = [{"caption": f"{subset} {number}"} for number in range(2000)]
        (folder / f"{subset}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: web\n  data_files: web.jsonl\n"
        "- config_name: books\n  data_files: books.jsonl\n---\n"
    )
    for subset in ("web", "books"):
        captions = read(folder, subset=subset)
        assert [c.text for c in captions] == [f"{subset} {number}" for number in range(2000)]
    with pytest.raises(CaptionSourceError, match=r"jsonl: cannot be read: .*'web', 'books'"):
        read(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, r"there is no split 'test' \(found: train, validation\)"),
        ({"subset": "nothing"}, "nothing"),
        ({"text_field": "captoin"}, "no column 'captoin', .* did you mean 'caption'"),
        ({"id_field": "uid"}, "no column 'uid'"),
    ],
)
def test_wrong_settings(parquet: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(CaptionSourceError, match=message) as caught:
        read(parquet, **options)
    assert str(parquet) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_stops(parquet: Path) -> None:
    path = parquet / "data" / "train-0001.parquet"
    path.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(CaptionSourceError, match=r"train-0001\.parquet: ") as caught:
        read(parquet)
    assert "\n" not in str(caught.value)


def test_a_process_that_stops_early_ends(tmp_path: Path) -> None:
    # By a scan of Arrow's, as datasets reads, such processes hung or were aborted now and then.
    values = pa.array([os.urandom(50_000) for _ in range(1000)])
    table = pa.table({"caption": ["x"] * 1000, "image": values})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=50, compression="none")
    code = (
        "from synthvlm.captions.readers.sources import read_images\n"
        f"print(len(list(read_images({str(tmp_path)!r}, format='huggingface', "
        "image_field='image', rows=range(100)))))"
    )
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout == "100\n"


def test_what_is_no_data_set(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("{}")
    for call in (read, lambda path: source_digest(path, format="huggingface")):
        with pytest.raises(CaptionSourceError, match="is a file, not a data set"):
            call(file)
        with pytest.raises(CaptionSourceError, match="no such file or folder"):
            call(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptionSourceError, match=r"empty: cannot be read: .*any data files"):
        read(tmp_path / "empty")


def test_without_the_extra(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'synthvlm\[huggingface\]'"):
        read(parquet)


def test_the_digest_of_a_folder(parquet: Path) -> None:
    def digest(folder: Path, **options: Any) -> str:
        return source_digest(folder, format="huggingface", **options)

    first = digest(parquet)
    assert digest(parquet.rename(parquet.with_name("moved"))) == first
    moved = parquet.with_name("moved")
    assert len({first, digest(moved, split="validation"), digest(moved, subset="web")}) == 3
    with (moved / "data" / "train-0000.parquet").open("ab") as file:
        file.write(b"x")
    assert digest(moved) != first


class Hub(BaseHTTPRequestHandler):
    """Answers which commit a revision is, as the hub does."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        known = self.path in ("/api/datasets/org/set", "/api/datasets/org/set/revision/v1")
        sha = "a" * 40 if self.path.endswith("set") else "b" * 40
        body = json.dumps({"id": "org/set", "sha": sha} if known else {"error": "no"}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


DIGESTS = """
from synthvlm.captions.readers.sources import source_digest
from synthvlm.errors import CaptionSourceError
for revision in (None, "v1", "b" * 40, "gone"):
    try:
        print(source_digest("org/set", format="huggingface", revision=revision))
    except CaptionSourceError as error:
        print(error)
"""


def test_the_digest_of_the_hub_is_the_commit(hub: str) -> None:
    # The hub's address is read when its client is imported.
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS], env=environment, capture_output=True, text=True, check=True
    )
    newest, tag, commit, gone = done.stdout.splitlines()
    assert newest != tag == commit
    assert gone.startswith("org/set: cannot ask the hub for its revision: ")
    assert not any("b" * 40 in path for path in Hub.asked)
