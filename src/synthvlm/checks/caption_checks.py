"""What the committed shards of the stages before generation must satisfy.

See ``shard_checks`` for what is checked, and what is not.
"""

from __future__ import annotations

from collections import Counter

from synthvlm.checks.checked_run import CheckedRun, CheckedShard
from synthvlm.data import (
    caption_schema,
    measure_schema,
    model_measure_schema,
    written_schema,
)
from synthvlm.run_folder.marker import rule_of_stage, scorer_of_stage
from synthvlm.stages.curation.rules import model_rules_on
from synthvlm.stages.fingerprints import (
    model_measure_fingerprint,
    model_rule_fingerprint,
    question_fingerprint,
    question_shard_fingerprint,
    sources_fingerprint,
    verdicts_fingerprint,
)
from synthvlm.stages.questions import question_schema

__all__ = ["CaptionChecks"]

#: Columns that verdicts have in common with measures.
_COMMON = ("id", "source", "row", "text_raw", "text")
_SOURCES_CHANGED = "the sources, or how they are read, have changed"


class CaptionChecks:
    """Checks of the stages before generation."""

    def __init__(self, run: CheckedRun) -> None:
        """Nothing is read yet."""
        self._run = run

    def sources(self, shard: CheckedShard) -> None:
        """The sources are still the same."""
        expected = self._run.fingerprint(
            "sources", lambda: sources_fingerprint(self._run.recipe, self._run.expected.content)
        )
        shard.is_current(expected, _SOURCES_CHANGED)

    def measure(self, shard: CheckedShard) -> None:
        """Ids are unique; sources and rules are still the same."""
        rows = shard.table("measures", measure_schema())
        if rows is None:
            return
        run, expected = self._run, self._run.expected
        shard.compare_facts({"captions": rows.num_rows})
        counts = Counter(rows["id"].to_pylist())
        bad_ids = [id for id, count in counts.items() if count > 1 or id is None]
        shard.add_damage(shard.name("measures"), (f"the id {id!r} is not unique" for id in bad_ids))
        shard.is_current(
            run.fingerprint("measure", lambda: expected.measure(shard.number, rows)),
            _SOURCES_CHANGED,
        )
        rules = shard.marker.facts.get("rules")
        if not isinstance(rules, dict):
            shard.add_for_marker("damaged", "it does not say which rules measured it")
        elif run.fingerprint("rules", lambda: repr(expected.text_rules)) is not None:
            new = [n for n, current in expected.text_rules.items() if rules.get(n) != current]
            if new:
                shard.add_for_marker("stale", f"rules are new or have changed: {', '.join(new)}")

    def written(self, shard: CheckedShard) -> None:
        """The source and its captioner are still the same."""
        rows = shard.table(shard.stage, written_schema())
        if rows is None:
            return
        failed = [row["row"] for row in rows.to_pylist() if row["problem"] is not None]
        shard.compare_facts({"rows": rows.num_rows, "failed": failed})
        run, stage = self._run, shard.stage
        expected = run.fingerprint(stage, lambda: run.expected.written(stage))
        shard.is_current(expected, "the source, or its captioner, has changed")

    def model_measure(self, shard: CheckedShard) -> None:
        """Only captions of the shard are measured, by the model of the recipe."""
        run, stage = self._run, shard.stage
        rows = shard.table(stage, model_measure_schema())
        if rows is None:
            return
        shard.compare_facts({"captions": rows.num_rows})
        measures = run.table("measure", shard.number, "measures", measure_schema())
        if measures is not None:
            unknown = set(rows["id"].to_pylist()) - set(measures["id"].to_pylist())
            ids = sorted(map(str, unknown))
            shard.add_damage(shard.name(stage), (f"{id!r} is not a caption here" for id in ids))
        marker = run.snapshot.marker("measure", shard.number)
        rule = rule_of_stage(stage) or ""
        if marker is not None and rule in model_rules_on(run.recipe):
            expected = run.fingerprint(
                stage,
                lambda: model_measure_fingerprint(model_rule_fingerprint(run.recipe, rule), marker),
            )
            shard.is_current(expected, "its model, or the captions, have changed")

    def questions(self, shard: CheckedShard) -> None:
        """Only captions of the shard have questions, by the writer of the recipe."""
        run, stage = self._run, shard.stage
        rows = shard.table(stage, question_schema())
        if rows is None:
            return
        shard.compare_facts({"captions": rows.num_rows})
        problems = [
            f"{row['id']!r} has neither questions nor a problem"
            for row in rows.to_pylist()
            if not row["questions"] and row["problem"] is None
        ]
        captions = run.table("curate", shard.number, "captions", caption_schema())
        if captions is not None:
            unknown = set(rows["id"].to_pylist()) - set(captions["id"].to_pylist())
            problems += (f"{id!r} is not a caption here" for id in sorted(map(str, unknown)))
        shard.add_damage(shard.name(stage), problems)
        marker, scorer = run.snapshot.marker("curate", shard.number), scorer_of_stage(stage) or ""
        if marker is not None and scorer in run.recipe.question_scorers:
            expected = run.fingerprint(
                stage,
                lambda: question_shard_fingerprint(
                    question_fingerprint(run.recipe, scorer), marker
                ),
            )
            shard.is_current(expected, "what writes its questions, or the captions, have changed")

    def curate(self, shard: CheckedShard) -> None:
        """Captions are those of ``measures/``."""
        run = self._run
        rows = shard.table("captions", caption_schema())
        if rows is None:
            return
        kept, reasons = rows["kept"].to_pylist(), rows["rejected_by"].to_pylist()
        counts = {"captions": len(kept), "kept": sum(map(bool, kept))}
        shard.compare_facts(counts | Counter(r for r in reasons if r is not None))
        problems: list[str] = []
        measures = run.table("measure", shard.number, "measures", measure_schema())
        if measures is not None and rows.num_rows == measures.num_rows:
            wrong = [column for column in _COMMON if not rows[column].equals(measures[column])]
            problems += (f"{column} differs from measures/" for column in wrong)
        elif measures is not None:
            problems.append(f"it has {rows.num_rows:,} rows, measures/ has {measures.num_rows:,}")
        shard.add_damage(shard.name("captions"), problems)
        expected = run.fingerprint("curate", lambda: verdicts_fingerprint(run.recipe, run.measures))
        is_current = shard.is_current(expected, "the measures, or the rules, have changed")
        if is_current and shard.marker.facts.get("unmeasured", 0):
            shard.add_for_marker("stale", "captions that could not be measured will be retried")
