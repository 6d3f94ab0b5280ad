"""The selection of a run folder: what is in memory at a time."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthvlm.data import Candidate, candidate_table
from synthvlm.progress.display import SilentProgress
from synthvlm.recipe import Recipe
from synthvlm.run_folder.folder import RunFolder
from synthvlm.stages.select import select
from synthvlm.stages.summary import StageSummary


def write_candidates(run: RunFolder, shard: int) -> None:
    scores = {"clip": 0.2, "ssim": 0.5}
    rows = [
        Candidate(f"{shard}-{n}", k, 0, "ok", "f", scores, score=n / 100 + k / 1000, chosen=k == 4)
        for n in range(20)
        for k in range(5)
    ]
    file = run.write_table("candidates", shard, candidate_table(rows, ["clip", "ssim"]))
    run.commit("generate", shard, "f", [file])


def test_losers_of_one_shard_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path)
    for shard in range(6):
        write_candidates(run, shard)
    alive: list[weakref.ref[pa.Table]] = []
    most = 0
    read = RunFolder.read_table

    def watched(self: RunFolder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        nonlocal most
        # The shard before is let go of once this one is there.
        most = max(most, sum(one() is not None for one in alive))
        table = read(self, name, columns)
        alive.append(weakref.ref(table))
        return table

    monkeypatch.setattr(RunFolder, "read_table", watched)
    recipe = Recipe.load("tiny", overrides=["selection.top_fraction=0.5"])
    summary = select(run, recipe, {}, run.markers("generate"), SilentProgress())
    assert len(alive) == 6
    assert most == 1
    assert summary.counts == {"pairs": 120, "selected": 60}
    table = pq.read_table(tmp_path / "selection.parquet")
    assert table["index"].unique().to_pylist() == [4]
    assert table["caption_id"].to_pylist()[:7] == [*(f"{s}-19" for s in range(6)), "0-18"]


def test_what_is_up_to_date_is_left_alone_and_a_change_of_settings_selects_again(
    tmp_path: Path,
) -> None:
    run = RunFolder(tmp_path)
    for shard in range(2):
        write_candidates(run, shard)

    def selected(share: float) -> StageSummary:
        recipe = Recipe.load("tiny", overrides=[f"selection.top_fraction={share}"])
        return select(run, recipe, {}, run.markers("generate"), SilentProgress())

    def state() -> tuple[bytes, int]:
        file = tmp_path / "selection.parquet"
        return file.read_bytes(), file.stat().st_mtime_ns

    first, before = selected(0.5), state()
    assert (first.stage, first.shards, first.reused) == ("select", 1, 0)
    again = selected(0.5)
    assert (again.stage, again.shards, again.reused) == ("select", 1, 1)
    assert again.counts == first.counts == {"pairs": 40, "selected": 20}
    assert state() == before
    other = selected(0.25)
    assert (other.reused, other.counts) == (0, {"pairs": 40, "selected": 10})
    assert pq.read_table(tmp_path / "selection.parquet").num_rows == 10
    assert all(0 <= summary.seconds < 3600 for summary in (first, again, other))
    run.flush_events()
    assert [one["rows"] for one in run.events() if one["stage"] == "select"] == [40, 40]
