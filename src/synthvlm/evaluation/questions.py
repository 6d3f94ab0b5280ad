"""Question files: a JSON list, or JSON Lines, checked record by record."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from synthvlm.captions.readers.json_values import json_names, parse_json
from synthvlm.captions.readers.objects import is_utf8
from synthvlm.errors import EvaluationError

__all__ = ["BadQuestion", "Question", "QuestionFile", "read_questions"]

#: Fewer answers of annotators cannot reach a VQA accuracy of 1: three others must agree.
_LEAST_ANNOTATORS = 4
_NAMES = json_names(["id", "image", "question", "answer", "choices", "group"])
_LETTERS = string.ascii_uppercase


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answer.

    Attributes:
        id: Unique in its file.
        image: Path relative to the images' folder; None: a question of text alone.
        text: The question.
        answers: One answer, or those of at least 4 annotators.
        choices: Texts of the choices, at most 26; the one answer is then a letter.
        group: What results are told apart by; "" for none.
    """

    id: str
    image: str | None
    text: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True, slots=True)
class BadQuestion:
    """A record that cannot be used.

    Attributes:
        where: File, number of the record (from 1) and its id.
        problem: What is wrong with it.
    """

    where: str
    problem: str


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """A question file as read.

    Attributes:
        path: Where it is.
        checksum: SHA-256 (hex) of its bytes.
        questions: The good ones, in their order.
        bad: The others.
    """

    path: str
    checksum: str
    questions: tuple[Question, ...]
    bad: tuple[BadQuestion, ...]


def read_questions(path: str) -> QuestionFile:
    """Read a list of ``{"id"?, "image"?, "question", "answer", "choices"?, "group"?}``.

    ``answer`` is a text, or the list of what annotators answered; with ``choices``, a list of
    texts, it is one of them or its letter. An id that is not there is the record's number.

    Raises:
        EvaluationError: It cannot be read, is neither JSON nor JSON Lines, or has no good question.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise EvaluationError(f"cannot read the questions {path}: {error.strerror}") from error
    questions: list[Question] = []
    bad: list[BadQuestion] = []
    seen: set[str] = set()
    for number, record in enumerate(_records(path, data), start=1):
        where = f"{path}, record {number}"
        try:
            question = _question(record, number)
            if question.id in seen:
                raise ValueError("its id is used twice")
        except ValueError as error:
            known = record.get("id") if isinstance(record, dict) else None
            name = f" (id {known!s:.80})" if known else ""
            bad.append(BadQuestion(where + name, str(error)))
            continue
        seen.add(question.id)
        questions.append(question)
    if not questions:
        first = f"; {bad[0].where}: {bad[0].problem}" if bad else ""
        raise EvaluationError(f"{path} holds no question that can be used{first}")
    return QuestionFile(path, hashlib.sha256(data).hexdigest(), tuple(questions), tuple(bad))


def _records(path: str, data: bytes) -> Iterable[Any]:
    stripped = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    try:
        if stripped.startswith(b"["):
            records: list[Any] = parse_json(stripped, _NAMES)
            return records
        return [parse_json(line, _NAMES) for line in stripped.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise EvaluationError(
            f"{path} is neither a JSON list nor JSON Lines of questions: {error}"
        ) from error


def _question(record: Any, number: int) -> Question:
    if not isinstance(record, dict):
        raise ValueError("it is not an object")
    if not is_utf8(json.dumps(record, ensure_ascii=False)):
        raise ValueError("it holds invalid UTF-8, or half of a surrogate pair")
    text = record.get("question")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("it has no question")
    if "<image>" in text:
        raise ValueError("its question holds <image>; the image goes before the question by itself")
    choices = _choices(record.get("choices"))
    id, group = record.get("id"), record.get("group", "")
    if id is not None and not isinstance(id, str | int):
        raise ValueError("its id is neither a text nor a number")
    if not isinstance(group, str):
        raise ValueError("its group is not a text")
    return Question(
        id=str(number if id is None else id),
        image=_image(record.get("image")),
        text=text.strip(),
        answers=_answers(record.get("answer"), choices),
        choices=choices,
        group=group,
    )


def _image(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise ValueError("its image is not a path")
    path = PurePosixPath(value.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("its image lies outside the images' folder")
    return value


def _choices(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    is_good = isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value)
    if not is_good or not 2 <= len(value) <= len(_LETTERS):
        raise ValueError("its choices are not a list of 2 to 26 texts")
    if {choice.strip().upper() for choice in value} & set(_LETTERS[: len(value)]):
        raise ValueError("its choices are themselves letters of choices")
    choices = tuple(choice.strip() for choice in value)
    if len({choice.lower() for choice in choices}) < len(choices):
        raise ValueError("two of its choices are the same")
    return choices


def _answers(value: Any, choices: tuple[str, ...]) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    if not given or not all(isinstance(one, str) and one.strip() for one in given):
        raise ValueError("it has no answer")
    answers = tuple(one.strip() for one in given)
    if choices:
        if len(answers) > 1:
            raise ValueError("it has choices and more than one answer")
        return (_letter(answers[0], choices),)
    if 1 < len(answers) < _LEAST_ANNOTATORS:
        raise ValueError("VQA accuracy takes one answer, or those of 4 annotators or more")
    return answers


def _letter(answer: str, choices: tuple[str, ...]) -> str:
    if answer in choices:
        return _LETTERS[choices.index(answer)]
    if answer.upper() in _LETTERS[: len(choices)] and len(answer) == 1:
        return answer.upper()
    raise ValueError("its answer is none of its choices")
