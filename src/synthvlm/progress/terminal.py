"""What others put on a terminal: texts of strangers, and what libraries say at import."""

from __future__ import annotations

import logging
import re

__all__ = ["printable", "quiet_libraries"]

#: Control characters (escape sequences begin with one), line ends, marks that turn the direction
#: of writing, lone surrogates.
_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""The text with what a terminal would obey shown as ``\x1b`` or ``\u202e``.

    Tabs and ``\n`` stay: our own messages have them.
    """
    return _ACTIVE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def quiet_libraries() -> None:
    """Let libraries say nothing that nobody can act upon, in a process that is ours alone."""
    # torchao, where it is installed, says at import which of its kernels are not for this machine.
    for library in ("torchao", "torch.utils._pytree"):
        logging.getLogger(library).setLevel(logging.ERROR)
