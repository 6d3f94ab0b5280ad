"""A fake of the Hugging Face hub: an HTTP server on this machine that keeps data sets in memory.

Of the hub it has what ``huggingface_hub`` (2.4) and ``datasets`` ask for when data sets are
created, uploaded, listed and read: ``whoami``, creating repositories and branches, ``preupload``,
Git LFS with plain uploads, commits, the tree, ``resolve`` with ranges.

It is no hub. It has no Xet storage: set ``HF_HUB_DISABLE_XET=1`` before ``huggingface_hub`` is
imported, so that files go by Git LFS. A commit is a number and has no history: only the newest
state of a branch can be read. There are no models, spaces, pull requests, tags, viewers or users
but one, no limits on sizes or rates, and which files go by LFS depends on their ending alone.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from fakes.hub_http import FakeHubHandler
from fakes.loopback import LoopbackServer

__all__ = ["Commit", "FakeHub", "Repository"]

#: What the user of the fake is called.
USER = "fake-user"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: its title, and the paths that were there after it."""

    title: str
    paths: frozenset[str]


@dataclass
class Repository:
    """A data set of the fake hub.

    Attributes:
        private: Whether it was created as private.
        branches: The files of each branch, by their paths.
        commits: All commits, in their order.
        ignored: Paths that the hub leaves out of commits without a word, as a ``.gitignore`` does.
    """

    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    commits: list[Commit] = field(default_factory=list)
    ignored: Collection[str] = ()

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the main branch."""
        return self.branches["main"]

    def sha(self, revision: str) -> str:
        """The commit that a branch is at: a hash of how many there were."""
        return hashlib.sha1(f"{revision} {len(self.commits)}".encode()).hexdigest()


class FakeHub:
    """The server, in threads of this process, on 127.0.0.1.

    Use it as a context manager, and let clients find it by ``HF_ENDPOINT``::

        with FakeHub(token="hf_secret") as hub:
            api = HfApi(endpoint=hub.endpoint, token="hf_secret")

    Every attribute may be changed while it serves.

    Attributes:
        repositories: By their ids, as ``org/name``.
        token: What clients must bring to write, to read what is private, and to say who they are.
        may_write: Whether the token has the permission to write.
        gated: Ids of repositories whose files nobody may read.
        fail_every: One request in so many, by chance from a fixed seed, is answered by 503; None:
            none is.
        storage_bytes: How much content there is room for; None: any amount.
        page_size: Entries in an answer about a tree.
        lose_commits: So many commits are made and their answers lost (the connection is cut).
        received: Method and path of each request, in the order in which they came.
        uploaded: The hashes (SHA-256) of the contents that came by LFS, one for each upload.
    """

    def __init__(
        self,
        *,
        token: str = "hf_fake",
        may_write: bool = True,
        gated: Collection[str] = (),
        fail_every: int | None = None,
        storage_bytes: int | None = None,
        page_size: int = 1000,
    ) -> None:
        """Describe the hub; it starts on entering."""
        self.token = token
        self.may_write = may_write
        self.gated = gated
        self.fail_every = fail_every
        self.storage_bytes = storage_bytes
        self.page_size = page_size
        self.repositories: dict[str, Repository] = {}
        self.received: list[tuple[str, str]] = []
        self.uploaded: list[str] = []
        self.objects: dict[str, bytes] = {}
        self.lose_commits = 0
        self._chance = random.Random(0)
        self.lock = threading.RLock()

    @property
    def endpoint(self) -> str:
        """The address, for ``HF_ENDPOINT``."""
        return self._server.address

    def fails(self) -> bool:
        """Whether the next request is one that fails."""
        return bool(self.fail_every) and self._chance.random() * (self.fail_every or 1) < 1

    def count(self, method: str = "", path: str = "") -> int:
        """Requests of a method with a part of a path."""
        return sum(method in m and path in p for m, p in self.received)

    def __enter__(self) -> Self:
        """Start to serve, on a free port."""
        self._server = LoopbackServer(type("Handler", (FakeHubHandler,), {"_hub": self}))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self._server.stop()
