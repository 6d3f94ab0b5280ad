"""A local benchmark: a file of questions, a folder of images, a model that answers.

Answers are kept on disk as they come: an interrupted evaluation goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from synthvlm.captions.readers.images import ImageProblem, decode_image, read_image
from synthvlm.errors import EvaluationError
from synthvlm.evaluation.questions import BadQuestion, Question, QuestionFile
from synthvlm.evaluation.settings import QuestionSettings, changed_keys

if TYPE_CHECKING:
    from PIL.Image import Image

    from synthvlm.progress.display import Progress

__all__ = ["AnswerFile", "AnsweredQuestions", "Model", "ask", "prompt"]


class Model(Protocol):
    """Answers questions about images; ``VisionLanguageModel`` is one."""

    def answer(
        self, images: Sequence[Image | None], questions: Sequence[str], *, max_new_tokens: int
    ) -> list[str]:
        """Answer n questions, each with its image or None."""
        ...


@dataclass(frozen=True, slots=True)
class AnsweredQuestions:
    """Questions that a model was asked, and its answers.

    Attributes:
        questions: Those that were answered, in the order of their file.
        answers: One for each.
        bad: What could not be asked, of the file and of the images.
    """

    questions: tuple[Question, ...]
    answers: tuple[str, ...]
    bad: tuple[BadQuestion, ...]


def prompt(question: Question, settings: QuestionSettings) -> str:
    """What the model is asked: the question, its choices by letter, and the form of the answer."""
    lines = [question.text]
    lines += [f"{chr(ord('A') + n)}. {text}" for n, text in enumerate(question.choices)]
    suffix = settings.choice_suffix if question.choices else settings.suffix
    return "\n".join([*lines, suffix] if suffix else lines)


def ask(
    model: Model,
    identity: Mapping[str, Any],
    file: QuestionFile,
    images: str | None,
    answers: Path,
    settings: QuestionSettings,
    *,
    blind: bool = False,
    progress: Progress,
) -> AnsweredQuestions:
    """Ask a model all questions that have no answer yet, and keep each answer as it comes.

    Args:
        model: The model.
        identity: What its answers depend on besides the questions, as plain values.
        file: The questions.
        images: Folder of their images; None if none has one.
        answers: File of the answers: a new one, or one to go on with.
        settings: How they are asked.
        blind: Ask without the images.
        progress: Shows how far it is.

    Raises:
        EvaluationError: The answers are of another model, other questions or other settings; there
            is no folder of images; no image can be opened.
    """
    if images is None and any(question.image for question in file.questions):
        raise EvaluationError(f"{file.path} has questions with images: give their folder, --images")
    made_by = {
        **identity,
        "questions": file.checksum,
        "blind": blind,
        "suffix": settings.suffix,
        "choice_suffix": settings.choice_suffix,
        "max_new_tokens": settings.max_new_tokens,
    }
    questions = file.questions[: settings.limit]
    bad: list[BadQuestion] = []
    with closing(AnswerFile(answers, made_by)) as answer_file:
        left = [question for question in questions if question.id not in answer_file.known]
        stage = f"{answers.parent.name}, without images" if blind else answers.parent.name
        progress.start(stage, len(questions), "questions", len(questions) - len(left))
        for start in range(0, len(left), settings.batch_size):
            batch = left[start : start + settings.batch_size]
            # Those without an image that opens are bad when blind, too: both see the same ones.
            opened = list(_opened(file.path, batch, images, bad))
            if opened:
                prompts = [prompt(question, settings) for question, _ in opened]
                shown = [None if blind else image for _, image in opened]
                texts = _answers(model, shown, prompts, settings.max_new_tokens, file.path)
                ids = [question.id for question, _ in opened]
                answer_file.add(list(zip(ids, texts, strict=True)))
            progress.advance(len(batch))
        answered = [question for question in questions if question.id in answer_file.known]
        progress.finish(stage, f"{len(answered):,} answers, {len(bad):,} without an image")
        if not answered:
            raise EvaluationError(f"no question can be asked; {bad[0].where}: {bad[0].problem}")
        texts = [answer_file.known[question.id] for question in answered]
    return AnsweredQuestions(tuple(answered), tuple(texts), (*file.bad, *bad))


def _opened(
    path: str, questions: Sequence[Question], images: str | None, bad: list[BadQuestion]
) -> Iterator[tuple[Question, Image | None]]:
    for question in questions:
        if question.image is None:
            yield question, None
            continue
        file = Path(images or "") / question.image
        try:
            image = decode_image(read_image(str(file)))
        except OSError as error:
            problem = f"its image {file} cannot be read: {error.strerror}"
            bad.append(BadQuestion(f"{path}, id {question.id:.80}", problem))
        except (ImageProblem, ValueError) as error:
            bad.append(BadQuestion(f"{path}, id {question.id:.80}", f"{file}: {error}"))
        else:
            yield question, image


def _answers(
    model: Model, images: Sequence[Image | None], texts: Sequence[str], limit: int, path: str
) -> list[str]:
    try:
        return model.answer(images, texts, max_new_tokens=limit)
    except ValueError as error:
        longest = " ".join(max(texts, key=len).split())
        raise EvaluationError(
            f"{path} has a question that cannot be asked: {error}; the longest of {len(texts)} "
            f"begins {longest[:60]!r}"
        ) from error


class AnswerFile:
    """JSON Lines: first what the answers are of, then an answer per line.

    A line that a crash cut short does not count, and is written over.
    """

    def __init__(self, path: Path, made_by: Mapping[str, Any]) -> None:
        """Open a file, or begin one.

        Args:
            path: The file; its folder is made.
            made_by: What the answers depend on: model, questions, settings; plain values.

        Raises:
            EvaluationError: It cannot be written, another evaluation writes it now, or it holds
                answers that something else made.
        """
        self._path = path
        self.known: dict[str, str] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a+b")
        except OSError as error:
            raise EvaluationError(f"cannot write {path}: {error.strerror}") from error
        try:
            self._lock()
            whole = self._read(made_by)
            self._stream.truncate(whole)
            if not whole:
                self._write({"made_by": dict(made_by)})
        except BaseException:
            self._stream.close()
            raise

    def _lock(self) -> None:
        """Keep other evaluations out; the system lets go of it when this process ends."""
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EvaluationError(
                f"another evaluation writes {self._path} now: wait for it, or give another --out"
            ) from error
        except OSError:
            return  # a file system without locks

    def _read(self, made_by: Mapping[str, Any]) -> int:
        """Read the answers of before; the number of bytes that are whole lines."""
        self._stream.seek(0)
        lines = self._stream.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        try:
            records = [json.loads(line) for line in lines]
            recorded_made_by = records[0]["made_by"] if records else dict(made_by)
            self.known = {record["id"]: record["answer"] for record in records[1:]}
            changed = changed_keys(recorded_made_by, made_by)
            if not all(isinstance(answer, str) for answer in self.known.values()):
                raise TypeError("an answer is no text")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EvaluationError(f"{self._path} is no file of answers; move it away") from error
        if changed and not self.known:
            return 0  # it came to no answer, perhaps for lack of that model
        if changed:
            raise EvaluationError(
                f"{self._path} holds answers of an evaluation with another "
                f"{', '.join(changed)}: give another --out, or remove it"
            )
        return sum(map(len, lines))

    def add(self, answers: Sequence[tuple[str, str]]) -> None:
        """Keep answers by the ids of their questions."""
        for id, answer in answers:
            self._write({"id": id, "answer": answer})
            self.known[id] = answer
        self._stream.flush()

    def close(self) -> None:
        """Have everything on disk."""
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        finally:
            self._stream.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._stream.write(json.dumps(record).encode() + b"\n")
