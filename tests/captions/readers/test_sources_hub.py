"""Caption files on the hub, by hf:// URLs, and what is said where one cannot be read."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.hub import FakeHub, Repository
from hub_access import fake_hub
from synthvlm.captions.readers.sources import read_captions, source_digest
from synthvlm.errors import CaptionSourceError, MissingExtraError

BASE = "hf://datasets/org/texts"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with fake_hub(monkeypatch, tmp_path) as fake:
        fake.repositories["org/texts"] = Repository(
            branches={
                "main": {
                    "a.jsonl": b'{"caption": "one"}\n{"caption": "two"}\n',
                    "more/b.jsonl": b'{"caption": "three"}\n',
                    "more/c.txt.gz": gzip.compress(b"four\n"),
                },
                "v2": {"a.jsonl": b'{"caption": "new"}\n'},
            }
        )
        yield fake


def texts(url: str) -> list[str]:
    return [caption.text for caption in read_captions(url, name="hub", normalize=str)]


def test_files_and_globs_and_revisions(hub: FakeHub) -> None:
    assert texts(f"{BASE}/a.jsonl") == ["one", "two"]
    assert texts(f"{BASE}/**/*.jsonl") == ["one", "two", "three"]
    assert texts(f"{BASE}/more/*.txt.gz") == ["four"]
    assert texts(f"{BASE}@v2/a.jsonl") == ["new"]


def test_the_digest_tells_contents_apart(hub: FakeHub) -> None:
    from huggingface_hub import HfFileSystem

    first = source_digest(f"{BASE}/a.jsonl")
    assert first == source_digest(f"{BASE}/a.jsonl")
    assert first != source_digest(f"{BASE}@v2/a.jsonl")
    files = hub.repositories["org/texts"].files
    files["a.jsonl"] = files["a.jsonl"].replace(b"one", b"six")
    HfFileSystem.clear_instance_cache()  # as in a new process
    assert first != source_digest(f"{BASE}/a.jsonl")
    assert hub.count("GET", "/resolve/") == 0


@pytest.mark.parametrize("call", [texts, source_digest])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"{BASE}/none.jsonl", "no such file"),
        (f"{BASE}/*.csv", "no file matches"),
        (f"{BASE}/more", "is a directory"),
        (f"{BASE}@v9/a.jsonl", "cannot be read: there is no such revision"),
        (
            "hf://datasets/org/none/a.jsonl",
            "cannot be read: no such repository, or a private one that you may not see: log in "
            "with `hf auth login` or set HF_TOKEN",
        ),
        (
            "hf://datasets/org/none/*.jsonl",
            "cannot be read: no such repository, or a private one that you may not see: log in "
            "with `hf auth login` or set HF_TOKEN",
        ),
    ],
)
def test_what_is_not_there(hub: FakeHub, call: Any, url: str, said: str) -> None:
    with pytest.raises(CaptionSourceError) as caught:
        call(url)
    assert str(caught.value).startswith((f"{url}: {said}", f"{url} {said}"))
    assert "\n" not in str(caught.value)


def test_private_without_a_log_in(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfFileSystem

    hub.repositories["org/texts"].private = True
    assert texts(f"{BASE}/a.jsonl") == ["one", "two"]
    monkeypatch.delenv("HF_TOKEN")
    HfFileSystem.clear_instance_cache()
    with pytest.raises(CaptionSourceError, match="a private one that you may not see: log in"):
        texts(f"{BASE}/a.jsonl")


def test_gated(hub: FakeHub) -> None:
    hub.gated = {"org/texts"}
    with pytest.raises(CaptionSourceError) as caught:
        texts(f"{BASE}/a.jsonl")
    assert str(caught.value) == (
        f"{BASE}/a.jsonl: cannot be read: access is gated: ask for it on the repository's page, "
        "then log in with `hf auth login` or set HF_TOKEN"
    )


def test_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CaptionSourceError, match="unset HF_HUB_OFFLINE"):
        texts(f"{BASE}/a.jsonl")


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("s3://b/a.txt", "s3fs", "s3"), ("gs://b/*.txt", "gcsfs", "gcs")],
)
def test_a_file_system_that_is_not_installed(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.registry import _registry

    for name in {"s3", "s3a", "gs", "gcs"} & set(_registry):
        monkeypatch.delitem(_registry, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        texts(url)
    assert str(caught.value) == f"{url} needs an extra: pip install 'synthvlm[{extra}]'"
