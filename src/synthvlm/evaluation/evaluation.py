"""``synthvlm eval``: a model on local files and in harnesses, in one folder, resumable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from synthvlm.errors import EvaluationError
from synthvlm.evaluation.benchmarks import EASY_VQA, Benchmark, choose_benchmarks
from synthvlm.evaluation.easy_vqa import write_easy_vqa
from synthvlm.evaluation.evaluated_model import EvaluatedModel, identify_model
from synthvlm.evaluation.harness import (
    HarnessFailure,
    HarnessResult,
    harness_command,
    harness_python,
    harness_versions,
    judge_problem,
    login_note,
    read_result,
    result_files,
    run_harness,
)
from synthvlm.evaluation.local import AnsweredQuestions, ask
from synthvlm.evaluation.questions import BadQuestion, QuestionFile, read_questions
from synthvlm.evaluation.results import Results, Row, harness_rows, local_rows
from synthvlm.evaluation.scoring import GroupScores, answer_scores, score_groups
from synthvlm.evaluation.settings import EvaluationSettings, changed_keys

if TYPE_CHECKING:
    from PIL.Image import Image

    from synthvlm.models.vlm import VisionLanguageModel
    from synthvlm.progress.display import Progress

__all__ = ["Evaluation", "LocalFile", "evaluate", "evaluate_command"]

#: Marks a folder as one of an evaluation; the first file that is written.
_FOLDER_MARK = ".synthvlm-eval"
_RESULTS = "results.json"


def evaluate_command(
    model: str,
    settings: EvaluationSettings,
    *,
    out: str | None = None,
    as_json: bool = False,
    progress: Progress,
) -> tuple[str, bool]:
    """What ``synthvlm eval`` prints, and whether its exit status is 0; see ``evaluate``."""
    results, is_whole = evaluate(model, settings, out=out, progress=progress)
    return json.dumps(results.values()) if as_json else results.text(), is_whole


def evaluate(
    model: str, settings: EvaluationSettings, *, out: str | None = None, progress: Progress
) -> tuple[Results, bool]:
    """Evaluate a model on local question files and on the paper's benchmarks.

    Args:
        model: Hub id, folder, or output folder of ``synthvlm train``.
        settings: What it is evaluated on, and how.
        out: Folder of answers and results: a new one, or one to go on with; None: none is kept.
        progress: Shows the work.

    Returns:
        All results that the folder has, and whether every benchmark that was asked for was run.

    Raises:
        EvaluationError: There is nothing to run, a name is not known, the questions cannot be
            used, the folder is of another evaluation, or no harness can be had.
        ModelError: The model cannot be loaded.
    """
    has_easy, benchmarks = choose_benchmarks(settings.benchmarks)
    if not (has_easy or benchmarks or settings.questions):
        raise EvaluationError("nothing to evaluate: give --benchmarks NAME,... or --questions FILE")
    files = _own_files(settings, benchmarks)
    # What is missing is reported before anything takes time.
    login = login_note(benchmarks)
    if login is not None:
        progress.note(login)
    python = harness_python(settings.harness_python, note=progress.note) if benchmarks else ""
    versions = {"synthvlm": version("synthvlm")} | (harness_versions(python) if benchmarks else {})
    evaluated = identify_model(model, settings.device, settings.dtype, settings.revision)
    described = {"name": model, **evaluated.values()}
    with _folder(out) as folder:
        earlier = _earlier_results(folder / _RESULTS, described, settings.limit)
        if has_easy:
            easy = write_easy_vqa(folder / EASY_VQA)
            files.append(LocalFile(EASY_VQA, easy.questions, easy.images, easy.training))
        evaluation = Evaluation(evaluated, folder, settings, progress)
        new = _run_all(evaluation, described, versions, files, python, benchmarks, settings.limit)
        paths = [path for file in files for path in (file.questions, file.training) if path]
        results = new if earlier is None else new.joined(earlier, paths)
        _write(folder / _RESULTS, json.dumps(results.values(), indent=1) + "\n")
        _write(folder / "results.md", results.markdown())
    return results, new.is_whole


def _own_files(settings: EvaluationSettings, benchmarks: Sequence[Benchmark]) -> list[LocalFile]:
    """The user's own question file, if there is one."""
    path = settings.questions
    if path is None:
        return []
    file = LocalFile(Path(path).stem, path, settings.images, settings.baseline_questions)
    if file.name in (EASY_VQA, *(benchmark.name for benchmark in benchmarks)):
        raise EvaluationError(f"{path} has the name of a benchmark: rename it")
    return [file]


