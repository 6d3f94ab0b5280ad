"""Tar shards, as WebDataset, open_clip and Megatron-Energon read them."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar

import orjson
import yaml
from pydantic import Field

from synthvlm.components.settings import Settings
from synthvlm.data import score_column
from synthvlm.exporters.base import ExportedPair, Exporter, Split, Write
from synthvlm.exporters.splits import peeked

__all__ = ["WebDatasetExporter"]

FOLDER = "webdataset"
_META = f"{FOLDER}/.nv-meta"
#: What Energon calls the splits.
_ENERGON_SPLITS: dict[Split, str] = {"train": "train", "validation": "val"}
_BLOCK = tarfile.BLOCKSIZE
#: With two empty blocks a tar file ends, filled up to a whole record.
_END = bytes(2 * _BLOCK)


class WebDatasetSettings(Settings):
    """Tar shards."""

    pairs_per_shard: int | None = Field(
        None, ge=1, description="At most; null: as many as megabytes_per_shard allows."
    )
    megabytes_per_shard: int = Field(
        1000, ge=1, description="A shard is closed when it reaches this size, of 10^6 bytes."
    )


class WebDatasetExporter(Exporter):
    """Writes ``webdataset/<split>-<part>-<piece>.tar`` and the index of Energon.

    A pair is ``KEY.json`` (id, caption, source, sizes, scores, seed), ``KEY.txt`` (the caption) and
    the image, ``KEY.png``, ``KEY.jpg`` or ``KEY.webp``; keys ascend. A shard holds pairs of one
    part. Beside it ``.tar.idx`` has the offset of each pair.
    """

    name: ClassVar[str] = "webdataset"
    Settings = WebDatasetSettings
    tables: ClassVar[str] = FOLDER + "/{split}-*.tar"
    usage = (
        '`webdataset.WebDataset(sorted(glob("webdataset/train-*.tar")), shardshuffle=100)`; for '
        "Megatron-Energon, the folder `webdataset` is prepared."
    )

    def __init__(
        self, *, pairs_per_shard: int | None = None, megabytes_per_shard: int = 1000
    ) -> None:
        """Say how large shards become."""
        self._pairs, self._bytes = pairs_per_shard, megabytes_per_shard * 10**6

    def write_part(self, part: int, pairs: Iterable[ExportedPair], write: Write) -> bytes:
        """Write a part as one shard or several; returns their names and counts."""
        split, left = peeked(pairs)
        counts: dict[str, int] = {}
        for piece, first in enumerate(left):
            name = f"{split}-{part:05d}-{piece:03d}.tar"
            shard = _Shard(f"{part:05d}-{piece:03d}", self._pairs, self._bytes)
            write(f"{FOLDER}/{name}", shard.chunks(chain([first], left)))
            write(f"{FOLDER}/{name}.idx", [struct.pack(f"<{len(shard.offsets)}Q", *shard.offsets)])
            counts[name] = len(shard.offsets) - 1
        return orjson.dumps([split, counts])

    def finish(self, parts: Iterable[bytes], write: Write) -> None:
        """Write which shards there are, in the ways of Energon and of open_clip."""
        counts: dict[str, int] = {}
        splits: dict[str, list[str]] = {}
        for record in parts:
            split, shards = orjson.loads(record)
            counts |= shards
            splits.setdefault(_ENERGON_SPLITS[split], []).extend(shards)
        if not counts:
            return
        write(f"{FOLDER}/sizes.json", [_json(counts)])
        write(f"{_META}/.info.json", [_json({"shard_counts": counts})])
        write(f"{_META}/split.yaml", [_yaml({"split_parts": splits, "exclude": []})])
        write(
            f"{_META}/dataset.yaml",
            [
                _yaml(
                    {
                        "sample_type": {
                            "__module__": "megatron.energon",
                            "__class__": "CaptioningSample",
                        },
                        "field_map": {"image": "png,jpg,webp", "caption": "txt"},
                    }
                )
            ],
        )


@dataclass(slots=True)
class _Shard:
    """A tar file as it is written; one pair is in memory at a time.

    Attributes:
        key: Of the pairs, before their number.
        most_pairs: When it is closed; None: by its size alone.
        most_bytes: When it is closed.
        offsets: Where each pair begins, and where the last one ends.
    """

    key: str
    most_pairs: int | None
    most_bytes: int
    offsets: list[int] = field(default_factory=list)

    def chunks(self, pairs: Iterable[ExportedPair]) -> Iterator[bytes]:
        """Its bytes, of as many pairs as it takes; no owner, no time."""
        position = 0
        for number, pair in enumerate(pairs):
            self.offsets.append(position)
            for suffix, data in _members(pair):
                header = tarfile.TarInfo(f"{self.key}-{number:07d}.{suffix}")
                header.size = len(data)
                member = header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % _BLOCK)
                position += len(member)
                yield member
            if position >= self.most_bytes or number + 1 == self.most_pairs:
                break
        self.offsets.append(position)
        yield _END + bytes(-(position + len(_END)) % tarfile.RECORDSIZE)


def _members(pair: ExportedPair) -> list[tuple[str, bytes]]:
    """The files of a pair by their suffix, in its order."""
    facts = {
        "id": pair.id,
        "caption": pair.caption,
        "source": pair.source,
        "width": pair.width,
        "height": pair.height,
        "rank": pair.rank,
        **{score_column(name): value for name, value in pair.scores.items()},
        "score": pair.score,
        "seed": pair.seed,
        "index": pair.index,
    }
    known = {name: value for name, value in facts.items() if value is not None}
    return sorted(
        [
            ("json", orjson.dumps(known)),
            ("txt", pair.caption.encode()),
            (pair.suffix, pair.image),
        ]
    )


def _json(values: object) -> bytes:
    return orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n"


def _yaml(values: object) -> bytes:
    return yaml.safe_dump(values, sort_keys=False).encode()
