"""Checkpoints that survive a kill at any moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

__all__ = ["load", "needed", "save"]


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the file at `path` is whole at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load(path: Path) -> dict[str, Any] | None:
    """The checkpoint at `path`, or None if there is none yet."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    return state


def needed(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`, which another command writes."""
    state = load(path)
    if state is None:
        raise SystemExit(f"{path} is missing: train that part first")
    return state
