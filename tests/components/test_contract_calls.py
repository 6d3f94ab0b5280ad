"""What a component raises becomes a line that names it."""

from __future__ import annotations

import pytest
import torch

from synthvlm.components.component import LoadContext
from synthvlm.components.contract import contract
from synthvlm.errors import ModelError, OutOfMemoryError, PluginError, RecipeError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("bad\nvalue"), "scorer 'mine' failed: ValueError: bad"),
        (KeyError("x"), "scorer 'mine' failed: KeyError: 'x'"),
        (RuntimeError(), "scorer 'mine' failed: RuntimeError: RuntimeError"),
    ],
)
def test_another_error_becomes_a_line_that_names_the_component(
    error: Exception, message: str
) -> None:
    with pytest.raises(PluginError) as caught, contract("scorer", "mine"):
        raise error
    assert str(caught.value) == message
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        ModelError("no model"),
        OutOfMemoryError("too large"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_errors_of_this_package_and_of_memory_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, contract("scorer", "mine"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_a_user_who_stops_the_run_is_not_held_up(error: BaseException) -> None:
    with pytest.raises(type(error)), contract("scorer", "mine"):
        raise error


def test_where_there_are_no_endpoints_a_component_is_told_so() -> None:
    with pytest.raises(RecipeError, match="an endpoint is not to be had here"):
        LoadContext().endpoint_client(None, "model", "place")
