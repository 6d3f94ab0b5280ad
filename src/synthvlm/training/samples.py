"""Records checked and tokenised once, before training, into a file that all processes map.

And their order in training: batches of one modality, sorted by length, the same for the same seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import orjson

from synthvlm.data_sets.conversations import BadRecord, Conversation
from synthvlm.errors import CaptionSourceError, RunFolderError, TooManyFailuresError
from synthvlm.models.devices import usable_cores
from synthvlm.training.prompts import plain_prompt, v1_prompt
from synthvlm.training.sources import MASKED, TRUNCATED, DataFacts, ImageFiles, Source, digests
from synthvlm.training.tokens import check_image

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.progress.display import Progress
    from synthvlm.training.tokens import Encoder, Tokens

__all__ = [
    "BAD_RECORDS_FILE",
    "SAMPLES_FILE",
    "GroupedSampler",
    "grouped_order",
    "image_files",
    "mapped_samples",
    "write_samples",
]


SAMPLES_FILE = "samples.arrow"
BAD_RECORDS_FILE = "bad_records.jsonl"
#: Images of data that are no files.
_IMAGES_FOLDER = "images"
_CHUNK = 512


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
        folder: Gets ``samples.arrow`` (``input_ids``, ``trained``, ``length``, ``image_file``),
            ``bad_records.jsonl``, and ``images/`` of data that hold their images.
        max_failed_share: Of the records.
        progress: Shows it.

    Raises:
        CaptionSourceError: A file cannot be read, or there is nothing to train on.
        TooManyFailuresError: More records failed than that.
    """
    import pyarrow as pa

    facts, schema = DataFacts(digests=digests(sources)), _schema()
    hashes: dict[str, str] = {}
    progress.start("check", None, "records")
    partial = Path(folder) / f"{SAMPLES_FILE}.partial"
    with (
        open(Path(folder) / BAD_RECORDS_FILE, "wb") as bad_file,
        pa.OSFile(str(partial), "wb") as file,
        pa.ipc.new_stream(file, schema) as writer,
        ThreadPoolExecutor(usable_cores()) as threads,
    ):
        unpacked = Path(folder) / _IMAGES_FOLDER
        records = chain.from_iterable(source.records(unpacked) for source in sources)
        while chunk := list(islice(records, _CHUNK)):
            rows = []
            for record in _check_records(chunk, encoder, prompt, eos, threads):
                facts.records += 1
                for bad in record.problems:
                    facts.add(bad)
                    bad_file.write(orjson.dumps(bad) + b"\n")
                if record.tokens is not None:
                    rows.append(record.row())
                    if record.image is not None:
                        hashes.setdefault(record.image, record.image_hash)
            facts.samples += len(rows)
            facts.with_image += sum(row["image_file"] is not None for row in rows)
            facts.tokens += sum(row["length"] for row in rows)
            if rows:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))
            progress.advance(len(chunk))
    progress.finish("check", f"{facts.samples:,} of {facts.records:,} records can be used")
    _note_problems(facts, folder, progress)
    _check_usable(facts, sources, max_failed_share, folder)
    facts.images = ImageFiles.of(hashes)
    os.replace(partial, Path(folder) / SAMPLES_FILE)
    return facts


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("input_ids", pa.list_(pa.int32())),
            ("trained", pa.list_(pa.bool_())),
            ("length", pa.int32()),
            ("image_file", pa.string()),
        ]
    )


def image_files(folder: str | os.PathLike[str], count: int) -> list[str]:
    """The images of the samples that ``write_samples`` wrote, in the order of their first use.

    Args:
        folder: Where the samples are.
        count: How many there are.

    Raises:
        RunFolderError: The file is damaged.
    """
    import pyarrow as pa

    path = Path(folder) / SAMPLES_FILE
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as batches:
            columns = [batch.column("image_file") for batch in batches]
            used = [column.unique().to_pylist() for column in columns]
    except (pa.ArrowException, OSError):
        raise _damaged(path) from None
    if sum(map(len, columns)) != count:  # one that was cut between two batches opens
        raise _damaged(path)
    return [path for path in dict.fromkeys(chain.from_iterable(used)) if path is not None]


def mapped_samples(folder: str | os.PathLike[str], count: int) -> Any:
    """The samples that ``write_samples`` wrote, as a mapped ``Dataset`` of numpy rows.

    Args:
        folder: Where they are.
        count: How many there are.

    Raises:
        RunFolderError: The file is damaged.
    """
    import pyarrow as pa
    from datasets import Dataset

    path = Path(folder) / SAMPLES_FILE
    try:
        rows = Dataset.from_file(str(path))
        is_whole = len(rows) == count  # one that was cut between two batches opens
    except (pa.ArrowException, OSError):
        is_whole = False
    if not is_whole:
        raise _damaged(path)
    return rows.with_format("numpy")


