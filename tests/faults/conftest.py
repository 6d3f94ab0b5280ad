"""Runs that nothing disturbed, made once."""

from __future__ import annotations

import pytest
from fault_runs import Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Fourteen shards."""
    return Lab(tmp_path_factory.mktemp("faults") / "lab", 56)


@pytest.fixture(scope="session")
def small_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Six shards."""
    return Lab(tmp_path_factory.mktemp("faults") / "lab", 24)


@pytest.fixture(scope="session")
def tiny_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Two shards, for a store that answers slowly."""
    return Lab(tmp_path_factory.mktemp("faults") / "lab", 8)
