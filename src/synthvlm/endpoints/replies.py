"""Replies that were paid for, kept on the local disk so that none is paid for twice."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson

from synthvlm.errors import RunFolderError

__all__ = ["ReplyStore", "StoredReply", "reply_key"]

_PATTERN = "replies-*.jsonl"


class StoredReply(NamedTuple):
    """What a model answered, and why it stopped (``stop``, ``length``, ... or None)."""

    text: str
    finish_reason: str | None


def reply_key(
    model: str, messages: Sequence[Mapping[str, Any]], sampling: Mapping[str, Any]
) -> bytes:
    """A stable hash (16 bytes) of all that a reply depends on.

    The address of the server is no part of it: the same model elsewhere gives the same replies. So
    the name ``model`` must not be given to another model over the same folder.
    """
    # ASCII escapes: unlike UTF-8 they have a form for lone surrogates.
    text = json.dumps([model, list(messages), dict(sampling)], sort_keys=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).digest()


class ReplyStore:
    """A dictionary of replies that outlives the process, in one folder of JSON lines.

    Each opened store that writes makes a part of its own, ``replies-00000.jsonl`` and so on, and
    only appends to it. A reply is handed to the operating system as soon as it is put, so killing
    the process loses none; it is flushed to the disk (fsync) every ``sync_every`` replies or
    ``sync_seconds`` seconds, whichever comes first, and on closing, so a power cut loses no more
    than that. Several processes may write into one folder; each sees what was there when it opened.

    Attributes:
        damaged: Lines that could not be read on opening (torn by a power cut or a full disk, say).
            They are skipped, and their replies asked for again.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        sync_every: int = 1000,
        sync_seconds: float = 5.0,
    ) -> None:
        """Load all parts of the folder, which is made if it is missing.

        Raises:
            RunFolderError: The folder cannot be made or read.
        """
        self._folder = Path(folder)
        self._sync_every = sync_every
        self._sync_seconds = sync_seconds
        self._replies: dict[bytes, StoredReply] = {}
        self._part: int | None = None
        self._unsynced = 0
        self._synced_at = time.monotonic()
        self.damaged = 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for part in sorted(self._folder.glob(_PATTERN)):
                self._load(part)
        except OSError as error:
            raise self._failure("read", error) from error

    def __len__(self) -> int:
        """Number of replies."""
        return len(self._replies)

    def get(self, key: bytes) -> StoredReply | None:
        """The reply with that key, None if there is none."""
        return self._replies.get(key)

    def put(self, key: bytes, text: str, finish_reason: str | None = None, tokens: int = 0) -> None:
        """Keep a reply. ``tokens`` (what it cost) is only written down.

        Raises:
            RunFolderError: It cannot be written.
        """
        row = {"key": key.hex(), "text": text, "finish_reason": finish_reason, "tokens": tokens}
        # Not orjson, which refuses lone surrogates.
        line = json.dumps(row).encode("ascii") + b"\n"
        try:
            if self._part is None:
                self._part = self._new_part()
            # One write per line: a kill falls between lines, not into one.
            while line:
                line = line[os.write(self._part, line) :]
            self._unsynced += 1
            waited = time.monotonic() - self._synced_at
            if self._unsynced >= self._sync_every or waited >= self._sync_seconds:
                self._sync()
        except OSError as error:
            raise self._failure("write", error) from error
        self._replies[key] = StoredReply(text, finish_reason)

    def close(self) -> None:
        """Have the disk keep what was put. More can be put afterwards, into a new part."""
        if self._part is None:
            return
        try:
            self._sync()
        except OSError as error:
            raise self._failure("write", error) from error
        finally:
            os.close(self._part)
            self._part = None

    def __enter__(self) -> Self:
        """Nothing more: the store is open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _load(self, part: Path) -> None:
        # Most verdicts are a few equal texts: one object each, however many replies.
        shared: dict[StoredReply, StoredReply] = {}
        with part.open("rb") as file:
            for line in file:
                try:
                    key, reply = _parsed(line)
                except (ValueError, KeyError, TypeError):
                    self.damaged += 1
                    continue
                if len(reply.text) <= 16:
                    reply = shared.setdefault(reply, reply)
                self._replies[key] = reply

    def _new_part(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        for number in self._numbers():
            try:
                return os.open(self._folder / f"replies-{number:05d}.jsonl", flags, 0o644)
            except FileExistsError:
                continue
        raise AssertionError("numbers do not end")

    def _numbers(self) -> Iterator[int]:
        """Numbers above those of the parts there are; another process may take one first."""
        taken = [path.stem.removeprefix("replies-") for path in self._folder.glob(_PATTERN)]
        number = max((int(text) for text in taken if text.isdecimal()), default=-1)
        while True:
            number += 1
            yield number

    def _sync(self) -> None:
        assert self._part is not None
        os.fsync(self._part)
        self._unsynced = 0
        self._synced_at = time.monotonic()

    def _failure(self, verb: str, error: OSError) -> RunFolderError:
        return RunFolderError(
            f"{self._folder}: cannot {verb} the model replies: {error.strerror or error}"
        )


def _parsed(line: bytes) -> tuple[bytes, StoredReply]:
    """Key and reply of a line; ValueError, KeyError or TypeError if it is none."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        row = json.loads(line)  # a lone surrogate is an escape that only this one reads
    key, text, reason = bytes.fromhex(row["key"]), row["text"], row["finish_reason"]
    if len(key) != 16 or not isinstance(text, str) or not isinstance(reason, str | None):
        raise ValueError("not a reply")
    return key, StoredReply(text, reason)
