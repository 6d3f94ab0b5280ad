"""What the explorer shows: pairs by their rows, from a run or a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from synthvlm.run_folder.marks import Mark
    from synthvlm.web.explorer.columns import Column

__all__ = ["Collection", "Embeddings"]


class Embeddings(Protocol):
    """What a collection is searched by: the embeddings that are stored, and their model."""

    def images(self) -> npt.NDArray[np.float16]:
        """Of all images, unit length, shape (rows, d), NaN where one has none; read once."""

    def of_text(self, text: str) -> npt.NDArray[np.float32]:
        """Of a text, shape (d,); the model is loaded at the first call.

        Raises:
            SynthVLMError: The model cannot be loaded.
        """

    def of_picture(self, data: bytes) -> npt.NDArray[np.float32]:
        """Of an encoded image, likewise."""

    def kept_map(self) -> pa.Table | None:
        """The map that was kept of these embeddings, as ``keep_map`` was given it; or None."""

    def keep_map(self, table: pa.Table) -> None:
        """Keep the map of these embeddings: ``row`` (uint32), ``x`` and ``y`` (float32).

        Raises:
            SynthVLMError: It cannot be written.
        """


class Collection(Protocol):
    """Pairs of a caption and an image, known by their row from 0.

    Attributes:
        name: What it is called.
        kind: ``run`` or ``data set``.
        ids: Ids of the captions, shape (rows,).
        captions: Their texts, shape (rows,).
        columns: By name, in the order in which pages show them.
        notes: Lines for people, such as records that could not be read.
        embeddings: None where there are none.
        no_embeddings: Why, and what to do; empty where there are some.
        reasons: For marks; none where pairs cannot be marked.
        not_markable: Why, and what to do instead; empty where they can.
    """

    name: str
    kind: Literal["run", "data set"]
    ids: pa.Array
    captions: pa.Array
    columns: Mapping[str, Column]
    notes: Sequence[str]
    embeddings: Embeddings | None
    no_embeddings: str
    reasons: Sequence[str]
    not_markable: str

    def image(self, row: int) -> bytes:
        """The encoded image of a pair.

        Raises:
            SynthVLMError: It cannot be read.
        """

    def expect(self, rows: Sequence[int]) -> None:
        """Be told of rows whose images will be asked for next, to read them together."""

    def candidate_image(self, row: int, index: int) -> bytes | None:
        """What is kept of the image of a candidate; None where nothing is."""

    def story(self, row: int) -> dict[str, Any]:
        """All that is known of a pair, as plain values; see docs/explorer.md.

        Raises:
            SynthVLMError: It cannot be read.
        """

    def marks(self) -> Mapping[int, Mark]:
        """The marks of its images, by row."""

    def mark(self, rows: Sequence[int], reason: str, note: str) -> int:
        """Mark pairs, or without a reason take their marks back; how many it changed.

        Raises:
            SynthVLMError: They cannot be marked, or the reason or note is too long.
        """
