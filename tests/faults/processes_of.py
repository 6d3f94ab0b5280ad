"""Processes below a process, as Linux tells them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["alive", "descendants", "ray_workers", "wait_until_gone", "workers"]


def descendants(pid: int) -> list[int]:
    """Those that a process started, and theirs."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in path.read_text().split()]
        except OSError:  # it ended
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def workers(driver: int) -> list[int]:
    """The workers of a driver that runs a ``ProcessEngine``."""
    return [pid for pid in descendants(driver) if b"spawn_main" in command(pid)]


def ray_workers(raylet: int) -> list[int]:
    """The actors of the engine on a node."""
    return [pid for pid in descendants(raylet) if command(pid).startswith(b"ray::_Actor")]


def command(pid: int) -> bytes:
    """The command line of a process; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pids: Iterable[int]) -> list[int]:
    """Those that are there and no zombies."""
    return [pid for pid in pids if command(pid)]


def wait_until_gone(pids: Iterable[int], seconds: float) -> None:
    """Fail where one of them lives on."""
    until = time.monotonic() + seconds
    while left := alive(pids):
        assert time.monotonic() < until, f"processes that live on: {left}"
        time.sleep(0.05)
