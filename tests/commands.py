"""The command line in a process of its own, cheaply: forked off one that holds the libraries.

``start`` and ``run`` do what ``python -m synthvlm`` does, but torch, diffusers and transformers
are imported once for all commands of a test session. What must hold for a fresh interpreter is
tested with ``subprocess``.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

__all__ = ["Result", "call", "kill_when", "run", "start"]

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "encodings.unicode_escape",
        "PIL.PngImagePlugin",
        "PIL.WebPImagePlugin",
        "torch",
        "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
        "transformers.models.clip.image_processing_pil_clip",
        "transformers.models.clip.modeling_clip",
        "transformers.models.clip.tokenization_clip",
        "datasets",
        "fsspec.implementations.local",
        "pyarrow.parquet",
        "skimage.metrics",
        "synthvlm.captions.readers.normalize",
        "synthvlm.captions.rules.method",
        "synthvlm.captions.readers.sources",
        "synthvlm.cli",
        "synthvlm.engines.base",
        "synthvlm.pipeline",
        "synthvlm.report",
        "synthvlm.stages.export",
        "synthvlm.stages.generation.generate",
        "synthvlm.stages.curation.measure",
    ]
)


@dataclass(frozen=True)
class Result:
    """What a command left: its exit status (minus the signal that ended it) and its output."""

    code: int
    out: str
    err: str


def start(
    arguments: Sequence[str | Path], log: Path, before: Callable[[], None] | None = None
) -> BaseProcess:
    """Start a command; ``before`` runs in its process first. Output goes to ``log`` + .out, .err.

    ``before`` must be importable: a function of a module, or a ``functools.partial`` of one.
    """
    words = [str(argument) for argument in arguments]
    process = _SERVER.Process(target=_command, args=(words, log, before))
    process.start()
    return process


def run(
    arguments: Sequence[str | Path], folder: Path, before: Callable[[], None] | None = None
) -> Result:
    """Run a command to its end; the folder is for its output."""
    log = folder / "command"
    return _result(start(arguments, log, before), log)


def kill_when(condition: Callable[[], bool], arguments: Sequence[str | Path], folder: Path) -> None:
    """Start a command, and kill it as soon as a condition holds; the folder is for its output."""
    process = start(arguments, folder / "killed")
    while not condition():
        time.sleep(0.02)
        assert process.exitcode is None, "the command ended before"
    process.kill()
    process.join()


def call(function: Callable[[], object], folder: Path) -> Result:
    """As ``run``, of an importable function instead of a command."""
    log = folder / "call"
    process = _SERVER.Process(target=_call, args=(function, log))
    process.start()
    return _result(process, log)


def _result(process: BaseProcess, log: Path) -> Result:
    process.join(300)
    assert process.exitcode is not None, "the command hangs"
    return Result(
        process.exitcode,
        log.with_suffix(".out").read_text("utf-8"),
        log.with_suffix(".err").read_text("utf-8"),
    )


def _command(arguments: list[str], log: Path, before: Callable[[], None] | None) -> None:
    _redirect(log)
    from synthvlm.cli import main

    sys.argv = ["synthvlm", *arguments]
    if before is not None:
        before()
    main()


def _call(function: Callable[[], object], log: Path) -> None:
    _redirect(log)
    function()


def _redirect(log: Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    for stream, suffix in ((1, ".out"), (2, ".err")):
        target = os.open(log.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, stream)
        os.close(target)
