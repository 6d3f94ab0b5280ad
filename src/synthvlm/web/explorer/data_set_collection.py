"""The pairs of a data set that no run folder is at hand of."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from synthvlm.data import score_column
from synthvlm.errors import CaptionSourceError, SynthVLMError, first_line
from synthvlm.scorers import SCORERS
from synthvlm.web.explorer.columns import Column, category, number

if TYPE_CHECKING:
    from synthvlm.data_sets.inputs import KnownDataSet
    from synthvlm.data_sets.pairs import BadPair, Entry
    from synthvlm.run_folder.marks import Mark
    from synthvlm.web.explorer.collection import Embeddings

__all__ = ["DataSetCollection"]

#: Bytes of encoded images that are kept.
_IMAGE_BYTES = 256 * 2**20


class DataSetCollection:
    """The pairs of a data set; see ``Collection``. Rows are in its order, without bad records."""

    kind: Literal["run", "data set"] = "data set"
    embeddings: Embeddings | None = None
    no_embeddings = (
        "a data set holds no embeddings: look at the run folder that it was made in, or search by "
        "words"
    )
    reasons: Sequence[str] = ()
    not_markable = (
        "marks are kept in a run folder, whose next selection they change: look at the run that "
        "this data set was made in to mark pairs"
    )

    def __init__(self, data_set: KnownDataSet) -> None:
        """Read all captions, and no image.

        Raises:
            CaptionSourceError: It cannot be read, or has no usable pair.
        """
        import pyarrow as pa

        self.name = data_set.path
        self._entries: list[Entry] = []
        self._places: list[Any] = []
        bad: list[BadPair] = []
        for record in data_set.located():
            if isinstance(record, tuple):
                self._entries.append(record[0])
                self._places.append(record[1])
            else:
                bad.append(record)
        if not self._entries:
            problem = f": {bad[0].where}: {bad[0].problem}" if bad else ""
            raise CaptionSourceError(f"{data_set.path} has no usable pair{problem}")
        self.notes: Sequence[str] = [
            f"{len(bad):,} records are no usable pairs and are not shown; the first: "
            f"{one.where}: {one.problem}"
            for one in bad[:1]
        ]
        self.ids = pa.array([entry.id for entry in self._entries])
        self.captions = pa.array([entry.caption for entry in self._entries])
        self.columns: Mapping[str, Column] = {
            column.name: column for column in _columns(self._entries)
        }
        read: Callable[[Sequence[Any]], Iterator[bytes | str]] = data_set.read_images
        self._images = _Images(lambda rows: read([self._places[row] for row in rows]))

    def image(self, row: int) -> bytes:
        """See ``Collection``."""
        return self._images.read(row)

    def expect(self, rows: Sequence[int]) -> None:
        """See ``Collection``."""
        self._images.expect(rows)

    def candidate_image(self, row: int, index: int) -> bytes | None:
        """See ``Collection``: a data set has no candidates."""
        return None

    def story(self, row: int) -> dict[str, Any]:
        """See ``Collection``: as far as the data set holds it."""
        from synthvlm.captions.readers.images import image_size

        entry = self._entries[row]
        facts = entry.facts
        scores = [
            {"name": score_column(name), "label": _label(name), "value": value}
            for name, value in facts.scores.items()
        ]
        if facts.score is not None:
            scores.append({"name": "score", "label": "Score", "value": facts.score})
        try:
            width, height = image_size(self.image(row))
        except (ValueError, SynthVLMError):
            width, height = 0, 0
        known = {"Split": entry.split, "Seed": facts.seed, "Candidate": facts.index}
        more = [{"label": "Place", "value": entry.where}]
        more += [
            {"label": name, "value": str(value)}
            for name, value in known.items()
            if value is not None
        ]
        return {
            "source": facts.source,
            "width": width,
            "height": height,
            "scores": scores,
            "measures": [],
            "candidates": [],
            "questions": [],
            "why_chosen": None,
            "selection": None if facts.rank is None else f"selected: rank {facts.rank:,}",
            "regenerate": None,
            "more": more,
        }

    def marks(self) -> Mapping[int, Mark]:
        """See ``Collection``: there are none."""
        return {}

    def mark(self, rows: Sequence[int], reason: str, note: str) -> int:
        """See ``Collection``: they cannot be."""
        raise SynthVLMError(self.not_markable)


def _columns(entries: Sequence[Entry]) -> Iterator[Column]:
    """Those that have a value, and of names more than one."""

    def names(name: str, label: str, values: Iterable[str | None]) -> Iterator[Column]:
        column = category(name, label, pa.chunked_array([pa.array(list(values), pa.string())]))
        if len(column.names) > 1:
            yield column

    def numbers(
        name: str, label: str, values: Iterable[float | None], about: str = ""
    ) -> Iterator[Column]:
        array = pa.chunked_array([pa.array(list(values), pa.float64())])
        if array.null_count < len(array):
            yield number(name, label, array, about)

    import pyarrow as pa

    facts = [entry.facts for entry in entries]
    yield from names("split", "Split", (entry.split for entry in entries))
    yield from names("source", "Source", (one.source for one in facts))
    scorers = dict.fromkeys(name for one in facts for name in one.scores)
    for name in scorers:
        values = (one.scores.get(name) for one in facts)
        yield from numbers(score_column(name), _label(name), values)
    yield from numbers("score", "Score", (one.score for one in facts))
    yield from numbers("rank", "Rank", (one.rank for one in facts))
    words = (len(entry.caption.split()) for entry in entries)
    yield from numbers("words", "Words", words, "Of the caption, between spaces.")


def _label(scorer: str) -> str:
    return SCORERS.label(scorer) if scorer in SCORERS else scorer


class _Images:
    """Reads images of files that can only be read in order: all that are asked for in one pass."""

    def __init__(self, read: Callable[[Sequence[int]], Iterator[bytes | str]]) -> None:
        """Take what reads the images of ascending rows; nothing is read yet."""
        self._read = read
        self._kept: OrderedDict[int, bytes | str] = OrderedDict()
        self._size = 0
        self._asked: set[int] = set()
        self._changed = threading.Condition()
        self._is_reading = False

    def expect(self, rows: Sequence[int]) -> None:
        with self._changed:
            self._ask(row for row in rows if row not in self._kept)

    def read(self, row: int) -> bytes:
        with self._changed:
            while row not in self._kept:
                self._ask([row])
                self._changed.wait()
            self._kept.move_to_end(row)
            image = self._kept[row]
        if isinstance(image, str):
            raise SynthVLMError(image)
        return image

    def _ask(self, rows: Iterable[int]) -> None:
        self._asked.update(rows)
        if self._asked and not self._is_reading:
            self._is_reading = True
            threading.Thread(target=self._pass, args=(sorted(self._asked),), daemon=True).start()

    def _pass(self, rows: Sequence[int]) -> None:
        done = 0
        problem = "the image is no longer there: the data set has changed"
        try:
            for row, image in zip(rows, self._read(rows), strict=False):
                self._keep(row, image)
                done += 1
        except Exception as error:  # whoever waits for the image is told
            problem = first_line(error)
        for row in rows[done:]:
            self._keep(row, problem)
        with self._changed:
            self._is_reading = False
            self._ask(())

    def _keep(self, row: int, image: bytes | str) -> None:
        with self._changed:
            self._size += len(image) - len(self._kept.pop(row, b""))
            self._kept[row] = image
            self._asked.discard(row)
            while self._size > _IMAGE_BYTES and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1])
            self._changed.notify_all()
