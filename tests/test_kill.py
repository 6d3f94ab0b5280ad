"""SIGKILL at any moment, the same command again: the run ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from commands import call, run, start
from fake_models import use_fake_models
from fakes.endpoint import FakeEndpoint
from synthvlm.cli import main
from synthvlm.run_folder.folder import RunFolder
from synthvlm.stages.near_duplicate_images import HASHES

COLORS = ("red", "blue", "green", "yellow")
SHAPES = ("circle", "square", "triangle", "star")


def write_captions(path: Path, count: int) -> Path:
    """Captions that differ, of which some are rejected."""
    lines = []
    for n in range(count):
        color, shape = COLORS[n % 4], SHAPES[n // 4 % 4]
        lines.append(f"A small {color} {shape} above {n} large grey squares, on a white ground.")
        if n % 7 == 5:
            lines[n] = lines[n - 1]
        if n % 11 == 3:
            lines[n] = "!!!"
    path.write_text("\n".join(lines) + "\n")
    return path


def content(folder: Path) -> dict[str, Any]:
    """What a run comes to: its tables in the order of shards, and every byte of its data set."""
    store = RunFolder(folder)
    found: dict[str, Any] = {}
    for stage, name in (
        ("measure", "measures"),
        ("curate", "captions"),
        ("generate", "candidates"),
        ("generate", "pairs"),
        ("generate", "previews"),
    ):
        paths = [marker.file(name) for _, marker in sorted(store.markers(stage).items())]
        found[name] = pa.concat_tables([store.read_table(p) for p in paths if p]).to_pylist()
    found["selection"] = (folder / "selection.parquet").read_bytes()
    found["recipe"] = (folder / "recipe.yaml").read_bytes()
    found |= {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "dataset").rglob("*"))
        if path.is_file()
    }
    return found


def strays(folder: Path) -> set[str]:
    """Files of the run that no marker names; not those of the data set, which ``content`` holds."""
    store = RunFolder(folder)
    stages = ("measure", "curate", "calibrate", "generate", HASHES, "select", "export")
    named = {f.path for stage in stages for m in store.markers(stage).values() for f in m.files}
    present = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    return {
        name
        for name in present - named - {"recipe.yaml", "report/index.html"}
        if not name.startswith(("done/", "events/", "dataset/"))
    } | {name for name in present if "/." in name or name.startswith(".")}


def assert_same_run(folder: Path, undisturbed: Path) -> None:
    found, expected = content(folder), content(undisturbed)
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name] == expected[name], name
    assert strays(folder) == set()
    assert (folder / "report" / "index.html").read_text().rstrip().endswith("</html>")


def test_killed_at_ten_random_moments(tmp_path: Path, small_models: list[str]) -> None:
    captions = write_captions(tmp_path / "captions.txt", 24)
    command = [
        "run",
        "tiny",
        "--captions",
        captions,
        *small_models,
        "--set",
        "report.preview_share=0.5",
    ]
    undisturbed = tmp_path / "undisturbed"
    run(["--version"], tmp_path)  # The libraries are imported before the clock starts.
    began = time.monotonic()
    assert run([*command, "--out", undisturbed], tmp_path).code == 0
    seconds = time.monotonic() - began
    assert len(content(undisturbed)["pairs"]) > 12

    moments = random.Random(2407).sample(range(1, 100), 10)
    disturbed = tmp_path / "disturbed-0"
    kills = 0
    while kills < len(moments):
        process = start([*command, "--out", disturbed], tmp_path / "killed")
        process.join(seconds * moments[kills] / 100)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            kills += 1
        else:  # Finished before its moment: what came of it must be right; then the next one.
            assert process.exitcode == 0
            assert_same_run(disturbed, undisturbed)
            disturbed = tmp_path / f"disturbed-{kills}"
            seconds *= 0.8
    assert run([*command, "--out", disturbed], tmp_path).code == 0
    assert_same_run(disturbed, undisturbed)


def die_at(number: int) -> None:
    """Use fake models, and die at the n-th change (from zero) of the run folder.

    A change is a file that is whole but not yet under its name, or one about to be removed.
    """
    use_fake_models()
    changes = count()

    def deadly(change: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object) -> object:
            if next(changes) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments)

        return counted

    os.fsync = deadly(os.fsync)  # type: ignore[assignment]
    os.sync = deadly(os.sync)  # type: ignore[assignment]
    RunFolder.remove = deadly(RunFolder.remove)  # type: ignore[method-assign, assignment]


def setting(*changes: str) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


FAKE_MODELS = setting(
    "generation.model=org/fake",
    "scoring.clip.model=org/fake",
    "generation.candidates=2",
    "report.preview_share=0.5",
    "run.shard_size=4",
    "run.threads=1",
)
OTHER_SETTINGS = setting(
    "selection.top_fraction=0.6",
    "curation.rules.special_char_ratio=null",
    "export.images_per_folder=3",
)


def in_fork(command: list[str | Path], before: Callable[[], None]) -> int:
    """Exit status of the command in a fork of this process."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            before()
            sys.argv = ["synthvlm", *map(str, command)]
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_everywhere(
    command: list[str | Path], earlier: Path | None, folder: Path, step: int = 1
) -> None:
    """Kill the command at each change of the run folder, and finish it; a folder for each.

    With a ``step`` only at every so-manieth change.
    """
    # The first run loads what all the forks then hold.
    use_fake_models()
    sys.argv = ["synthvlm", *map(str, command), "--out", str(folder / "first")]
    with contextlib.suppress(SystemExit):
        main()
    for number in count(step=step):
        out = folder / f"killed-{number:03d}"
        if earlier is not None:
            shutil.copytree(earlier, out)
        status = in_fork([*command, "--out", out], partial(die_at, number))
        if status == 0:
            return
        assert status == -signal.SIGKILL, status
        assert in_fork([*command, "--out", out], use_fake_models) == 0, number


