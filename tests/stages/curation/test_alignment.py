"""The alignment round: how many captions stay, and which."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pytest

from synthvlm.data import measure_schema
from synthvlm.run_folder.folder import RunFolder
from synthvlm.stages.curation.verdicts import Verdicts, keep_best_aligned


def kept(run: RunFolder, values: list[float], fraction: float) -> list[int]:
    """Numbers of the captions that stay, of two shards, given each caption's value."""
    half = (len(values) + 1) // 2
    for shard, numbers in enumerate((range(half), range(half, len(values)))):
        rows = [
            {"id": f"c{n:02}", "source": "s", "row": n, "text_raw": "a", "text": "a"}
            for n in numbers
        ]
        file = run.write_table("measures", shard, pa.Table.from_pylist(rows, measure_schema()))
        run.commit("measure", shard, "f", [file])
    verdicts = Verdicts(run, run.markers("measure"))
    known = {f"c{n:02}": value for n, value in enumerate(values)}
    keep_best_aligned(verdicts, lambda shard: known, fraction, "alignment")
    return [
        int(id[1:])
        for shard in verdicts.measures
        for id in verdicts.table(shard, ["id"])["id"].take(verdicts.surviving(shard)).to_pylist()
    ]


@pytest.mark.parametrize(
    ("count", "fraction", "stay"),
    [
        (5, 0.4, 2),
        (6, 0.4, 3),
        (7, 0.4, 3),
        (1, 0.01, 1),
        (20, 0.55, 11),
        (30, 0.1, 3),
        (3, 1.0, 3),
    ],
)
def test_the_share_is_rounded_up(tmp_path: Path, count: int, fraction: float, stay: int) -> None:
    values = [0.5 + n / 100 for n in range(count)]
    assert kept(RunFolder(tmp_path), values, fraction) == list(range(count - stay, count))


def test_ties_go_to_the_smaller_id_and_what_has_no_value_stays(tmp_path: Path) -> None:
    nan = math.nan
    values = [0.2, nan, 0.7, 0.5, 0.5, 0.5, nan, 0.1]
    assert kept(RunFolder(tmp_path), values, 0.4) == [1, 2, 3, 4, 6]
    assert kept(RunFolder(tmp_path), [nan, nan], 0.4) == [0, 1]
