"""What rows of candidates must satisfy; plain values, no files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synthvlm.data import candidate_seed

__all__ = [
    "candidate_facts",
    "candidate_problems",
    "choice_problems",
    "key_problems",
    "origin_problems",
    "seed_problems",
]

_STATUSES = ("ok", "failed", "unsafe", "skipped", "surplus")
#: Cosines are computed in single precision.
_ROUNDING = 1e-6

Row = Mapping[str, Any]


def candidate_problems(
    rows: Sequence[Row],
    ranges: Mapping[str, tuple[float, float]],
    weights: Mapping[str, float] | None,
) -> Iterator[str]:
    """What is wrong with candidates, each by itself.

    Args:
        rows: All rows of a file.
        ranges: Lowest and highest value of each scorer's column.
        weights: Of each scorer's column; None: not known, scores are not computed again.
    """
    for row in rows:
        name = f"candidate {row['index']} of {row['caption_id']!r}"
        if row["status"] not in _STATUSES:
            yield f"{name} has the status {row['status']!r}"
        scored = row["status"] in ("ok", "surplus")
        for column, (low, high) in ranges.items():
            value = row[column]
            if value is None:
                if scored:
                    yield f"{name} is {row['status']} and has no {column}"
            elif not low - _ROUNDING <= value <= high + _ROUNDING:  # nor NaN
                yield f"{name} has the {column} {value}, which is not from {low:g} to {high:g}"
        yield from _score_problems(row, name, weights if scored else None)


def _score_problems(row: Row, name: str, weights: Mapping[str, float] | None) -> Iterator[str]:
    score = row["score"]
    if score is None:
        if row["status"] in ("ok", "surplus"):
            yield f"{name} is {row['status']} and has no score"
    elif not math.isfinite(score):
        yield f"{name} has the score {score}"
    elif weights is not None and None not in (parts := [row[column] for column in weights]):
        wanted = sum(weight * value for weight, value in zip(weights.values(), parts, strict=True))
        if not math.isclose(score, wanted, rel_tol=0, abs_tol=1e-9):
            yield f"{name} has the score {score}, its parts give {wanted}"


def key_problems(rows: Sequence[Row], ids: Sequence[str], count: int) -> Iterator[str]:
    """Where candidates are not ``count`` of each caption, in order."""
    wanted = ((id, index) for id in ids for index in range(count))
    if len(rows) != len(ids) * count:
        yield f"{len(rows):,} rows are not {count} for each of {len(ids):,} kept captions"
    for row, key in zip(rows, wanted, strict=False):
        if (row["caption_id"], row["index"]) != key:
            yield f"candidate {row['index']} of {row['caption_id']!r} stands where {key} should"
            return


def origin_problems(rows: Sequence[Row], fingerprints: Mapping[str, str]) -> Iterator[str]:
    """Where a candidate was not made of what its caption's images depend on."""
    for row in rows:
        if row["fingerprint"] != fingerprints.get(row["caption_id"]):
            yield f"candidate {row['index']} of {row['caption_id']!r} is of another text or model"


def seed_problems(
    rows: Sequence[Row], fingerprints: Mapping[str, str], run_seed: int
) -> Iterator[str]:
    """Where a candidate has not the seed of its key.

    Args:
        rows: Candidates.
        fingerprints: What images depend on now, by caption; other rows may have other seeds.
        run_seed: The recipe's seed.
    """
    for row in rows:
        wanted = candidate_seed(run_seed, row["caption_id"], row["index"])
        if fingerprints.get(row["caption_id"]) == row["fingerprint"] and row["seed"] != wanted:
            yield f"candidate {row['index']} of {row['caption_id']!r} has the seed of another"


def choice_problems(rows: Sequence[Row]) -> Iterator[str]:
    """Where what was chosen of a caption is not its best candidate, ties to the lower index."""
    usable: dict[str, list[Row]] = {}
    chosen: dict[str, list[Row]] = {}
    for key, n in Counter((row["caption_id"], row["index"]) for row in rows).items():
        if n > 1:
            yield f"candidate {key[1]} of {key[0]!r} is there {n} times"
    for row in rows:
        if row["status"] == "ok" and row["score"] is not None:
            usable.setdefault(row["caption_id"], []).append(row)
        if row["chosen"]:
            chosen.setdefault(row["caption_id"], []).append(row)
    for id, winners in chosen.items():
        best = min(usable.get(id, ()), key=lambda row: (-row["score"], row["index"]), default=None)
        if len(winners) > 1:
            yield f"{len(winners)} candidates of {id!r} are chosen"
        elif best is None or winners[0]["index"] != best["index"]:
            instead = "none is usable" if best is None else f"the best is {best['index']}"
            yield f"candidate {winners[0]['index']} of {id!r} is chosen, {instead}"


def candidate_facts(rows: Sequence[Row]) -> dict[str, int]:
    """What the marker of a generate shard says of its candidates, but for what failed."""
    states = Counter(row["status"] for row in rows)

    def captions(column: str) -> int:
        return len({row["caption_id"] for row in rows if row[column]})

    return {
        "captions": len({row["caption_id"] for row in rows}),
        "candidates": len(rows),
        "unsafe": states["unsafe"],
        "skipped": states["skipped"] + states["surplus"],
        "truncated": captions("truncated"),
        "prompt_truncated": captions("prompt_truncated"),
        "irreproducible": sum(row["score"] is not None and not row["reproducible"] for row in rows),
    }
