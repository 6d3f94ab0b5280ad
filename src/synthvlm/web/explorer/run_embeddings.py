"""The embeddings of a run, and the model that they are of."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from synthvlm.components.component import LoadContext
from synthvlm.data import fingerprint
from synthvlm.errors import RunFolderError, SynthVLMError
from synthvlm.models.devices import resolve_device
from synthvlm.run_folder.folder import table_bytes
from synthvlm.scorers import SCORERS
from synthvlm.web.explorer.opened_run import as_opened

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder
    from synthvlm.scorers import Scorer

__all__ = ["MAP_FILE", "RunEmbeddings", "embedding_scorer"]

#: The map of the embeddings, kept in the run folder.
MAP_FILE = "explorer/map.parquet"
_IMAGES = "image_embedding"
#: Files that are read at once.
_READERS = 4
#: Side of the blank image that a text is scored against, and caption of a picture.
_SIDE = 224


def embedding_scorer(recipe: Recipe) -> str | None:
    """The scorer whose embeddings a run stores: the first that embeds; None where none does."""
    first = [name for name in recipe.first_scorers if SCORERS[name].may_embed]
    return next(iter([*first, *(n for n in recipe.scorers if SCORERS[n].may_embed)]), None)


class RunEmbeddings:
    """See ``Embeddings``."""

    def __init__(self, run: RunFolder, recipe: Recipe, scorer: str, files: Sequence[str]) -> None:
        """Nothing is read or loaded yet.

        Args:
            run: The run folder.
            recipe: Its recipe.
            scorer: Name of the scorer that made them.
            files: Those of ``pairs/``, in the order of rows.
        """
        self._run, self._recipe, self._name, self._files = run, recipe, scorer, files
        self._lock = threading.RLock()

    def images(self) -> npt.NDArray[np.float16]:
        """See ``Embeddings``."""
        with self._lock:
            return self._images

    @cached_property
    def _images(self) -> npt.NDArray[np.float16]:
        with as_opened(self._run, self._files), ThreadPoolExecutor(_READERS) as readers:
            columns = [part for parts in readers.map(self._parts, self._files) for part in parts]
        width = max((len(row) for column in columns for row in _some(column)), default=0)
        if not width:
            raise RunFolderError(
                f"{self._run.url} holds no embeddings of its images: its scorers gave none"
            )
        vectors = np.full((sum(map(len, columns)), width), np.nan, np.float16)
        start = 0
        for column in columns:
            known = column.is_valid().to_numpy(zero_copy_only=False)
            flat = column.flatten().to_numpy(zero_copy_only=False)
            vectors[start : start + len(column)][known] = flat.reshape(-1, width)
            start += len(column)
        return vectors

    def _parts(self, file: str) -> list[pa.Array]:
        groups = self._run.row_groups(file, [_IMAGES])
        return [group[_IMAGES].combine_chunks() for group in groups]

    def of_text(self, text: str) -> npt.NDArray[np.float32]:
        """See ``Embeddings``."""
        import torch

        blank = torch.zeros((1, 3, _SIDE, _SIDE), dtype=torch.uint8)
        with self._lock:
            return self._vector(self._scorer.score(blank, [text]).text_embeddings)

    def of_picture(self, data: bytes) -> npt.NDArray[np.float32]:
        """See ``Embeddings``."""
        import torch

        from synthvlm.captions.readers.images import decode_image

        try:
            pixels = np.array(decode_image(data))
        except ValueError as error:
            raise SynthVLMError(str(error).replace("the original image", "the picture")) from None
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        with self._lock:
            return self._vector(self._scorer.score(image, [" "]).image_embeddings)

    def kept_map(self) -> pa.Table | None:
        """See ``Embeddings``."""
        if not self._run.exists(MAP_FILE):
            return None
        table = self._run.read_table(MAP_FILE)
        metadata = table.schema.metadata or {}
        return table if metadata.get(b"of") == self._identity.encode() else None

    def keep_map(self, table: pa.Table) -> None:
        """See ``Embeddings``."""
        self._run.write(
            MAP_FILE, table_bytes(table.replace_schema_metadata({"of": self._identity}))
        )

    @property
    def _identity(self) -> str:
        # Names of files are unique to the attempt that wrote them.
        return fingerprint("map", list(self._files))

    def _vector(self, vectors: Any) -> npt.NDArray[np.float32]:
        if vectors is None:
            raise SynthVLMError(f"the scorer {self._name} gave no embedding: search by words")
        vector: npt.NDArray[np.float32] = np.asarray(vectors[0], np.float32)
        return vector

    @cached_property
    def _scorer(self) -> Scorer:
        settings = self._recipe.scorers[self._name]
        context = LoadContext(device=resolve_device(self._recipe.run.device))
        scorer: Scorer = SCORERS.load(self._name, settings, context)
        return scorer


def _some(column: Any) -> list[Any]:
    """The first embedding of a column that has any."""
    known = column.drop_null()
    return [known[0].as_py()] if len(known) else []
