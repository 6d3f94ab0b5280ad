"""Processes that die while they start, and processes that are to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from toy_jobs import Told, ToyJob

from synthvlm.engines import processes
from synthvlm.engines.base import (
    LocalEngine,
    MakeWorker,
    Reporter,
    ShardResult,
    ShardWorker,
    Update,
)
from synthvlm.engines.processes import ProcessEngine
from synthvlm.errors import EngineError, ModelError, RunFolderError
from synthvlm.pipeline import Pipeline
from synthvlm.recipe import Recipe

SCRIPT = """
import signal, sys, time
from pathlib import Path
from toy_jobs import Told, ToyJob
from synthvlm.engines.processes import ProcessEngine

folder = Path(sys.argv[1])

def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        list(ProcessEngine(2).run(ToyJob(folder, pause_s=0.2), range(4), Told()))
    except KeyboardInterrupt:
        print("interrupted")

"""
SLOW_IMPORT = """
if __name__ == "__mp_main__":
    (folder / f"starting-{time.monotonic()}").touch()
    time.sleep(30)
"""
GUARD = 'if __name__ == "__main__":\n    main()\n'


def start(folder: Path, script: str) -> subprocess.Popen[str]:
    path = folder / "script.py"
    path.write_text(script)
    found = filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
    return subprocess.Popen(
        [sys.executable, str(path), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(found)},
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_workers_start_leaves_the_terminal_clean(
    tmp_path: Path, number: int
) -> None:
    """The terminal sends it to the workers too; they have nothing to commit and end at once."""
    driver = start(tmp_path, SCRIPT + SLOW_IMPORT + GUARD)
    wait_for(tmp_path, "starting-*")
    os.killpg(driver.pid, number)
    assert driver.communicate(timeout=20) == ("interrupted\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_workers_get_too_leaves_them_to_the_driver(
    tmp_path: Path, number: int
) -> None:
    """A terminal, Slurm or `timeout` sends it to all; they still give up in good order."""
    driver = start(tmp_path, SCRIPT + GUARD)
    wait_for(tmp_path, "begun-*")
    os.killpg(driver.pid, number)
    assert driver.communicate(timeout=20) == ("interrupted\n", "")
    assert len(list(tmp_path.glob("given-up-*"))) == 2
    assert len(list(tmp_path.glob("closed-*"))) == 2


def wait_for(folder: Path, two: str) -> None:
    until = time.monotonic() + 60
    while len(list(folder.glob(two))) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_script_without_a_guard_is_told_so_at_once(tmp_path: Path) -> None:
    driver = start(tmp_path, SCRIPT + "main()\n")
    said = driver.communicate(timeout=60)[1]
    assert said.count("Traceback") == 1
    assert said.splitlines()[-1].startswith("synthvlm.errors.EngineError: worker processes start")
    assert '`if __name__ == "__main__":`' in said


class Deadly:
    """Kills the process that gets it."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return _die, ()


