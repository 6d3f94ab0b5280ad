"""Tables of pairs as selectors see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

__all__ = ["embeddings", "pairs_of", "selected_ids"]


def embeddings(vectors: np.ndarray) -> pa.Array:
    """A column of embeddings, as the stage joins it."""
    flat = np.ascontiguousarray(vectors, np.float16).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), vectors.shape[1])


def pairs_of(scores: Sequence[float], columns: Mapping[str, object] | None = None) -> pa.Table:
    """Pairs of the captions 000, 001 ... with these scores."""
    table = pa.table(
        {
            "caption_id": [f"{n:03d}" for n in range(len(scores))],
            "score": np.array(scores, np.float64),
        }
    )
    for name, column in (columns or {}).items():
        table = table.append_column(name, pa.chunked_array([column]))  # type: ignore[arg-type]
    return table


def selected_ids(pairs: pa.Table, rows: np.ndarray) -> list[str]:
    ids: list[str] = pairs["caption_id"].take(pa.array(rows)).to_pylist()
    return ids
