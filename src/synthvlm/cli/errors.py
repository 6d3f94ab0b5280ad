"""What a command says where something is wrong, and its exit status."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from synthvlm.errors import SynthVLMError
from synthvlm.progress.terminal import printable

__all__ = ["RESUMES", "explained"]

RESUMES = "interrupted: the same command resumes"


@contextmanager
def explained(debug: bool, interrupted: str = RESUMES) -> Iterator[None]:
    """Turn errors into one line on standard error and an exit status.

    Args:
        debug: Show the traceback instead.
        interrupted: What to say of Ctrl-C and of SIGTERM; nothing where it is empty.
    """
    try:
        with _terminable():
            yield
    except (BrokenPipeError, typer.Exit):  # a closed pipe and typer's own are left to typer
        raise
    except (KeyboardInterrupt, Exception) as error:
        # Python itself makes a RuntimeError of Ctrl-C while a library's class is being defined.
        interrupt = error.__cause__ if isinstance(error, RuntimeError) else error
        if isinstance(interrupt, KeyboardInterrupt):
            if debug:
                print(_told(interrupt, debug=True), file=sys.stderr)
            elif interrupted:
                print(interrupted, file=sys.stderr)
            number = signal.SIGTERM if isinstance(interrupt, _Terminated) else signal.SIGINT
            raise typer.Exit(128 + number) from None
        print(printable(_told(error, debug=debug)), file=sys.stderr)
        raise typer.Exit(1) from None


class _Terminated(KeyboardInterrupt):
    """SIGTERM came: what ends in good order on Ctrl-C does so on this, too."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Have SIGTERM, which batch systems send before they kill, end the command as Ctrl-C does."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # somebody wants it otherwise
        yield
        return
    has_come = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal has_come
        has_come = True
        # Once is enough: `timeout` sends it twice, which is not the impatience of a second Ctrl-C.
        signal.signal(number, signal.SIG_IGN)
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except Exception as error:
        if has_come:  # others got it too, and that they are gone is no error of its own
            raise _Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _told(error: BaseException, *, debug: bool) -> str:
    if debug:
        return "".join(traceback.format_exception(error)).rstrip("\n")
    if isinstance(error, SynthVLMError):
        return "\n".join(f"error: {line}" for line in str(error).split("\n"))
    text = " ".join(str(error).split())[:300]
    return (
        f"error: unexpected {type(error).__name__}: {text}; what is finished is kept; "
        f"run again with --debug and report what it says"
    )
