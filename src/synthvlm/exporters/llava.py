"""LLaVA's pre-training format: a JSON list of conversations, and a folder of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import orjson

from synthvlm.components.settings import Identify
from synthvlm.exporters.base import ExportedPair, Exporter, Split, Write, write_image
from synthvlm.exporters.questions import INSTRUCTIONS, ConversationSettings, question_of
from synthvlm.exporters.splits import by_split, peeked, record_of

__all__ = ["LlavaExporter"]

#: The conversations of each split.
_INDEX_FILES: dict[Split, str] = {"train": "llava.json", "validation": "llava-validation.json"}
#: By it LLaMA-Factory reads them, under these names.
_LLAMA_FACTORY_FILE = "dataset_info.json"
_LLAMA_FACTORY_NAMES: dict[Split, str] = {
    "train": "synthvlm",
    "validation": "synthvlm_validation",
}


class LlavaSettings(ConversationSettings):
    """LLaVA's JSON."""


class LlavaExporter(Exporter):
    """Writes ``llava.json`` and ``images/<part>/``; ``image`` is relative to ``images/``."""

    name: ClassVar[str] = "llava"
    Settings = LlavaSettings
    usage = (
        "LLaVA's trainer: `--data_path llava.json --image_folder images`. LLaMA-Factory: "
        "`dataset: synthvlm`, `dataset_dir` this folder, `media_dir` its `images`."
    )

    @classmethod
    def identity(cls, settings: LlavaSettings, identify: Identify) -> object:
        """The questions, the built-in ones too."""
        return list(settings.instructions or INSTRUCTIONS)

    def __init__(self, *, instructions: Sequence[str] | None = None) -> None:
        """Take the questions, of which each pair gets one by a hash of its id."""
        self._instructions = tuple(instructions or INSTRUCTIONS)

    def write_part(self, part: int, pairs: Iterable[ExportedPair], write: Write) -> bytes:
        """Write the images of a part; returns its conversations."""
        split, pairs = peeked(pairs)
        entries = [
            orjson.dumps(self._entry(pair, write_image(part, pair, write).removeprefix("images/")))
            for pair in pairs
        ]
        return record_of(split, b",\n".join(entries))

    def finish(self, parts: Iterable[bytes], write: Write) -> None:
        """Join the conversations of all parts, a file for each split."""
        names: list[Split] = []
        for split, records in by_split(parts):
            write(_INDEX_FILES[split], _joined(records))
            names.append(split)
        if "train" not in names:
            write(_INDEX_FILES["train"], [b"[]\n"])
            names.insert(0, "train")
        entries = {_LLAMA_FACTORY_NAMES[split]: _llama_factory(split) for split in names}
        write(_LLAMA_FACTORY_FILE, [orjson.dumps(entries, option=orjson.OPT_INDENT_2), b"\n"])

    def _entry(self, pair: ExportedPair, name: str) -> dict[str, object]:
        return {
            "id": pair.id,
            "image": name,
            "conversations": [
                {"from": "human", "value": f"{question_of(pair.id, self._instructions)}\n<image>"},
                {"from": "gpt", "value": pair.caption},
            ],
        }


def _llama_factory(split: Split) -> dict[str, object]:
    return {
        "file_name": _INDEX_FILES[split],
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "images": "image"},
    }


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    """A JSON list of the entries of some parts, one part in memory at a time."""
    before = b"[\n"
    for part in parts:
        yield before
        yield part
        before = b",\n"
    yield b"\n]\n"
