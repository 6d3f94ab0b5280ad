"""What happens to files: cut off, gone, flipped, no room for them; and clocks that jump."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_runs import Driver, Lab, Moment, one_line
from slow_models import (
    WITNESS,
    let_the_clock_jump,
    load_models_and_let_the_clock_jump,
    load_models_that_die_while_files_are_written,
)

from commands import run
from synthvlm.run_folder.folder import RunFolder
from test_kill import content, strays

#: What no marker names, or what is for people only.
NOT_DATA = ("recipe.yaml", "report/", "events/")


def data_files(out: Path) -> list[Path]:
    """All files of a run that its result depends on, markers too, but empty ones."""
    names = {
        path: str(path.relative_to(out))
        for path in out.rglob("*")
        if path.is_file() and path.stat().st_size
    }
    return sorted(
        path
        for path, name in names.items()
        if not name.startswith(NOT_DATA) and not path.name.startswith(".")
    )


def spoil(path: Path, source: random.Random) -> None:
    """Cut a file off anywhere, or remove it."""
    size = path.stat().st_size
    if source.random() < 0.3:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: source.randrange(size)])


@pytest.mark.parametrize("rounds", [4, pytest.param(100, marks=pytest.mark.long)])
def test_files_cut_off_or_gone_after_a_run(small_lab: Lab, rounds: int) -> None:
    """The same command mends any three of them, unasked."""
    source = random.Random(rounds)
    out = small_lab.new("spoiled")
    shutil.copytree(small_lab.undisturbed, out)
    for _ in range(rounds):
        for path in source.sample(data_files(out), 3):
            spoil(path, source)
        small_lab.start(out, workers=1).succeeds()
        small_lab.assert_undisturbed(out)


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.long)])
def test_files_cut_off_or_gone_in_the_middle_of_a_run(small_lab: Lab, kills: int) -> None:
    """As where a machine loses its power, and its disk what was not synced."""
    source = random.Random(kills)
    out = small_lab.new("spoiled")
    killed = 0
    while killed < kills:
        driver = small_lab.start(out, workers=1)
        moment = Moment(source.randint(1, 12), source.uniform(0, 0.1))
        if not moment.comes(driver, out / "done") or not driver.kill():
            driver.succeeds()
            small_lab.assert_undisturbed(out)
            shutil.rmtree(out)
            continue
        killed += 1
        found = data_files(out)
        for path in source.sample(found, min(2, len(found))):
            spoil(path, source)
    small_lab.start(out, workers=1).succeeds()
    small_lab.assert_undisturbed(out)


@pytest.mark.parametrize("runs", [1, pytest.param(20, marks=pytest.mark.long)])
def test_files_cut_off_while_a_run_works(lab: Lab, runs: int) -> None:
    """It ends, or stops in a line; the next one does their shards again."""
    source = random.Random(runs)
    for _ in range(runs):
        out = lab.new("spoiled")
        driver = lab.start(out, workers=1)
        assert Moment(source.randint(3, 8), 0).comes(driver, out / "done" / "generate")
        for path in source.sample(sorted((out / "pairs").glob("part-*")), 2):
            spoil(path, source)
        if driver.end() != 0:
            one_line(driver)
        lab.start(out, workers=1).succeeds()
        lab.assert_undisturbed(out)
        shutil.rmtree(out)


@pytest.mark.parametrize("rounds", [4, pytest.param(100, marks=pytest.mark.long)])
def test_flipped_bits_are_found_by_verify(small_lab: Lab, rounds: int) -> None:
    """In three files at a time; what is discarded is done again."""
    source = random.Random(rounds)
    for _ in range(rounds):
        out = small_lab.new("flipped")
        shutil.copytree(small_lab.undisturbed, out)
        files = [path for path in data_files(out) if not path.is_relative_to(out / "done")]
        # Not both at a time: a damaged list of a part's files vouches for none of them.
        exported = source.random() < 0.3
        paths = source.sample([p for p in files if ("dataset" in p.parts) == exported], 3)
        for path in paths:
            flip(path, source)
        found = run(["verify", out, "--discard"], small_lab.folder)
        assert found.code == 1, found
        for path in paths:
            assert f"damaged: {path.relative_to(out)} (" in found.out
        small_lab.start(out, workers=1).succeeds()
        assert_undisturbed_but_thumbnails(small_lab, out)
        shutil.rmtree(out)


@pytest.mark.parametrize("rounds", [4, pytest.param(100, marks=pytest.mark.long)])
def test_flipped_bits_of_markers(small_lab: Lab, rounds: int) -> None:
    """A marker that says something else counts for nothing, and its shard is done again."""
    source = random.Random(rounds)
    for _ in range(rounds):
        out = small_lab.new("flipped")
        shutil.copytree(small_lab.undisturbed, out)
        for path in source.sample(sorted((out / "done").rglob("*.json")), 3):
            flip(path, source)
        found = run(["verify", out, "--discard"], small_lab.folder)
        assert found.code in (0, 1), found  # a bit of what is for people may go unseen
        small_lab.start(out, workers=1).succeeds()
        assert_undisturbed_but_thumbnails(small_lab, out)
        shutil.rmtree(out)


def assert_undisturbed_but_thumbnails(lab: Lab, out: Path) -> None:
    """Those of losers are for the report; lost ones are not generated again."""
    content_now, expected = content(out), content(lab.undisturbed)
    for name in expected.keys() - {"previews"}:
        assert content_now.get(name) == expected[name], name
    assert content_now.keys() == expected.keys()
    assert strays(out) == set()


def flip(path: Path, source: random.Random) -> None:
    """Turn one bit of a file round."""
    data = bytearray(path.read_bytes())
    data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    path.write_bytes(data)


@pytest.mark.skipif(not Path("/proc/mounts").exists(), reason="tmpfs is Linux's")
def test_disk_full_while_workers_write(lab: Lab, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "520k") as disk:
        out = disk / "run"
        line = one_line(lab.start(out))
        assert line.startswith(f"cannot write {out}/")
        assert line.endswith("free some and run again (finished work is kept)")
        finished = len(RunFolder(out).markers("generate"))
        assert 0 < finished < 14
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        driver = lab.start(out)
        driver.succeeds()
        lab.assert_undisturbed(out)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def start_with_jumping_clocks(lab: Lab, out: Path) -> Driver:
    return lab.start(out, before=let_the_clock_jump, load_models=load_models_and_let_the_clock_jump)


@pytest.mark.long
@pytest.mark.parametrize(("runs", "kills"), [(20, 1)])
def test_clocks_that_jump_by_hours(lab: Lab, runs: int, kills: int) -> None:
    source = random.Random(runs)
    for _ in range(runs):
        out = lab.new("clock")
        for _ in range(kills):
            driver = start_with_jumping_clocks(lab, out)
            assert Moment.of_generating(source).comes(driver, out / "done" / "generate")
            assert driver.kill()
        start_with_jumping_clocks(lab, out).succeeds()
        lab.assert_undisturbed(out)
        times = [event["time"] for event in RunFolder(out).events()]
        assert max(times) - min(times) > 3600, "no clock jumped"
        shutil.rmtree(out)


def test_a_worker_killed_while_it_writes_leaves_nothing_behind(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WITNESS, str(tmp_path / "died"))
    out = lab.new("draft")
    lab.start(out, load_models=load_models_that_die_while_files_are_written).succeeds()
    assert (tmp_path / "died").exists()
    lab.assert_undisturbed(out)
