"""The folder of a rating: what is rated, the pictures, and what each rater said of them.

::

    rating.json            what is compared, the question, the seed
    pairs.jsonl            the pairs that are rated: caption, the names of both pictures, scores
    images/                the pictures, as they were in the data sets
    ratings/<rater>.jsonl  what a rater said, a line for each answer; the last of a pair counts
    replies/               replies of a judge behind an endpoint: paid for once

``rating.json`` is written last: what is interrupted before is done again. A pair is known by its
caption and its two pictures, so an answer never counts for other pictures than those that were
seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from synthvlm.errors import RunFolderError

__all__ = ["QUESTION", "SIDES", "Answer", "Choice", "RatedPair", "RatingFolder", "Setup", "Side"]

#: What raters are asked if nothing else is said.
QUESTION = "Which picture shows the caption better?"
Side = Literal["a", "b"]
SIDES: tuple[Side, Side] = ("a", "b")
#: What can be said of a pair.
Choice = Literal["a", "b", "tie", "bad"]
_SETUP, _PAIRS, _RATINGS, _IMAGES = "rating.json", "pairs.jsonl", "ratings", "images"


@dataclass(frozen=True, slots=True)
class Setup:
    """What is rated.

    Attributes:
        inputs: A and B, or the run, as the user named them.
        labels: What A and B are called.
        question: What raters are asked.
        seed: Of the choice of pairs, of their order and of the sides.
        count: Pairs asked for.
        notes: What else is to be known of the pairs, such as what was left out.
    """

    inputs: tuple[str, ...]
    labels: tuple[str, str]
    question: str
    seed: int
    count: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RatedPair:
    """Two pictures of a caption.

    Attributes:
        key: What it is known by: a hash of the caption and both pictures.
        caption: The caption.
        caption_id: Its id in A.
        images: Of A and B: names of files of the folder.
        scores: Of A and B: what the run recorded, by name of the scorer; ``score`` is the sum.
    """

    key: str
    caption: str
    caption_id: str
    images: tuple[str, str]
    scores: tuple[Mapping[str, float], Mapping[str, float]] = ({}, {})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rater said of a pair.

    Attributes:
        pair: Its key.
        rater: Name of the rater.
        choice: The better one, ``tie``, or ``bad``: both are; None where an answer is taken back,
            or where there is none, see ``problem``.
        left: Which picture was on the left; None of a judge.
        seconds: From when both pictures were there; None of a judge.
        orders: Of a judge that saw both pictures in one message, what it said when A came first,
            and when B did.
        values: Of a judge that saw one picture at a time: how sure it is that A, and that B, shows
            the caption.
        is_model: Whether a model said it.
        problem: Why a judge gave no answer, or None.
        time: When, in seconds since 1970.
    """

    pair: str
    rater: str
    choice: Choice | None
    left: Side | None = None
    seconds: float | None = None
    orders: tuple[Choice, Choice] | None = None
    values: tuple[float, float] | None = None
    is_model: bool = False
    problem: str | None = None
    time: float = field(default_factory=lambda: round(time.time(), 3))


