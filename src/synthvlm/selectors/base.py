"""What a selector is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from synthvlm.components.component import Component
from synthvlm.errors import PluginError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

__all__ = [
    "EMBEDDINGS",
    "IMAGE_EMBEDDING",
    "TEXT_EMBEDDING",
    "Selector",
    "best_first",
    "check_rows",
    "matrix",
]

#: Columns of embeddings; float16 lists of one length.
EMBEDDINGS = TEXT_EMBEDDING, IMAGE_EMBEDDING = "text_embedding", "image_embedding"


class Selector(Component):
    """Chooses the pairs of the data set.

    It sees all pairs of the run at once, without pixels, in the order of their caption ids, and
    must be deterministic.

    Attributes:
        notes: After ``select``, lines for people on what it could not do as it was asked to.
    """

    notes: Sequence[str] = ()

    @classmethod
    def columns(cls, settings: Any) -> Sequence[str]:
        """The columns of pairs that it needs besides those that they always have.

        Possible are ``text_embedding``, ``image_embedding``, ``source``, ``concept`` (the first of
        ``curation.concepts`` that the caption mentions, or null), and the name of any rule that is
        on: its measure, null where there is none.

        Args:
            settings: An instance of its ``Settings``.
        """
        return ()

    def select(self, pairs: pa.Table, count: int | None) -> np.ndarray:
        """The rows of the pairs to keep, best first.

        Args:
            pairs: One row for each pair that has the minimum scores: ``caption_id``, ``index``,
                ``<name>_score`` of each scorer, ``score``, ``shard``, and its ``columns``.
            count: How many to keep, where there are so many; None: as many as fit.

        Returns:
            Row numbers, int64, shape (kept,), each once.
        """
        raise NotImplementedError


def best_first(pairs: pa.Table) -> npt.NDArray[np.int64]:
    """The rows of pairs by score, best first, ties by caption id; shape (pairs,)."""
    import numpy as np
    import pyarrow.compute as pc

    keys = [("score", "descending"), ("caption_id", "ascending")]
    rows: npt.NDArray[np.int64] = pc.sort_indices(pairs, sort_keys=keys).to_numpy().astype(np.int64)
    return rows


def matrix(pairs: pa.Table, name: str) -> npt.NDArray[np.float16]:
    """A column of embeddings as an array, shape (pairs, d); not copied where it is one chunk."""
    import numpy as np

    chunks = [chunk for chunk in pairs[name].chunks if len(chunk)]
    if not chunks:
        return np.zeros((0, 0), np.float16)
    parts = [chunk.flatten().to_numpy().reshape(len(chunk), -1) for chunk in chunks]
    joined: npt.NDArray[np.float16] = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return joined


def check_rows(name: str, rows: np.ndarray, pairs: int, count: int | None) -> None:
    """Hold a selector to its contract.

    Raises:
        PluginError: It did not return distinct rows of the pairs; the message names it.
    """
    import numpy as np

    problem = ""
    if not isinstance(rows, np.ndarray) or rows.ndim != 1 or rows.dtype.kind not in "iu":
        problem = "it returned no array of row numbers"
    elif len(rows) and not (rows.min() >= 0 and rows.max() < pairs):
        problem = f"it returned rows beyond the {pairs} pairs"
    elif len(np.unique(rows)) != len(rows):
        problem = "it returned a row twice"
    elif count is not None and len(rows) > count:
        problem = f"it returned {len(rows)} rows, {count} were asked for"
    if problem:
        raise PluginError(f"selector {name!r}: {problem}")
