"""What a verification found, for people and for machines."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from synthvlm.estimates import aligned, quantity

__all__ = ["Finding", "Kind", "StageCheck", "Verification"]

#: ``damaged``: not what was written, or contradicts what belongs to it. ``missing``: a marker names
#: it, and it is not there. ``stale``: sound, but the recipe wants something else now. ``stray``: no
#: marker names it.
Kind = Literal["damaged", "missing", "stale", "stray"]
_KINDS: tuple[Kind, ...] = ("damaged", "missing", "stale", "stray")
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        stage: The stage whose marker names the file.
        shard: The shard, or part of the data set; None where it belongs to none.
        file: Path in the run folder.
        kind: What it means.
        problem: What is wrong, for people.
    """

    stage: str
    shard: int | None
    file: str
    kind: Kind
    problem: str

    def text(self) -> str:
        """One line."""
        where = self.stage if self.shard is None else f"{self.stage}, shard {self.shard}"
        return f"{self.kind}: {self.file} ({where}): {self.problem}"


@dataclass(frozen=True, slots=True)
class StageCheck:
    """How much of a stage was checked.

    Attributes:
        stage: Its name, as in ``done/``.
        shards: Committed shards.
        total: Shards there should be, as far as that is known; fewer are done, or lost.
        files: Files that were read.
        size: Their bytes.
    """

    stage: str
    shards: int
    total: int | None
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class Verification:
    """All that was checked and found.

    Attributes:
        url: The run folder.
        stages: What was checked, in the order of the stages.
        findings: In the order of the stages and shards.
        notes: What could not be checked, and why.
    """

    url: str
    stages: tuple[StageCheck, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def bad(self) -> tuple[Finding, ...]:
        """What is damaged or missing."""
        return tuple(f for f in self.findings if f.kind in ("damaged", "missing"))

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "sound": not self.bad}

    def text(self, discarded: Sequence[str] = ()) -> str:
        """Lines for people; ``discarded``: those of ``discard``, if it was called."""
        told = [*self._table(), *self._lines(), *self.notes, "", *self._advice(discarded)]
        return "\n".join(told)

    def _table(self) -> Iterator[str]:
        counts = Counter((finding.stage, finding.kind) for finding in self.findings)
        rows = [("stage", "shards", "files", "size", *_KINDS)]
        for check in self.stages:
            of = f" of {check.total:,}" if check.total not in (None, check.shards) else ""
            found = [counts[check.stage, kind] for kind in _KINDS]
            rows.append(
                (check.stage, f"{check.shards:,}{of}", f"{check.files:,}",
                 quantity(check.size, "B"), *(f"{n:,}" if n else "-" for n in found))
            )  # fmt: skip
        yield from aligned(rows)

    def _lines(self) -> Iterator[str]:
        # Strays are harmless, and stale shards can be all there are: the table counts them.
        for kinds in (("damaged", "missing"), ("stale",)):
            told = [finding for finding in self.findings if finding.kind in kinds]
            if told:
                yield ""
            yield from (finding.text() for finding in told[:_SHOWN])
            if len(told) > _SHOWN:
                yield f"... and {len(told) - _SHOWN:,} more; --json shows all"

    def _advice(self, discarded: Sequence[str]) -> Iterator[str]:
        where = shlex.quote(self.url)
        stale = sum(finding.kind == "stale" for finding in self.findings)
        if discarded:
            yield f"discarded; the next synthvlm run --out {where} redoes this, and nothing else:"
            yield from (f"  {line}" for line in discarded[:_SHOWN])
            if len(discarded) > _SHOWN:
                yield f"  ... and {len(discarded) - _SHOWN:,} more; --json shows all"
        elif self.bad:
            yield (
                f"{len(self.bad):,} damaged or missing; have it redone, and nothing else: "
                f"synthvlm verify {where} --discard, then synthvlm run --out {where}"
            )
        else:
            yield "no damage: every file that a marker names is as it was written"
        if stale:
            yield (
                f"{stale:,} stale: sound, but not (or no more) what the recipe wants; the next "
                f"synthvlm run --out {where} brings them up to date"
            )
        if any(finding.kind == "stray" for finding in self.findings):
            yield "strays are harmless: no marker names them, and the next run sweeps them up"


def summed(problems: Sequence[str]) -> str | None:
    """The first of several problems of a file, and how many more there are; None: there is none."""
    if not problems:
        return None
    more = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}"
