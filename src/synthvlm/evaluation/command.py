"""``synthvlm eval``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from synthvlm import __version__
from synthvlm.errors import EvaluationError
from synthvlm.evaluation.asked_model import identified
from synthvlm.evaluation.benchmarks import EASY_VQA, chosen_benchmarks
from synthvlm.evaluation.easy_vqa import write_easy_vqa
from synthvlm.evaluation.evaluation import Evaluation, LocalFile
from synthvlm.evaluation.harness_environment import harness_python, harness_versions
from synthvlm.evaluation.results import Results, Row, harness_rows, local_rows
from synthvlm.progress.terminal import printable

if TYPE_CHECKING:
    from synthvlm.evaluation.questions import BadQuestion
    from synthvlm.evaluation.scoring import GroupScores
    from synthvlm.evaluation.settings import EvaluationSettings
    from synthvlm.progress.display import Progress

__all__ = ["evaluate_command"]

#: Says of a folder that it is of an evaluation; the first file that is written.
_MARK = ".synthvlm-eval"


def evaluate_command(
    model: str,
    settings: EvaluationSettings,
    *,
    out: str | None = None,
    as_json: bool = False,
    progress: Progress,
) -> tuple[str, bool]:
    """Evaluate a model on local question files and on the paper's benchmarks.

    Args:
        model: Hub id, folder, or output folder of ``synthvlm train``.
        settings: What it is evaluated on, and how.
        out: Folder of answers and results: a new one, or one to go on with; None: none is kept.
        as_json: Plain values instead of a table.
        progress: Shows the work.

    Returns:
        What to print, and whether all that was wanted was run.

    Raises:
        EvaluationError: There is nothing to run, a name is not known, the questions cannot be
            used, the folder is of another evaluation, or no harness can be had.
        ModelError: The model cannot be loaded.
    """
    questions = settings.questions
    has_easy, wanted = chosen_benchmarks(settings.benchmarks)
    if not (has_easy or wanted or questions):
        raise EvaluationError("nothing to evaluate: give --benchmarks NAME,... or --questions FILE")
    # What cannot be had is said before anything takes time.
    own = (
        None
        if questions is None
        else LocalFile(
            Path(questions).stem, questions, settings.images, settings.baseline_questions
        )
    )
    if own is not None and own.name in (EASY_VQA, *(one.name for one in wanted)):
        raise EvaluationError(f"{questions} has the name of a benchmark: rename it")
    asked = identified(model, settings.device, settings.dtype, settings.revision)
    python = harness_python(settings.harness_python, note=progress.note) if wanted else ""
    versions = {"synthvlm": __version__} | (harness_versions(python) if wanted else {})
    with _folder(out) as folder:
        evaluation = Evaluation(asked, folder, settings, progress)
        files = [] if own is None else [own]
        if has_easy:
            easy = write_easy_vqa(folder / EASY_VQA)
            files.append(LocalFile(EASY_VQA, easy.questions, easy.images, easy.training))
        rows: list[Row] = []
        groups: dict[str, tuple[GroupScores, ...]] = {}
        bad: list[BadQuestion] = []
        for file in files:
            scores, problems = evaluation.local(file)
            groups[file.name] = tuple(scores)
            rows += local_rows(file.name, scores)
            bad += problems
        for benchmark in wanted:
            result, problem = evaluation.harnessed(python, benchmark, versions)
            rows += harness_rows(benchmark, result, problem)
            if result is not None and result.version:
                versions[f"task {benchmark.task}"] = result.version
        told = {"name": model, **asked.values()}
        results = Results(told, versions, settings.limit, tuple(rows), groups, tuple(bad))
        _write(folder / "results.json", json.dumps(results.values(), indent=1) + "\n")
        _write(folder / "results.md", results.markdown())
    text = json.dumps(results.values()) if as_json else printable(results.text())
    return text, results.is_whole


@contextmanager
def _folder(out: str | None) -> Iterator[Path]:
    """The folder of results; a passing one where none is wanted."""
    if out is None:
        with TemporaryDirectory(prefix="synthvlm-eval-") as passing:
            yield Path(passing)
        return
    if "://" in out:
        raise EvaluationError(f"{out}: a URL; a folder of results is local")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / _MARK
        if not mark.exists() and any(folder.iterdir()):
            raise EvaluationError(f"{out} is not empty, and no evaluation: give another --out")
        mark.touch()
        yield folder
    except BrokenPipeError:  # of the terminal
        raise
    except OSError as error:
        raise EvaluationError(
            f"cannot write to {out}: {error.strerror or error}; the same command goes on from what "
            f"is finished"
        ) from error


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    # A folder's name need not be UTF-8, and is shown as it can be.
    partial.write_text(text, "utf-8", "backslashreplace")
    partial.replace(path)
