"""Errors of file systems: which may pass, and what they say in a line."""

from __future__ import annotations

import errno

from synthvlm.errors import first_line

__all__ = ["is_permanent", "reason"]

#: No second try helps. Everything else may pass: object stores have errors of their own, most of
#: which are not OSErrors.
_PERMANENT = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    FileExistsError,
    ValueError,
    NotImplementedError,
    ImportError,
    MemoryError,
)


def is_permanent(error: BaseException) -> bool:
    """Whether no second try helps."""
    # Missing credentials: each library has an error of its own for them.
    kinds = type(error).__mro__
    return isinstance(error, _PERMANENT) or any("Credential" in kind.__name__ for kind in kinds)


def reason(error: Exception) -> str:
    """What is wrong, and what to do, in a line."""
    number = error.errno if isinstance(error, OSError) else None
    advice = {
        errno.ENOSPC: "no space left on the device; free some and run again",
        errno.EDQUOT: "the disk quota is used up; free some and run again",
        errno.EFBIG: "the file-size limit is reached; raise it (ulimit -f) and run again",
        errno.EACCES: "permission denied; choose a folder that you may write",
        errno.EPERM: "not permitted; choose a folder that you may write",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.ENOTDIR: "a part of the path is a file; choose another folder",
        errno.EEXIST: "what is there is not a folder; choose another folder",
    }.get(number or 0)
    if advice is not None:
        return f"{advice} (what is finished is kept)"
    strerror = error.strerror if isinstance(error, OSError) else None
    return (strerror or first_line(error)).splitlines()[0]