class Unknown:
    """Is of a library that the other process does not have."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return __import__, ("no_such_library",)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class LadenJob(ToyJob):
    load: object = None


@pytest.mark.parametrize(
    ("load", "problem"),
    [(Deadly(), "killed by SIGKILL"), (Unknown(), "No module named 'no_such_library'")],
)
def test_a_worker_that_dies_of_its_job_is_replaced(
    tmp_path: Path, load: object, problem: str
) -> None:
    # More than fits into a pipe: nobody is left to read it.
    job = LadenJob(tmp_path, load=(load, "x" * 1_000_000))
    with pytest.raises(EngineError, match=rf"10 workers died.*{problem}"):
        list(ProcessEngine(2).run(job, range(5), Told()))


def test_a_job_that_cannot_be_sent_is_one_line(tmp_path: Path) -> None:
    job = LadenJob(tmp_path, load=lambda: None)
    with pytest.raises(EngineError, match=r"cannot be sent.*register only classes") as caught:
        list(ProcessEngine(2).run(job, range(5), Told()))
    assert "\n" not in str(caught.value)


class WordyJob(ToyJob):
    """All workers fail at the same time, with more to say than fits into a pipe."""

    def __call__(self, progress: Reporter) -> ShardWorker:
        (self.folder / f"here-{os.getpid()}").touch()
        while len(list(self.folder.glob("here-*"))) < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        raise ModelError("m" * 300_000)


@pytest.mark.parametrize("grace_s", [20.0])
def test_workers_with_much_to_say_stop_soon(
    tmp_path: Path, grace_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_GRACE_S", grace_s)
    ended = 0.0
    try:
        list(ProcessEngine(2).run(WordyJob(tmp_path), range(5), Told()))
    except ModelError:
        ended = time.monotonic()
    # Both were there, and so the second spoke to a driver that was stopping.
    last = max(path.stat().st_mtime for path in tmp_path.glob("here-*"))
    assert ended
    assert time.time() - last < grace_s / 2


class Impatient:
    """An engine whose user presses Ctrl-C again while it stops."""

    workers = 1

    def gpus(self) -> int:
        return 0

    def run(
        self, make_worker: MakeWorker, shards: Sequence[int], progress: Reporter
    ) -> Generator[Update]:
        try:
            for shard in shards:
                yield ShardResult(shard, {"generated": 0}, 1.0, 1.0)  # too few counts: KeyError
        finally:
            raise KeyboardInterrupt


def test_ctrl_c_while_workers_stop_is_not_swallowed(tmp_path: Path) -> None:
    pipeline = _pipeline(tmp_path, tmp_path / "run", Impatient())
    with pytest.raises(KeyboardInterrupt):
        pipeline.run("generate")


def test_a_folder_in_memory_is_refused_to_other_processes(tmp_path: Path) -> None:
    pipeline = _pipeline(tmp_path, "memory://engines/run", ProcessEngine(2))
    with pytest.raises(RunFolderError, match="memory of this process") as caught:
        pipeline.run("generate")
    assert "\n" not in str(caught.value)


def _pipeline(folder: Path, out: Path | str, engine: Impatient | ProcessEngine) -> Pipeline:
    captions = folder / "captions.txt"
    captions.write_text("a small wooden barn on a hill\na red boat on a still lake\n")
    return Pipeline(Recipe.load("tiny", captions=[captions]), out, engine=engine)


@pytest.mark.parametrize(
    ("visible", "count", "names"),
    [
        (None, 2, ["0", "1"]),
        ("3,5", 2, ["3", "5"]),
        (" GPU-a , GPU-b", 2, ["GPU-a", "GPU-b"]),
        ("1,-1,0", 1, ["1"]),
        ("-1", 0, []),
        ("", 0, []),
    ],
)
def test_processes_get_the_gpus_that_the_driver_may_use(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int, names: list[str]
) -> None:
    """CUDA stops at the first name that is none."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(processes, "gpu_count", lambda: count)
    assert processes._devices() == names


@pytest.mark.parametrize(
    ("device", "kind"),
    [
        ("auto", ProcessEngine),
        ("cuda", ProcessEngine),
        ("cpu", LocalEngine),
        ("cuda:1", LocalEngine),
    ],
)
def test_a_recipe_that_names_one_device_gets_one_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, kind: type
) -> None:
    """Of several processes each sees a GPU of its own, and that is number 0."""
    from synthvlm.cli.stages import _run
    from synthvlm.engines import base

    captions = tmp_path / "captions.txt"
    captions.write_text("a small wooden barn on a hill\n")
    monkeypatch.setattr(base, "gpu_count", lambda: 2)
    engines: list[object] = []
    monkeypatch.setattr(Pipeline, "run", lambda self, *_, **__: engines.append(self._engine))
    out = str(tmp_path / "run")
    recipe = Recipe.load("tiny", captions=[captions], overrides=[f"run.device={device}"])
    _run(recipe, out, "generate", "local", None, None, replace_images=False, piped=None)
    assert [type(engine) for engine in engines] == [kind]