def _damaged(path: Path) -> RunFolderError:
    return RunFolderError(f"{path} is damaged: delete it, and the same command makes it again")


@dataclass(frozen=True, slots=True)
class _CheckedRecord:
    problems: list[BadRecord]
    tokens: Tokens | None = None
    image: str | None = None
    image_hash: str = ""

    def row(self) -> dict[str, Any]:
        assert self.tokens is not None
        return {
            "input_ids": self.tokens.ids,
            "trained": self.tokens.trained,
            "length": self.tokens.length,
            "image_file": self.image,
        }


def _check_records(
    chunk: Sequence[tuple[Conversation | BadRecord, str]],
    encoder: Encoder,
    prompt: str,
    eos: str,
    threads: ThreadPoolExecutor,
) -> Iterator[_CheckedRecord]:
    folders = [folder for _, folder in chunk]
    images = [
        os.path.join(folder, record.image)
        if isinstance(record, Conversation) and record.image is not None
        else None
        for record, folder in chunk
    ]
    checked = threads.map(_check_image, images, folders)
    for (record, _), image, (problem, hash) in zip(chunk, images, checked, strict=True):
        if isinstance(record, BadRecord):
            yield _CheckedRecord([record])
        elif problem is not None:
            yield _CheckedRecord([BadRecord(record.where, problem)])
        else:
            yield _encode(record, image, hash, encoder, prompt, eos)


def _check_image(image: str | None, folder: str) -> tuple[str | None, str]:
    """What is wrong with an image, or its hash."""
    return (None, "") if image is None else check_image(image, folder)


def _encode(
    record: Conversation, image: str | None, hash: str, encoder: Encoder, prompt: str, eos: str
) -> _CheckedRecord:
    try:
        pieces = plain_prompt(record) if prompt == "plain" else v1_prompt(record, eos)
        tokens = encoder.encode(pieces)
    except ValueError as error:
        return _CheckedRecord([BadRecord(record.where, str(error))])
    problems = [TRUNCATED] * tokens.truncated + [MASKED] * tokens.masked
    bad = [BadRecord(record.where, problem) for problem in problems]
    return _CheckedRecord(bad, tokens, image, hash)


def _note_problems(facts: DataFacts, folder: str | os.PathLike[str], progress: Progress) -> None:
    for problem, count in facts.problems.most_common():
        progress.note(f"{count:,} records: {problem}")
        for where in facts.examples[problem]:
            progress.note(f"  {where}")
    if facts.problems:
        progress.note(f"all of them: {Path(folder) / BAD_RECORDS_FILE}")


def _check_usable(
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


def grouped_order(
    lengths: npt.NDArray[np.int64],
    has_image: npt.NDArray[np.bool_],
    batch: int,
    seed: Sequence[int],
) -> list[int]:
    """Every sample once, in batches that hold samples with an image, or without.

    Which samples of a modality share a batch is chance; within a batch they stand by falling
    length, so that the small batches of the devices need little padding. What fills no batch of
    its modality comes last, together. LLaVA-1.5 groups its instruction tuning so.

    Args:
        lengths: Tokens of each sample, shape (n,).
        has_image: Whether it has an image, shape (n,).
        batch: Samples of one step, on all devices together.
        seed: Any numbers.
    """
    random = np.random.default_rng(seed)
    batches: list[npt.NDArray[np.int64]] = []
    rest: list[npt.NDArray[np.int64]] = []
    for modality in (True, False):
        order = random.permutation(np.flatnonzero(has_image == modality))
        full = len(order) // batch * batch
        batches += list(order[:full].reshape(-1, batch))
        rest.append(order[full:])
    last = np.concatenate(rest)
    chosen = [batches[n] for n in random.permutation(len(batches))]
    chosen += [last[n : n + batch] for n in range(0, len(last), batch)]
    return [int(n) for part in chosen for n in part[np.argsort(-lengths[part], kind="stable")]]


class GroupedSampler:
    """A sampler for torch; each epoch has an order of its own."""

    def __init__(
        self,
        lengths: npt.NDArray[np.int64],
        has_image: npt.NDArray[np.bool_],
        batch: int,
        seed: int,
        *,
        grouping: bool = True,
    ) -> None:
        """Take what ``grouped_order`` needs; without grouping the order is a plain shuffle."""
        self._lengths, self._has_image = lengths, has_image
        self._batch, self._seed, self._grouping = batch, seed, grouping
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Use the order of that epoch from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Samples of an epoch."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """Their numbers, in order."""
        seed = (self._seed, self._epoch)
        if self._grouping:
            return iter(grouped_order(self._lengths, self._has_image, self._batch, seed))
        return iter(np.random.default_rng(seed).permutation(len(self)).tolist())
