"""The map of the pairs of a run."""

from __future__ import annotations

import json
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from explorer_client import ExplorerClient

import synthvlm
from synthvlm.web.explorer.pair_map import PairMap
from synthvlm.web.explorer.view import open_collection, view


def sources_of(run: Path) -> list[str]:
    files = sorted((run / "captions").glob("*.parquet"))
    return [source for file in files for source in pq.read_table(file)["source"].to_pylist()]


def test_the_map_is_computed_once_and_kept(many_pairs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(many_pairs, tmp_path / "run"))
    with view(str(run)) as server:
        ask = ExplorerClient(server)
        assert ask.get("/api/map/state")["state"] == "absent"
        assert ask.error("/api/map") == "the map is not computed yet"
        assert ask.post("/api/map", {})["state"] == "computing"
        deadline = time.monotonic() + 120
        while (state := ask.get("/api/map/state"))["state"] == "computing":
            assert 0 <= state["done"] <= state["total"] == 750
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (state["state"], state["problem"]) == ("ready", None)
        first = ask.raw("/api/map", color="score", words="red")[2]
    with view(str(run)) as server:
        ask = ExplorerClient(server)
        assert ask.post("/api/map", {})["state"] == "ready"
        assert ask.raw("/api/map", color="score", words="red")[2] == first
        header, rows, points, codes, matches = decoded(first)
        assert header["color"]["kind"] == "number"
        assert (header["count"], header["of"]) == (60, 60)
        assert rows.tolist() == list(range(60))
        assert np.abs(points).max() == pytest.approx(1)
        assert (codes.min(), codes.max()) == (0, 65534)
        assert np.flatnonzero(matches).tolist() == sorted(ask.rows(words="red"))
        header, _, _, codes, _ = decoded(ask.raw("/api/map", color="source")[2])
        assert [header["color"]["values"][code] for code in codes] == sources_of(run)
        header, _, _, codes, _ = decoded(ask.raw("/api/map", color="rank")[2])
        assert np.count_nonzero(codes == 65535) == 48
        header, _, _, codes, _ = decoded(ask.raw("/api/map", color="selected")[2])
        assert np.count_nonzero(codes == header["color"]["values"].index(True)) == 12
    # It is none of the files that a run's stages are checked for.
    assert not [one for one in synthvlm.verify(run).bad if "explorer" in str(one.file)]
    # Other images are other points.
    marker = next((run / "pairs").glob("part-00001*"))
    renamed = marker.with_name("part-00001-other.parquet")
    marker.rename(renamed)
    done = run / "done/generate/00001.json"
    done.write_text(done.read_text().replace(marker.name, renamed.name))
    with view(str(run)) as server:
        assert ExplorerClient(server).get("/api/map/state")["state"] == "absent"


def test_a_large_collection_is_sampled_and_says_so(many_pairs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(many_pairs, tmp_path / "run"))
    placed = PairMap(open_collection(str(run)), most=20)
    placed.start()
    deadline = time.monotonic() + 120
    while placed.state()["state"] == "computing" and time.monotonic() < deadline:
        time.sleep(0.05)
    header, rows, _, codes, matches = decoded(placed.content(np.arange(30), None))
    assert header["method"].endswith("a random sample of 20 of 60 pairs")
    assert (header["count"], header["of"], header["color"]) == (20, 60, None)
    assert len(set(rows.tolist())) == 20
    assert not codes.any()
    assert (matches == (rows < 30)).all()


def decoded(data: bytes) -> tuple[dict[str, Any], Any, Any, Any, Any]:
    """As the page reads it."""
    (length,) = struct.unpack_from("<I", data)
    header = json.loads(data[4 : 4 + length])
    count, place = header["count"], 4 + length
    assert place % 4 == 0
    arrays = []
    for kind, width in (("<u4", 1), ("<f4", 2), ("<u2", 1), ("u1", 1)):
        arrays.append(np.frombuffer(data, kind, count * width, place))
        place += arrays[-1].nbytes
    assert place == len(data)
    return header, arrays[0], arrays[1].reshape(-1, 2), arrays[2], arrays[3]
