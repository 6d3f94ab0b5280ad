"""The explorer over data sets that are no run."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from explorer_client import ExplorerClient
from PIL import Image

from pair_files import llava, parquet, sample_pairs, webdataset
from synthvlm import SynthVLMError
from synthvlm.cli import app
from synthvlm.web.explorer.view import view

PAIRS = sample_pairs(9)


def conversations(path: Path) -> Path:
    """Parquet files of messages, with the images in them."""
    rows = [
        {
            "id": pair.id,
            "messages": [
                {"role": "user", "content": "<image>What is it?"},
                {"role": "assistant", "content": pair.caption},
            ],
            "images": [{"bytes": pair.image, "path": None}],
        }
        for pair in PAIRS
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def tables(folder: Path) -> Path:
    """Two Parquet files."""
    parquet(folder / "train-0.parquet", PAIRS[:4])
    parquet(folder / "train-1.parquet", PAIRS[4:])
    return folder


FORMATS: dict[str, Callable[[Path], Path]] = {
    "llava": lambda folder: llava(folder / "set", PAIRS),
    "tables": tables,
    "conversations": lambda folder: conversations(folder / "talks.parquet"),
    "webdataset": lambda folder: webdataset(folder / "set.tar", PAIRS),
}


@pytest.mark.parametrize("format", FORMATS)
def test_pairs_and_images_of_every_format_are_shown(tmp_path: Path, format: str) -> None:
    path = FORMATS[format](tmp_path)
    with view(str(path)) as server:
        ask = ExplorerClient(server)
        told = ask.get("/api/collection")
        assert (told["kind"], told["pairs"], told["notes"]) == ("data set", 9, [])
        pairs = ask.get("/api/pairs", sort="words", descending=1)["pairs"]
        assert {pair["caption"] for pair in pairs} == {pair.caption for pair in PAIRS}
        captions = {pair.caption: pair for pair in PAIRS}

        def check(row: int, caption: str) -> None:
            assert ask.raw(f"/image/{row}")[2] == captions[caption].image
            assert ask.raw(f"/thumbnail/{row}")[0] == 200

        with ThreadPoolExecutor(4) as pool:  # as a browser asks, in any order
            list(pool.map(lambda pair: check(pair["row"], pair["caption"]), pairs))
        story = ask.get(f"/api/pair/{pairs[0]['row']}")
        with Image.open(io.BytesIO(captions[pairs[0]["caption"]].image)) as image:
            assert (story["width"], story["height"]) == image.size
        assert story["candidates"] == story["questions"] == story["measures"] == []
        word = PAIRS[5].caption.split()[-1]
        assert len(ask.rows(words=word)) == sum(word in pair.caption for pair in PAIRS)


def test_what_a_data_set_lacks_is_said(tmp_path: Path) -> None:
    path = llava(tmp_path / "set", PAIRS, [{"id": "bad"}])
    (path.parent / "images" / f"{PAIRS[2].id}.png").unlink()
    with view(str(path)) as server:
        ask = ExplorerClient(server)
        told = ask.get("/api/collection")
        assert told["pairs"] == 9
        (note,) = told["notes"]
        assert note.startswith("1 records are no usable pairs and are not shown; the first: ")
        assert told["marks"]["writable"] is False
        assert "marks are kept in a run folder" in told["marks"]["reason_if_not"]
        mark = json.dumps({"rows": [1], "reason": "wrong"}).encode()
        assert ask.error("/api/marks", mark) == told["marks"]["reason_if_not"]
        assert told["search"]["meaning"] is False
        assert told["map"]["state"] == "impossible"
        assert "a data set holds no embeddings" in ask.error("/api/pairs", meaning="red")
        assert "cannot be read" in ask.error("/thumbnail/2")
        assert ask.raw("/thumbnail/3")[0] == 200


def test_an_exported_data_set_has_what_the_run_recorded(exported_run: Path, tmp_path: Path) -> None:
    # Within its run folder it stands for the run; a copy elsewhere is a data set.
    with view(str(exported_run / "dataset")) as server:
        assert ExplorerClient(server).get("/api/collection")["kind"] == "run"
    copy = shutil.copytree(exported_run / "dataset", tmp_path / "copy")
    with view(str(copy)) as server:
        ask = ExplorerClient(server)
        told = ask.get("/api/collection")
        assert (told["kind"], told["pairs"]) == ("data set", 3)
        columns = [column["name"] for column in told["columns"]]
        assert columns == ["clip_score", "ssim_score", "score", "rank", "words"]
        row = ask.rows(sort="rank")[0]
        assert ask.get(f"/api/pair/{row}")["selection"] == "selected: rank 1"


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing", "no such file; expected a run folder"), ("memory://none", "not a run folder")],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, name: str, message: str) -> None:
    source = name if "://" in name else str(tmp_path / name)
    with pytest.raises(SynthVLMError, match=message):
        view(source)


def test_the_command_refuses_it_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["view", str(tmp_path / "nothing"), "--no-browser"])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'nothing'}: no such file; expected a run folder")
