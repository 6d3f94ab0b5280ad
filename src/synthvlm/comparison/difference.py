"""What came, went and changed between two runs or data sets, by caption.

Of every pair hashes and numbers are kept, 40 bytes, and no text or image. Hashes have 64 bits: of
data sets of a million pairs, about one comparison in ten million takes two things for one.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synthvlm.data_sets.pairs import BadPair, Entry, LoadedPair
from synthvlm.data_sets.run_pairs import open_pairs
from synthvlm.errors import CaptionSourceError, RunFolderError
from synthvlm.provenance.marks import marked

if TYPE_CHECKING:
    from synthvlm.data_sets.pairs import DataSet
    from synthvlm.progress.display import Progress

__all__ = ["Difference", "diff", "difference"]

#: What of a pair may change.
KINDS = ("id", "caption", "image", "score", "rank")
#: Differences of each kind that are shown.
_EXAMPLES = 5
_SHOWN = 70

_Hashes = npt.NDArray[np.uint64]
_Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The pairs of a data set, by hashes; each array has shape (n,)."""

    ids: _Hashes
    texts: _Hashes
    images: _Hashes
    scores: npt.NDArray[np.float64]
    ranks: npt.NDArray[np.int64]
    bad: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Two data sets, compared pair by pair; places count their usable pairs from 0.

    Attributes:
        paths: Of both, as the user wrote them.
        counts: Usable pairs of both.
        bad: Records of both that are no usable pairs, and are left out.
        came: Places in the second data set of pairs that the first does not have, ascending.
        went: Places in the first of pairs that the second does not have, ascending.
        before: Places in the first of pairs that both have, in the order of ``after``.
        after: Their places in the second, ascending.
        changed: For each of ``KINDS`` whether it changed, shape (len(after),).
        not_compared: Those of ``KINDS`` that one of the two does not hold.
        examples: The first pairs that ``came``, ``went`` and ``changed``, as plain values.
    """

    paths: tuple[str, str]
    counts: tuple[int, int]
    bad: tuple[int, int]
    came: _Places
    went: _Places
    before: _Places
    after: _Places
    changed: Mapping[str, npt.NDArray[np.bool_]]
    not_compared: Sequence[str]
    examples: Mapping[str, list[Any]] = field(default_factory=dict)

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not len(self.came) and not len(self.went) and not self.any_changed.any()

    @property
    def any_changed(self) -> npt.NDArray[np.bool_]:
        """Whether anything of a pair changed, shape (len(after),)."""
        return _any_of(self.changed.values())

    @property
    def only_rank(self) -> npt.NDArray[np.bool_]:
        """Whether the rank alone changed: it does where another pair comes or goes above."""
        others = [flags for kind, flags in self.changed.items() if kind != "rank"]
        return self.changed["rank"] & ~_any_of(others)

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "a": {"path": self.paths[0], "pairs": self.counts[0], "bad_records": self.bad[0]},
            "b": {"path": self.paths[1], "pairs": self.counts[1], "bad_records": self.bad[1]},
            "came": len(self.came),
            "went": len(self.went),
            "changed": int((self.any_changed & ~self.only_rank).sum()),
            "changed_by": {kind: int(flags.sum()) for kind, flags in self.changed.items()},
            "only_rank": int(self.only_rank.sum()),
            "same": int((~self.any_changed).sum()),
            "not_compared": list(self.not_compared),
            "examples": dict(self.examples),
        }

    def text(self) -> str:
        """Text to print."""
        return "\n".join(_lines(self, self.examples))


def _any_of(flags: Iterable[npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.asarray(np.any(np.stack(list(flags)), axis=0))
    return found


def diff(a: str, b: str, *, out: str | None = None, progress: Progress) -> Difference:
    """Compare two runs or data sets pair by pair.

    Args:
        a: The first, as for ``open_pairs``.
        b: The second.
        out: A new file that gets every difference as a line of JSON; None for none.
        progress: Shows the work.

    Raises:
        SynthVLMError: One cannot be read, or the file cannot be written.
    """
    if out is not None and Path(out).exists():
        raise RunFolderError(f"{out} is there already: name a new file")
    first, second = open_pairs(a), open_pairs(b)
    found = difference(first, second, progress)
    if out is not None:
        _write(out, _rows(found, first, second))
    return replace(found, examples=_examples(found, first, second))


def difference(first: DataSet, second: DataSet, progress: Progress) -> Difference:
    """Compare data sets; pairs belong together by their ids, what is left by its caption.

    Of pairs with one id, the first of each belong together, the second, and so on.

    Raises:
        CaptionSourceError: One cannot be read, or has no usable pair.
    """
    a, b = _read(first, progress), _read(second, progress)
    before, after = _matches(a.ids, b.ids)
    rest_a = np.setdiff1d(np.arange(len(a.ids)), before, assume_unique=True)
    rest_b = np.setdiff1d(np.arange(len(b.ids)), after, assume_unique=True)
    more_a, more_b = _matches(a.texts[rest_a], b.texts[rest_b])
    before = np.concatenate([before, rest_a[more_a]])
    after = np.concatenate([after, rest_b[more_b]])
    order = np.argsort(after)
    before, after = before[order], after[order]
    scores_a, scores_b = a.scores[before], b.scores[after]
    ranks_a, ranks_b = a.ranks[before], b.ranks[after]
    known = ~np.isnan(scores_a) & ~np.isnan(scores_b)
    ranked = (ranks_a > 0) & (ranks_b > 0)
    return Difference(
        (first.path, second.path),
        (len(a.ids), len(b.ids)),
        (a.bad, b.bad),
        np.delete(rest_b, more_b),
        np.delete(rest_a, more_a),
        before,
        after,
        {
            "id": a.ids[before] != b.ids[after],
            "caption": a.texts[before] != b.texts[after],
            "image": a.images[before] != b.images[after],
            "score": known & (scores_a != scores_b),
            "rank": ranked & (ranks_a != ranks_b),
        },
        [
            kind
            for kind, is_known in (("score", known), ("rank", ranked))
            if len(after) and not is_known.any()
        ],
    )


def _read(data_set: DataSet, progress: Progress) -> _Pairs:
    ids, texts, images = array("Q"), array("Q"), array("Q")
    scores, ranks = array("d"), array("q")
    bad = sum(isinstance(one, BadPair) for one in data_set.captions())
    progress.start(f"{data_set.path}: pairs", None, "pairs")
    for pair in data_set.pairs():
        progress.advance(1)
        if isinstance(pair, BadPair):
            bad += 1
            continue
        entry = pair.entry
        ids.append(_hash(entry.id.encode("utf-8", "surrogatepass")))
        texts.append(_hash(entry.caption.encode()))
        images.append(_hash(_without_marks(pair.image)))
        scores.append(float("nan") if entry.facts.score is None else entry.facts.score)
        ranks.append(0 if entry.facts.rank is None else entry.facts.rank)
    progress.finish(f"{data_set.path}: pairs", f"{len(ids):,} pairs, {bad:,} bad records")
    if not ids:
        raise CaptionSourceError(f"{data_set.path}: no usable pair, of {bad:,} records")
    return _Pairs(
        np.frombuffer(ids, np.uint64),
        np.frombuffer(texts, np.uint64),
        np.frombuffer(images, np.uint64),
        np.frombuffer(scores, np.float64),
        np.frombuffer(ranks, np.int64),
        bad,
    )


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


#: How files of the formats that runs export begin.
_BEGINNINGS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp"}


def _without_marks(image: bytes) -> bytes:
    """An image without what its run wrote into it: the same in each, in place of that."""
    formats = (name for start, name in _BEGINNINGS.items() if image.startswith(start))
    try:
        return marked(image, next(formats, ""))
    except ValueError:  # of another format, or damaged: as it is
        return image


def _matches(a: _Hashes, b: _Hashes) -> tuple[_Places, _Places]:
    """Places of equal hashes; of those that come several times, the n-th belong together."""
    _, places_a, places_b = np.intersect1d(
        _numbered(a), _numbered(b), assume_unique=True, return_indices=True
    )
    return places_a, places_b


def _numbered(hashes: _Hashes) -> _Hashes:
    """Distinct hashes: of those that are equal, the second and so on become others."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else order
    lengths = np.diff(np.r_[starts, len(ordered)])
    number = np.arange(len(ordered)) - np.repeat(starts, lengths)
    numbered = np.empty_like(hashes)
    numbered[order] = ordered + number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return numbered


