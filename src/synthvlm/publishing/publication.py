"""Publish a finished data set: check, send what is not there, and the card last."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from synthvlm.publishing.data_set import (
    CARD,
    DataSetFile,
    FinishedDataSet,
    PublishingError,
    StagedFile,
)
from synthvlm.publishing.folder import FolderTarget
from synthvlm.publishing.hub import HubTarget
from synthvlm.run_folder.folder import RECIPE_FILE, RunFolder
from synthvlm.run_folder.storage import Clock

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress

__all__ = ["Published", "Target", "publish"]


class Target(Protocol):
    """Takes the files of a data set, the card last.

    Attributes:
        url: As people open it.
        is_hub: Whether the hub's limits hold.
    """

    url: str
    is_hub: bool

    def open(self, identity: str, *, write: bool) -> None:
        """Make sure that the data set may be written, and unless ``write`` is off, that it can be.

        Raises:
            PublishingError: It may not.
        """

    def names(self) -> Iterator[str]:
        """Names of all files that are there."""

    def doubtful(self, files: Sequence[DataSetFile]) -> list[DataSetFile]:
        """Those of which it is not sure, without their content, that they are there."""

    def missing(self, files: Sequence[StagedFile]) -> list[StagedFile]:
        """Those that are not there with the same content."""

    def send(self, files: Sequence[StagedFile]) -> None:
        """Write files; the card of an older data set goes first."""

    def finish(self, card: StagedFile, remove: Sequence[str]) -> None:
        """Remove files of another data set, and write the card."""


MESSAGE = "Publish a data set made with synthvlm"
#: A commit holds so many files, or at least so many bytes. The hub advises against more files, but
#: allows 128 commits an hour: a million images at 100 a commit would take more than three days.
_BATCH_FILES = 500
_BATCH_BYTES = 2 * 2**30
#: What the hub advises at most.
_FOLDER_FILES, _REPOSITORY_FILES = 10_000, 100_000


@dataclass(frozen=True, slots=True)
class Published:
    """What was done.

    Attributes:
        url: Where the data set is.
        files: Its files.
        sent: How many of them were sent, or would be.
        sent_bytes: Their bytes.
        removed: Files of an older data set that were removed, or would be.
        dry_run: Whether nothing was done.
    """

    url: str
    files: int
    sent: int
    sent_bytes: int
    removed: int
    dry_run: bool

    def text(self) -> str:
        """For people."""
        would = "would be " if self.dry_run else ""
        gone = f", {self.removed:,} of an older one {would}removed" if self.removed else ""
        return (
            f"{self.sent:,} of {self.files:,} files {would}sent ({_size(self.sent_bytes)}), "
            f"{self.files - self.sent:,} were there{gone}\n{self.url}"
        )


def publish(
    run: str,
    target: str,
    *,
    progress: Progress,
    private: bool = False,
    message: str | None = None,
    dry_run: bool = False,
    clock: Clock | None = None,
) -> Published:
    """Copy the finished data set of a run to the hub or to any folder.

    Every file that is sent is compared with its record first. A second call sends what is missing.
    While files are sent there is no card: whoever finds the card finds the whole data set.

    Args:
        run: The run folder, a local path or any fsspec URL.
        target: ``hf://datasets/ORG/NAME[@REVISION]``, a local path or any other fsspec URL.
        progress: Shows files as they are checked and sent.
        private: Create the repository as private; of the hub alone.
        message: Title of the commits; of the hub alone.
        dry_run: Check everything and change nothing.
        clock: For the pauses between tries.

    Raises:
        PublishingError: The data set is not whole or damaged; the target refuses it, or holds
            something else.
        RunFolderError: A folder cannot be read or written.
        MissingExtraError: The target's file system needs a package that is not installed.
    """
    folder = RunFolder(run, clock=clock)
    if not folder.exists(RECIPE_FILE):
        raise PublishingError(f"{run} is not a run folder: it has no {RECIPE_FILE}")
    data_set = FinishedDataSet(folder)
    to = _target(folder, target, private=private, message=message, clock=clock)
    count = _counted(data_set, to, progress)
    to.open(data_set.identity, write=not dry_run)
    strangers = _strangers(data_set, to, target)
    progress.start("publish", count, "files")
    sent = sent_bytes = 0
    for batch in _batches(data_set):
        with data_set.staged(to.doubtful(batch)) as staged:
            new = to.missing(staged)
            if not dry_run:
                to.send(new)
        sent, sent_bytes = sent + len(new), sent_bytes + sum(file.size for file in new)
        progress.advance(len(batch))
    data_set.check_unchanged()
    # A card that was there is gone, or will be, if there is anything else to do.
    card, goes = data_set.last[-1], sent > 0 or bool(strangers)
    with data_set.staged([card] if goes else to.doubtful([card])) as staged:
        new = staged if goes else to.missing(staged)
        if new and not dry_run:
            to.finish(new[0], strangers)
    sent, sent_bytes = sent + len(new), sent_bytes + sum(file.size for file in new)
    progress.advance(1)
    done = Published(to.url, count, sent, sent_bytes, len(strangers), dry_run)
    progress.finish("publish", done.text().splitlines()[0])
    return done


def _target(
    run: RunFolder, target: str, *, private: bool, message: str | None, clock: Clock | None
) -> Target:
    if target.startswith("hf://"):
        return HubTarget(target, private=private, message=message or MESSAGE, clock=clock)
    for option, given in (("--private", private), ("--message", message)):
        if given:
            raise PublishingError(f"{option} is of the hub alone, and {target} is not there")
    found = FolderTarget(target, clock=clock)
    if found.lies_in(run.url):
        raise PublishingError(f"cannot publish to {target}: it lies in the run folder")
    return found


def _counted(data_set: FinishedDataSet, target: Target, progress: Progress) -> int:
    """The number of files; where they are more than the hub advises, a warning is shown."""
    folders: Counter[str] = Counter()
    for part in data_set.parts():
        folders.update(posixpath.dirname(name) for name in part)
    total = folders.total() + len(data_set.last)
    crowded = max(folders, key=lambda name: folders[name], default="")
    found = []
    if folders[crowded] > _FOLDER_FILES:
        found.append(f"{folders[crowded]:,} files in {crowded}/ ({_FOLDER_FILES:,} are advised)")
    if total > _REPOSITORY_FILES:
        found.append(f"{total:,} files in all ({_REPOSITORY_FILES:,} are advised)")
    if found and target.is_hub:
        progress.note(
            f"warning: the hub may refuse this data set or be slow: {', '.join(found)}; the "
            "Parquet files alone are few: export again with --set export.formats=[huggingface]"
        )
    return total


def _strangers(data_set: FinishedDataSet, target: Target, url: str) -> list[str]:
    """Files of an older data set, which would be read with this one."""
    found = []
    for name in target.names():
        try:
            holds = data_set.holds(name)
        except KeyError:
            continue
        if holds is None:
            raise PublishingError(
                f"cannot publish to {url}: {name} is there, is of no run and would be read with "
                "the data set: remove it or choose another target"
            )
        if not holds:
            found.append(name)
    return found


def _batches(data_set: FinishedDataSet) -> Iterator[Sequence[DataSetFile]]:
    """All files but the card, in order."""
    batch: list[DataSetFile] = []
    size = 0
    for file in _files(data_set):
        batch.append(file)
        size += file.size
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _files(data_set: FinishedDataSet) -> Iterator[DataSetFile]:
    for part in data_set.parts():
        yield from part.values()
    yield from (file for file in data_set.last if file.name != CARD)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
