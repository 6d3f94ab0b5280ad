"""Mark pairs of a run as bad, by the ids of their captions."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from synthvlm.errors import RunFolderError
from synthvlm.run.shards import candidate_shards
from synthvlm.run_folder.marks import REASONS, Mark, Marks, add_marks, read_marks

if TYPE_CHECKING:
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["Marked", "MarkedPairs", "mark_pairs", "marked_pairs"]


class Marked(NamedTuple):
    """A marked image.

    Attributes:
        mark: What was said of it.
        is_current: Whether its caption still has it; the mark of an earlier image has no effect.
    """

    mark: Mark
    is_current: bool


@dataclass(frozen=True, slots=True)
class MarkedPairs:
    """The marks of a run.

    Attributes:
        marks: In the order in which they were made.
        problem: A line about marks that cannot be read, or None.
    """

    marks: Sequence[Marked]
    problem: str | None = None

    def values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        marks = [{**asdict(mark), "is_current": now} for mark, now in self.marks]
        return {"marks": marks, "problem": self.problem}

    def text(self) -> str:
        """A line for each mark, and what to do next."""
        warning = [f"warning: {self.problem}"] if self.problem else []
        if not self.marks:
            return "\n".join([*warning, "no pair is marked"])
        rows = [
            (mark.caption_id, mark.reason, *([] if current else ["(of an earlier image)"]), note)
            for mark, current in self.marks
            for note in [" ".join(mark.note.split())]
        ]
        lines = ["  ".join(filter(None, row)) for row in rows]
        count = sum(one.is_current for one in self.marks)
        return "\n".join(
            [*warning, *lines, f"{count:,} marked: the next selection leaves them out"]
        )


def mark_pairs(
    run: RunFolder, ids: Sequence[str], reason: str = REASONS[0], note: str = ""
) -> list[Mark]:
    """Mark the pairs of some captions as bad, or, without a reason, take their marks back.

    The next selection leaves marked pairs out.

    Args:
        run: The run folder; a run may be at work in it.
        ids: Of captions.
        reason: A short one, such as ``wrong``; empty takes marks back.
        note: Any text.

    Returns:
        What was written.

    Raises:
        RunFolderError: A caption has no pair, or no mark that could be taken back; nothing is
            written then.
    """
    if reason:
        winners = _winners(run, set(ids))
        _refuse(run, [id for id in ids if id not in winners], "no pair")
        marks = [Mark(id, *winners[id], reason, note) for id in dict.fromkeys(ids)]
    else:
        present = read_marks(run)
        marked = {mark.caption_id for mark in present.values()}
        _refuse(run, [id for id in ids if id not in marked], "no mark")
        asked = set(ids)
        marks = [
            Mark(mark.caption_id, mark.index, mark.fingerprint, "", note)
            for mark in present.values()
            if mark.caption_id in asked
        ]
    add_marks(run, marks)
    return marks


def marked_pairs(run: RunFolder) -> MarkedPairs:
    """All marks that count, in the order in which they were made."""
    marks: Marks = read_marks(run)
    winners = _winners(run, {mark.caption_id for mark in marks.values()}) if marks else {}
    return MarkedPairs(
        [
            Marked(mark, winners.get(mark.caption_id) == (mark.index, mark.fingerprint))
            for mark in marks.values()
        ],
        marks.problem,
    )


def _winners(run: RunFolder, ids: Collection[str]) -> Mapping[str, tuple[int, str]]:
    """Index and fingerprint of the winner of each of some captions that have one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    winners: dict[str, tuple[int, str]] = {}
    asked = pa.array(sorted(ids), pa.string())
    for shard in candidate_shards(run):
        for rows in shard.parts(["caption_id", "index", "fingerprint", "chosen"]):
            rows = rows.filter(rows["chosen"])
            rows = rows.filter(pc.is_in(rows["caption_id"], asked)).select(range(3))
            columns = zip(*rows.to_pydict().values(), strict=True)
            winners |= {id: (index, image) for id, index, image in columns}
        if len(winners) == len(ids):
            break
    return winners


def _refuse(run: RunFolder, ids: Sequence[str], what: str) -> None:
    if ids:
        more = f" (and {len(ids) - 1:,} more)" if len(ids) > 1 else ""
        raise RunFolderError(
            f"{run.url}: the caption {ids[0]!r}{more} has {what}: its ids are in the report, and "
            f"those of marked pairs in: synthvlm mark {shlex.quote(run.url)}"
        )
