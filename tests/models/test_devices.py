"""Which device a worker gets."""

from __future__ import annotations

import os

import pytest
import torch

from synthvlm.errors import ModelError
from synthvlm.models.devices import resolve_device, usable_cores


def test_a_gpu_that_a_worker_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("cuda:0") == "cuda:0"
    with pytest.raises(ModelError, match=r"cuda:1 is not there: this process has 1 GPUs"):
        resolve_device("cuda:1")


def test_a_named_device_is_that() -> None:
    assert resolve_device("cpu") == "cpu"


def test_a_device_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ModelError, match="the device 'toaster' is not known"):
        resolve_device("toaster")


def test_cores_are_counted_where_a_system_does_not_tell_those_of_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on macOS."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert usable_cores() == 12