def killed_everywhere(
    tmp_path: Path,
    command: list[str | Path],
    earlier: Path | None = None,
    *,
    step: int = 1,
    more_than: int,
) -> list[Path]:
    """The folders that `kill_everywhere` leaves, in a process of its own: more than so many."""
    folder = tmp_path / "killed"
    folder.mkdir()
    done = call(partial(kill_everywhere, command, earlier, folder, step), tmp_path)
    assert done.code == 0, done.err
    folders = sorted(folder.glob("killed-*"))
    assert len(folders) > more_than, "the run folder changes more often than that"
    return folders


@pytest.mark.parametrize(
    "start_from",
    [
        "nothing",
        pytest.param("other settings", marks=pytest.mark.long),
        pytest.param("fewer captions", marks=pytest.mark.long),
    ],
)
def test_killed_at_every_change_of_the_run_folder(tmp_path: Path, start_from: str) -> None:
    captions = write_captions(tmp_path / "captions.txt", 8)
    command = ["run", "tiny", "--captions", captions, *FAKE_MODELS]
    undisturbed = tmp_path / "undisturbed"
    assert run([*command, "--out", undisturbed], tmp_path, use_fake_models).code == 0
    earlier = None
    if start_from != "nothing":
        earlier = tmp_path / "earlier"
        changes = OTHER_SETTINGS if start_from == "other settings" else ["--limit", "5"]
        arguments = [*command, *changes, "--out", earlier]
        assert run(arguments, tmp_path, use_fake_models).code == 0

    for out in killed_everywhere(tmp_path, command, earlier, more_than=30):
        assert_same_run(out, undisturbed)


def test_killed_at_every_change_while_best_of_k_adapts(tmp_path: Path) -> None:
    captions = write_captions(tmp_path / "captions.txt", 12)
    adaptive = "generation.adaptive={sample: 8, keep_gain: 0.8}"
    command: list[str | Path] = ["run", "tiny", "--captions", captions, *FAKE_MODELS]
    command += setting("generation.candidates=4", adaptive)
    undisturbed = tmp_path / "undisturbed"
    assert run([*command, "--out", undisturbed], tmp_path, use_fake_models).code == 0
    statuses = {row["status"] for row in content(undisturbed)["candidates"]}
    assert statuses >= {"ok", "skipped"}
    for out in killed_everywhere(tmp_path, command, more_than=30):
        assert_same_run(out, undisturbed)


