"""Marks that are made in the explorer."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from explorer_client import ExplorerClient

import synthvlm
from synthvlm.web.explorer.view import view


def test_marks_are_written_and_taken_back(many_pairs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(many_pairs, tmp_path / "run"))
    with view(str(run)) as server:
        ask = ExplorerClient(server)
        wanted = {"rows": [5, 9], "reason": "ugly", "note": "<b>"}
        mark = {"reason": "ugly", "note": "<b>"}
        assert ask.post("/api/marks", wanted) == {
            "changed": 2, "count": 2, "marks": {"5": mark, "9": mark},
        }  # fmt: skip
        assert [one["caption_id"] for one in marks_of(run)] == ["web-5", "web-9"]
        assert ask.get("/api/pair/9")["mark"] == mark
        columns = {one["name"]: one for one in ask.get("/api/collection")["columns"]}
        assert columns["marked"]["values"] == [{"value": "ugly", "count": 2}]
        ugly = json.dumps({"marked": {"values": ["ugly"]}})
        assert ask.rows(filter=ugly) == [5, 9]
        answer = ask.post("/api/marks", {"rows": [9, 10], "removed": True})
        assert answer == {"changed": 1, "count": 1, "marks": {"9": None, "10": None}}
        assert ask.rows(filter=ugly) == [5]
        for wrong in ({"rows": [60], "reason": "x"}, {"rows": [1]}, {"rows": [1], "reason": 1},
                      {"rows": [1], "reason": "x" * 41}):  # fmt: skip
            ask.error("/api/marks", json.dumps(wrong).encode())
        # Another process's marks, too.
        synthvlm.mark(run, "web-20", reason="wrong")
        deadline = time.monotonic() + 20
        while ask.get("/api/collection")["marks"]["count"] != 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert ask.get("/api/pair/20")["mark"] == {"reason": "wrong", "note": ""}


def marks_of(run: Path) -> list[dict[str, Any]]:
    marks: list[dict[str, Any]] = synthvlm.mark(run).values()["marks"]
    return marks


def test_two_browsers_that_mark_at_once_lose_nothing(many_pairs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(many_pairs, tmp_path / "run"))
    with view(str(run)) as one, view(str(run)) as other, ThreadPoolExecutor(4) as pool:
        clients = [ExplorerClient(one), ExplorerClient(other)]
        work = [(clients[row % 2], {"rows": [row], "reason": "wrong"}) for row in range(24)]
        list(pool.map(lambda job: job[0].post("/api/marks", job[1]), work))
    assert {mark["caption_id"] for mark in marks_of(run)} == {f"web-{row}" for row in range(24)}
