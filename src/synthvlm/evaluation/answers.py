"""A model's answers on disk, kept as they come: an interrupted evaluation goes on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthvlm.errors import EvaluationError

__all__ = ["AnswerFile"]


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
            self._hold()
            whole = self._read(made_by)
            self._stream.truncate(whole)
            if not whole:
                self._write({"made_by": dict(made_by)})
        except BaseException:
            self._stream.close()
            raise

    def _hold(self) -> None:
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
        """Take in what is there; the number of bytes that are whole lines."""
        self._stream.seek(0)
        lines = self._stream.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        try:
            records = [json.loads(line) for line in lines]
            earlier = records[0]["made_by"] if records else dict(made_by)
            self.known = {record["id"]: record["answer"] for record in records[1:]}
            changed = sorted(key for key in made_by if earlier.get(key) != made_by[key])
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
