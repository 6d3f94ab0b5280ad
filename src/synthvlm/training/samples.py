"""Records checked and tokenised once, before training, into a file that all processes map."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from synthvlm.conversations import BadRecord, Conversation, read_conversations
from synthvlm.errors import CaptionSourceError, TooManyFailuresError
from synthvlm.training.images import image_problem
from synthvlm.training.prompts import plain_prompt, v1_prompt

if TYPE_CHECKING:
    from synthvlm.progress import Progress
    from synthvlm.training.recipe import DataSettings
    from synthvlm.training.tokens import Encoder, Tokens

__all__ = [
    "BAD_RECORDS_FILE",
    "SAMPLES_FILE",
    "DataFacts",
    "Source",
    "digests",
    "find_source",
    "write_samples",
]

SAMPLES_FILE = "samples.arrow"
BAD_RECORDS_FILE = "bad_records.jsonl"
_INDEX_FILE = "llava.json"
_IMAGES_FOLDER = "images"
_CHUNK = 512
_EXAMPLES = 10

TRUNCATED = "its end was cut off at max_tokens (used)"
MASKED = "its trained parts are no whole tokens (used without loss)"


@dataclass(frozen=True, slots=True)
class Source:
    """A LLaVA JSON file, and the folder that its images are relative to."""

    path: str
    images: str


@dataclass(slots=True)
class DataFacts:
    """What was found in the data.

    Attributes:
        records: Read in all.
        samples: Used in training.
        with_image: Of these.
        tokens: Of all samples; image tokens included.
        problems: Number of records with each problem.
        examples: Where the first ten of each problem are.
        digests: SHA-256 of each JSON file.
    """

    records: int = 0
    samples: int = 0
    with_image: int = 0
    tokens: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)

    def add(self, record: BadRecord) -> None:
        """Count a record with a problem."""
        self.problems[record.problem] += 1
        found = self.examples.setdefault(record.problem, [])
        if len(found) < _EXAMPLES:
            found.append(record.where)

    @property
    def failed(self) -> int:
        """Records that nothing is learnt from."""
        return self.problems.total() - self.problems[TRUNCATED]

    def values(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "records": self.records,
            "samples": self.samples,
            "with_image": self.with_image,
            "tokens": self.tokens,
            "problems": dict(self.problems),
            "examples": self.examples,
            "digests": self.digests,
        }

    @classmethod
    def of(cls, values: dict[str, Any]) -> DataFacts:
        """From ``values``."""
        return cls(**{**values, "problems": Counter(values["problems"])})


def find_source(settings: DataSettings) -> Source:
    """The JSON file and the folder of images of some data.

    Raises:
        CaptionSourceError: One of them is not there.
    """
    path = Path(settings.path)
    if path.is_dir():
        folders = [
            folder for folder in (path, path / "dataset") if (folder / _INDEX_FILE).is_file()
        ]
        if not folders:
            raise CaptionSourceError(
                f"{path} holds no {_INDEX_FILE}: name a LLaVA JSON file, or the folder of a "
                f"finished run that exports the format llava"
            )
        path = folders[0] / _INDEX_FILE
    elif not path.is_file():
        raise CaptionSourceError(f"{path} does not exist")
    images = Path(settings.images) if settings.images else path.parent / _IMAGES_FOLDER
    if settings.images and not images.is_dir():
        raise CaptionSourceError(f"{images} is no folder: it should hold the images of {path}")
    return Source(str(path), str(images))


def digests(sources: Sequence[Source]) -> list[str]:
    """SHA-256 of each JSON file.

    Raises:
        CaptionSourceError: One cannot be read.
    """
    found = []
    for source in sources:
        try:
            with open(source.path, "rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise CaptionSourceError(f"{source.path} cannot be read: {error.strerror}") from None
    return found


def write_samples(
    sources: Sequence[Source],
    encoder: Encoder,
    prompt: Literal["plain", "v1"],
    eos: str,
    folder: str | os.PathLike[str],
    max_failed_share: float,
    progress: Progress,
) -> DataFacts:
    """Check and tokenise all records; every image is decoded once, to see that it can be.

    Args:
        sources: Where the records are.
        encoder: Tokenises prompts.
        prompt: The format.
        eos: End of text of the tokenizer.
        folder: Gets ``samples.arrow`` (``input_ids``, ``trained``, ``length``, ``image_file``) and
            ``bad_records.jsonl``.
        max_failed_share: Of the records.
        progress: Shows it.

    Raises:
        CaptionSourceError: A file cannot be read, or there is nothing to train on.
        TooManyFailuresError: More records failed than that.
    """
    import pyarrow as pa

    facts = DataFacts(digests=digests(sources))
    schema = pa.schema(
        [
            ("input_ids", pa.list_(pa.int32())),
            ("trained", pa.list_(pa.bool_())),
            ("length", pa.int32()),
            ("image_file", pa.string()),
        ]
    )
    progress.start("check", None, "records")
    partial = Path(folder) / f"{SAMPLES_FILE}.partial"
    with (
        open(Path(folder) / BAD_RECORDS_FILE, "wb") as bad_file,
        pa.OSFile(str(partial), "wb") as file,
        pa.ipc.new_stream(file, schema) as writer,
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads,
    ):
        records = (
            (record, source) for source in sources for record in read_conversations(source.path)
        )
        while chunk := list(islice(records, _CHUNK)):
            rows = []
            for found in _checked(chunk, encoder, prompt, eos, threads):
                facts.records += 1
                for bad in found.problems:
                    facts.add(bad)
                    bad_file.write(orjson.dumps(bad) + b"\n")
                if found.tokens is not None:
                    rows.append(found.row())
            facts.samples += len(rows)
            facts.with_image += sum(row["image_file"] is not None for row in rows)
            facts.tokens += sum(row["length"] for row in rows)
            if rows:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))
            progress.advance(len(chunk))
    progress.finish("check", f"{facts.samples:,} of {facts.records:,} records can be used")
    _tell(facts, folder, progress)
    _stop_where_useless(facts, sources, max_failed_share, folder)
    os.replace(partial, Path(folder) / SAMPLES_FILE)
    return facts


@dataclass(frozen=True, slots=True)
class _Found:
    tokens: Tokens | None
    image: str | None
    problems: list[BadRecord]

    def row(self) -> dict[str, Any]:
        assert self.tokens is not None
        return {
            "input_ids": self.tokens.ids,
            "trained": self.tokens.trained,
            "length": self.tokens.length,
            "image_file": self.image,
        }


def _checked(
    chunk: Sequence[tuple[Conversation | BadRecord, Source]],
    encoder: Encoder,
    prompt: str,
    eos: str,
    threads: ThreadPoolExecutor,
) -> Iterator[_Found]:
    images = [
        os.path.join(source.images, record.image)
        if isinstance(record, Conversation) and record.image is not None
        else None
        for record, source in chunk
    ]
    problems: Iterable[str | None] = threads.map(
        lambda image: None if image is None else image_problem(image), images
    )
    for (record, _), image, problem in zip(chunk, images, problems, strict=True):
        if isinstance(record, BadRecord):
            yield _Found(None, None, [record])
        elif problem is not None:
            yield _Found(None, None, [BadRecord(record.where, problem)])
        else:
            yield _encoded(record, image, encoder, prompt, eos)


def _encoded(
    record: Conversation, image: str | None, encoder: Encoder, prompt: str, eos: str
) -> _Found:
    try:
        pieces = plain_prompt(record) if prompt == "plain" else v1_prompt(record, eos)
        tokens = encoder.encode(pieces)
    except ValueError as error:
        return _Found(None, None, [BadRecord(record.where, str(error))])
    problems = [TRUNCATED] * tokens.truncated + [MASKED] * tokens.masked
    return _Found(tokens, image, [BadRecord(record.where, problem) for problem in problems])


def _tell(facts: DataFacts, folder: str | os.PathLike[str], progress: Progress) -> None:
    for problem, count in facts.problems.most_common():
        progress.note(f"{count:,} records: {problem}")
        for where in facts.examples[problem]:
            progress.note(f"  {where}")
    if facts.problems:
        progress.note(f"all of them: {Path(folder) / BAD_RECORDS_FILE}")


def _stop_where_useless(
    facts: DataFacts,
    sources: Sequence[Source],
    max_failed_share: float,
    folder: str | os.PathLike[str],
) -> None:
    names = ", ".join(source.path for source in sources)
    if not facts.records:
        raise CaptionSourceError(f"{names}: no records, nothing to train on")
    if facts.failed > max_failed_share * facts.records:
        raise TooManyFailuresError(
            f"{facts.failed:,} of {facts.records:,} records of {names} cannot be used, more than "
            f"max_failed_share {max_failed_share:g}: mend them ({Path(folder) / BAD_RECORDS_FILE} "
            f"names them) or raise it"
        )
    if not facts.samples:
        raise CaptionSourceError(f"{names}: none of {facts.records:,} records can be used")
