"""Errors and interrupts of commands: one line on standard error, and the exit status."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from synthvlm.errors import SynthVLMError
from synthvlm.safe_text import printable

__all__ = ["RESUMES", "explained"]

RESUMES = "interrupted; run the same command again to resume"


@contextmanager
def explained(debug: bool, interrupted: str = RESUMES, status: int = 1) -> Iterator[None]:
    """Turn errors into one line on standard error and an exit status.

    Args:
        debug: Show the traceback instead of the line.
        interrupted: Line to show after Ctrl-C or SIGTERM; none if empty.
        status: Exit status of an error.
    """
    try:
        with _terminable():
            yield
    except (BrokenPipeError, typer.Exit):  # handled by typer
        raise
    except (KeyboardInterrupt, Exception) as error:
        # Python turns Ctrl-C into a RuntimeError while a class of a library is being defined.
        interrupt = error.__cause__ if isinstance(error, RuntimeError) else error
        if isinstance(interrupt, KeyboardInterrupt):
            if debug:
                print(printable(_message(interrupt, debug=True)), file=sys.stderr)
            elif interrupted:
                print(interrupted, file=sys.stderr)
            number = signal.SIGTERM if isinstance(interrupt, _Terminated) else signal.SIGINT
            raise typer.Exit(128 + number) from None
        print(printable(_message(error, debug=debug)), file=sys.stderr)
        raise typer.Exit(status) from None


class _Terminated(KeyboardInterrupt):
    """SIGTERM arrived. It is handled like Ctrl-C, so that work is committed first."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM, which batch systems send before SIGKILL, end the command like Ctrl-C."""
    if (
        signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):  # the caller has a handler of its own
        yield
        return
    has_arrived = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal has_arrived
        has_arrived = True
        # `timeout` sends it twice, which is not the second Ctrl-C of an impatient user.
        signal.signal(number, signal.SIG_IGN)
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except Exception as error:
        if has_arrived:  # child processes got it as well; that they are gone is not an error
            raise _Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _message(error: BaseException, *, debug: bool) -> str:
    if debug:
        return "".join(traceback.format_exception(error)).rstrip("\n")
    if isinstance(error, SynthVLMError):
        return "\n".join(f"error: {line}" for line in str(error).split("\n"))
    text = " ".join(str(error).split())[:300]
    return (
        f"error: unexpected {type(error).__name__}: {text}; finished work is kept; run again with "
        f"--debug and report the traceback"
    )
