"""The findings of a verification, as text and as plain values."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from synthvlm.estimates import aligned, quantity

__all__ = ["Finding", "Kind", "StageCheck", "Verification", "summarize"]

#: ``damaged``: not what was written, or contradicts what belongs to it. ``missing``: a marker names
#: it, or it is a marker itself, but it does not exist. ``foreign``: no marker names it, and readers
#: of ``dataset/`` take it for a part of that. ``stale``: intact, but not what the recipe now asks
#: for. ``stray``: no marker names it.
Kind = Literal["damaged", "missing", "foreign", "stale", "stray"]
_KINDS: tuple[Kind, ...] = ("damaged", "missing", "foreign", "stale", "stray")
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """A file that is not as it should be.

    Attributes:
        stage: The stage that it belongs to.
        shard: The shard, or part of the data set; None if it belongs to none.
        file: Path in the run folder.
        kind: See ``Kind``.
        problem: What is wrong, in words.
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
        shards: Number of committed shards.
        total: Number of shards that there should be; None if not known.
        files: Number of files that were read.
        size: Their total size in bytes.
    """

    stage: str
    shards: int
    total: int | None
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a verification.

    Attributes:
        url: The run folder.
        stages: What was checked, in the order of the stages.
        findings: In the order of the stages and shards.
        notes: What could not be checked, and why.
        discarded: The lines of ``discard``, if it was called.
    """

    url: str
    stages: tuple[StageCheck, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    discarded: tuple[str, ...] = ()

    @property
    def bad(self) -> tuple[Finding, ...]:
        """The findings that are damaged, missing or foreign."""
        return tuple(f for f in self.findings if f.kind in ("damaged", "missing", "foreign"))

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "sound": not self.bad}

    def text(self) -> str:
        """Text to print."""
        lines = [*self._table(), *self._lines(), *self.notes, "", *self._advice()]
        return "\n".join(lines)

    def _table(self) -> Iterator[str]:
        counts = Counter((finding.stage, finding.kind) for finding in self.findings)
        rows = [("stage", "shards", "files", "size", *_KINDS)]
        for check in self.stages:
            of = f" of {check.total:,}" if check.total not in (None, check.shards) else ""
            numbers = [counts[check.stage, kind] for kind in _KINDS]
            rows.append(
                (check.stage, f"{check.shards:,}{of}", f"{check.files:,}",
                 quantity(check.size, "B"), *(f"{n:,}" if n else "-" for n in numbers))
            )  # fmt: skip
        yield from aligned(rows)

    def _lines(self) -> Iterator[str]:
        # Stale shards may be many, so they must not push damage out. Strays are only counted.
        for kinds in (("damaged", "missing", "foreign"), ("stale",)):
            findings = [finding for finding in self.findings if finding.kind in kinds]
            if findings:
                yield ""
            yield from (finding.text() for finding in findings[:_SHOWN])
            if len(findings) > _SHOWN:
                yield f"... and {len(findings) - _SHOWN:,} more (--json lists all)"

    def _advice(self) -> Iterator[str]:
        where = shlex.quote(self.url)
        run_again = f"synthvlm run --out {where}"
        counts = Counter(finding.kind for finding in self.findings)
        damaged, stale, strays = (
            counts["damaged"] + counts["missing"],
            counts["stale"],
            counts["stray"],
        )
        if self.discarded:
            yield f"Discarded. The next `{run_again}` redoes only this:"
            yield from (f"  {line}" for line in self.discarded[:_SHOWN])
            if len(self.discarded) > _SHOWN:
                yield f"  ... and {len(self.discarded) - _SHOWN:,} more (--json lists all)"
        elif damaged:
            yield (
                f"{_files(damaged)} damaged or missing. To redo only what is affected:\n"
                f"  synthvlm verify {where} --discard\n  {run_again}"
            )
        else:
            yield "No damage: every committed file is as it was written."
        if stale:
            yield (
                f"{stale:,} stale: intact, but not what the recipe now asks for. "
                f"The next `{run_again}` updates them."
            )
        if counts["foreign"]:
            yield (
                f"{_files(counts['foreign'])} in dataset/ that the export did not write, and that "
                f"readers take for a part of it. To remove: synthvlm export --out {where}"
            )
        if strays:
            yield f"{_files(strays)} not named by any marker: harmless, the next run removes them."


def _files(count: int) -> str:
    return f"{count:,} file is" if count == 1 else f"{count:,} files are"


def summarize(problems: Sequence[str]) -> str | None:
    """The first of several problems, and the number of the others; None if there is none."""
    if not problems:
        return None
    more = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}"
