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


def write_candidates(run: RunFolder, shard: int) -> None:
    scores = {"clip": 0.2, "ssim": 0.5}
    rows = [
        Candidate(f"{shard}-{n}", k, 0, "ok", "f", scores, n / 100 + k / 1000, chosen=k == 4)
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
    summary = select(run, recipe, run.markers("generate"), SilentProgress())
    assert len(alive) == 6
    assert most == 1
    assert summary.counts == {"pairs": 120, "selected": 60}
    table = pq.read_table(tmp_path / "selection.parquet")
    assert table["index"].unique().to_pylist() == [4]
    assert table["caption_id"].to_pylist()[:7] == [*(f"{s}-19" for s in range(6)), "0-18"]
