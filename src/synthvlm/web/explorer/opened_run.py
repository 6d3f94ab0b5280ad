"""What is said where a run that is shown has changed since it was opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from synthvlm.errors import RunFolderError

if TYPE_CHECKING:
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["as_opened"]


@contextmanager
def as_opened(run: RunFolder, files: Sequence[str]) -> Iterator[None]:
    """Read of a run what it held when it was opened.

    Args:
        run: The run folder.
        files: Files of ``pairs/`` of which something is read; another run may have replaced them.

    Raises:
        RunFolderError: A file is damaged, or gone.
    """
    try:
        yield
    except RunFolderError as error:
        if all(run.exists(file) for file in files):
            raise
        raise RunFolderError(
            f"{run.url} has changed since it was opened here: end `synthvlm view` with Ctrl-C and "
            f"start it again"
        ) from error
