"""File systems with errors and prices of their own, as remote ones have."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from synthvlm.captions.readers.sources import read_captions, source_digest
from synthvlm.errors import CaptionSourceError


class OddError(Exception):
    """No OSError, as those of aiohttp and botocore are none."""


class CutFile(io.RawIOBase):
    """Half a file, then the connection is gone."""

    def __init__(self, content: bytes) -> None:
        self._half, self._rest = io.BytesIO(content[: len(content) // 2]), True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._half.read(len(buffer))
        buffer[: len(data)] = data
        if not data:
            raise OddError("the payload is\nnot completed")
        return len(data)


class OddFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """``odd://``: some paths cannot be reached, others not to their end."""

    protocol = "odd"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.removeprefix("odd://"))
        return stripped

    def isdir(self, path: str) -> bool:
        if path.endswith(".txt"):
            raise AssertionError("over HTTP, this would read the whole file")
        found: bool = super().isdir(path)
        return found

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if "locked" in path:
            raise OddError("unable to locate credentials")
        found: dict[str, Any] = super().info(path, **options)
        return found

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        return CutFile(file.read()) if "cut" in path and mode == "rb" else file


@pytest.fixture(autouse=True)
def _odd() -> Iterator[None]:
    fsspec.register_implementation("odd", OddFileSystem, clobber=True)
    for name, count in (("whole", 3), ("cut", 100_000)):
        with fsspec.open(f"memory://odd-files/{name}.txt", "wb") as file:
            file.write(b"".join(b"caption %06d\n" % number for number in range(count)))
    yield
    MemoryFileSystem().rm("/odd-files", recursive=True)


def texts(url: str) -> list[str]:
    return [caption.text for caption in read_captions(url, name="web", normalize=str)]


def test_a_file_is_found_without_being_read() -> None:
    assert texts("odd://odd-files/whole.txt") == [f"caption {n:06}" for n in range(3)]
    assert texts("odd://odd-files/wh*.txt") == [f"caption {n:06}" for n in range(3)]
    assert source_digest("odd://odd-files/whole.txt") == source_digest("odd://odd-files/wh*.txt")
    with pytest.raises(CaptionSourceError, match="is a directory"):
        texts("odd://odd-files")
    with pytest.raises(CaptionSourceError, match="no such file"):
        texts("odd://odd-files/none.txt")


@pytest.mark.parametrize("call", [texts, source_digest])
def test_what_cannot_be_reached_is_one_line(call: Callable[[str], Any]) -> None:
    with pytest.raises(CaptionSourceError) as caught:
        call("odd://odd-files/locked.txt")
    expected = "odd://odd-files/locked.txt: cannot be read: unable to locate credentials"
    assert str(caught.value) == expected


def test_a_cut_connection_stops_with_the_place() -> None:
    seen: list[str] = []
    captions = read_captions("odd://odd-files/cut.txt", name="web", normalize=str)
    with pytest.raises(CaptionSourceError) as caught:
        seen.extend(caption.text for caption in captions)
    assert seen
    assert seen == [f"caption {n:06}" for n in range(len(seen))]
    assert str(caught.value) == (
        f"odd://odd-files/cut.txt: cannot be read after row {len(seen)}: "
        "the payload is not completed"
    )


def test_what_the_caller_does_wrong_is_not_hidden(tmp_path: Any) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n")

    def broken(text: str) -> str:
        raise OddError(text)

    for url in (str(path), "odd://odd-files/whole.txt"):
        with pytest.raises(OddError):
            list(read_captions(url, name="web", normalize=broken))
