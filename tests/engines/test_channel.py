"""What a worker says of its end; errors must survive the way to the driver."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from synthvlm.engines.base import Reporter, ShardWorker
from synthvlm.engines.channel import Channel
from synthvlm.errors import ModelError, SynthVLMError


class TwoPartError(SynthVLMError):
    """Is made of two arguments and so cannot be made again from its message."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} in {where}")


class PanicException(BaseException):
    """As Rust's libraries raise it: no Exception."""


def error_with_a_function() -> SynthVLMError:
    error = SynthVLMError("no model")
    error.hint = lambda: ""  # type: ignore[attr-defined]
    return error


def last_words(make_error: Callable[[], BaseException]) -> tuple[str, Any]:
    """The last message of a worker that cannot be made, as the driver gets it."""
    said: list[bytes] = []

    def make_worker(progress: Reporter) -> ShardWorker:
        raise make_error()

    Channel(lambda message: said.append(pickle.dumps(message))).serve(make_worker)
    kind, value = pickle.loads(said[-1])
    return kind, value


@pytest.mark.parametrize(
    ("make_error", "kind", "text"),
    [
        (lambda: ModelError("no model"), ModelError, "no model"),
        (lambda: TwoPartError("a tear", "the disk"), SynthVLMError, "a tear in the disk"),
        (error_with_a_function, SynthVLMError, "no model"),
    ],
    ids=["ours", "not made again", "not sent"],
)
def test_an_error_that_stops_the_run_arrives(
    make_error: Callable[[], SynthVLMError], kind: type, text: str
) -> None:
    word, error = last_words(make_error)
    assert (word, type(error), str(error)) == ("error", kind, text)


@pytest.mark.parametrize(
    ("make_error", "text"),
    [
        (lambda: RuntimeError("cursed\nand more"), "RuntimeError: cursed"),
        (lambda: SystemExit("enough"), "SystemExit: enough"),
        (lambda: PanicException("index out of range"), "PanicException: index out of range"),
        (lambda: ValueError("x" * 1_000_000), "ValueError: " + "x" * 300),
    ],
    ids=["unexpected", "exit", "panic", "long"],
)
def test_whatever_else_ends_a_worker_is_told_in_a_line(
    make_error: Callable[[], BaseException], text: str
) -> None:
    assert last_words(make_error) == ("crash", text)
