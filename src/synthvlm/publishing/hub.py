"""A data set repository of the Hugging Face hub as a target.

Files go by ``create_commit`` in batches and not by ``upload_folder``: that one takes local folders
only, holds all of their files in memory at once, and leaves their order to chance.
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
#: Paths that the hub is asked about at a time.
_ASKED = 500

_T = TypeVar("_T")


class HubTarget:
    """``hf://datasets/ORG/NAME[@REVISION]``; the token comes from the environment or a log-in.

    Attributes:
        url: The page of the data set.
    """

    is_hub = True

    def __init__(
        self, url: str, *, private: bool = False, message: str, clock: Clock | None = None
    ) -> None:
        """Name the repository; nothing is asked yet.

        Args:
            url: As above.
            private: Create it as private; one that is there must be private then.
            message: Title of the commits.
            clock: For the pauses between tries.

        Raises:
            PublishingError: It is the name of something else.
        """
        from huggingface_hub import HfApi

        found = _URL.fullmatch(url.rstrip("/"))
        if found is None:
            raise PublishingError(
                f"{url} is no data set of the hub: name it as hf://datasets/ORG/NAME or "
                "hf://datasets/ORG/NAME@REVISION"
            )
        self._id, self._revision = found[1], found[2] or "main"
        self._target, self._private, self._message = url, private, message
        self._clock = clock or Clock()
        self._api = HfApi(library_name="synthvlm")
        self._changed = False
        self._is_new = False
        branch = "" if self._revision == "main" else f"/tree/{self._revision}"
        self.url = f"{self._api.endpoint}/datasets/{self._id}{branch}"

    def open(self, identity: str, *, write: bool) -> None:
        """Log in; create the repository and the branch, unless ``write`` is off."""
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
            private = True if self._private else None  # None leaves it to the organisation
            self._call(
                lambda: self._api.create_repo(
                    self._id, repo_type="dataset", private=private, exist_ok=True
                )
            )
        else:
            if self._private and not info.private:
                raise self._refused(
                    "it is there and public: make it private in its settings, or leave out "
                    "--private"
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

    def doubtful(self, files: Sequence[DataSetFile]) -> list[DataSetFile]:
        """All: the hub knows files by hashes that only their content gives."""
        return list(files)

    def missing(self, files: Sequence[StagedFile]) -> list[StagedFile]:
        """Those that the branch does not have with the same size and hash."""
        found = self._known([file.name for file in files])
        return [file for file in files if not _is_same(file, found.get(file.name))]

    def send(self, files: Sequence[StagedFile]) -> None:
        """Upload files and commit them."""
        if not files:
            return
        deletions = []
        if not self._changed:
            deletions = list(self._known([CARD]))
            self._changed = True
        self._commit(files, deletions)
        left = self.missing(files)
        if left:
            raise self._refused(
                f"it leaves out {len(left):,} files, {left[0].name} among them: "
                "does its .gitignore name them?"
            )

    def finish(self, card: StagedFile, remove: Sequence[str]) -> None:
        """Remove what is not of the data set and add the card, in one commit."""
        self._commit([card], remove)

    def _known(self, names: list[str]) -> dict[str, Any]:
        if self._is_new and not self._changed:
            return {}
        found: dict[str, Any] = {}
        for start in range(0, len(names), _ASKED):
            entries = self._call(partial(self._ask, names[start : start + _ASKED]))
            found |= {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}
        return found

    def _ask(self, names: list[str]) -> list[Any]:
        return list(
            self._api.get_paths_info(self._id, names, repo_type="dataset", revision=self._revision)
        )

    def _commit(self, files: Sequence[StagedFile], deletions: Sequence[str]) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        def commit() -> None:
            # A try whose reply was lost has deleted them.
            there = self._known(list(deletions)) if deletions else {}
            operations: list[Any] = [CommitOperationDelete(name) for name in there]
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
        """What the hub says, tried again while it fails; ``expected`` errors come as they are.

        Raises:
            PublishingError: It refuses, or fails to the end.
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
                if number == _TRIES - 1 or not _may_pass(_hubs_own(error)):
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
            own = _hubs_own(error)
            # ValueError: a card whose front matter the hub does not take. RuntimeError: of Xet.
            if not is_hubs(own) and not isinstance(own, OSError | ValueError | RuntimeError):
                raise
            raise self._refused(hub_reason(own)) from error

    def _refused(self, why: str) -> PublishingError:
        return PublishingError(f"cannot publish to {self._target}: {why}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client from writing: its warnings name links with signatures."""
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


def _hubs_own(error: BaseException) -> BaseException:
    """The error of the hub that another one tells of, if any, else the error."""
    cause: BaseException | None = error
    while cause is not None and not is_hubs(cause):
        cause = cause.__cause__
    return cause or error


def _may_pass(error: BaseException) -> bool:
    response = getattr(error, "response", None)
    if response is not None:
        return int(response.status_code) >= 500
    return type(error).__module__.startswith("httpx")


def _is_same(file: StagedFile, there: Any) -> bool:
    """Whether the hub's file has the same content: by SHA-256, or Git's hash where it is in Git."""
    if there is None or there.size != file.size:
        return False
    if there.lfs is not None:
        return bool(there.lfs.sha256 == file.sha256.hex())
    with open(file.path, "rb") as content:
        data = content.read()
    return bool(there.blob_id == hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest())
