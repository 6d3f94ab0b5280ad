"""Benchmarks run by lmms-eval and lm-eval: as commands, in an environment of their own.

The environment is given, or made on first use.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthvlm.errors import EvaluationError
from synthvlm.estimates import Estimate
from synthvlm.evaluation.benchmarks import Benchmark
from synthvlm.evaluation.evaluated_model import EvaluatedModel

__all__ = [
    "HARNESS_PYTHON",
    "HarnessFailure",
    "HarnessResult",
    "harness_command",
    "harness_python",
    "harness_versions",
    "judge_problem",
    "login_note",
    "make_environment",
    "read_result",
    "result_files",
    "run_harness",
]

#: Of the standard normal distribution: a harness's standard error to a 95 % interval.
_Z = 1.959963984540054
LOG = "harness.log"
_JUDGE_KEY = "OPENAI_API_KEY"
#: How Python ends a traceback, and how loguru and argparse show errors.
_ERROR = re.compile(r"^[\w.]*(Error|Exception)\b|\| ERROR|error:")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ADAPTER = Path(__file__).with_name("lmms_adapter.py")


class HarnessFailure(EvaluationError):
    """A harness did not run a benchmark to its end, or left no result; others may still run."""


@dataclass(frozen=True, slots=True)
class HarnessResult:
    """What a harness's result file holds of a task.

    Attributes:
        values: Each metric by its key, scaled, with a 95 % interval where the harness gives a
            standard error.
        questions: How many were asked; None: not known.
        version: The task's version; "" if it has none.
    """

    values: dict[str, Estimate]
    questions: int | None
    version: str


def harness_command(
    python: str,
    benchmark: Benchmark,
    model: EvaluatedModel,
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


def login_note(benchmarks: Sequence[Benchmark]) -> str | None:
    """What to do where data sets of benchmarks need a login that is not there; None: nothing."""
    from huggingface_hub import get_token

    names = [benchmark.name for benchmark in benchmarks if benchmark.needs_login]
    if not names or get_token():
        return None
    return (
        f"data sets that need a login at the Hugging Face hub: {', '.join(names)}; there is none "
        f"here, so they will fail: `hf auth login`, or set HF_TOKEN"
    )


def run_harness(command: Sequence[str], out: Path, *, with_key: bool = False) -> None:
    """Run a harness; all that it prints goes to ``harness.log`` in its folder.

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
    """The last line of a log that shows an error, and where the rest is."""
    try:
        lines = _COLOUR.sub("", log.read_text(errors="replace")).splitlines()
    except OSError:
        return f"there is no log {log}"
    errors = [line for line in map(str.strip, lines) if _ERROR.search(line)]
    return f"{errors[-1][:300] if errors else 'no error was named'} (its log: {log})"


def read_result(benchmark: Benchmark, out: Path, ignored: Collection[Path] = ()) -> HarnessResult:
    """Read a benchmark's figures from the newest result file below a folder.

    Args:
        benchmark: What was run.
        out: The folder.
        ignored: Result files of earlier runs, which may have been of another model.

    Raises:
        HarnessFailure: There is none, it is damaged, or lacks the task or the metric.
    """
    file, report = _result_file(out, benchmark.task, ignored)
    try:
        figures = report["results"][benchmark.task]
        values = {
            metric.key: _figure(figures, metric.key, metric.scale) for metric in benchmark.metrics
        }
    except (ValueError, KeyError, TypeError) as error:
        raise HarnessFailure(
            f"{file} lacks a figure of {benchmark.task} that it should have: {error}"
        ) from error
    counts = [count["effective"] for count in (report.get("n-samples") or {}).values()]
    version = (report.get("versions") or {}).get(benchmark.task)
    return HarnessResult(
        values, sum(counts) if counts else None, "" if version is None else str(version)
    )


def result_files(out: Path) -> list[Path]:
    """What may be result files, the newest last; tasks leave other files of such names."""
    return sorted(out.rglob("*results*.json"), key=lambda file: (file.stat().st_mtime, file.name))


def _result_file(out: Path, task: str, ignored: Collection[Path]) -> tuple[Path, dict[str, Any]]:
    for file in reversed([file for file in result_files(out) if file not in ignored]):
        try:
            report = json.loads(file.read_bytes())
        except ValueError as error:
            raise HarnessFailure(f"{file} is no whole result file: {error}") from error
        if isinstance(report, dict) and task in (report.get("results") or {}):
            return file, report
    raise HarnessFailure(f"the harness left no result of {task}: {_last_error(out / LOG)}")