def _run_all(
    evaluation: Evaluation,
    model: dict[str, Any],
    versions: dict[str, str],
    files: Sequence[LocalFile],
    python: str,
    benchmarks: Sequence[Benchmark],
    limit: int | None,
) -> Results:
    """Results on local files, then of benchmarks by harnesses."""
    rows: list[Row] = []
    groups: dict[str, tuple[GroupScores, ...]] = {}
    bad: list[BadQuestion] = []
    for file in files:
        scores, problems = evaluation.run_local(file)
        groups[file.name] = tuple(scores)
        rows += local_rows(file.name, scores)
        bad += problems
    tasks: dict[str, str] = {}
    for benchmark in benchmarks:
        result, problem = evaluation.run_benchmark(python, benchmark, versions)
        rows += harness_rows(benchmark, result, problem)
        if result is not None and result.version:
            tasks[f"task {benchmark.task}"] = result.version
    return Results(model, {**versions, **tasks}, limit, tuple(rows), groups, tuple(bad))


@contextmanager
def _folder(out: str | None) -> Iterator[Path]:
    """The folder of results; a temporary one where none is named."""
    if out is None:
        with TemporaryDirectory(prefix="synthvlm-eval-") as temporary:
            yield Path(temporary)
        return
    if "://" in out:
        raise EvaluationError(f"{out}: a URL; a folder of results is local")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / _FOLDER_MARK
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


def _earlier_results(
    path: Path, model: Mapping[str, Any], limit: int | None
) -> dict[str, Any] | None:
    """What an earlier evaluation wrote, as plain values; None where there is none.

    Raises:
        EvaluationError: It is of another model or limit, or damaged.
    """
    if not path.is_file():
        return None
    try:
        earlier = json.loads(path.read_bytes())
        before = {**earlier["model"], "limit": earlier["limit"], "name": model["name"]}
        changed = changed_keys(before, {**model, "limit": limit})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EvaluationError(f"{path} is damaged: remove it, or give another --out") from None
    if changed:
        raise EvaluationError(
            f"{path.parent} holds results of an evaluation with another {', '.join(changed)}: "
            f"give another --out, or remove it"
        )
    return dict(earlier)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    # A folder's name need not be UTF-8, and is shown as it can be.
    partial.write_text(text, "utf-8", "backslashreplace")
    partial.replace(path)


