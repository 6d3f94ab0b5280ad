"""A local benchmark: a file of questions, a folder of images, a model that answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from synthvlm.captions.decoding import decode_image
from synthvlm.captions.readers.images import ImageProblem, read_image
from synthvlm.errors import EvaluationError
from synthvlm.evaluation.answers import AnswerFile
from synthvlm.evaluation.questions import BadQuestion, Question, QuestionFile
from synthvlm.evaluation.settings import QuestionSettings

if TYPE_CHECKING:
    from PIL.Image import Image

    from synthvlm.progress import Progress

__all__ = ["Asked", "Model", "ask", "prompt"]


class Model(Protocol):
    """Answers questions about images; ``VisionLanguageModel`` is one."""

    def answer(
        self, images: Sequence[Image | None], questions: Sequence[str], *, max_new_tokens: int
    ) -> list[str]:
        """Answer n questions, each with its image or None."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, and what was answered.

    Attributes:
        questions: Those that were answered, in the order of their file.
        answers: One for each.
        bad: What could not be asked, of the file and of the images.
    """

    questions: tuple[Question, ...]
    answers: tuple[str, ...]
    bad: tuple[BadQuestion, ...]


def prompt(question: Question, settings: QuestionSettings) -> str:
    """What the model is asked: the question, its choices by letter, and what answer is wanted."""
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
) -> Asked:
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
    wanted = file.questions[: settings.limit]
    bad: list[BadQuestion] = []
    with closing(AnswerFile(answers, made_by)) as kept:
        left = [question for question in wanted if question.id not in kept.known]
        stage = f"{answers.parent.name}, without images" if blind else answers.parent.name
        progress.start(stage, len(wanted), "questions", len(wanted) - len(left))
        for start in range(0, len(left), settings.batch_size):
            batch = left[start : start + settings.batch_size]
            # Those without an image that opens are bad when blind, too: both see the same ones.
            opened = [(one, image) for one, image in _opened(file.path, batch, images, bad)]
            if opened:
                texts = [prompt(one, settings) for one, _ in opened]
                seen = [None if blind else image for _, image in opened]
                said = _answers(model, seen, texts, settings.max_new_tokens, file.path)
                kept.add([(one.id, text) for (one, _), text in zip(opened, said, strict=True)])
            progress.advance(len(batch))
        answered = [question for question in wanted if question.id in kept.known]
        progress.finish(stage, f"{len(answered):,} answers, {len(bad):,} without an image")
        if not answered:
            raise EvaluationError(f"no question can be asked; {bad[0].where}: {bad[0].problem}")
        texts = [kept.known[question.id] for question in answered]
    return Asked(tuple(answered), tuple(texts), (*file.bad, *bad))


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
