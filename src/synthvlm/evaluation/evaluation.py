"""The evaluation of one model in one folder: local files and harnesses, each resumable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.errors import EvaluationError
from synthvlm.evaluation.asked_model import AskedModel
from synthvlm.evaluation.benchmarks import Benchmark
from synthvlm.evaluation.harness import (
    HarnessFailure,
    HarnessResult,
    harness_command,
    judge_problem,
    read_result,
    result_files,
    run_harness,
)
from synthvlm.evaluation.local import Asked, ask
from synthvlm.evaluation.questions import BadQuestion, QuestionFile, read_questions
from synthvlm.evaluation.scoring import GroupScores, answer_scores, scored
from synthvlm.evaluation.settings import EvaluationSettings, changed_keys

if TYPE_CHECKING:
    from PIL.Image import Image

    from synthvlm.models.vlm import VisionLanguageModel
    from synthvlm.progress.display import Progress

__all__ = ["Evaluation", "LocalFile"]

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

    def __init__(self, model: AskedModel) -> None:
        self._asked = model

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from synthvlm.models.vlm import VisionLanguageModel

        one = self._asked
        return VisionLanguageModel(
            one.path, device=one.device, dtype=one.dtype, revision=one.revision
        )

    def answer(
        self, images: Sequence[Image | None], questions: Sequence[str], *, max_new_tokens: int
    ) -> list[str]:
        return self._model.answer(images, questions, max_new_tokens=max_new_tokens)


class Evaluation:
    """What one model is asked, and where its answers are kept."""

    def __init__(
        self,
        model: AskedModel,
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
        self._asked, self._folder = model, folder
        self._settings, self._progress = settings, progress
        self._model = _LazyModel(model)

    def local(self, file: LocalFile) -> tuple[list[GroupScores], tuple[BadQuestion, ...]]:
        """Ask the questions of a file, and score the answers.

        Returns:
            Scores of all questions and of each group; records that could not be used.

        Raises:
            EvaluationError: A question file cannot be used, or answers are of another evaluation.
            ModelError: The model cannot be loaded.
        """
        questions = read_questions(file.questions)
        training = read_questions(file.training) if file.training else None
        seen = self._ask(file, questions, blind=False)
        unseen = self._ask(file, questions, blind=True) if self._settings.blind else None
        scores = scored(seen, training.questions if training else (), unseen)
        _write_scores(self._folder / file.name / "scores.jsonl", questions.checksum, seen)
        return scores, (*seen.bad, *(training.bad if training else ()))

    def _ask(self, file: LocalFile, questions: QuestionFile, *, blind: bool) -> Asked:
        name = "blind-answers.jsonl" if blind else "answers.jsonl"
        return ask(
            self._model,
            self._asked.values(),
            questions,
            file.images,
            self._folder / file.name / name,
            self._settings,
            blind=blind,
            progress=self._progress,
        )

    def harnessed(
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
            **self._asked.values(),
            "limit": self._settings.limit,
            "versions": {name: versions[name] for name in packages if name in versions},
        }
        try:
            earlier: list[Path] = []
            if not _is_done(out, made_by):
                # Of a run that was killed before it said what made it: perhaps another model.
                earlier = result_files(out)
                self._run(python, benchmark, out, include)
            result = read_result(benchmark, out, earlier)
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
            self._asked,
            out,
            batch_size=self._settings.batch_size,
            limit=self._settings.limit,
            include=include,
        )
        self._progress.start(benchmark.name, None, "questions")
        run_harness(command, out, with_key=benchmark.needs_judge)
        self._progress.finish(benchmark.name, f"{benchmark.harness} ended")


def _write_scores(path: Path, checksum: str, asked: Asked) -> None:
    """The score of every answer, by which models are compared question by question."""
    lines: list[dict[str, Any]] = [{"questions": checksum}]
    for question, value in zip(asked.questions, answer_scores(asked), strict=True):
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
