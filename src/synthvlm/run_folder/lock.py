"""The lock of a run folder: one run at a time works in it, from any machine.

The lock is a small file that its owner rewrites at every heartbeat. A process that finds a lock
watches it for three heartbeats, and takes it over if it does not change. An owner that lost its
lock in this way (it was suspended, or the network was down) finds another token in the file and
commits nothing more. Clocks of different machines are never compared.
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
from synthvlm.safe_text import without_secrets

__all__ = ["LOCK_FILE", "PERIOD_S", "Lock", "machine_key"]

#: Hidden, so that it is neither listed nor swept.
LOCK_FILE = ".lock.json"
#: Seconds between two heartbeats, and after how many missed ones an owner counts as dead.
PERIOD_S = 10.0
STALE_BEATS = 3
_LOOKS_PER_BEAT = 5
#: Seconds that another process, which found no lock either, may need to write its own.
SETTLE_S = 2.0
#: A commit reads the lock again if the last reading is older than this many seconds.
FRESH_S = 1.0
#: The file system does not support ``flock``.
_NO_FLOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}

State = Callable[[], Mapping[str, Any]]


class Lock:
    """The lock file of a run folder, as this process sees it.

    Attributes:
        token: The token of the run that this process belongs to; None if it belongs to no run, and
            may commit without holding the lock.
    """

    def __init__(self, storage: Storage) -> None:
        """Create the lock of a folder; nothing is read or written yet."""
        self.token: str | None = None
        self._storage = storage
        self._clock = storage.clock
        self._checked = float("-inf")

    def info(self) -> dict[str, Any] | None:
        """Content of the lock file; None if there is none, or it is damaged.

        Keys: ``owner`` (its token), ``host``, ``machine``, ``pid``, ``since`` (seconds since 1970,
        by the owner's clock), ``beat`` (a number that grows with every heartbeat; the time by the
        owner's clock unless that was set back), ``state``.
        """
        return _parsed(self._storage.read_if_exists(LOCK_FILE))

    def check(self) -> None:
        """Check that the run of this process still holds the folder.

        Raises:
            RunFolderError: Another run took the folder over, or the lock is gone.
        """
        now = self._clock.monotonic()
        if self.token is None or now - self._checked < FRESH_S:
            return
        lock = self.info()
        if lock is None or lock.get("owner") != self.token:
            raise RunFolderError(self._lost(lock))
        self._checked = now

    @contextmanager
    def held(
        self,
        state: State | None,
        note: Callable[[str], None],
        period_s: float | None = None,
    ) -> Iterator[None]:
        """Hold the folder, and send heartbeats meanwhile.

        Args:
            state: Called at each heartbeat; returns what the run is doing, as plain values.
            note: Takes a line for the user.
            period_s: Seconds between heartbeats; by default 10.

        Raises:
            RunFolderError: Another run holds it, or the lock cannot be written.
        """
        period_s = PERIOD_S if period_s is None else period_s
        with ExitStack() as stack:
            has_flock = self._storage.is_local and stack.enter_context(
                _flock(self._storage, self.info)
            )
            owner = _Owner(state)
            self._acquire(owner, note, period_s, has_flock=has_flock)
            self.token = owner.token
            ending = Event()
            heartbeat = Thread(
                target=self._send_heartbeats,
                args=(owner, ending, period_s, note),
                name="heartbeat",
                daemon=True,
            )
            heartbeat.start()
            try:
                yield
            finally:
                ending.set()
                heartbeat.join()
                self.token = None
                # The run is over, and must not fail because its lock cannot be removed.
                with suppress(RunFolderError):
                    self._release(owner, period_s)

    def _acquire(
        self, owner: _Owner, note: Callable[[str], None], period_s: float, *, has_flock: bool
    ) -> None:
        lock = self.info()
        while lock is not None and not _is_dead(lock, has_flock=has_flock):
            lock = self._watch(lock, note, period_s)
        owner.beat(self._storage)
        if has_flock or not self._storage.is_shared:
            return
        # Another process may have found no lock at the same moment: the last one to write wins.
        self._clock.sleep(SETTLE_S)
        lock = self.info()
        if lock is None or lock.get("owner") != owner.token:
            raise RunFolderError(_refusal(lock, self._storage.url))

    def _watch(
        self, lock: dict[str, Any], note: Callable[[str], None], period_s: float
    ) -> dict[str, Any] | None:
        """Wait until a lock is stale or gone, then return None.

        Raises:
            RunFolderError: Its owner is alive, or yet another run has taken it.
        """
        note(f"waiting {STALE_BEATS * period_s:g} s to see whether {_host(lock)} still works in "
             f"{self._storage.url}")  # fmt: skip
        looks = 0
        while looks < STALE_BEATS * _LOOKS_PER_BEAT:
            self._clock.sleep(period_s / _LOOKS_PER_BEAT)
            started = self._clock.monotonic()
            current = self.info()
            # While the store did not answer, the owner could not send a heartbeat either.
            looks = looks + 1 if self._clock.monotonic() - started < period_s else 0
            if current is None:
                return None
            if (current.get("owner"), current.get("beat")) != (lock.get("owner"), lock.get("beat")):
                raise RunFolderError(_refusal(current, self._storage.url))
        return None

    def _send_heartbeats(
        self, owner: _Owner, ending: Event, period_s: float, note: Callable[[str], None]
    ) -> None:
        # A storage with less patience: a late heartbeat is as bad as none.
        storage = Storage(self._storage.absolute_url, patience_s=period_s / 2)
        storage.is_made = True
        while not ending.wait(period_s):
            with suppress(RunFolderError):
                lock = _parsed(storage.read_if_exists(LOCK_FILE))
                if lock is None or lock.get("owner") != owner.token:
                    note(self._lost(lock))
                    return
                owner.beat(storage)

    def _release(self, owner: _Owner, period_s: float) -> None:
        storage = Storage(self._storage.absolute_url, patience_s=period_s / 2)
        lock = _parsed(storage.read_if_exists(LOCK_FILE))
        if lock is not None and lock.get("owner") == owner.token:
            storage.remove(LOCK_FILE)

    def _lost(self, lock: Mapping[str, Any] | None) -> str:
        self._storage.check_made()
        if lock is None:
            return (
                f"the lock of {self._storage.url} is gone: this run is over (was the folder "
                f"removed or moved?)"
            )
        who = f"{_host(lock)} (process {lock.get('pid')})"
        return f"another run on {who} took over {self._storage.url}"


class _Owner:
    """This process as the owner of the lock: writes the lock file at every heartbeat."""

    def __init__(self, state: State | None) -> None:
        self.token = uuid.uuid4().hex
        self._state = state
        self._since = time.time()
        self._last_beat = float("-inf")

    def beat(self, storage: Storage) -> None:
        # It must grow even if the clock is set back; it also shows people the time.
        self._last_beat = max(time.time(), self._last_beat + 0.001)
        content = {
            "owner": self.token,
            "host": socket.gethostname(),
            "machine": machine_key(),
            "pid": os.getpid(),
            "since": self._since,
            "beat": self._last_beat,
            "state": self._current_state(),
        }
        storage.write(LOCK_FILE, without_secrets(json.dumps(content, default=str)).encode())

    def _current_state(self) -> dict[str, Any] | None:
        if self._state is None:
            return None
        try:
            return dict(self._state())
        except Exception as error:  # must not stop the heartbeats
            return {"problem": repr(error)}


@contextmanager
def _flock(storage: Storage, info: Callable[[], dict[str, Any] | None]) -> Iterator[bool]:
    """Lock a local folder against other processes of this machine.

    The kernel releases this lock when the process dies, so no heartbeat has to be waited for.

    Yields:
        Whether the file system supports it.
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
    """Identifies a running system: processes with the same key can see whether the other lives."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        boot, processes = f"{uuid.getnode():x}", ""
    return f"{socket.gethostname()} {boot} {processes}".strip()


def _is_dead(lock: Mapping[str, Any], *, has_flock: bool) -> bool:
    """Whether the owner of a lock is known to be dead."""
    if lock.get("machine") != machine_key():
        return False
    # A process that holds the flock has proved that no process of this machine works in the folder.
    return has_flock or not _is_alive(lock.get("pid"))


def _is_alive(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except (ProcessLookupError, ValueError):
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _host(lock: Mapping[str, Any]) -> str:
    return str(lock.get("host") or "another machine")


def _refusal(lock: Mapping[str, Any] | None, url: str) -> str:
    who = "another process"
    if lock is not None:
        who = f"another run on {_host(lock)} (process {lock.get('pid')})"
    return f"{who} is working in {url}: wait until it has finished, or use another folder"


def _parsed(data: bytes | None) -> dict[str, Any] | None:
    try:
        content = json.loads(data or b"null")
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
