"""Publishing to a data set repository of the Hugging Face hub.

Files are sent in batches by ``create_commit``. ``upload_folder`` would accept local folders only,
hold all files in memory at once, and send them in no particular order.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from synthvlm.errors import SynthVLMError
from synthvlm.models.remote_errors import hub_reason, is_hubs
from synthvlm.publishing.data_set import CARD, DataSetFile, PublishingError, StagedFile
from synthvlm.run_folder.storage import Clock

__all__ = ["HubTarget"]

_URL = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@(.+))?")
_TRIES = 5
#: Number of paths in one query to the hub.
_PATHS_PER_QUERY = 500

_T = TypeVar("_T")


class HubTarget:
    """``hf://datasets/ORG/NAME[@REVISION]``.

    The token comes from the environment or from ``hf auth login``.

    Attributes:
        url: The page of the data set.
    """

    is_hub = True

    def __init__(
        self, url: str, *, private: bool = False, message: str, clock: Clock | None = None
    ) -> None:
        """Create the target; no request is sent yet.

        Args:
            url: In the form above.
            private: Create a private repository. An existing one must be private.
            message: Title of the commits.
            clock: For the pauses between attempts.

        Raises:
            PublishingError: The URL is not of that form.
        """
        from huggingface_hub import HfApi

        match = _URL.fullmatch(url.rstrip("/"))
        if match is None:
            raise PublishingError(
                f"{url} is not a data set of the hub: expected hf://datasets/ORG/NAME or "
                "hf://datasets/ORG/NAME@REVISION"
            )
        self._id, self._revision = match[1], match[2] or "main"
        self._target, self._private, self._message = url, private, message
        self._clock = clock or Clock()
        self._api = HfApi(library_name="synthvlm")
        self._changed = False
        self._is_new = False
        branch = "" if self._revision == "main" else f"/tree/{self._revision}"
        self.url = f"{self._api.endpoint}/datasets/{self._id}{branch}"

    def open(self, identity: str, *, write: bool) -> None:
        """Check the token; if ``write``, create the repository and the branch."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        self._call(self._api.whoami)
        try:
            info = self._call(
                lambda: self._api.dataset_info(self._id, expand=["private"]),
                expected=(RepositoryNotFoundError,),
            )
        except RepositoryNotFoundError:
            self._is_new = True
            if not write:
                return
            private = True if self._private else None  # None: the organisation's default
            self._call(
                lambda: self._api.create_repo(
                    self._id, repo_type="dataset", private=private, exist_ok=True
                )
            )
        else:
            if self._private and not info.private:
                raise self._refused(
                    "it exists and is public: make it private in its settings, or omit --private"
                )
        if self._revision == "main":
            return
        try:
            self._call(
                lambda: self._api.dataset_info(self._id, revision=self._revision, expand=["sha"]),
                expected=(RevisionNotFoundError,),
            )
        except RevisionNotFoundError:
            self._is_new = self._is_new or not write
            if write:
                self._call(
                    lambda: self._api.create_branch(
                        self._id, branch=self._revision, repo_type="dataset", exist_ok=True
                    )
                )

    def names(self) -> Iterator[str]:
        """Names of all files of the branch, page by page."""
        from huggingface_hub import RepoFile

        if self._is_new:
            return
        tree = self._api.list_repo_tree(
            self._id, recursive=True, repo_type="dataset", revision=self._revision
        )
        with _quiet(), self._explained():
            for entry in tree:
                if isinstance(entry, RepoFile):
                    yield entry.path

    def unconfirmed(self, files: Sequence[DataSetFile]) -> list[DataSetFile]:
        """All: the hub identifies files by hashes of their content, which are not recorded."""
        return list(files)

    def missing(self, files: Sequence[StagedFile]) -> list[StagedFile]:
        """Those that the branch does not have with the same size and hash."""
        entries = self._existing([file.name for file in files])
        return [file for file in files if not _is_same(file, entries.get(file.name))]

    def send(self, files: Sequence[StagedFile]) -> None:
        """Upload files and commit them."""
        if not files:
            return
        deletions = []
        if not self._changed:
            deletions = list(self._existing([CARD]))
            self._changed = True
        self._commit(files, deletions)
        left = self.missing(files)
        if left:
            raise self._refused(
                f"{len(left):,} files were not accepted, e.g. {left[0].name}: "
                "does its .gitignore exclude them?"
            )

    def finish(self, card: StagedFile, remove: Sequence[str]) -> None:
        """Remove the files of another data set and add the card, in one commit."""
        self._commit([card], remove)

    def _existing(self, names: list[str]) -> dict[str, Any]:
        if self._is_new and not self._changed:
            return {}
        existing: dict[str, Any] = {}
        for start in range(0, len(names), _PATHS_PER_QUERY):
            entries = self._call(partial(self._ask, names[start : start + _PATHS_PER_QUERY]))
            existing |= {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}
        return existing

    def _ask(self, names: list[str]) -> list[Any]:
        return list(
            self._api.get_paths_info(self._id, names, repo_type="dataset", revision=self._revision)
        )

    def _commit(self, files: Sequence[StagedFile], deletions: Sequence[str]) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        def commit() -> None:
            # An earlier attempt whose reply was lost may have deleted them.
            existing = self._existing(list(deletions)) if deletions else {}
            operations: list[Any] = [CommitOperationDelete(name) for name in existing]
            for file in files:
                added = CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file.path)
                added.upload_info.sha256 = file.sha256
                operations.append(added)
            self._api.create_commit(
                self._id,
                operations,
                commit_message=self._message,
                repo_type="dataset",
                revision=self._revision,
            )

        self._call(commit)

    def _call(self, action: Callable[[], _T], *, expected: tuple[type[Exception], ...] = ()) -> _T:
        """Call the hub, with retries where they may help; ``expected`` errors are raised unchanged.

        Raises:
            PublishingError: It refuses the request, or all attempts fail.
        """
        from huggingface_hub.errors import GatedRepoError

        for number in range(_TRIES):
            try:
                with _quiet():
                    return action()
            except SynthVLMError:
                raise
            except Exception as error:
                if isinstance(error, expected) and not isinstance(error, GatedRepoError):
                    raise
                if number == _TRIES - 1 or not _may_pass(_hub_error(error)):
                    with self._explained():
                        raise
            self._clock.sleep(2.0**number)
        raise AssertionError("unreachable")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except SynthVLMError:
            raise
        except Exception as error:
            own = _hub_error(error)
            # ValueError: the hub rejects the front matter of the card. RuntimeError: from Xet.
            if not is_hubs(own) and not isinstance(own, OSError | ValueError | RuntimeError):
                raise
            raise self._refused(hub_reason(own)) from error

    def _refused(self, why: str) -> PublishingError:
        return PublishingError(f"cannot publish to {self._target}: {why}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the client: its warnings contain signed links, which are secrets."""
    from huggingface_hub.utils import logging as hub_logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars
    from huggingface_hub.utils.tqdm import enable_progress_bars as show

    level, hidden = hub_logging.get_verbosity(), are_progress_bars_disabled()
    hub_logging.set_verbosity(logging.ERROR)
    if not hidden:
        disable_progress_bars()
    try:
        yield
    finally:
        hub_logging.set_verbosity(level)
        if not hidden:
            show()


def _hub_error(error: BaseException) -> BaseException:
    """The error of the hub that caused an error, or the error itself."""
    cause: BaseException | None = error
    while cause is not None and not is_hubs(cause):
        cause = cause.__cause__
    return cause or error


def _may_pass(error: BaseException) -> bool:
    response = getattr(error, "response", None)
    if response is not None:
        return int(response.status_code) >= 500
    return type(error).__module__.startswith("httpx")


def _is_same(file: StagedFile, entry: Any) -> bool:
    """Whether the hub's file has the same content, by its SHA-256 (LFS) or Git's hash."""
    if entry is None or entry.size != file.size:
        return False
    if entry.lfs is not None:
        return bool(entry.lfs.sha256 == file.sha256.hex())
    with open(file.path, "rb") as content:
        data = content.read()
    return bool(entry.blob_id == hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest())
