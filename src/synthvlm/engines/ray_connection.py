"""How a Ray cluster is joined, or one is started that only this machine can reach."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from synthvlm.errors import EngineError, MissingExtraError, first_line

__all__ = ["connect", "import_ray"]

#: Seconds that a cluster has to accept a connection.
_CONNECT_S = 10.0
#: Environment variable that lets Ray listen on all interfaces.
_BEYOND_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def import_ray() -> Any:
    """Import Ray, set up by environment variables as far as the user has not.

    Raises:
        MissingExtraError: It is not installed.
    """
    # Ray reports usage statistics to its makers by default; the user must opt in.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    loaded = sys.modules.get("ray")
    is_running = loaded is not None and loaded.is_initialized()
    if _address() is None and not is_running:
        # Ray's name for: use the loopback address. It is read when Ray is imported.
        os.environ[_BEYOND_LOOPBACK] = "0"
        if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError:
        raise MissingExtraError("the engine ray needs Ray: pip install 'synthvlm[ray]'") from None
    return ray


def _address() -> str | None:
    """The address of the cluster to join; None if one is to be started here."""
    address = os.environ.get("RAY_ADDRESS", "")
    return None if address in ("", "local") else address


def connect(ray: Any) -> str | None:
    """Join the cluster at ``RAY_ADDRESS``, or start one here; return what to warn of.

    Raises:
        EngineError: It cannot be reached, or the one here would be reached from the network.
    """
    address = _address()
    if address is not None:
        _check_reachable(address)
    # Its C++ part writes errors to the terminal as they come; what matters is raised here.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    before = signal.getsignal(signal.SIGTERM)
    try:
        with _silent_stderr():
            ray.init(
                address=address or "local",
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level="ERROR",
            )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise EngineError(
            f"cannot connect to a Ray cluster: {first_line(error)}; set RAY_ADDRESS to its "
            f"address, or unset it to start a cluster here"
        ) from error
    # Else it prints what becomes of its processes, `log_to_driver` or not.
    ray._private.worker._worker_logs_enabled = False
    # Ray replaces the handler to stop its processes on SIGTERM. It does so at every exit anyway,
    # and this command has a handler of its own.
    if callable(before) and signal.getsignal(signal.SIGTERM) is not before:
        signal.signal(signal.SIGTERM, before)
    if address is None:
        node = ray.nodes()[0]["NodeManagerAddress"]
        if node not in ("127.0.0.1", "::1"):
            ray.shutdown()
            raise EngineError(
                f"Ray was imported before the engine, and would be reached from the network at "
                f"{node}: set {_BEYOND_LOOPBACK}=0 before `import ray`, or start Ray yourself"
            )
    elif os.environ.get("RAY_AUTH_MODE") != "token":
        return (
            "this Ray cluster takes work without a token: whoever reaches its ports runs code "
            "on it (docs/security.md)"
        )
    return None


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what is written to standard error, by C++ too; errors that are raised are not."""
    sys.stderr.flush()
    original = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)


def _check_reachable(address: str) -> None:
    """Try to connect to ``host:port``, for Ray itself tries for minutes.

    Raises:
        EngineError: Nothing answers there.
    """
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise EngineError(
            f"no Ray cluster answers at RAY_ADDRESS={address}: {error}; correct it, or unset it to "
            f"start a cluster here"
        ) from error
