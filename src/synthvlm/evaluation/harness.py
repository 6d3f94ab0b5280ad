"""Benchmarks run by lmms-eval and lm-eval, as commands in an environment of their own."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthvlm.errors import EvaluationError
from synthvlm.estimates import Estimate
from synthvlm.evaluation.asked_model import AskedModel
from synthvlm.evaluation.benchmarks import Benchmark

__all__ = [
    "HarnessFailure",
    "HarnessResult",
    "harness_command",
    "judge_problem",
    "read_result",
    "result_files",
    "run_harness",
]

#: Of the standard normal distribution: a harness's standard error to a 95 % interval.
_Z = 1.959963984540054
LOG = "harness.log"
_JUDGE_KEY = "OPENAI_API_KEY"
#: Python's own way of ending a traceback, and loguru's and argparse's of telling errors.
_ERROR = re.compile(r"^[\w.]*(Error|Exception)\b|\| ERROR|error:")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ADAPTER = Path(__file__).with_name("lmms_adapter.py")


class HarnessFailure(EvaluationError):
    """A harness did not run a benchmark to its end, or left no result; others may still run."""


@dataclass(frozen=True, slots=True)
class HarnessResult:
    """What a harness's result file says of a task.

    Attributes:
        values: Each metric by its key, scaled, with a 95 % interval where the harness tells a
            standard error.
        questions: How many were asked; None: not told.
        version: The task's version; "" if it has none.
    """

    values: dict[str, Estimate]
    questions: int | None
    version: str


def harness_command(
    python: str,
    benchmark: Benchmark,
    model: AskedModel,
    out: Path,
    *,
    batch_size: int = 8,
    limit: int | None = None,
    include: Path | None = None,
) -> list[str]:
    """The command that runs a benchmark.

    Args:
        python: Of the harness's environment.
        benchmark: What to run.
        model: The model.
        out: Folder for the harness's result files.
        batch_size: Questions at a time.
        limit: Only the first so many questions of each task.
        include: Folder with YAML files of more tasks.

    Raises:
        EvaluationError: The model's name cannot be handed to a harness: it holds a comma or an
            equals sign.
    """
    if {",", "="} & set(model.path + (model.revision or "")):
        raise EvaluationError(f"harnesses take no model with , or = in its name: {model.path}")
    arguments = [f"pretrained={model.path}", f"dtype={model.dtype}"]
    if model.revision:
        arguments.append(f"revision={model.revision}")
    if benchmark.harness == "lmms-eval":
        arguments.append(f"device={model.device}")
        # -P: modules beside the script are no top-level modules.
        command = [python, "-P", str(_ADAPTER), "eval", "--model", "synthvlm"]
    else:
        command = [python, "-m", "lm_eval", "run", "--model", "hf-multimodal"]
        command += ["--device", model.device]
    command += ["--model_args", ",".join(arguments), "--tasks", benchmark.task]
    command += ["--batch_size", str(batch_size), "--output_path", str(out)]
    if benchmark.few_shot is not None:
        command += ["--num_fewshot", str(benchmark.few_shot)]
    if limit is not None:
        command += ["--limit", str(limit)]
    if include is not None:
        command += ["--include_path", str(include)]
    return command


def judge_problem(benchmark: Benchmark, environment: Mapping[str, str] = os.environ) -> str | None:
    """Why a benchmark with a judge cannot run; None: it can. lmms-eval would score all as 0."""
    if benchmark.needs_judge and not environment.get(_JUDGE_KEY):
        return f"its judge model needs an API key: set {_JUDGE_KEY}"
    return None


def run_harness(command: Sequence[str], out: Path, *, with_key: bool = False) -> None:
    """Run a harness; all that it says goes to ``harness.log`` in its folder.

    Args:
        command: Of ``harness_command``.
        out: Its folder.
        with_key: Whether it gets ``OPENAI_API_KEY``: tasks without a judge have no use for it.

    Raises:
        HarnessFailure: It cannot be started, or failed; the message names the log.
    """
    out.mkdir(parents=True, exist_ok=True)
    log = out / LOG
    environment = {
        name: value for name, value in os.environ.items() if with_key or name != _JUDGE_KEY
    }
    with log.open("wb") as stream:
        try:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,  # nobody sees what it would ask
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                check=False,
            ).returncode
        except OSError as error:
            raise HarnessFailure(f"cannot start {command[0]}: {error.strerror}") from error
    if code:
        raise HarnessFailure(f"the harness failed: {_last_error(log)}")


def _last_error(log: Path) -> str:
    """The last line of a log that tells of an error, and where the rest is."""
    try:
        lines = _COLOUR.sub("", log.read_text(errors="replace")).splitlines()
    except OSError:
        return f"there is no log {log}"
    said = [line for line in map(str.strip, lines) if _ERROR.search(line)]
    return f"{said[-1][:300] if said else 'no error was named'} (all it said: {log})"


def read_result(benchmark: Benchmark, out: Path, ignored: Collection[Path] = ()) -> HarnessResult:
    """Read a benchmark's figures from the newest result file below a folder.

    Args:
        benchmark: What was run.
        out: The folder.
        ignored: Result files of earlier runs, which may have been of another model.

    Raises:
        HarnessFailure: There is none, it is damaged, or lacks the task or the metric.
    """
    file, told = _result_file(out, benchmark.task, ignored)
    try:
        figures = told["results"][benchmark.task]
        values = {one.key: _figure(figures, one.key, one.scale) for one in benchmark.metrics}
    except (ValueError, KeyError, TypeError) as error:
        raise HarnessFailure(
            f"{file} lacks a figure of {benchmark.task} that it should have: {error}"
        ) from error
    counts = [one["effective"] for one in (told.get("n-samples") or {}).values()]
    version = (told.get("versions") or {}).get(benchmark.task)
    return HarnessResult(
        values, sum(counts) if counts else None, "" if version is None else str(version)
    )


def result_files(out: Path) -> list[Path]:
    """What may be result files, the newest last; tasks leave other files of such names."""
    return sorted(out.rglob("*results*.json"), key=lambda file: (file.stat().st_mtime, file.name))


def _result_file(out: Path, task: str, ignored: Collection[Path]) -> tuple[Path, dict[str, Any]]:
    for file in reversed([file for file in result_files(out) if file not in ignored]):
        try:
            told = json.loads(file.read_bytes())
        except ValueError as error:
            raise HarnessFailure(f"{file} is no whole result file: {error}") from error
        if isinstance(told, dict) and task in (told.get("results") or {}):
            return file, told
    raise HarnessFailure(f"the harness left no result of {task}: {_last_error(out / LOG)}")


def _figure(figures: Mapping[str, Any], key: str, scale: float) -> Estimate:
    """A metric; its key has the name of a filter behind a comma."""
    found = {name.split(",")[0]: value for name, value in figures.items()}
    value, error = float(found[key]) * scale, found.get(f"{key}_stderr")
    if not math.isfinite(value):
        raise ValueError(f"{key} is {value}")
    if not isinstance(error, int | float) or not math.isfinite(error):
        return Estimate(value, None, None)
    half = _Z * scale * error
    # Shares, which are scaled to percent, end at 0 and 1, where the normal interval does not.
    low, high = (0.0, scale) if scale != 1 else (-math.inf, math.inf)
    return Estimate(value, max(low, value - half), min(high, value + half))