def _figure(figures: Mapping[str, Any], key: str, scale: float) -> Estimate:
    """A metric; its key has the name of a filter behind a comma."""
    by_key = {name.split(",")[0]: value for name, value in figures.items()}
    value, error = float(by_key[key]) * scale, by_key.get(f"{key}_stderr")
    if not math.isfinite(value):
        raise ValueError(f"{key} is {value}")
    if not isinstance(error, int | float) or not math.isfinite(error):
        return Estimate(value, None, None)
    half = _Z * scale * error
    # Shares, which are scaled to percent, end at 0 and 1, where the normal interval does not.
    low, high = (0.0, scale) if scale != 1 else (-math.inf, math.inf)
    return Estimate(value, max(low, value - half), min(high, value + half))


#: Names the python of an environment that has the harnesses.
HARNESS_PYTHON = "SYNTHVLM_HARNESS_PYTHON"
#: What pip installs, step by step: packages by hash, and what those without a wheel are built with.
#: lmms-eval requires much that the paper's tasks do not need, which is left out.
_PINNED = ("--no-deps", "--require-hashes")
_STEPS = (
    (*_PINNED, "-r", str(Path(__file__).with_name("harness-build.lock"))),
    (*_PINNED, "--no-build-isolation", "-r", str(Path(__file__).with_name("harness.lock"))),
)
_PACKAGES = ("lm-eval", "lmms-eval", "datasets", "transformers", "torch")
_VERSIONS_SCRIPT = f"""
import json, importlib.metadata as m
import lm_eval, lmms_eval
print("\\n" + json.dumps({{name: m.version(name) for name in {_PACKAGES!r}}}))
"""


def harness_python(
    given: str | None,
    environment: Mapping[str, str] = os.environ,
    note: Callable[[str], None] = print,
) -> str:
    """The python to run harnesses with: as given, of the variable, or of a new environment.

    Args:
        given: From the command line.
        environment: May have ``SYNTHVLM_HARNESS_PYTHON``, and where caches are.
        note: Gets a line where a new environment is made.

    Raises:
        EvaluationError: There is none, and none can be made.
    """
    python = given or environment.get(HARNESS_PYTHON)
    if python:
        return python
    cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(cache) / "synthvlm" / "harness"
    if not (folder / "complete").is_file():
        note(f"making an environment for lm-eval and lmms-eval in {folder}")
        make_environment(folder)
    return str(folder / "bin" / "python")


def make_environment(folder: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Make an environment with the harnesses, on top of the packages of this one.

    What is fetched is known by its hash. It sees what is installed here (torch, transformers ...),
    so evaluation runs with the versions of training and little is fetched; nothing is installed
    here.

    Raises:
        EvaluationError: Python or pip could not.
    """
    python = str(folder / "bin" / "python")
    advice = (
        f"give a python that has lm-eval and lmms-eval: --harness-python, or {HARNESS_PYTHON}; "
        f"docs/evaluation.md lists what is installed"
    )
    _run_setup([sys.executable, "-m", "venv", "--clear", str(folder)], environment, advice)
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    (packages / "synthvlm-environment.pth").write_text("".join(f"{path}\n" for path in here))
    for step in _STEPS:
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *step]
        _run_setup(command, environment, advice)
    (folder / "complete").touch()  # last, so that what a crash left is made again


def harness_versions(python: str) -> dict[str, str]:
    """Versions of the harnesses and of what they run on, as that python has them.

    Raises:
        EvaluationError: It cannot be started, or lacks a harness.
    """
    advice = f"give another --harness-python or {HARNESS_PYTHON}"
    text = _run_setup([python, "-c", _VERSIONS_SCRIPT], os.environ, advice)
    try:
        versions: dict[str, str] = json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise EvaluationError(f"{python} does not print its versions: {advice}") from error
    return versions


def _run_setup(command: list[str], environment: Mapping[str, str], advice: str) -> str:
    shown = " ".join(part for part in command[:4] if "\n" not in part)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,  # nobody sees what it would ask
            capture_output=True,
            text=True,
            env=dict(environment),
            check=False,
        )
    except OSError as error:
        raise EvaluationError(f"cannot start {command[0]}: {error.strerror}; {advice}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        last = next((line for line in reversed(lines) if "rror" in line), (lines or ["?"])[-1])
        raise EvaluationError(f"no harness: `{shown} ...` failed: {last.strip()}; {advice}")
    return done.stdout
