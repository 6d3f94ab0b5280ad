"""The map of a collection: its embeddings on a plane, computed once, and as pages read it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from synthvlm.comparison.embedding_map import (
    FEWEST,
    ITERATIONS,
    has_tsne,
    place_points,
)
from synthvlm.errors import SynthVLMError, first_line
from synthvlm.models.devices import usable_cores
from synthvlm.web.messages import BadRequestError

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.web.explorer.collection import Collection
    from synthvlm.web.explorer.columns import Column

__all__ = ["MOST", "PairMap"]

#: Of a larger collection a sample is laid out; the page says so.
MOST = 200_000
_METHOD = "t-SNE of the image embeddings"
_SEED = 0
#: Of fewer points the threads of openTSNE would mostly wait for each other.
_FEW = 5000
#: Codes of colours: the highest is for no value.
_NONE, _STEPS = 65_535, 65_534

State = Literal["absent", "computing", "ready", "impossible"]


@dataclass(frozen=True)
class _Points:
    rows: npt.NDArray[np.uint32]
    places: npt.NDArray[np.float32]


class PairMap:
    """The map of a collection; many threads may ask."""

    def __init__(self, collection: Collection, most: int = MOST) -> None:
        """Take the collection; nothing is read or computed yet.

        Args:
            collection: What is laid out.
            most: Of more pairs, a random sample of so many.
        """
        self._collection, self._most = collection, most
        self._lock = threading.Lock()
        self._state: State | None = None
        self._problem: str | None = None
        self._done = 0
        self._points: _Points | None = None

    def state(self) -> dict[str, Any]:
        """What a page is told: ``state``, ``method``, ``done`` of ``total``, ``problem``."""
        with self._lock:
            state = self._known_state()
            problem, done = self._problem, self._done
        return {
            "state": state,
            "method": self._method(),
            "done": done,
            "total": ITERATIONS,
            "problem": problem,
        }

    def _method(self) -> str:
        count = len(self._collection.ids)
        if count <= self._most:
            return _METHOD
        return f"{_METHOD} of a random sample of {self._most:,} of {count:,} pairs"

    def _known_state(self) -> State:
        if self._state is None:
            self._state = self._find()
        return self._state

    def _find(self) -> State:
        embeddings = self._collection.embeddings
        if embeddings is None:
            self._problem = self._collection.no_embeddings
            return "impossible"
        try:
            table = embeddings.kept_map()
        except SynthVLMError:  # damaged: it is computed again
            table = None
        if table is not None:
            self._points = _points(table)
            return "ready"
        if not has_tsne():
            self._problem = "openTSNE is not installed: pip install 'synthvlm[compare]'"
            return "impossible"
        return "absent"

    def start(self) -> dict[str, Any]:
        """Begin to compute the map, unless it is there or being computed; the state then."""
        with self._lock:
            if self._known_state() == "absent":
                self._state, self._done, self._problem = "computing", 0, None
                threading.Thread(target=self._compute, daemon=True).start()
        return self.state()

    def _compute(self) -> None:
        try:
            table = self._laid_out()
        except Exception as error:  # of a thread that nobody waits for: the page shows it
            with self._lock:
                self._state, self._problem = "absent", first_line(error)
            return
        problem = None
        if table is not None:
            try:
                assert self._collection.embeddings is not None
                self._collection.embeddings.keep_map(table)
            except SynthVLMError as error:
                problem = f"the map could not be kept: {first_line(error)}"
        with self._lock:
            if table is None:
                self._state = "impossible"
                self._problem = f"a map needs {FEWEST} different images or more"
            else:
                self._points, self._problem, self._state = _points(table), problem, "ready"

    def _laid_out(self) -> pa.Table | None:
        import pyarrow as pa

        assert self._collection.embeddings is not None
        images = self._collection.embeddings.images()
        rows = np.flatnonzero(~np.isnan(images[:, 0]))
        if len(rows) > self._most:
            rows = np.sort(np.random.default_rng(_SEED).choice(rows, self._most, replace=False))
        vectors = images[rows].astype(np.float32)
        jobs = 1 if len(rows) < _FEW else usable_cores()
        places = place_points(vectors, seed=_SEED, jobs=jobs, advance=self._advance)
        if places is None:
            return None
        x, y = places.T.astype(np.float32)
        return pa.table({"row": rows.astype(np.uint32), "x": x, "y": y})

    def _advance(self, iterations: int) -> None:
        with self._lock:
            self._done = min(ITERATIONS, self._done + iterations)

    def content(self, matches: npt.NDArray[np.int64], color: Column | None) -> bytes:
        """The map as a page reads it; see docs/explorer.md.

        Args:
            matches: Rows that the page's query asks for.
            color: What points are coloured by; None for one colour.

        Raises:
            BadRequestError: There is no map yet.
        """
        with self._lock:
            ready, points = self._known_state() == "ready", self._points
        if not ready or points is None:
            raise BadRequestError("the map is not computed yet")
        codes, legend = np.zeros(len(points.rows), np.uint16), None
        if color is not None:
            codes, legend = _codes(color, points.rows)
        is_match = np.zeros(len(self._collection.ids), np.uint8)
        is_match[matches] = 1
        header = {
            "count": len(points.rows),
            "of": len(self._collection.ids),
            "method": self._method(),
            "color": legend,
        }
        text = json.dumps(header).encode("utf-8", "replace")
        text += b" " * (-len(text) % 4)
        length = len(text).to_bytes(4, "little")
        arrays = (points.rows, points.places, codes, is_match[points.rows])
        return b"".join([length, text, *(array.tobytes() for array in arrays)])


def _points(table: pa.Table) -> _Points:
    places = np.stack([table[name].to_numpy() for name in ("x", "y")], axis=1)
    return _Points(table["row"].to_numpy().astype("<u4"), places.astype("<f4"))


def _codes(
    column: Column, rows: npt.NDArray[np.uint32]
) -> tuple[npt.NDArray[np.uint16], dict[str, Any]]:
    """The colours of rows as codes, and what they mean."""
    legend: dict[str, Any] = {"column": column.name, "label": column.label, "kind": "category"}
    if column.kind == "flag":
        codes = np.where(column.values, 0, 1)
        legend["values"] = [True, False]
    elif column.kind == "category":
        # Frequent ones first: a page has few colours.
        names = [entry["value"] for entry in column.description["values"]]
        code = {name: place for place, name in enumerate(names)}
        others = len(names) if column.description["others"] else _NONE
        codes = np.array([*(code.get(name, others) for name in column.names), _NONE])[column.values]
        legend["values"] = [*names, *(["others"] if others != _NONE else [])]
    else:
        low, high = column.description["minimum"], column.description["maximum"]
        share = (column.values - low) / ((high - low) or 1.0)
        codes = np.where(column.missing, _NONE, np.nan_to_num(share) * _STEPS)
        legend |= {"kind": "number", "minimum": low, "maximum": high}
    return codes[rows].astype("<u2"), legend