class RatingFolder:
    """A local folder with a rating.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        """Name a folder; nothing is read yet.

        Raises:
            RunFolderError: It is a URL.
        """
        if "://" in str(path):
            raise RunFolderError(f"{path}: ratings are kept in a local folder: give --out FOLDER")
        self.path = Path(path)

    def setup(self) -> Setup | None:
        """What is rated here; None if nothing is yet.

        Raises:
            RunFolderError: The file is damaged.
        """
        try:
            values = json.loads((self.path / _SETUP).read_bytes())
            lists = {name: tuple(values[name]) for name in ("inputs", "labels", "notes")}
            return Setup(**{**values, **lists})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunFolderError(
                f"{self.path / _SETUP} cannot be read: name another --out"
            ) from error

    def pairs(self) -> list[RatedPair]:
        """The pairs; none where they have not all been written.

        Raises:
            RunFolderError: The file is damaged.
        """
        file = self.path / _PAIRS
        pairs = []
        try:
            for line in file.read_bytes().splitlines():
                values = json.loads(line)
                lists = {name: tuple(values[name]) for name in ("images", "scores")}
                pairs.append(RatedPair(**{**values, **lists}))
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunFolderError(f"{file} cannot be read: name another --out") from error
        return pairs

    def write(self, setup: Setup, pairs: Sequence[RatedPair]) -> None:
        """Write what is rated: the pictures are there."""
        lines = [json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in pairs]
        with self._explained("write"):
            (self.path / _RATINGS).mkdir(parents=True, exist_ok=True)
            self._write(_PAIRS, "".join(lines))
            self._write(_SETUP, json.dumps(asdict(setup), ensure_ascii=False, indent=2) + "\n")

    def add_pair(
        self,
        caption: str,
        caption_id: str,
        images: tuple[bytes, bytes],
        scores: tuple[Mapping[str, float], Mapping[str, float]],
    ) -> RatedPair:
        """Write two pictures; the pair itself comes with ``write``."""
        digests = [hashlib.blake2b(image, digest_size=16).hexdigest() for image in images]
        with self._explained("write"):
            (self.path / _IMAGES).mkdir(parents=True, exist_ok=True)
            for name, image in zip(digests, images, strict=True):
                file = self.path / _IMAGES / name
                if not file.exists():
                    part = file.with_suffix(".part")
                    part.write_bytes(image)
                    part.replace(file)
        text = json.dumps([caption, *digests])
        key = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()
        return RatedPair(key, caption, caption_id, (digests[0], digests[1]), scores)

    def image(self, name: str) -> bytes:
        """A picture, encoded.

        Raises:
            RunFolderError: It is not there.
        """
        with self._explained("read"):
            return (self.path / _IMAGES / name).read_bytes()

    def answers(self) -> list[Answer]:
        """The answers that count, in the order in which they were given; a torn line is left out.

        Answers about pictures that are no longer in ``pairs.jsonl`` are not among them.
        """
        known = {pair.key for pair in self.pairs()}
        last: dict[tuple[str, str], Answer] = {}
        answers = [answer for answer in self._lines() if answer is not None]
        for answer in sorted(answers, key=lambda one: one.time):
            place = answer.rater, answer.pair
            last.pop(place, None)
            if answer.choice is not None or answer.problem is not None:
                last[place] = answer
        return [answer for answer in last.values() if answer.pair in known]

    def check_name(self, rater: str, *, is_model: bool) -> None:
        """Refuse a name under which a model and a person would be one rater.

        Raises:
            RunFolderError: It is taken by the other kind.
        """
        if any(one.rater == rater and one.is_model != is_model for one in self.answers()):
            kind = "a person" if is_model else "a judge"
            raise RunFolderError(
                f"{self.path}: {rater!r} is {kind} here already: take another name"
            )

    def add(self, answer: Answer) -> None:
        """Append an answer to the file of its rater: in one write, so that two writers lose none.

        Raises:
            RunFolderError: It cannot be written.
        """
        line = json.dumps(asdict(answer), ensure_ascii=False).encode("utf-8", "replace")
        file = self.path / _RATINGS / f"{_file_name(answer.rater)}.jsonl"
        with self._explained("write"):
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                # In front, too: the line before may be torn.
                os.write(handle, b"\n" + line + b"\n")
            finally:
                os.close(handle)

    def file_of(self, rater: str) -> Path:
        """The file of a rater's answers."""
        return self.path / _RATINGS / f"{_file_name(rater)}.jsonl"

    def replies(self) -> Path:
        """Where replies of a judge are kept."""
        return self.path / "replies"

    def damaged_lines(self) -> int:
        """How many lines are no answers: torn by a killed process, or edited."""
        return sum(answer is None for answer in self._lines())

    def _lines(self) -> Iterator[Answer | None]:
        """Each line of each rater; None where it is damaged."""
        for file in sorted((self.path / _RATINGS).glob("*.jsonl")):
            yield from map(_answer, filter(None, file.read_bytes().splitlines()))

    def _write(self, name: str, text: str) -> None:
        part = self.path / f"{name}.part"
        part.write_bytes(text.encode("utf-8", "replace"))
        part.replace(self.path / name)

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        """Turn errors of the file system into one line."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise RunFolderError(f"{self.path}: cannot {verb}: {reason}") from error


def _answer(line: bytes) -> Answer | None:
    try:
        values: dict[str, Any] = json.loads(line)
        for name in ("orders", "values"):
            values[name] = None if values.get(name) is None else tuple(values[name])
        answer = Answer(**values)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    is_known = answer.choice is None or answer.choice in get_args(Choice)
    return answer if is_known and isinstance(answer.time, int | float) else None


def _file_name(rater: str) -> str:
    """A name for the file of a rater: readable, and the rater's own."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", rater).strip("-.")[:40]
    if plain == rater:
        return plain
    digest = hashlib.blake2b(rater.encode("utf-8", "replace"), digest_size=4).hexdigest()
    return f"{plain or 'rater'}-{digest}"
