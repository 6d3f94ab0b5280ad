"""Keeps noisy libraries from disturbing the terminal."""

from __future__ import annotations

import logging

__all__ = ["quiet_libraries"]


def quiet_libraries() -> None:
    """Suppress warnings that users cannot act on; only for processes of this package."""
    # At import, torchao warns of each of its kernels that does not fit this machine.
    for library in ("torchao", "torch.utils._pytree"):
        logging.getLogger(library).setLevel(logging.ERROR)
