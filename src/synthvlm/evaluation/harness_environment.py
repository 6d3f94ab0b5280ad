"""Where the harnesses live: an environment of their own, given or made on first use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

from synthvlm.errors import EvaluationError

__all__ = ["HARNESS_PYTHON", "harness_python", "harness_versions", "make_environment"]

#: Names the python of an environment that has the harnesses.
HARNESS_PYTHON = "SYNTHVLM_HARNESS_PYTHON"
#: What pip installs, step by step. lmms-eval asks for much that the paper's tasks do not need.
_STEPS = (
    (
        "lm-eval==0.4.13",
        *("loguru", "openai", "openpyxl", "pandas", "pytablewriter", "pytz", "sacrebleu"),
        *("scikit-learn", "tenacity"),
    ),
    ("--no-deps", "lmms-eval==0.7.3"),
)
_PACKAGES = ("lm-eval", "lmms-eval", "datasets", "transformers", "torch")
_ASK = f"""
import json, importlib.metadata as m
import lm_eval, lmms_eval
print("\\n" + json.dumps({{name: m.version(name) for name in {_PACKAGES!r}}}))
"""


def harness_python(
    given: str | None,
    environment: Mapping[str, str] = os.environ,
    note: Callable[[str], None] = print,
) -> str:
    """The python to run harnesses with: as given, as the variable says, or of a new environment.

    Args:
        given: From the command line.
        environment: Has ``SYNTHVLM_HARNESS_PYTHON`` or not, and says where caches are.
        note: Told where a new environment is made.

    Raises:
        EvaluationError: There is none, and none can be made.
    """
    python = given or environment.get(HARNESS_PYTHON)
    if python:
        return python
    cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(cache) / "synthvlm" / "harness"
    made = folder / "bin" / "python"
    if not (folder / "complete").is_file():
        note(f"making an environment for lm-eval and lmms-eval in {folder}")
        make_environment(folder)
    return str(made)


def make_environment(folder: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Make an environment with the harnesses, on top of the packages of this one.

    It sees what is installed here (torch, transformers ...), so evaluation runs with the versions
    of training and little is fetched; nothing is installed here.

    Raises:
        EvaluationError: Python or pip could not.
    """
    python = str(folder / "bin" / "python")
    advice = (
        f"give a python that has lm-eval and lmms-eval: --harness-python, or {HARNESS_PYTHON}; "
        f"docs/evaluation.md says what is installed"
    )
    _run([sys.executable, "-m", "venv", "--clear", str(folder)], environment, advice)
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    (packages / "synthvlm-environment.pth").write_text("".join(f"{path}\n" for path in here))
    for step in _STEPS:
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *step]
        _run(command, environment, advice)
    (folder / "complete").touch()  # last, so that what a crash left is made again


def harness_versions(python: str) -> dict[str, str]:
    """Versions of the harnesses and of what they run on, as that python has them.

    Raises:
        EvaluationError: It cannot be started, or lacks a harness.
    """
    advice = f"give another --harness-python or {HARNESS_PYTHON}"
    text = _run([python, "-c", _ASK], os.environ, advice)
    try:
        versions: dict[str, str] = json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise EvaluationError(f"{python} does not tell its versions: {advice}") from error
    return versions


def _run(command: list[str], environment: Mapping[str, str], advice: str) -> str:
    what = " ".join(part for part in command[:4] if "\n" not in part)
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
        said = next((line for line in reversed(lines) if "rror" in line), (lines or ["?"])[-1])
        raise EvaluationError(f"no harness: `{what} ...` failed: {said.strip()}; {advice}")
    return done.stdout