_MADE_BY = "made_by.json"


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A local benchmark.

    Attributes:
        name: Of its folder and in tables.
        questions: The question file.
        images: Folder of the images; None: no question has one.
        training: Question file that baselines may learn from, or None.
    """

    name: str
    questions: str
    images: str | None
    training: str | None


class _LazyModel:
    """The model, loaded with the first question: a finished evaluation needs none."""

    def __init__(self, model: EvaluatedModel) -> None:
        self._evaluated = model

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from synthvlm.models.vlm import VisionLanguageModel

        model = self._evaluated
        return VisionLanguageModel(
            model.path, device=model.device, dtype=model.dtype, revision=model.revision
        )

    def answer(
        self, images: Sequence[Image | None], questions: Sequence[str], *, max_new_tokens: int
    ) -> list[str]:
        return self._model.answer(images, questions, max_new_tokens=max_new_tokens)


class Evaluation:
    """What one model is asked, and where its answers are kept."""

    def __init__(
        self,
        model: EvaluatedModel,
        folder: Path,
        settings: EvaluationSettings,
        progress: Progress,
    ) -> None:
        """Evaluate a model in a folder.

        Args:
            model: The model.
            folder: Of answers and of the harnesses' result files.
            settings: How it is asked.
            progress: Shows the work.
        """
        self._evaluated, self._folder = model, folder
        self._settings, self._progress = settings, progress
        self._model = _LazyModel(model)

    def run_local(self, file: LocalFile) -> tuple[list[GroupScores], tuple[BadQuestion, ...]]:
        """Ask the questions of a file, and score the answers.

        Returns:
            Scores of all questions and of each group; records that could not be used.

        Raises:
            EvaluationError: A question file cannot be used, or answers are of another evaluation.
            ModelError: The model cannot be loaded.
        """
        questions = read_questions(file.questions)
        training = read_questions(file.training) if file.training else None
        answered = self._ask(file, questions, blind=False)
        blind = self._ask(file, questions, blind=True) if self._settings.blind else None
        scores = score_groups(answered, training.questions if training else (), blind)
        _write_scores(self._folder / file.name / "scores.jsonl", questions.checksum, answered)
        return scores, (*answered.bad, *(training.bad if training else ()))

    def _ask(self, file: LocalFile, questions: QuestionFile, *, blind: bool) -> AnsweredQuestions:
        name = "blind-answers.jsonl" if blind else "answers.jsonl"
        return ask(
            self._model,
            self._evaluated.values(),
            questions,
            file.images,
            self._folder / file.name / name,
            self._settings,
            blind=blind,
            progress=self._progress,
        )

    def run_benchmark(
        self,
        python: str,
        benchmark: Benchmark,
        versions: Mapping[str, str],
        include: Path | None = None,
    ) -> tuple[HarnessResult | None, str]:
        """Run a benchmark by its harness, unless it was run before.

        Args:
            python: Of the harness's environment.
            benchmark: What to run.
            versions: Of the harnesses and of what they run on.
            include: Folder with YAML files of more tasks.

        Returns:
            The result, or None and why there is none: one that fails keeps no other from running.

        Raises:
            EvaluationError: The folder holds a result of another evaluation.
        """
        problem = judge_problem(benchmark)
        if problem is not None:
            return None, problem
        out = self._folder / benchmark.name
        packages = ("lm-eval", "lmms-eval", "datasets", "transformers", "torch")
        made_by = {
            **self._evaluated.values(),
            "limit": self._settings.limit,
            "versions": {name: versions[name] for name in packages if name in versions},
        }
        try:
            old_files: list[Path] = []
            if not _is_done(out, made_by):
                # Of a run that was killed before it wrote what made them: perhaps another model.
                old_files = result_files(out)
                self._run(python, benchmark, out, include)
            result = read_result(benchmark, out, old_files)
            # Written last: lmms-eval ends well even where it failed, and leaves no result.
            (out / _MADE_BY).write_text(json.dumps(made_by) + "\n")
            return result, ""
        except HarnessFailure as error:
            self._progress.note(f"{benchmark.name}: {error}")
            return None, str(error)

    def _run(self, python: str, benchmark: Benchmark, out: Path, include: Path | None) -> None:
        command = harness_command(
            python,
            benchmark,
            self._evaluated,
            out,
            batch_size=self._settings.batch_size,
            limit=self._settings.limit,
            include=include,
        )
        self._progress.start(benchmark.name, None, "questions")
        run_harness(command, out, with_key=benchmark.needs_judge)
        self._progress.finish(benchmark.name, f"{benchmark.harness} ended")


def _write_scores(path: Path, checksum: str, answered: AnsweredQuestions) -> None:
    """The score of every answer, by which models are compared question by question."""
    lines: list[dict[str, Any]] = [{"questions": checksum}]
    for question, value in zip(answered.questions, answer_scores(answered), strict=True):
        lines.append({"id": question.id, "group": question.group, "score": value})
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def _is_done(out: Path, made_by: Mapping[str, Any]) -> bool:
    """Whether the folder holds the result of the same evaluation."""
    file = out / _MADE_BY
    if not file.is_file():
        return False
    try:
        earlier = json.loads(file.read_bytes())
        changed = changed_keys(earlier, made_by)
    except (ValueError, AttributeError, TypeError) as error:
        raise EvaluationError(f"{file} is damaged: remove {out}") from error
    if changed:
        raise EvaluationError(
            f"{out} holds a result of an evaluation with another {', '.join(changed)}: give "
            f"another --out, or remove it"
        )
    return True
