"""The status of runs that are told by their folders alone."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from synthvlm.checks.status import Status, show_status, status, watch
from synthvlm.data import selection_schema
from synthvlm.errors import RunFolderError
from synthvlm.pipeline import Pipeline
from synthvlm.progress.display import SilentProgress, Tracker
from synthvlm.recipe import Recipe
from synthvlm.run_folder.folder import RECIPE_FILE, RunFolder, table_bytes
from synthvlm.run_folder.marks import Marks
from synthvlm.stages.curation.curate import totals
from synthvlm.stages.data_set_fingerprints import data_set_fingerprint, selection_fingerprint
from synthvlm.stages.fingerprints import (
    combined_fingerprint,
    content_fingerprint,
    image_dependencies,
    shard_fingerprint,
    sources_fingerprint,
    text_rule_fingerprints,
    verdicts_fingerprint,
)
from synthvlm.stages.selected_pairs import SELECTION_FILE

#: Its time, 10 seconds after which a first look is taken.
BEAT = 1_700_000_000.0


def recipe(*changes: str) -> Recipe:
    return Recipe.load(overrides=["generation.candidates=4", *changes])


def folder(
    url: str | Path,
    shards: int = 3,
    generated: int = 1,
    settings: Recipe | None = None,
    **facts: int,
) -> RunFolder:
    """A run in the middle of generation: 10 captions kept of each shard."""
    run, settings = RunFolder(url), settings or recipe()
    run.write(RECIPE_FILE, settings.to_yaml().encode())
    rules = text_rule_fingerprints(settings)
    for number in range(shards):
        run.commit("measure", number, "f", facts={"captions": 12, "rules": rules})
    verdicts = verdicts_fingerprint(settings, run.markers("measure"))
    for number in range(shards):
        run.commit("curate", number, verdicts, facts={"captions": 12, "kept": 10})
    sources = sources_fingerprint(settings, content_fingerprint(settings))
    run.commit("sources", 0, sources, facts={"captions": 12 * shards, "shards": shards})
    depends = image_dependencies(settings)
    candidates = shard_fingerprint(settings, combined_fingerprint(depends), None, [])
    counts = {"candidates": 40, "failed": 0, "depends": depends, **facts}
    for number in range(generated):
        run.commit("generate", number, candidates, facts=counts)
    return run


def finish(run: RunFolder) -> None:
    """Select and export no pair."""
    captions, generated = run.markers("curate"), run.markers("generate")
    nothing = selection_schema(["clip", "ssim"]).empty_table()
    file = run.write(SELECTION_FILE, table_bytes(nothing))
    run.commit("select", 0, selection_fingerprint(recipe(), captions, generated, Marks()), [file])
    whole = data_set_fingerprint(recipe(), {}, totals(captions), captions, generated, Marks())
    run.commit("dataset", 0, whole)
    run.write("report/index.html", b"<html>")


def lock(run: RunFolder, beat: float = BEAT, **more: Any) -> None:
    """What the process that holds the folder writes, with the heartbeat."""
    tracker = Tracker(SilentProgress(), iter([0.0, 10.0, 10.0, 10.0]).__next__)
    tracker.start("generate", 120, "candidates", 40)
    tracker.advance(20)
    tracker.update_workers(4, 0.031, 2)
    content = {
        "owner": "abc", "host": "node-7", "pid": 4711, "since": BEAT - 3600, "beat": beat,
        "state": tracker.snapshot(), **more,
    }  # fmt: skip
    run.write(".lock.json", json.dumps(content).encode())


def shards(found: Status) -> dict[str, tuple[int, int | None]]:
    return {stage.stage: (stage.done, stage.total) for stage in found.stages}


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def test_nothing_runs_and_a_run_is_half_done(url: str) -> None:
    run = folder(url, failed=3)
    found = status(run, recipe())
    assert shards(found) == {
        "measure": (3, 3), "curate": (3, 3), "generate": (1, 3), "select": (0, 1),
        "export": (0, None),
    }  # fmt: skip
    assert found.text().splitlines() == [
        f"{run.url}: not running",
        "",
        "shards done",
        "  measure   3 of 3",
        "  curate    3 of 3",
        "  generate  1 of 3",
        "  select    0 of 1",
        "  export    0",
        "",
        "candidates: 37 of 120 done, 3 failed",
        "",
        f"next stage: generate; resume with: synthvlm run --out {run.url}",
    ]


def test_everything_is_done(url: str) -> None:
    run = folder(url, generated=3)
    assert status(run, recipe()).next == "select"
    finish(run)
    found = status(run, recipe())
    assert found.next is None
    assert found.text().endswith("\nall stages are done")
    run.remove("report/index.html")
    assert status(run, recipe()).next == "report"


@pytest.mark.parametrize(
    ("change", "next_stage"),
    [
        (lambda run: run.remove("done/sources/00000.json"), "measure"),
        (lambda run: run.remove("done/curate/00002.json"), "curate"),
        (lambda run: run.remove("done/generate/00001.json"), "generate"),
        (lambda run: run.commit("generate", 1, "f", facts={"failed": 1}), "generate"),
        (lambda run: run.remove("done/select/00000.json"), "select"),
        (lambda run: run.remove("done/dataset/00000.json"), "export"),
    ],
)
def test_the_next_stage_is_the_first_that_is_not_done(
    change: Any, next_stage: str, tmp_path: Path
) -> None:
    run = folder(tmp_path / "run", generated=3)
    finish(run)
    change(run)
    assert status(run, recipe()).next == next_stage


def test_what_failed_is_why_a_finished_stage_comes_again(tmp_path: Path) -> None:
    run = folder(tmp_path / "run", generated=3, failed=1)
    finish(run)
    assert (
        status(run, recipe())
        .text()
        .endswith(
            f"\nnext stage: generate (3 failed candidates will be tried again); resume with: "
            f"synthvlm run --out {run.url}"
        )
    )


def test_a_run_at_work_is_told_by_its_heartbeat(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: BEAT + 10)
    run = folder(url)
    lock(run)
    lines = status(run, recipe()).text().splitlines()
    assert lines[:2] == [
        f"{run.url}: running on node-7, process 4711, since 2023-11-14 21:13:20 UTC",
        "generate: 60/120 candidates, 2.0/s, 30 s left, 4 workers, generator waits 3%, 2 failed",
    ]
    assert "  generate  1 of 3" in lines
    assert not any(line.startswith("candidates:") for line in lines)
    assert lines[-1] == (
        "last heartbeat 10 s ago (by its own clock); use --watch to see whether it is alive"
    )


def test_a_run_at_work_before_generation_has_its_candidates_counted(tmp_path: Path) -> None:
    run = folder(tmp_path / "run")
    lock(run, state=None)
    found = status(run, recipe())
    assert found.state is None
    assert found.candidates is not None
    assert (found.candidates.done, found.candidates.total) == (40, 120)


@pytest.mark.parametrize("broken", [{"state": {"stage": 3}}, {"pid": "x"}, {"since": 1e300}])
def test_a_lock_that_another_version_wrote_is_shown_as_far_as_it_goes(
    broken: dict[str, Any], tmp_path: Path
) -> None:
    run = folder(tmp_path / "run")
    lock(run, **broken)
    assert "running on node-7" in status(run, recipe()).text()


def test_values_are_for_machines(tmp_path: Path) -> None:
    run = folder(tmp_path / "run")
    lock(run)
    values = json.loads(json.dumps(status(run, recipe()).values()))
    assert values["holder"]["host"] == "node-7"
    assert values["holder"]["seems_dead"] is False
    assert values["state"]["done"] == 60
    assert values["stages"][0] == {"stage": "measure", "done": 3, "total": 3}
    assert values["next"] == "generate"


def test_shards_beyond_a_lowered_limit_are_not_counted(tmp_path: Path) -> None:
    run = folder(tmp_path / "run", shards=2, generated=3)
    found = status(run, recipe())
    assert shards(found)["generate"] == (2, 2)
    assert found.candidates is not None
    assert (found.candidates.done, found.candidates.total) == (80, 80)


def test_fewer_candidates_than_before_are_not_more_than_all(tmp_path: Path) -> None:
    fewer = recipe("generation.candidates=2")
    found = status(folder(tmp_path / "run", settings=fewer), fewer)
    assert found.candidates is not None
    assert (found.candidates.done, found.candidates.total) == (20, 60)


def test_measures_of_rules_and_calibration_have_their_rows(tmp_path: Path) -> None:
    run = folder(tmp_path / "run")
    run.commit("measures-perplexity", 0, "f")
    run.commit("written-photos", 0, "f")
    adaptive = recipe("generation.adaptive={}")
    assert list(shards(status(run, adaptive))) == [
        "written-photos", "measure", "measures-perplexity", "curate", "calibrate", "generate",
        "select", "export",
    ]  # fmt: skip


def test_shards_that_are_set_aside_are_told(tmp_path: Path) -> None:
    run = folder(tmp_path / "run")
    run.event(
        "set_aside", stage="generate", shard=1, deaths=2, problem="killed by SIGKILL", candidates=40
    )
    run.flush_events()
    text = status(run, recipe()).text()
    assert "Shard 1 of the stage generate is set aside: its workers died 2 times" in text
    assert "killed by SIGKILL" in text


def test_workers_that_may_hang_are_told_while_the_run_lives(tmp_path: Path) -> None:
    run = folder(tmp_path / "run")

    def event(worker: str, state: str) -> None:
        run.event("worker", stage="generate", worker=worker, state=state, problem="nothing heard")

    event("9", "silent")  # of an earlier run
    run.event("run", until="report", version="1")
    for worker in ("0", "1", "2", "3"):
        event(worker, "silent")
    event("0", "heard")
    event("1", "died")
    run.event("shard", stage="generate", shard=1, worker="2")
    run.flush_events()
    assert status(run, recipe()).silent == ()
    lock(run)
    found = status(run, recipe())
    assert [one["worker"] for one in found.silent] == ["3"]
    (line,) = [line for line in found.text().splitlines() if "may hang" in line]
    assert line.startswith("worker 3 may hang (reported 2")
    assert line.endswith(" UTC): nothing heard")


def test_a_damaged_marker_counts_for_nothing(tmp_path: Path) -> None:
    run = folder(tmp_path / "run")
    (tmp_path / "run/done/generate/00000.json").write_text("[]")
    found = status(run, recipe())
    assert found.candidates is not None
    assert found.candidates.done == 0


def test_a_run_that_ends_is_watched_to_its_end(tmp_path: Path) -> None:
    run = folder(tmp_path / "run")
    lock(run)
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            run.remove(".lock.json")

    looks = list(watch(run, recipe(), every=3, sleep=sleep))
    assert [look.holder is None for look in looks] == [False, False, True]
    assert pauses == [3, 3]


def test_a_run_whose_heart_stands_still_seems_dead(tmp_path: Path) -> None:
    run = folder(tmp_path / "run")
    lock(run)
    now, beats = 0.0, 0

    def sleep(seconds: float) -> None:
        nonlocal now, beats
        now += seconds
        if now <= 100:  # it beats for a while, by a clock that goes backwards
            beats += 1
            lock(run, beat=BEAT - beats)

    looks = list(watch(run, recipe(), every=10, clock=lambda: now, sleep=sleep))
    assert now == 160
    assert [look.holder is not None and look.holder.seems_dead for look in looks[:-1]] == (
        [False] * (len(looks) - 1)
    )
    assert "seems dead: on node-7, process 4711" in looks[-1].text()
    assert "no heartbeat for 1 min\n" in looks[-1].text()
    assert looks[-1].text().endswith(f"resume with: synthvlm run --out {run.url}")


@pytest.mark.parametrize("name", ["nothing", "strangers"])
def test_what_is_no_run_folder_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers/notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"is not a run folder: it contains no recipe\.yaml"):
        show_status(str(tmp_path / name))
    assert not (tmp_path / "nothing").exists()


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(tmp_path / "run")
    show_status(str(run.url))
    assert capsys.readouterr().out == status(run, recipe()).text() + "\n"
    show_status(str(run.url), as_json=True)
    assert json.loads(capsys.readouterr().out)["next"] == "generate"
    show_status(str(run.url), follow=True)  # nobody is at work: one look is enough
    assert capsys.readouterr().out.count("not running") == 1


def test_a_real_run_is_told_right(tmp_path: Path) -> None:
    """Of the embedded models; the counts are held against what the run itself says."""
    settings = Recipe.load(
        "tiny",
        limit=12,
        overrides=["run.threads=1", "run.shard_size=6", "generation.candidates=2"],
    )
    pipeline = Pipeline(settings, tmp_path / "run")
    _, curated, generated = pipeline.run("generate").summaries
    found = status(pipeline.folder, pipeline.recipe)
    assert found.candidates is not None
    assert found.candidates.done == found.candidates.total == curated.counts["kept"] * 2
    assert generated.counts["generated"] == found.candidates.done
    assert found.next == "select"
    pipeline.run("report")
    assert status(pipeline.folder, pipeline.recipe).next is None
