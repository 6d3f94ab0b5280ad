"""The lock of a run folder: one run at a time works in it, on any machine, whatever its clock says.

The lock is a small file that its owner rewrites while it lives. Who finds one watches it for three
heartbeats by a clock of its own, and takes it over if nothing changes. An owner that was taken over
(it slept, or the network was away) finds another's token in the file, and commits nothing more.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from synthvlm.errors import RunFolderError
from synthvlm.run_folder.storage import Storage

__all__ = ["LOCK_FILE", "PERIOD_S", "Lock", "machine_key"]

#: Hidden, so that it is neither listed nor swept.
LOCK_FILE = ".lock.json"
#: Seconds between two heartbeats; after how many without one an owner is taken for dead.
PERIOD_S = 10.0
STALE_BEATS = 3
_LOOKS_PER_BEAT = 5
#: What another process that found no lock either may need to write its own.
SETTLE_S = 2.0
#: How old what is known of the lock may be when something is committed.
FRESH_S = 1.0
_NO_FLOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}

State = Callable[[], Mapping[str, Any]]


class Lock:
    """The lock file of a run folder, as this process sees it.

    Attributes:
        token: Of the run that this process belongs to; None: it belongs to none, and is free to
            commit.
    """

    def __init__(self, storage: Storage, token: str | None = None) -> None:
        """Look at a folder; nothing is read or written yet."""
        self.token = token
        self._storage = storage
        self._clock = storage.clock
        self._seen = float("-inf")

    def info(self) -> dict[str, Any] | None:
        """What the lock says; None: there is none, or it is damaged.

        Keys: ``owner`` (its token), ``host``, ``machine``, ``pid``, ``since`` (seconds since 1970,
        by the clock there), ``beat`` (a number that grows; the time there unless its clock was set
        back), ``state``.
        """
        return _parsed(self._storage.read_if_there(LOCK_FILE))

    def check(self) -> None:
        """See that the run that this process belongs to still holds the folder.

        Raises:
            RunFolderError: Another one took it over, or the lock is gone.
        """
        now = self._clock.monotonic()
        if self.token is None or now - self._seen < FRESH_S:
            return
        found = self.info()
        if found is None or found.get("owner") != self.token:
            raise RunFolderError(self._lost(found))
        self._seen = now

    @contextmanager
    def held(
        self,
        state: State | None,
        note: Callable[[str], None],
        period_s: float | None = None,
    ) -> Iterator[None]:
        """Hold the folder, and tell that this process lives.

        Args:
            state: Plain values that tell what it is doing; asked at each heartbeat.
            note: Takes a line for people.
            period_s: Seconds between heartbeats; by default 10.

        Raises:
            RunFolderError: Another run works in it, or the lock cannot be written.
        """
        period_s = PERIOD_S if period_s is None else period_s
        with ExitStack() as stack:
            alone = self._storage.is_local and stack.enter_context(_flock(self._storage, self.info))
            mine = _Beats(self._storage, state)
            self._acquire(mine, note, period_s, alone=alone)
            self.token = mine.token
            ending = Event()
            heart = Thread(
                target=self._beat,
                args=(mine, ending, period_s, note),
                name="heartbeat",
                daemon=True,
            )
            heart.start()
            try:
                yield
            finally:
                ending.set()
                heart.join()
                self.token = None
                # A run that is done, or failed for another reason, is not to fail for this one.
                with suppress(RunFolderError):
                    self._release(mine, period_s)

    def _acquire(
        self, mine: _Beats, note: Callable[[str], None], period_s: float, *, alone: bool
    ) -> None:
        found = self.info()
        while found is not None and not _is_over(found, alone=alone):
            found = self._watch(found, note, period_s)
        mine.write(self._storage)
        if alone or not self._storage.is_shared:
            return
        self._clock.sleep(SETTLE_S)
        found = self.info()
        if found is None or found.get("owner") != mine.token:
            raise RunFolderError(_refusal(found, self._storage.url))

    def _watch(
        self, found: dict[str, Any], note: Callable[[str], None], period_s: float
    ) -> dict[str, Any] | None:
        """Wait until a lock is stale, or gone: None; or another's: what it says."""
        note(f"waiting {STALE_BEATS * period_s:g} s to see whether {_host(found)} still works in "
             f"{self._storage.url}")  # fmt: skip
        looks = 0
        while looks < STALE_BEATS * _LOOKS_PER_BEAT:
            self._clock.sleep(period_s / _LOOKS_PER_BEAT)
            began = self._clock.monotonic()
            now = self.info()
            # Where the store is away for a while, its owner cannot beat either.
            looks = looks + 1 if self._clock.monotonic() - began < period_s else 0
            if now is None:
                return None
            if (now.get("owner"), now.get("beat")) != (found.get("owner"), found.get("beat")):
                raise RunFolderError(_refusal(now, self._storage.url))
        return None

    def _beat(
        self, mine: _Beats, ending: Event, period_s: float, note: Callable[[str], None]
    ) -> None:
        # A beat that comes late is as good as none.
        storage = Storage(self._storage.absolute_url, patience_s=period_s / 2)
        while not ending.wait(period_s):
            with suppress(RunFolderError):
                found = _parsed(storage.read_if_there(LOCK_FILE))
                if found is None or found.get("owner") != mine.token:
                    note(self._lost(found))
                    return
                mine.write(storage)

    def _release(self, mine: _Beats, period_s: float) -> None:
        storage = Storage(self._storage.absolute_url, patience_s=period_s / 2)
        found = _parsed(storage.read_if_there(LOCK_FILE))
        if found is not None and found.get("owner") == mine.token:
            storage.remove(LOCK_FILE)

    def _lost(self, found: Mapping[str, Any] | None) -> str:
        if found is None:
            return f"the lock of {self._storage.url} is gone: the run it belonged to is over"
        who = f"{_host(found)} (process {found.get('pid')})"
        return f"another run took {self._storage.url} over: it works on {who}"


