"""Chat messages and images, as TRL, ms-swift and Axolotl read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import orjson
from pydantic import Field

from synthvlm.components.settings import Identify, identity_values
from synthvlm.exporters.base import ExportedPair, Exporter, Write, write_image
from synthvlm.exporters.parquet_files import write_files
from synthvlm.exporters.questions import INSTRUCTIONS, ConversationSettings, question_of
from synthvlm.exporters.splits import by_split, peeked, record_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MessagesExporter"]


class MessagesSettings(ConversationSettings):
    """Chat messages."""

    images: Literal["bytes", "paths"] = Field(
        "bytes",
        description="bytes: within Parquet files; paths: JSON Lines beside a folder of images.",
    )


class MessagesExporter(Exporter):
    """Writes ``messages/<split>-*.parquet``, or ``<split>.jsonl`` and ``images/<part>/``.

    A row has ``id``, ``messages`` (of the user, an image and a question; of the assistant, the
    caption; each a list of blocks) and ``images``, a list of one. A path is relative to the data
    set.
    """

    name: ClassVar[str] = "messages"
    Settings = MessagesSettings
    tables: ClassVar[str] = "messages/{split}-*.parquet"
    usage = (
        "TRL, ms-swift, Axolotl: the columns `messages` and `images` of `messages/*.parquet`, or "
        "of `train.jsonl`, whose paths begin in this folder."
    )

    @classmethod
    def identity(cls, settings: MessagesSettings, identify: Identify) -> object:
        """The questions, the built-in ones too."""
        return [identity_values(settings, identify), list(settings.instructions or INSTRUCTIONS)]

    def __init__(
        self,
        *,
        images: Literal["bytes", "paths"] = "bytes",
        instructions: Sequence[str] | None = None,
    ) -> None:
        """Say where images are written; each pair gets a question by a hash of its id."""
        self._instructions = tuple(instructions or INSTRUCTIONS)
        self._are_bytes = images == "bytes"

    def write_part(self, part: int, pairs: Iterable[ExportedPair], write: Write) -> bytes:
        """Write a part as Parquet files, or its images; then its lines are returned."""
        if self._are_bytes:
            write_files(self.tables, part, pairs, self._table, write)
            return b""
        split, pairs = peeked(pairs)
        rows = [self._row(pair, write_image(part, pair, write)) for pair in pairs]
        return record_of(split, b"".join(orjson.dumps(row) + b"\n" for row in rows))

    def finish(self, parts: Iterable[bytes], write: Write) -> None:
        """Join the lines of all parts, a file for each split."""
        for split, records in by_split(parts):
            write(f"{split}.jsonl", records)

    def _row(self, pair: ExportedPair, image: object) -> dict[str, Any]:
        question = {"type": "text", "text": question_of(pair.id, self._instructions)}
        answer = {"type": "text", "text": pair.caption}
        return {
            "id": pair.id,
            "messages": [
                {"role": "user", "content": [{"type": "image"}, question]},
                {"role": "assistant", "content": [answer]},
            ],
            "images": [image],
        }

    def _table(self, pairs: list[ExportedPair]) -> pa.Table:
        import pyarrow as pa

        rows = [self._row(pair, {"bytes": pair.image, "path": pair.file_name}) for pair in pairs]
        return pa.Table.from_pylist(rows, _schema())


def _schema() -> pa.Schema:
    import pyarrow as pa

    block = pa.struct([("type", pa.string()), ("text", pa.string())])
    message = pa.struct([("role", pa.string()), ("content", pa.list_(block))])
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("messages", pa.list_(message)),
            ("images", pa.list_(image)),
        ]
    )
    # The hub's own description of the columns, which makes `images` pictures and not structs.
    text = {"dtype": "string", "_type": "Value"}
    features = {
        "id": text,
        "messages": [{"role": text, "content": [{"type": text, "text": text}]}],
        "images": [{"_type": "Image"}],
    }
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
