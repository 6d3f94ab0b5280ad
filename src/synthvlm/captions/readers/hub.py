"""Data sets of the Hugging Face hub, or local folders of one, streamed by ``datasets``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from synthvlm.captions.readers.files import (
    SourceFile,
    file_system,
    reason_of,
    sampled_digest,
)
from synthvlm.captions.readers.parquet import batch_rows, records_of_batch
from synthvlm.captions.readers.records import Fields, Record
from synthvlm.data import fingerprint
from synthvlm.errors import CaptionSourceError, MissingExtraError, SynthVLMError

__all__ = ["check_hub_path", "hub_digest", "parquet_files", "read_hub"]

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def read_hub(
    fields: Fields, split: str, subset: str | None, revision: str | None
) -> Iterator[Record]:
    """The rows of a split that is not stored as Parquet; images come as stored, never decoded."""
    number = 0
    try:
        data = _streamed(fields, split, subset, revision)
        # Arrow batches, since rows as dictionaries cost far more, and would decode images.
        for table in data.with_format("arrow").iter(batch_rows(fields)):
            if not number:
                fields.check(table.column_names)
            for batch in table.combine_chunks().to_batches():
                yield from records_of_batch(batch, number, fields)
                number += len(batch)
    except SynthVLMError:
        raise
    except Exception as error:  # datasets lets through what its many readers raise
        place = f"after row {number}" if number else "at its start"
        raise CaptionSourceError(
            f"{fields.path}, split {split}, {place}: cannot be read: "
            f"{reason_of(error) or type(error).__name__}"
        ) from error


def parquet_files(
    path: str, split: str, subset: str | None, revision: str | None
) -> list[SourceFile] | None:
    """The files of a split that is stored as Parquet, as most are; None of any other.

    Our own reader takes them: ``datasets`` reads them by a scan of Arrow's that goes on when one
    stops early, and then hangs or aborts the process at its end (apache/arrow 45214).

    Raises:
        CaptionSourceError: The data set cannot be had, or has no such split.
        MissingExtraError: ``datasets`` is not installed.
    """
    load_dataset_builder = _datasets(path).load_dataset_builder
    try:
        builder = load_dataset_builder(path, subset, revision=revision)
    except Exception as error:  # as in read_hub
        raise CaptionSourceError(
            f"{path}: cannot be read: {reason_of(error) or type(error).__name__}"
        ) from error
    if builder.info.builder_name != "parquet":
        return None
    files = builder.config.data_files or {}
    if split not in files:
        raise CaptionSourceError(
            f"{path}: there is no split {split!r} (found: {', '.join(map(str, files))})"
        )
    return [SourceFile(file, *file_system(file)) for file in files[split]]


def check_hub_path(path: str) -> None:
    """Raise CaptionSourceError unless it is a local folder or may be the id of a data set."""
    if os.path.isfile(path):
        raise CaptionSourceError(
            f"{path} is a file, not a data set; set format to that of the file"
        )
    if not os.path.isdir(path) and not _HUB_ID.fullmatch(path):
        raise CaptionSourceError(f"{path}: neither a folder nor the id of a data set on the hub")


def hub_digest(path: str, split: str, subset: str | None, revision: str | None) -> str:
    """A hash of which data these are: the commit on the hub, or the files of the folder.

    Files are known by their names and sizes and the first and last MiB of each.

    Raises:
        CaptionSourceError: The hub does not know the data set or cannot be reached (a revision
            that is a full commit hash needs no look-up), or a file cannot be read.
        MissingExtraError: ``datasets`` is not installed.
    """
    check_hub_path(path)
    try:
        content = _folder_digest(path) if os.path.isdir(path) else _commit(path, revision)
    except OSError as error:
        raise CaptionSourceError(f"{path}: cannot be read: {reason_of(error)}") from error
    return fingerprint("huggingface", content, split, subset)


def _streamed(fields: Fields, split: str, subset: str | None, revision: str | None) -> Any:
    return _datasets(fields.path).load_dataset(
        fields.path, subset, split=split, revision=revision, streaming=True
    )


def _datasets(path: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: Hugging Face data sets need an extra: pip install 'synthvlm[huggingface]'"
        ) from error
    return datasets


def _folder_digest(folder: str) -> str:
    known = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = os.path.join(parent, name)
            if not name.startswith("."):
                known.append((os.path.relpath(file, folder), sampled_digest(file)))
    return fingerprint(known)


def _commit(path: str, revision: str | None) -> str:
    if revision is not None and _COMMIT.fullmatch(revision):
        return fingerprint(path, revision)
    from huggingface_hub import HfApi

    try:
        info = HfApi().dataset_info(path, revision=revision)
    except Exception as error:  # the client's own errors and those of its transport
        raise CaptionSourceError(
            f"{path}: cannot ask the hub for its revision: "
            f"{reason_of(error) or type(error).__name__}"
        ) from error
    return fingerprint(path, info.sha)
