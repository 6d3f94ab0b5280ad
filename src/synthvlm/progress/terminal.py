"""Keeps untrusted text and noisy libraries from disturbing the terminal."""

from __future__ import annotations

import logging
import re

__all__ = ["printable", "quiet_libraries"]

#: Control characters (escape sequences start with one), other line ends, marks that change the
#: direction of writing, lone surrogates.
_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Escape the characters that a terminal would act on, as in ``\x1b`` or ``\u202e``.

    Tabs and ``\n`` stay: our own messages contain them.
    """
    return _ACTIVE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def quiet_libraries() -> None:
    """Suppress warnings that users cannot act on; only for processes of this package."""
    # At import, torchao warns of each of its kernels that does not fit this machine.
    for library in ("torchao", "torch.utils._pytree"):
        logging.getLogger(library).setLevel(logging.ERROR)
