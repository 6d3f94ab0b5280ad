"""Calls of components: what one raises becomes a line that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from synthvlm.errors import PluginError, SynthVLMError, first_line, is_out_of_memory

__all__ = ["contract"]


@contextmanager
def contract(kind: str, name: str) -> Iterator[None]:
    """Call a component.

    Raises:
        PluginError: It raised something else than an error of this package, or than what
            libraries raise where memory does not suffice; the message names it.
    """
    try:
        yield
    except (SynthVLMError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code:
            raise  # with status 0 the run would seem to be done
        # Python itself makes a RuntimeError of Ctrl-C while a library's class is being defined.
        if is_out_of_memory(error) or isinstance(error.__cause__, KeyboardInterrupt):
            raise
        raise PluginError(
            f"{kind} {name!r} failed: {type(error).__name__}: {first_line(error)}"
        ) from error
