"""What a target of publishing is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from synthvlm.publishing.data_set import DataSetFile, StagedFile

__all__ = ["Target"]


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
