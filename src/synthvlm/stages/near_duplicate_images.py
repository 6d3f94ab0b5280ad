"""Near-duplicate images are left out before a selection, and it is recorded for whose sake.

Hashes are of the stored images, so that they are the same whenever the setting is switched on.
Decoding images takes long: they are kept in ``image-hashes/``, shard by shard.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from synthvlm.data import fingerprint, take_rows
from synthvlm.selectors.base import IMAGE_EMBEDDING, best_first, matrix
from synthvlm.selectors.near_duplicates import by_embedding, by_hash, twins
from synthvlm.stages.selection_columns import shard_rows

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from synthvlm.progress.display import Progress
    from synthvlm.recipe.selection import NearDuplicateImageSettings
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.selection_columns import PairColumns

__all__ = ["HASHES", "TWINS_FILE", "difference_hash", "without_near_duplicates"]

#: The dropped pairs, each with the one that stays in its place.
TWINS_FILE = "near-duplicates.parquet"
#: Stage, and folder, of the hashes of images.
HASHES = "image-hashes"


def without_near_duplicates(
    run: RunFolder,
    generated: Mapping[int, Marker],
    pairs: pa.Table,
    settings: NearDuplicateImageSettings,
    columns: PairColumns,
    progress: Progress,
) -> tuple[pa.Table, pa.Table]:
    """Of pairs whose images are nearly the same, the best by score stays, ties by caption id.

    Args:
        run: The run folder, which keeps the hashes.
        generated: Markers of the stage generate.
        pairs: In the order of their caption ids.
        settings: When two images are nearly the same.
        columns: Reads embeddings.
        progress: Shows the decoding of images.

    Returns:
        The pairs that stay; and of the others ``caption_id`` and ``score``, the ``caption_id`` of
        the one that is kept in its place, their cosine ``similarity`` and in how many of 64 bits
        their hashes differ (``distance``), null where that is not compared.

    Raises:
        RecipeError: Pairs have no embeddings.
    """
    import pyarrow as pa

    ranked = best_first(pairs)
    rank = np.empty(len(pairs), np.int64)
    rank[ranked] = np.arange(len(pairs))
    measures, similarity, distance = [], None, None
    if settings.max_similarity is not None and len(pairs):
        embeddings = matrix(columns.joined(pairs, [IMAGE_EMBEDDING]), IMAGE_EMBEDDING)
        measures.append(by_embedding(embeddings, rank, settings.max_similarity))
    if settings.max_hash_distance is not None and len(pairs):
        hashes = _hashes(run, generated, pairs, progress)
        measures.append(by_hash(hashes, rank, settings.max_hash_distance))
    instead = twins(rank, measures)
    dropped = np.flatnonzero(instead >= 0)
    stays = instead[dropped]
    if settings.max_similarity is not None and len(pairs):
        similarity = _cosines(embeddings, dropped, stays)
    if settings.max_hash_distance is not None and len(pairs):
        distance = np.bitwise_count(hashes[dropped] ^ hashes[stays]).astype(np.int64)
    ids = pairs["caption_id"]
    count = len(dropped)
    table = pa.table(
        {
            "caption_id": ids.take(pa.array(dropped)),
            "score": pairs["score"].take(pa.array(dropped)),
            "kept_caption_id": ids.take(pa.array(stays)),
            "similarity": pa.nulls(count, pa.float64()) if similarity is None else similarity,
            "distance": pa.nulls(count, pa.int64()) if distance is None else distance,
        }
    )
    return take_rows(pairs, np.flatnonzero(instead < 0)), table


def difference_hash(image: bytes) -> int:
    """The difference hash of an encoded image, 64 bits (Krawetz, "Kind of Like That", 2013).

    The image in grey is scaled to 9 x 8 pixels (Lanczos); a bit says whether a pixel is brighter
    than its left neighbour, row by row, the first one in the highest bit.
    """
    from PIL import Image

    with Image.open(io.BytesIO(image)) as opened:
        small = opened.convert("L").resize((9, 8), Image.Resampling.LANCZOS)
    pixels = np.asarray(small)
    bits = np.packbits(pixels[:, 1:] > pixels[:, :-1])
    return int.from_bytes(bits.tobytes(), "big")


def _cosines(
    embeddings: npt.NDArray[np.float16], first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    a, b = embeddings[first].astype(np.float32), embeddings[second].astype(np.float32)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(lengths, 1e-12), np.float64)


def _hashes(
    run: RunFolder, generated: Mapping[int, Marker], pairs: pa.Table, progress: Progress
) -> npt.NDArray[np.uint64]:
    """The hash of each pair's image; those of a shard are computed once, and kept."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known = run.markers(HASHES)
    hashes = np.empty(len(pairs), np.uint64)
    present = list(shard_rows(pairs))
    progress.start(HASHES, len(present), "shards")
    for shard, rows in present:
        (stored,) = [file for file in generated[shard].files if file.folder == "pairs"]
        expected = fingerprint(HASHES, stored.checksum)
        marker = known.get(shard)
        if marker is None or marker.fingerprint != expected:
            table = _hashed(run, stored.path)
            file = run.write_table(HASHES, shard, table)
            marker = known[shard] = run.commit(HASHES, shard, expected, [file])
        table = run.read_table(marker.files[0].path)
        ids = pairs["caption_id"].take(pa.array(rows))
        places = pc.index_in(ids, table["caption_id"].combine_chunks())
        hashes[rows] = table["hash"].take(places).to_numpy()
        progress.advance(1)
    run.sweep(HASHES, [HASHES], known)
    return hashes


def _hashed(run: RunFolder, name: str) -> pa.Table:
    import pyarrow as pa

    ids: list[str] = []
    hashes: list[int] = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for rows in run.row_groups(name, ["caption_id", "image"]):
            ids += rows["caption_id"].to_pylist()
            hashes += threads.map(difference_hash, rows["image"].to_pylist())
    return pa.table(
        {"caption_id": pa.array(ids, pa.string()), "hash": pa.array(hashes, pa.uint64())}
    )
