"""Publish a finished data set: check its files, send those that are missing, and the card last."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from synthvlm.checks.current import refuse_outdated
from synthvlm.estimates import quantity
from synthvlm.publishing.data_set import (
    CARD,
    DataSetFile,
    FinishedDataSet,
    PublishingError,
    StagedFile,
)
from synthvlm.publishing.folder import FolderTarget
from synthvlm.publishing.hub import HubTarget
from synthvlm.run.kept_recipe import open_folder
from synthvlm.run_folder.storage import Clock

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["Published", "Target", "publish"]


class Target(Protocol):
    """Where a data set is published to: a repository of the hub, or a folder.

    Attributes:
        url: Where users find the data set.
        is_hub: Whether the limits of the hub apply.
    """

    url: str
    is_hub: bool

    def open(self, identity: str, *, write: bool) -> None:
        """Check that the data set may be published there; if ``write``, create the target.

        Raises:
            PublishingError: It may not, or the target holds something else.
        """

    def names(self) -> Iterator[str]:
        """Names of all files at the target."""

    def unconfirmed(self, files: Sequence[DataSetFile]) -> list[DataSetFile]:
        """Those that may be missing, as far as that is known without their content."""

    def missing(self, files: Sequence[StagedFile]) -> list[StagedFile]:
        """Those that the target does not have with the same content."""

    def send(self, files: Sequence[StagedFile]) -> None:
        """Write files. The card of an older data set is removed first."""

    def finish(self, card: StagedFile, remove: Sequence[str]) -> None:
        """Remove the files of another data set, and write the card."""


MESSAGE = "Publish a data set made with synthvlm"
#: A batch, which is one commit on the hub, holds this many files or at least this many bytes. The
#: hub recommends fewer files, but allows 128 commits an hour: with 100 files a commit, a million
#: images would take more than three days.
_BATCH_FILES = 500
_BATCH_BYTES = 2 * 2**30
#: Recommended maximum numbers of files on the hub, in one folder and in all.
_FOLDER_FILES, _REPOSITORY_FILES = 10_000, 100_000


@dataclass(frozen=True, slots=True)
class Published:
    """The result of publishing.

    Attributes:
        url: Where the data set is.
        files: Number of its files.
        sent: How many of them were sent, or would be.
        sent_bytes: Their size in bytes.
        removed: Number of files of an older data set that were removed, or would be.
        dry_run: Whether nothing was changed.
    """

    url: str
    files: int
    sent: int
    sent_bytes: int
    removed: int
    dry_run: bool

    def text(self) -> str:
        """The line to print."""
        would = "would be " if self.dry_run else ""
        parts = [
            f"{self.sent:,} of {self.files:,} files {would}sent ({quantity(self.sent_bytes, 'B')})"
        ]
        if self.sent < self.files:
            parts.append(f"{self.files - self.sent:,} already there")
        if self.removed:
            parts.append(f"{self.removed:,} files of an older data set {would}removed")
        return ", ".join(parts)


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
    """Copy the finished data set of a run to the hub or to a folder.

    Every file is compared with its record before it is sent. If the call is interrupted, another
    one sends what is missing. The card is removed first and written last, so a target that has a
    card has the complete data set.

    Args:
        run: The run folder, a local path or any fsspec URL.
        target: ``hf://datasets/ORG/NAME[@REVISION]``, a local path or any other fsspec URL.
        progress: Shows the files that are checked and sent.
        private: Create a private repository; hub only.
        message: Title of the commits; hub only.
        dry_run: Check everything, but change nothing.
        clock: For the pauses between attempts.

    Raises:
        PublishingError: The data set is incomplete or damaged; or the target refuses it, or holds
            something else.
        RunFolderError: The data set is out of date; or a folder cannot be read or written.
        RecipeError: The run's recipe cannot be read, or names a plug-in that is not loaded.
        MissingExtraError: The target's file system needs a package that is not installed.
    """
    folder, recipe = open_folder(run, clock)
    data_set = FinishedDataSet(folder)
    refuse_outdated(folder, recipe)
    destination = _target(folder, target, private=private, message=message, clock=clock)
    count = _count_files(data_set, destination, progress)
    destination.open(data_set.identity, write=not dry_run)
    outdated = _outdated_files(data_set, destination, target)
    progress.start("publish", count, "files")
    sent = sent_bytes = 0
    for batch in _batches(data_set):
        with data_set.staged(destination.unconfirmed(batch)) as staged:
            new = destination.missing(staged)
            if not dry_run:
                destination.send(new)
        sent, sent_bytes = sent + len(new), sent_bytes + sum(file.size for file in new)
        progress.advance(len(batch))
    data_set.check_unchanged()
    # If anything else changes, the card at the target is removed, so it has to be written again.
    card, has_changes = data_set.last[-1], sent > 0 or bool(outdated)
    with data_set.staged([card] if has_changes else destination.unconfirmed([card])) as staged:
        new = staged if has_changes else destination.missing(staged)
        if new and not dry_run:
            destination.finish(new[0], outdated)
    sent, sent_bytes = sent + len(new), sent_bytes + sum(file.size for file in new)
    progress.advance(1)
    done = Published(destination.url, count, sent, sent_bytes, len(outdated), dry_run)
    progress.finish("publish", done.text())
    return done


def _target(
    run: RunFolder, target: str, *, private: bool, message: str | None, clock: Clock | None
) -> Target:
    if target.startswith("hf://"):
        return HubTarget(target, private=private, message=message or MESSAGE, clock=clock)
    for option, given in (("--private", private), ("--message", message)):
        if given:
            raise PublishingError(f"{option} is for the hub only, and {target} is not on it")
    _check_is_folder(run, target)
    folder = FolderTarget(target, clock=clock)
    if folder.is_within(run.url):
        raise PublishingError(f"cannot publish to {target}: it is inside the run folder")
    return folder


#: What may be meant as a data set of the hub: its id, also behind ``datasets/``, or its page.
_LIKE_HUB = re.compile(
    r"(?:https?://(?:www\.)?(?:huggingface\.co|hf\.co)/)?(?:datasets/)?"
    r"([A-Za-z0-9][\w-]*/[\w.-]+?)(@[^/]+)?/?"
)


def _check_is_folder(run: RunFolder, target: str) -> None:
    """Refuse a target that may mean a data set of the hub as well as a folder.

    Raises:
        PublishingError: It is such a one, or begins with ``~``.
    """
    if target.startswith("~"):
        raise PublishingError(f"{target}: `~` is not replaced here: write the whole path")
    match = _LIKE_HUB.fullmatch(target)
    if match is None or os.path.isdir(target) or os.path.isdir(target.partition("/")[0]):
        return
    targets = [f"hf://datasets/{match[1]}{match[2] or ''}"]
    if "://" not in target:
        targets.append(f"./{target}")
    commands = [f"`synthvlm publish {shlex.quote(run.url)} {shlex.quote(t)}`" for t in targets]
    raise PublishingError(
        f"{target}: a data set of the hub is named as in {commands[0]}"
        + "".join(f", a folder as in {command}" for command in commands[1:])
    )


def _count_files(data_set: FinishedDataSet, target: Target, progress: Progress) -> int:
    """The number of files. Warns if they are more than the hub recommends."""
    folders: Counter[str] = Counter()
    for part in data_set.parts():
        folders.update(posixpath.dirname(name) for name in part)
    total = folders.total() + len(data_set.last)
    crowded = max(folders, key=lambda name: folders[name], default="")
    excess = []
    if folders[crowded] > _FOLDER_FILES:
        excess.append(
            f"{folders[crowded]:,} files in {crowded}/ (recommended: at most {_FOLDER_FILES:,})"
        )
    if total > _REPOSITORY_FILES:
        excess.append(f"{total:,} files in all (recommended: at most {_REPOSITORY_FILES:,})")
    if excess and target.is_hub:
        progress.note(
            f"warning: the hub may be slow with this data set, or refuse it: {', '.join(excess)}; "
            "to publish Parquet files only, export with --set export.formats=[huggingface]"
        )
    return total


def _outdated_files(data_set: FinishedDataSet, target: Target, url: str) -> list[str]:
    """Files of an older data set at the target, which readers would take for a part of this one."""
    outdated = []
    for name in target.names():
        try:
            belongs = data_set.holds(name)
        except KeyError:
            continue
        if belongs is None:
            raise PublishingError(
                f"cannot publish to {url}: {name} exists there and would be read as a part of the "
                "data set, but no run wrote it: remove it, or choose another target"
            )
        if not belongs:
            outdated.append(name)
    return outdated


def _batches(data_set: FinishedDataSet) -> Iterator[Sequence[DataSetFile]]:
    """All files except the card, in order."""
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
