"""The tables of a run, read as they are asked for: a shard at a time, images a row group."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, overload

from synthvlm.errors import MissingExtraError, RunFolderError, nearest
from synthvlm.run.shards import IMAGE, LARGE, Shard

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from PIL.Image import Image

    from synthvlm.run_folder.folder import RunFolder

__all__ = ["Table"]


class Table:
    """A table of a run, of which nothing is in memory before it is asked for.

    It has the rows that are finished when they are read, in the order of the input. Iteration gives
    each as a dict, with its image as a ``PIL.Image``, but without embeddings.

    Example:
        >>> import synthvlm
        >>> pairs = synthvlm.open_run("runs/first").pairs  # doctest: +SKIP
        >>> pairs[0]["image"].size  # doctest: +SKIP
        (64, 64)
    """

    def __init__(self, run: RunFolder, stage: str, shards: Callable[[], Sequence[Shard]]) -> None:
        """Read what a stage has finished.

        Args:
            run: The run folder.
            stage: The stage, for messages.
            shards: Returns its finished shards.
        """
        self._run, self._stage, self._read_shards = run, stage, shards

    @property
    def columns(self) -> list[str]:
        """Names of all columns.

        Raises:
            RunFolderError: There are no rows yet.
        """
        return self._shards()[0].columns()

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The table in memory, as Arrow; images are encoded bytes.

        Args:
            columns: Their names; by default all but images and embeddings.

        Raises:
            RunFolderError: There are no rows yet, no such column, or a file is damaged.
        """
        import pyarrow as pa

        shards = self._shards()
        known = shards[0].columns()
        if columns is None:
            columns = [name for name in known if name not in LARGE]
        for name in columns:
            if name not in known:
                raise RunFolderError(f"{self._run.url}: no column {name!r}{nearest(name, known)}")
        parts = [part for shard in shards for part in shard.parts(columns)]
        return pa.concat_tables(parts, promote_options="default").select(list(columns))

    def pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The table in memory, as a data frame; images are ``PIL.Image``, decoded when used.

        Args:
            columns: Their names; by default all but images and embeddings.

        Raises:
            MissingExtraError: pandas is not installed.
            RunFolderError: As ``arrow``.
        """
        try:
            import pandas  # noqa: F401  (which Arrow makes the frame with)
        except ImportError:
            raise MissingExtraError(
                "pandas is not installed: pip install pandas, or use .arrow()"
            ) from None
        frame: pd.DataFrame = self.arrow(columns).to_pandas()
        if IMAGE in frame:
            pictures: list[Any] = [_picture(data) for data in frame[IMAGE]]
            frame[IMAGE] = pictures
        return frame

    def __len__(self) -> int:
        """The number of rows; 0 before there are any."""
        return sum(shard.count() for shard in self._read_shards())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows, with their images."""
        for shard in self._shards():
            names = [name for name in shard.columns() if name == IMAGE or name not in LARGE]
            for part in shard.parts(names):
                yield from map(_with_picture, part.to_pylist())

    @overload
    def __getitem__(self, position: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, position: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, position: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """The row at a position, or some rows, with their images; other images are not read."""
        shards = self._shards()
        starts = [0, *accumulate(shard.count() for shard in shards)]
        places = range(starts[-1])[position]  # or an IndexError
        asked = [places] if isinstance(places, int) else list(places)
        rows: dict[int, dict[str, Any]] = {}
        for shard, start, end in zip(shards, starts, starts[1:], strict=False):
            here = sorted(place for place in asked if start <= place < end)
            if here:
                found = shard.rows([place - start for place in here])
                rows |= zip(here, map(_with_picture, found), strict=True)
        return rows[places] if isinstance(places, int) else [rows[place] for place in asked]

    def __repr__(self) -> str:
        """The number of rows, and the columns."""
        count = len(self)
        return f"Table({count:,} rows{': ' + ', '.join(self.columns) if count else ''})"

    def _shards(self) -> Sequence[Shard]:
        shards = self._read_shards()
        if not shards:
            url, stage = self._run.url, self._stage
            raise RunFolderError(
                f"{url}: the stage {stage} has finished nothing yet: "
                f"synthvlm {stage} --out {shlex.quote(url)}"
            )
        return shards


def _with_picture(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, IMAGE: _picture(row[IMAGE])} if IMAGE in row else row


def _picture(data: bytes) -> Image:
    """An encoded image, to be decoded when it is used."""
    from PIL import Image

    return Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"])
