"""What came, went and changed between two runs or data sets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import synthvlm
from pair_files import Made, llava, parquet, sample_pairs, webdataset
from synthvlm.cli import app
from synthvlm.comparison.difference import _matches, _write
from synthvlm.errors import CaptionSourceError, RunFolderError
from synthvlm.pipeline import Pipeline
from synthvlm.provenance.marks import ImageDetails, marked
from synthvlm.run.kept_recipe import resumed_recipe


def diff(a: Path, b: Path, **options: Any) -> dict[str, Any]:
    found = synthvlm.diff(a, b, **options)
    values: dict[str, Any] = json.loads(json.dumps(found.values()))
    assert found.is_same == (
        values["came"] + values["went"] + sum(values["changed_by"].values()) == 0
    )
    return values


def scored(path: Path, pairs: list[Made], scores: list[float]) -> Path:
    """A table as runs export it."""
    parquet(path, pairs)
    table = pq.read_table(path)
    ranks = np.argsort(np.argsort(-np.array(scores))) + 1
    table = table.append_column("rank", pa.array(ranks)).append_column("score", pa.array(scores))
    pq.write_table(table, path)
    return path


def test_one_data_set_in_three_formats_is_the_same(tmp_path: Path) -> None:
    pairs = sample_pairs(4)
    marks = [marked(pair.image, "png", ImageDetails("m", 7, "r")) for pair in pairs]
    paths = [
        llava(tmp_path / "a", pairs),
        # The marks of a run are no change of its images.
        parquet(tmp_path / "b.parquet", [p._replace(image=m) for p, m in zip(pairs, marks)]),  # noqa: B905
        webdataset(tmp_path / "c.tar", pairs[::-1]),
    ]
    for other in paths[1:]:
        values = diff(paths[0], other)
        assert (values["same"], values["changed"]) == (4, 0)
        assert values["not_compared"] == ["score", "rank"]


def test_what_came_went_and_changed(tmp_path: Path) -> None:
    pairs = sample_pairs(8)
    before = [*pairs[:6]]
    after = [
        pairs[0],
        pairs[1]._replace(caption="Another caption."),
        pairs[2]._replace(image=pairs[7].image),
        pairs[3]._replace(id="renamed"),
        pairs[4],
        pairs[6],
    ]
    a = scored(tmp_path / "a.parquet", before, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    b = scored(tmp_path / "b.parquet", after, [0.9, 0.8, 0.7, 0.6, 0.1, 0.2])
    values = diff(a, b, out=str(tmp_path / "all.jsonl"))
    assert {name: values[name] for name in ("came", "went", "changed", "same", "only_rank")} == {
        "came": 1,
        "went": 1,
        "changed": 4,
        "same": 1,
        "only_rank": 0,
    }
    assert values["changed_by"] == {"id": 1, "caption": 1, "image": 1, "score": 1, "rank": 1}
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [(row["change"], row["id"], row.get("what")) for row in rows] == [
        ("went", "p5", None),
        ("changed", "p1", ["caption"]),
        ("changed", "p2", ["image"]),
        ("changed", "renamed", ["id"]),
        ("changed", "p4", ["score", "rank"]),
        ("came", "p6", None),
    ]
    found = synthvlm.diff(a, b)
    assert not found.is_same
    lines = found.text().splitlines()
    assert "+ p6: A blue square, number 6." in lines
    assert "- p5: A green square, number 5." in lines
    assert "~ p1: caption A green circle, number 1. -> Another caption." in lines
    assert "~ p4: score 0.5000 -> 0.1000; rank 5 -> 6" in lines
    with pytest.raises(RunFolderError, match="is there already: name a new file"):
        diff(a, b, out=str(tmp_path / "all.jsonl"))


def test_a_better_pair_changes_only_ranks(tmp_path: Path) -> None:
    pairs = sample_pairs(3)
    a = scored(tmp_path / "a.parquet", pairs[:2], [0.5, 0.4])
    b = scored(tmp_path / "b.parquet", pairs, [0.5, 0.4, 0.9])
    values = diff(a, b)
    assert (values["came"], values["changed"], values["only_rank"]) == (1, 0, 2)


def test_of_equal_ids_the_nth_belong_together() -> None:
    a, b = np.array([5, 7, 5, 5], np.uint64), np.array([5, 5, 9], np.uint64)
    before, after = _matches(a, b)
    assert sorted(zip(before.tolist(), after.tolist(), strict=True)) == [(0, 0), (2, 1)]


def test_runs_and_their_data_sets(exported_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(exported_run / "dataset", tmp_path / "copy")
    for one, other in ((exported_run, copy), (exported_run / "dataset", exported_run.as_uri())):
        values = diff(one, other)  # type: ignore[arg-type]
        assert (values["same"], values["not_compared"]) == (3, [])
    run = Path(shutil.copytree(exported_run, tmp_path / "run"))
    changes = ["selection.top_n=2", "selection.top_fraction=null"]
    Pipeline(resumed_recipe(run, overrides=changes), run).run("export")
    values = diff(copy, run)
    assert (values["went"], values["came"], values["same"]) == (1, 0, 2)


def test_exit_statuses(tmp_path: Path) -> None:
    pairs = sample_pairs(2)
    one, two = parquet(tmp_path / "1.parquet", pairs), parquet(tmp_path / "2.parquet", pairs[:1])
    results = [
        CliRunner().invoke(app, ["diff", str(one), str(other)])
        for other in (one, two, tmp_path / "none.parquet")
    ]
    assert [result.exit_code for result in results] == [0, 1, 2]


def test_a_data_set_without_a_pair_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("[]")
    whole = parquet(tmp_path / "1.parquet", sample_pairs(1))
    with pytest.raises(CaptionSourceError, match="no usable pair, of 0 records"):
        diff(tmp_path / "empty.json", whole)


def test_differences_that_cannot_be_written_leave_no_file(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"change": "went"}
        raise OSError(28, "No space left on device")

    with pytest.raises(RunFolderError, match=r"d\.jsonl cannot be written: No space left"):
        _write(str(tmp_path / "d.jsonl"), rows())
    assert not list(tmp_path.iterdir())
