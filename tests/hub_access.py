"""A fake hub that this process finds as it would find the real one, logged in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes.hub import FakeHub

__all__ = ["fake_hub"]

TOKEN = "hf_secret"


@contextmanager
def fake_hub(monkeypatch: pytest.MonkeyPatch, empty: Path) -> Iterator[FakeHub]:
    """Serve; ``empty`` is a folder without a log-in."""
    from huggingface_hub import HfFileSystem, close_session, constants

    with FakeHub(token=TOKEN) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(empty / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        HfFileSystem.clear_instance_cache()
        try:
            yield hub
        finally:
            HfFileSystem.clear_instance_cache()
            close_session()
