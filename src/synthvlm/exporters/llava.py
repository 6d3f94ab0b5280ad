"""LLaVA's pre-training format: a JSON list of conversations, and a folder of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import orjson
from pydantic import Field

from synthvlm.components.settings import Identify, Settings
from synthvlm.data import fingerprint
from synthvlm.exporters.base import ExportedPair, Exporter, Write

__all__ = ["INSTRUCTIONS", "LlavaExporter", "question_of"]

#: What the human asks, in other words each; LLaVA's own list has eleven of this kind too.
INSTRUCTIONS = (
    "Describe this picture in a few words.",
    "What does this image show? Answer briefly.",
    "Give a short and clear account of the picture.",
    "Sum up what can be seen here.",
    "Write a brief caption for this image.",
    "In one sentence, what is in the picture?",
    "Say shortly what this image contains.",
    "Tell me concisely what you see.",
    "Provide a compact description of the scene shown.",
    "Which content does this picture present? Keep it short.",
    "Put the visible content of the image into plain, short words.",
)

INDEX_FILE = "llava.json"


class LlavaSettings(Settings):
    """LLaVA's JSON."""

    instructions: list[str] | None = Field(
        None, min_length=1, description="What the human asks; default: the built-in questions."
    )


class LlavaExporter(Exporter):
    """Writes ``llava.json`` and ``images/<part>/``; ``image`` is relative to ``images/``."""

    name: ClassVar[str] = "llava"
    Settings = LlavaSettings
    usage = "LLaVA's trainer: `--data_path llava.json --image_folder images`."

    @classmethod
    def identity(cls, settings: LlavaSettings, identify: Identify) -> object:
        """The questions, the built-in ones too."""
        return list(settings.instructions or INSTRUCTIONS)

    def __init__(self, *, instructions: Sequence[str] | None = None) -> None:
        """Take the questions, of which each pair gets one by a hash of its id."""
        self._instructions = tuple(instructions or INSTRUCTIONS)

    def write_part(self, part: int, pairs: Iterable[ExportedPair], write: Write) -> bytes:
        """Write the images of a part; returns its conversations."""
        entries = []
        for pair in pairs:
            name = f"{part:05d}/{pair.file_name}"
            write(f"images/{name}", [pair.image])
            entries.append(orjson.dumps(self._entry(pair, name)))
        return b",\n".join(entries)

    def finish(self, parts: Iterable[bytes], write: Write) -> None:
        """Join the conversations of all parts."""
        write(INDEX_FILE, _joined(parts))

    def _entry(self, pair: ExportedPair, name: str) -> dict[str, object]:
        return {
            "id": pair.id,
            "image": name,
            "conversations": [
                {"from": "human", "value": f"{question_of(pair.id, self._instructions)}\n<image>"},
                {"from": "gpt", "value": pair.caption},
            ],
        }


def question_of(id: str, instructions: Sequence[str] = INSTRUCTIONS) -> str:
    """What the human asks of a pair: one of some questions, by a hash of its id."""
    return instructions[int(fingerprint("instruction", id)[:8], 16) % len(instructions)]


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    """A JSON list of the entries of all parts, one part in memory at a time."""
    before = b"[\n"
    for part in filter(None, parts):
        yield before
        yield part
        before = b",\n"
    yield b"\n]\n" if before == b",\n" else b"[]\n"