def test_killed_while_finalists_are_scored_again(tmp_path: Path) -> None:
    """More finalists and a lower minimum than before: images are made again for their scores."""
    captions = write_captions(tmp_path / "captions.txt", 8)
    command: list[str | Path] = ["generate", "tiny", "--captions", captions, *FAKE_MODELS]
    command += setting("generation.candidates=4", "scoring.ssim.minimum=0.1")
    earlier, undisturbed = tmp_path / "earlier", tmp_path / "undisturbed"
    arguments = [*command, *setting("scoring.ssim.only_best=1"), "--out", earlier]
    assert run(arguments, tmp_path, use_fake_models).code == 0
    command += setting("scoring.ssim.only_best=3")
    shutil.copytree(earlier, undisturbed)
    assert run([*command, "--out", undisturbed], tmp_path, use_fake_models).code == 0
    expected = generated(undisturbed)
    assert {row["status"] for row in expected[0]} == {"ok", "outranked", "rejected"}
    for out in killed_everywhere(tmp_path, command, earlier, step=7, more_than=2):
        assert generated(out) == expected


def generated(folder: Path) -> list[list[dict[str, Any]]]:
    """The rows of ``candidates/`` and ``pairs/``."""
    store = RunFolder(folder)
    return [
        [
            row
            for _, marker in sorted(store.markers("generate").items())
            for row in store.read_table(str(marker.file(name))).to_pylist()
        ]
        for name in ("candidates", "pairs")
    ]


def test_killed_at_every_change_while_another_selection_is_made(tmp_path: Path) -> None:
    captions = write_captions(tmp_path / "captions.txt", 3)
    earlier, undisturbed = tmp_path / "earlier", tmp_path / "undisturbed"
    command: list[str | Path] = ["generate", "tiny", "--captions", captions, *FAKE_MODELS]
    assert run([*command, "--out", earlier], tmp_path, use_fake_models).code == 0
    twins = "near_duplicate_images: {max_similarity: 0.5, max_hash_distance: 7}"
    command = ["select", *setting(f"selection={{method: coverage, top_n: 2, {twins}}}")]
    shutil.copytree(earlier, undisturbed)
    assert run([*command, "--out", undisturbed], tmp_path, use_fake_models).code == 0
    files = ("selection.parquet", "near-duplicates.parquet")
    expected = [(undisturbed / name).read_bytes() for name in files]
    for out in killed_everywhere(tmp_path, command, earlier, more_than=5):
        assert [(out / name).read_bytes() for name in files] == expected
        assert strays(out) == set()


def test_a_killed_run_is_resumed_and_not_begun_again(tmp_path: Path) -> None:
    captions = write_captions(tmp_path / "captions.txt", 12)
    command = ["generate", "tiny", "--captions", captions, "--out", tmp_path / "run", *FAKE_MODELS]
    assert run(command, tmp_path, partial(die_at, 22)).code == -signal.SIGKILL
    finished = len(RunFolder(tmp_path / "run").markers("generate"))
    assert 0 < finished < 3
    result = run(command, tmp_path, use_fake_models)
    assert f"{finished} of 3 shards reused" in result.out


def test_killed_at_every_change_while_captions_are_judged(tmp_path: Path) -> None:
    captions = write_captions(tmp_path / "captions.txt", 8)
    settings = {"model": "fake", "min": 0.5}
    with FakeEndpoint(lambda messages: "No" if "blue" in messages[-1]["content"] else "Yes") as one:
        settings["endpoint"] = {"url": one.base_url, "concurrency": 2}  # type: ignore[assignment]
        command = ["curate", "tiny", "--captions", captions, *FAKE_MODELS]
        command += setting(f"curation.rules.judge={json.dumps(settings)}")
        undisturbed = tmp_path / "undisturbed"
        assert run([*command, "--out", undisturbed], tmp_path).code == 0
        folders = killed_everywhere(tmp_path, command, more_than=10)
    expected = curated(undisturbed)
    assert {row["rejected_by"] for row in expected} >= {"judge", None}
    for out in folders:
        assert curated(out) == expected
        parts = {f.name for f in (out / "measures-judge").iterdir()}
        assert len(parts) == len(RunFolder(out).markers("measures-judge")), "a part is left over"


def curated(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``captions/``."""
    store = RunFolder(folder)
    paths = [marker.file("captions") for _, marker in sorted(store.markers("curate").items())]
    return [row for path in paths if path for row in store.read_table(path).to_pylist()]