def _usable(data_set: DataSet, places: Iterable[int]) -> Iterator[tuple[int, Entry]]:
    """The entries at some ascending places among the usable pairs of a data set."""
    wanted = iter(places)
    place = next(wanted, None)
    if place is None:
        return
    usable = (pair for pair in data_set.pairs() if isinstance(pair, LoadedPair))
    for number, pair in enumerate(usable):
        if number == place:
            yield number, pair.entry
            place = next(wanted, None)
            if place is None:
                return


def _examples(found: Difference, first: DataSet, second: DataSet) -> dict[str, list[Any]]:
    chosen = np.flatnonzero(found.any_changed & ~found.only_rank)[:_EXAMPLES]
    order = np.argsort(found.before[chosen])
    old = {
        int(chosen[n]): entry
        for n, (_, entry) in zip(
            order, _usable(first, found.before[chosen[order]].tolist()), strict=True
        )
    }
    entries = _usable(second, found.after[chosen].tolist())
    new = {int(place): entry for place, (_, entry) in zip(chosen, entries, strict=True)}
    went, came = found.went[:_EXAMPLES].tolist(), found.came[:_EXAMPLES].tolist()
    return {
        "came": [_row(entry) for _, entry in _usable(second, came)],
        "went": [_row(entry) for _, entry in _usable(first, went)],
        "changed": [
            {
                **_row(new[place]),
                "what": [kind for kind, flags in found.changed.items() if flags[place]],
                "was": _row(old[place]),
            }
            for place in map(int, chosen)
        ],
    }