class _Beats:
    """What an owner writes."""

    def __init__(self, storage: Storage, state: State | None) -> None:
        self.token = uuid.uuid4().hex
        self._state = state
        self._since = time.time()
        self._last = float("-inf")

    def write(self, storage: Storage) -> None:
        # It must grow for those who watch, and tells people the time.
        self._last = max(time.time(), self._last + 0.001)
        content = {
            "owner": self.token,
            "host": socket.gethostname(),
            "machine": machine_key(),
            "pid": os.getpid(),
            "since": self._since,
            "beat": self._last,
            "state": self._told(),
        }
        storage.write(LOCK_FILE, json.dumps(content, default=str).encode())

    def _told(self) -> dict[str, Any] | None:
        if self._state is None:
            return None
        try:
            return dict(self._state())
        except Exception as error:  # whoever tells less than they could still lives
            return {"problem": repr(error)}


@contextmanager
def _flock(storage: Storage, info: Callable[[], dict[str, Any] | None]) -> Iterator[bool]:
    """Lock a local folder against other processes of this machine.

    Yields:
        Whether the file system can do that.
    """
    import fcntl

    with storage.explained("lock", ""):
        folder = os.open(storage.root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFolderError(_refusal(info(), storage.url)) from None
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise RunFolderError(f"cannot lock {storage.url}: {error.strerror}") from error
            yield False
        else:
            yield True
    finally:
        os.close(folder)


def machine_key() -> str:
    """What two processes share that can see whether the other lives; the same until a reboot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        boot, processes = f"{uuid.getnode():x}", ""
    return f"{socket.gethostname()} {boot} {processes}".strip()


def _is_over(found: Mapping[str, Any], *, alone: bool) -> bool:
    """Whether the owner of a lock is known to be dead."""
    if found.get("machine") != machine_key():
        return False
    return alone or not _lives(found.get("pid"))


def _lives(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except (ProcessLookupError, ValueError):
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _host(found: Mapping[str, Any]) -> str:
    return str(found.get("host") or "another machine")


def _refusal(found: Mapping[str, Any] | None, url: str) -> str:
    who = "another process"
    if found is not None:
        who = f"another run on {_host(found)} (process {found.get('pid')})"
    return f"{who} is working in {url}: wait for it, or name another folder"


def _parsed(data: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(data or b"null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
