"""The run as Python and notebooks see it: tables, data set, contact sheet."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import synthvlm
from synthvlm import Pipeline, Recipe, Run, SynthVLMError
from synthvlm.errors import MissingExtraError, RunFolderError
from synthvlm.run.kept_recipe import resumed_recipe

#: Of `tests/data/kept_run`: six captions in two shards, one a duplicate, two rejected by rules.
KEPT = ["first", "second", "third"]


@pytest.fixture
def run(exported_run: Path) -> Run:
    return synthvlm.open_run(exported_run)


def read(run: Run, pattern: str) -> list[dict[str, Any]]:
    files = sorted(Path(run.folder.url).glob(pattern))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_the_captions_are_all_that_were_read_with_their_verdicts(run: Run) -> None:
    rows = list(run.captions)
    assert rows == read(run, "captions/*.parquet")
    assert [row["id"] for row in rows] == ["first", "second", "again", "digits", "odd", "third"]
    assert [row["id"] for row in rows if row["kept"]] == KEPT
    assert len(run.captions) == 6


def test_the_candidates_are_all_that_were_generated(run: Run) -> None:
    assert run.candidates.arrow().to_pylist() == read(run, "candidates/*.parquet")
    assert [(row["caption_id"], row["index"]) for row in run.candidates] == [
        (id, index) for id in KEPT for index in (0, 1)
    ]


def test_a_pair_is_a_caption_with_its_winner(run: Run) -> None:
    rows = {row["id"]: row for row in run.pairs}
    assert list(rows) == KEPT
    winners = {row["caption_id"]: row for row in run.candidates if row["chosen"]}
    ranks = {row["caption_id"]: row["rank"] for row in read(run, "selection.parquet")}
    stored = {row["caption_id"]: row for row in read(run, "pairs/*.parquet")}
    captions = {row["id"]: row for row in run.captions}
    for id, row in rows.items():
        assert row["caption"] == captions[id]["text"]
        assert row["source"] == "kept"
        assert row["rank"] == ranks[id]
        for name in ("clip_score", "ssim_score", "score", "seed", "index"):
            assert row[name] == winners[id][name]
        assert isinstance(row["image"], Image.Image)
        with Image.open(io.BytesIO(stored[id]["image"])) as image:
            assert row["image"].convert("RGB").tobytes() == image.convert("RGB").tobytes()
        assert (row["width"], row["height"]) == row["image"].size
        assert "image_embedding" not in row


def test_rows_are_found_by_position_across_shards(run: Run) -> None:
    assert [run.pairs[n]["id"] for n in (0, 1, 2, -1, -3)] == [*KEPT, "third", "first"]
    assert [row["id"] for row in run.pairs[::-1]] == KEPT[::-1]
    assert run.pairs[2]["image"].size == (64, 64)
    assert run.captions[-1]["id"] == "third"
    for place in (3, -4):
        with pytest.raises(IndexError):
            run.pairs[place]


def test_images_and_embeddings_are_read_only_where_they_are_named(run: Run) -> None:
    assert not {"image", "image_embedding", "text_embedding"} & set(run.pairs.arrow().column_names)
    table = run.pairs.arrow(["image_embedding", "id", "image"])
    assert table.column_names == ["image_embedding", "id", "image"]
    assert table["image"].type == pa.binary()
    assert [len(row) for row in table["image_embedding"].to_pylist()] == [
        len(row["image_embedding"]) for row in read(run, "pairs/*.parquet")
    ]
    frame = run.pairs.pandas(["id", "image"])
    assert list(frame["id"]) == KEPT
    assert [image.size for image in frame["image"]] == [(64, 64)] * 3


def test_a_data_frame_holds_the_same(run: Run) -> None:
    frame = run.pairs.pandas()
    assert frame.to_dict("list") == run.pairs.arrow().to_pydict()
    assert list(frame.sort_values("rank")["rank"]) == [1, 2, 3]


def test_without_pandas_one_line_says_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"^pandas is not installed: pip install pandas, "):
        run.pairs.pandas()


def test_a_wrong_column_is_named_with_the_one_that_may_be_meant(run: Run) -> None:
    with pytest.raises(RunFolderError, match=r"no column 'captoin', did you mean 'caption'\?"):
        run.pairs.arrow(["captoin"])


def test_a_pair_that_is_not_selected_has_no_rank(exported_run: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(exported_run, tmp_path / "run"))
    recipe = resumed_recipe(out, overrides=["selection.top_fraction=null", "selection.top_n=1"])
    run = Pipeline(recipe, out).run("select")
    assert sorted(row["rank"] or 0 for row in run.pairs) == [0, 0, 1]
    assert run._repr_html_().count("<img ") == 1
    assert "1 of 3 pairs selected" in run._repr_html_()
    (out / "done/select/00000.json").unlink()
    assert [row["rank"] for row in run.pairs] == [None] * 3
    assert run._repr_html_().count("<img ") == 3
    with pytest.raises(RunFolderError, match=r"no pairs are selected; .* synthvlm select --out"):
        run.dataset()


def test_the_data_set_is_the_exported_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    found = run.dataset()
    files = sorted(Path(run.folder.url, "dataset/data").glob("*.parquet"))
    exported = datasets.Dataset.from_parquet([str(f) for f in files], cache_dir=str(tmp_path))
    assert found.features == exported.features
    assert found.with_format("arrow")[:].to_pylist() == exported.with_format("arrow")[:].to_pylist()
    assert found[0]["image"].size == (64, 64)
    written = sorted((tmp_path / "cache").rglob("*.arrow"))
    assert len(run.dataset()) == 3
    with pytest.raises(RunFolderError, match="no pairs are selected for the split 'validation'"):
        run.dataset("validation")
    assert sorted((tmp_path / "cache").rglob("*.arrow")) == written


def test_a_pipeline_returns_the_run_as_it_is_opened_again(tmp_path: Path) -> None:
    recipe = Recipe.load("tiny", overrides=["run.threads=1"], limit=3)
    run = Pipeline(recipe, tmp_path / "run").run("curate")
    assert [summary.stage for summary in run.summaries] == ["measure", "curate"]
    again = synthvlm.open_run(str(tmp_path / "run"))
    assert again.summaries == ()
    assert list(again.captions) == list(run.captions)
    assert again.recipe == run.recipe
    assert run.report is None
    assert run.curation_report == str(tmp_path / "run/report/curation.html")
    # Nothing is generated yet.
    assert len(run.pairs) == len(run.candidates) == 0
    assert repr(run.pairs) == "Table(0 rows)"
    with pytest.raises(RunFolderError, match=r"nothing yet: synthvlm generate --out "):
        run.pairs.arrow()
    assert "<b>" in run._repr_html_()
    assert "3 captions" in run._repr_html_()


def test_captions_are_text_in_the_contact_sheet(exported_run: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(exported_run, tmp_path / "<b>run"))
    text = '<script>alert("1")</script> \u202e ' + "long " * 2000
    for file in (out / "captions").iterdir():
        table = pq.read_table(file)
        place = table.schema.get_field_index("text")
        pq.write_table(table.set_column(place, "text", pa.array([text] * len(table))), file)
        marker = next(m for m in (out / "done/curate").iterdir() if file.name in m.read_text())
        facts = json.loads(marker.read_text())
        facts["files"][0]["size"] = file.stat().st_size
        marker.write_text(json.dumps(facts))
    page = synthvlm.open_run(out)._repr_html_()
    assert page.count("&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt; \\u202e") == 3
    assert "<script" not in page
    assert "&lt;b&gt;run" in page
    assert len(page) < 30_000
    assert page.count('src="data:image/png;base64,') == page.count("src=") == 3


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SynthVLMError, match="is not a run folder"):
        synthvlm.open_run(tmp_path)


def test_the_package_lists_its_interface() -> None:
    assert dir(synthvlm) == sorted(synthvlm.__all__)
    for name in synthvlm.__all__:
        assert getattr(synthvlm, name) is not None
