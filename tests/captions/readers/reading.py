"""What is read of a file of captions, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthvlm.captions.readers.sources import read_captions
from synthvlm.data import Caption


class Read:
    """What is read of a file, and what is said of it."""

    def __init__(self, folder: Path, name: str, content: str | bytes, **options: Any) -> None:
        self.path = folder / name
        self.path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.said: list[str] = []
        self.captions: list[Caption] = list(
            read_captions(
                self.path,
                name="web",
                normalize=str,
                place="sources.0",
                say=self.said.append,
                **options,
            )
        )

    @property
    def texts(self) -> list[str]:
        assert [caption.problem for caption in self.captions if caption.problem] == []
        return [caption.text_raw for caption in self.captions]

    @property
    def ids(self) -> list[str]:
        return [caption.id for caption in self.captions]

    @property
    def notes(self) -> list[str]:
        """Lines without the path."""
        return [line.replace(f" {self.path}:", "") for line in self.said]