def _row(entry: Entry) -> dict[str, Any]:
    facts = {"score": entry.facts.score, "rank": entry.facts.rank}
    known = {name: value for name, value in facts.items() if value is not None}
    return {"id": entry.id, "caption": entry.caption, **known}


def _rows(found: Difference, first: DataSet, second: DataSet) -> Iterator[dict[str, Any]]:
    """Every difference, those that went first, then by their places in the second data set."""
    for _, entry in _usable(first, found.went.tolist()):
        yield {"change": "went", **_row(entry)}
    changed = np.flatnonzero(found.any_changed)
    places = np.r_[found.came, found.after[changed]]
    order = np.argsort(places)
    of_came = len(found.came)
    for n, (_, entry) in zip(order, _usable(second, places[order].tolist()), strict=True):
        if n >= of_came:
            place = changed[n - of_came]
            kinds = [kind for kind, flags in found.changed.items() if flags[place]]
            yield {"change": "changed", "what": kinds, **_row(entry)}
        else:
            yield {"change": "came", **_row(entry)}


def _write(out: str, rows: Iterable[dict[str, Any]]) -> None:
    partial = Path(f"{out}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in rows)
        partial.replace(out)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise RunFolderError(f"{out} cannot be written: {error.strerror}") from None


def _lines(found: Difference, examples: Mapping[str, list[Any]]) -> Iterator[str]:
    values = found.values()
    for name in ("a", "b"):
        one = values[name]
        bad = f", {one['bad_records']:,} bad records" if one["bad_records"] else ""
        yield f"{name}: {one['path']}, {one['pairs']:,} pairs{bad}"
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in values["changed_by"].items() if n)
    for label, count in (
        ("came", values["came"]),
        ("went", values["went"]),
        ("changed", values["changed"]),
        ("only the rank", values["only_rank"]),
        ("the same", values["same"]),
    ):
        yield f"{label:<14}{count:>12,}" + (f"  ({kinds})" if label == "changed" and kinds else "")
    for kind in found.not_compared:
        yield f"not compared: {kind}, which one of the two does not hold"
    for sign, name in (("+", "came"), ("-", "went")):
        for row in examples[name]:
            yield f"{sign} {_cut(row['id'])}: {_cut(row['caption'])}"
        if len(examples[name]) < values[name]:
            yield f"{sign} ... {values[name] - len(examples[name]):,} more"
    for row in examples["changed"]:
        yield f"~ {_cut(row['id'])}: {'; '.join(_changes(row))}"
    if len(examples["changed"]) < values["changed"]:
        yield f"~ ... {values['changed'] - len(examples['changed']):,} more"


def _changes(row: Mapping[str, Any]) -> Iterator[str]:
    for kind in row["what"]:
        if kind == "image":
            yield "image"
        else:
            old, new = (one[kind] for one in (row["was"], row))
            shown = (f"{v:.4f}" if kind == "score" else _cut(str(v)) for v in (old, new))
            yield f"{kind} {' -> '.join(shown)}"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
