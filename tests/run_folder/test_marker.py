"""Names of markers, and what a marker may name."""

from __future__ import annotations

import pytest

from synthvlm.run_folder.marker import (
    is_within,
    marker_name,
    model_measure_stage,
    rule_of_stage,
    shard_of,
    source_of_stage,
    stage_of,
    written_stage,
)


@pytest.mark.parametrize("stage", ["generate", "measures-judge", "written-web"])
@pytest.mark.parametrize("shard", [0, 7, 123_456])
def test_a_marker_is_named_by_its_stage_and_shard(stage: str, shard: int) -> None:
    name = marker_name(stage, shard)
    assert name.startswith(f"done/{stage}/")
    assert (stage_of(name), shard_of(name)) == (stage, shard)


def test_markers_are_found_in_the_order_of_shards_and_by_no_other_name() -> None:
    assert marker_name("select", 3) == "done/select/00003.json"
    for name in ("done/select/.draft-00003.json", "done/select/00003.json.partial", "done/x.json"):
        assert shard_of(name) is None


def test_stages_that_exist_several_times_tell_of_what() -> None:
    assert rule_of_stage(model_measure_stage("judge")) == "judge"
    assert source_of_stage(written_stage("web")) == "web"
    for stage in ("measure", "generate", "select"):
        assert rule_of_stage(stage) is None
        assert source_of_stage(stage) is None
    assert rule_of_stage(written_stage("web")) is None
    assert source_of_stage(model_measure_stage("judge")) is None


@pytest.mark.parametrize("path", ["pairs/part-00000-x.parquet", "selection.parquet", "a/b/c..d"])
def test_a_path_within(path: str) -> None:
    assert is_within(path)


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../a", "a/../../b", "/a", "a//b", "a/./b", "./a", "a/", "a/../b", "a\0b"],
)
def test_a_path_that_is_not_within_or_not_normalised(path: str) -> None:
    assert not is_within(path)
