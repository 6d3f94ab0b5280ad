"""What committed captions, measures and verdicts must satisfy."""

from __future__ import annotations

from collections import Counter

from synthvlm.checks.checked_run import CheckedRun, Files, Found
from synthvlm.data import caption_schema, measure_schema, model_measure_schema, written_schema
from synthvlm.run_folder.marker import Marker, rule_of_stage
from synthvlm.stages.curation.rules import model_rules_on

__all__ = ["CaptionChecks"]

#: What measures and verdicts of a shard have in common.
_COMMON = ("id", "source", "row", "text_raw", "text")


class CaptionChecks:
    """Checks shards of the stages before generation."""

    def __init__(self, run: CheckedRun) -> None:
        """Nothing is read yet."""
        self._run = run

    def sources(self, found: Found, shard: int, marker: Marker, data: Files) -> None:
        """That all sources are read: whether they are still the same."""
        wanted = self._run.tell("sources", self._run.wanted.sources)
        self._run.compare(
            found, marker, wanted, "the sources, or how they are read, are others now"
        )

    def measure(self, found: Found, shard: int, marker: Marker, data: Files) -> None:
        """Ids are unique, and the marker says what the rows say."""
        rows = self._run.table_of(found, marker, data, "measures", measure_schema())
        if rows is None:
            return
        found.facts(marker, {"captions": rows.num_rows})
        ids = rows["id"].to_pylist()
        twins = [id for id, n in Counter(ids).items() if n > 1 or id is None]
        name = str(marker.file("measures"))
        found.damaged(name, (f"the id {id!r} is no id of one caption" for id in twins))
        wanted = self._run.tell("measure", lambda: self._run.wanted.measure(shard, rows))
        self._run.compare(
            found, marker, wanted, "the sources, or how they are read, are others now"
        )
        rules = marker.facts.get("rules")
        if not isinstance(rules, dict):
            found.marker("damaged", "it does not say by which rules it was measured")
        elif self._run.tell("rules", lambda: repr(self._run.wanted.text_rules)) is not None:
            new = [n for n, is_now in self._run.wanted.text_rules.items() if rules.get(n) != is_now]
            if new:
                found.marker("stale", f"not measured by the rules as they are: {', '.join(new)}")

    def written(self, found: Found, stage: str, shard: int, marker: Marker, data: Files) -> None:
        """The marker says what the rows say."""
        rows = self._run.table_of(found, marker, data, stage, written_schema())
        if rows is None:
            return
        failed = [row["row"] for row in rows.to_pylist() if row["problem"] is not None]
        found.facts(marker, {"rows": rows.num_rows, "failed": failed})
        wanted = self._run.tell(stage, lambda: self._run.wanted.written(stage))
        self._run.compare(found, marker, wanted, "the source, or its captioner, is another now")

    def model_measure(
        self, found: Found, stage: str, shard: int, marker: Marker, data: Files
    ) -> None:
        """Only captions of the shard are measured."""
        rows = self._run.table_of(found, marker, data, stage, model_measure_schema())
        if rows is None:
            return
        found.facts(marker, {"captions": rows.num_rows})
        measures = self._run.table_of_stage("measure", shard, "measures", measure_schema())
        if measures is not None:
            unknown = set(rows["id"].to_pylist()) - set(measures["id"].to_pylist())
            problems = (f"{id!r} is no caption of this shard" for id in sorted(map(str, unknown)))
            found.damaged(str(marker.file(stage)), problems)
        of = self._run.look.marker("measure", shard)
        rule = rule_of_stage(stage) or ""
        if of is not None and rule in model_rules_on(self._run.recipe):
            wanted = self._run.tell(stage, lambda: self._run.wanted.model_measure(rule, of))
            self._run.compare(found, marker, wanted, "its model, or the captions, are others now")

    def curate(self, found: Found, shard: int, marker: Marker, data: Files) -> None:
        """A caption is kept or rejected for a reason, and is that of ``measures/``."""
        rows = self._run.table_of(found, marker, data, "captions", caption_schema())
        if rows is None:
            return
        kept, reasons = rows["kept"].to_pylist(), rows["rejected_by"].to_pylist()
        expected = {"captions": len(kept), "kept": sum(map(bool, kept))}
        found.facts(marker, expected | Counter(r for r in reasons if r is not None))
        name = str(marker.file("captions"))
        ids = rows["id"].to_pylist()
        found.damaged(
            name,
            (
                f"{id!r} is {'kept' if is_kept else 'not kept'}, rejected by {reason}"
                for id, is_kept, reason in zip(ids, kept, reasons, strict=True)
                if is_kept is None or is_kept != (reason is None)
            ),
        )
        measures = self._run.table_of_stage("measure", shard, "measures", measure_schema())
        if measures is not None and rows.num_rows == measures.num_rows:
            wrong = [column for column in _COMMON if not rows[column].equals(measures[column])]
            found.damaged(name, (f"{column} is not that of measures/" for column in wrong))
        elif measures is not None:
            found.damaged(name, [f"{rows.num_rows} rows, measures/ has {measures.num_rows}"])
        wanted = self._run.tell("curate", lambda: self._run.wanted.verdicts(self._run.measures))
        problem = "the measures, or the rules, are others now"
        if self._run.compare(found, marker, wanted, problem) and marker.facts.get("unmeasured", 0):
            found.marker("stale", "captions that could not be measured are tried again")
