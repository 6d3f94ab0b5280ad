"""What a command says where something is wrong, and its exit status."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from synthvlm.errors import SynthVLMError
from synthvlm.terminal import printable

__all__ = ["explained"]


@contextmanager
def explained(
    debug: bool, interrupted: str = "interrupted: the same command resumes"
) -> Iterator[None]:
    """Turn errors into one line on standard error and an exit status.

    Args:
        debug: Show the traceback instead.
        interrupted: What to say of Ctrl-C.
    """
    try:
        yield
    except (BrokenPipeError, typer.Exit):  # a closed pipe and typer's own are left to typer
        raise
    except KeyboardInterrupt:
        if debug:
            raise
        print(interrupted, file=sys.stderr)
        raise typer.Exit(130) from None
    except Exception as error:
        print(printable(_told(error, debug=debug)), file=sys.stderr)
        raise typer.Exit(1) from None


def _told(error: Exception, *, debug: bool) -> str:
    if debug:
        return "".join(traceback.format_exception(error)).rstrip("\n")
    if isinstance(error, SynthVLMError):
        return "\n".join(f"error: {line}" for line in str(error).split("\n"))
    text = " ".join(str(error).split())[:300]
    return (
        f"error: unexpected {type(error).__name__}: {text}; what is finished is kept; "
        f"run again with --debug and report what it says"
    )
