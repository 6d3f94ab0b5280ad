"""What a training was done with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["versions"]

_PACKAGES = ("synthvlm", "torch", "transformers", "trl", "peft", "accelerate", "tokenizers")


def versions() -> dict[str, str]:
    """Version of Python and of each package that has a part in it."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
