"""Text files of words or names: those that a rule is given, and the package's own."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from synthvlm.errors import RecipeError

__all__ = ["entries", "package_text", "read_text"]


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark.

    Args:
        path: The file.
        what: What it holds, for the message.

    Raises:
        RecipeError: The file is missing or unreadable.
    """
    try:
        return Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RecipeError(f"{what}: cannot read {path}: {reason}") from error


def package_text(name: str) -> str:
    """The text of a file of the package's data."""
    return files(__package__).joinpath("data", name).read_text("utf-8")


def entries(text: str) -> list[str]:
    """The lines of a text, stripped, without empty ones and comments (``#`` in front)."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
