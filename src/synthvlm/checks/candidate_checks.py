"""What committed candidates, winners and the selection must satisfy."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from synthvlm.checks import rows as rules
from synthvlm.checks.checked_run import DISCARDED, CheckedRun, Files, Found
from synthvlm.checks.images import pair_problems, thumbnail_problems
from synthvlm.checks.snapshot import Flaw, parquet, table
from synthvlm.components.component import LoadContext
from synthvlm.data import (
    candidate_schema,
    caption_schema,
    pair_schema,
    preview_schema,
    score_column,
    selection_schema,
)
from synthvlm.run_folder.marker import Marker
from synthvlm.scorers import SCORERS
from synthvlm.selectors import SELECTORS
from synthvlm.selectors.selection import select_pairs
from synthvlm.stages.generation.calibrate import choose_stopping
from synthvlm.stages.generation.pixels import encoding_fact

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CandidateChecks"]


class CandidateChecks:
    """Checks shards of calibration, generation and selection."""

    def __init__(self, run: CheckedRun, workers: ThreadPoolExecutor) -> None:
        """Nothing is read yet; ``workers`` decode images."""
        self._run, self._workers = run, workers

    def calibrate(self, found: Found, shard: int, marker: Marker, data: Files) -> None:
        """The thresholds are those that its candidates give."""
        wanted = self._run.tell("calibrate", self._run.wanted.calibration)
        problem = "it is not finished, or what it depends on is another now"
        is_current = self._run.compare(found, marker, wanted, problem)
        rows = self._run.table_of(found, marker, data, "calibrate", self._schema())
        if rows is None:
            return
        candidates = rows.to_pylist()
        ids = list(dict.fromkeys(row["caption_id"] for row in candidates))
        count, name = self._run.recipe.generation.candidates, str(marker.file("calibrate"))
        problems = [*self._candidate_problems(candidates, is_current=is_current)]
        if is_current:
            fingerprints = {row["caption_id"]: row["fingerprint"] for row in candidates}
            problems += rules.key_problems(candidates, ids, count)
            problems += rules.seed_problems(candidates, fingerprints, self._run.recipe.seed)
        found.damaged(name, problems)
        if is_current and not problems:
            found.facts(marker, self._thresholds(marker, candidates, len(ids)))

    def _thresholds(
        self, marker: Marker, candidates: list[dict[str, Any]], captions: int
    ) -> dict[str, object]:
        """What the marker of the calibration should say; its own values where they are near."""
        adaptive = self._run.recipe.generation.adaptive
        scores = np.array([np.nan if r["score"] is None else r["score"] for r in candidates])
        expected: dict[str, object] = {"captions": captions}
        if adaptive is None or np.isnan(scores).all():
            return expected
        again = choose_stopping(scores.reshape(captions, -1), adaptive.keep_gain)
        for name in ("threshold", "decay"):
            said, value = marker.facts.get(name), getattr(again, name)
            # Sums may be rounded otherwise on another processor.
            is_near = isinstance(said, int | float) and abs(said - value) < 1e-6
            expected[name] = said if is_near else value
        return expected

    def generate(self, found: Found, shard: int, marker: Marker, data: Files) -> None:
        """Candidates are those of the captions, and their best ones are the winners."""
        captions = self._run.table_of_stage("curate", shard, "captions", caption_schema())
        is_current, prompts = False, dict[str, str]()
        if captions is not None:
            is_current, prompts = self._is_wanted(found, marker, captions)
        rows = self._run.table_of(found, marker, data, "candidates", self._schema())
        candidates = None if rows is None else rows.to_pylist()
        if candidates is not None:
            recipe = self._run.recipe
            problems = [*self._candidate_problems(candidates, is_current=is_current)]
            problems += rules.choice_problems(candidates)
            problems += rules.seed_problems(candidates, prompts, recipe.seed)
            if is_current:
                count = recipe.generation.candidates
                problems += rules.key_problems(candidates, list(prompts), count)
                problems += rules.origin_problems(candidates, prompts)
            found.damaged(str(marker.file("candidates")), problems)
            if marker.fingerprint != DISCARDED:
                self._generated_facts(found, marker, candidates, is_current=is_current)
        self._pairs(found, marker, data, candidates)
        self._previews(found, marker, data, candidates)

    def _candidate_problems(
        self, candidates: list[dict[str, Any]], *, is_current: bool
    ) -> Iterator[str]:
        scorers = self._run.recipe.scorers
        ranges = {score_column(name): SCORERS[name].range for name in scorers}
        weights = {score_column(name): scorer.weight for name, scorer in scorers.items()}
        return rules.candidate_problems(candidates, ranges, weights if is_current else None)

    def _schema(self) -> pa.Schema:
        return candidate_schema(list(self._run.recipe.scorers))

    def _is_wanted(
        self, found: Found, marker: Marker, captions: pa.Table
    ) -> tuple[bool, dict[str, str]]:
        """Whether a shard is as the recipe wants it; and what images of its captions depend on."""
        fingerprints: dict[str, str] = {}

        def reckon() -> str:
            prompts = self._run.wanted.prompts(captions)
            fingerprints.update((prompt.id, prompt.fingerprint) for prompt in prompts)
            thresholds = self._run.wanted.thresholds(self._run.look.marker("calibrate", 0))
            return self._run.wanted.candidates(thresholds, prompts)

        problem = "its captions, models or settings of generation are others now"
        if "depends" not in marker.facts:
            problem = "it is of an earlier version of synthvlm: its images are made again"
        if marker.fingerprint == DISCARDED:
            problem = "what was damaged of it is discarded"
        is_current = self._run.compare(found, marker, self._run.tell("generate", reckon), problem)
        failed = marker.facts.get("failed")
        if is_current and failed:
            found.marker("stale", f"{failed} candidates that failed are tried again")
        return is_current, fingerprints

    def _generated_facts(
        self, found: Found, marker: Marker, candidates: list[dict[str, Any]], *, is_current: bool
    ) -> None:
        expected: dict[str, object] = dict(rules.candidate_facts(candidates))
        failed = sum(row["status"] == "failed" for row in candidates)
        said = marker.facts.get("failed")
        # Winners that were not drawn again count among them.
        expected["failed"] = said if isinstance(said, int) and said >= failed else failed
        if is_current:
            expected["encoding"] = encoding_fact(self._run.recipe.generation.image)
        found.facts(marker, expected)

    def _pairs(
        self,
        found: Found,
        marker: Marker,
        data: Files,
        candidates: list[dict[str, Any]] | None,
    ) -> None:
        name = marker.file("pairs")
        chosen = [(r["caption_id"], r["index"]) for r in candidates or () if r["chosen"]]
        if name is None:
            if chosen and marker.fingerprint != DISCARDED:
                found.marker("damaged", f"it names no pairs, {len(chosen):,} candidates are chosen")
            return
        if "pairs" not in data:
            return
        try:
            file = parquet(data["pairs"], pair_schema())
            keys: list[tuple[str, int]] = []
            problems: list[str] = []
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group)
                keys += zip(rows["caption_id"].to_pylist(), rows["index"].to_pylist(), strict=True)
                problems += pair_problems(rows, self._workers)
        except Flaw as flaw:
            found.add(name, flaw.kind, str(flaw))
            return
        if candidates is not None and keys != chosen:
            lost, extra = sorted(set(chosen) - set(keys)), sorted(set(keys) - set(chosen))
            problems += (f"candidate {n} of {id!r} is chosen, and has no image" for id, n in lost)
            problems += (f"candidate {n} of {id!r} is not chosen" for id, n in extra)
            if not lost and not extra:
                problems.append("its rows are not in the order of the candidates")
        found.damaged(name, problems)

    def _previews(
        self,
        found: Found,
        marker: Marker,
        data: Files,
        candidates: list[dict[str, Any]] | None,
    ) -> None:
        rows = self._run.table_of(found, marker, data, "previews", preview_schema())
        if rows is None:
            return
        problems = list(thumbnail_problems(rows))
        if candidates is not None:
            losers = {(r["caption_id"], r["index"]) for r in candidates if not r["chosen"]}
            keys = zip(rows["caption_id"].to_pylist(), rows["index"].to_pylist(), strict=True)
            problems += (f"candidate {key} is no loser" for key in keys if key not in losers)
        found.damaged(str(marker.file("previews")), problems)

    def select(self, found: Found, shard: int, marker: Marker, data: Files) -> None:
        """The selection is what the candidates give."""
        name = "selection.parquet"
        if not data:
            if not marker.file(name) and not any(f.path == name for f in marker.files):
                found.marker("damaged", f"it does not name {name}")
            return
        try:
            rows = table(
                next(iter(data.values())), selection_schema(list(self._run.recipe.scorers))
            )
        except Flaw as flaw:
            found.add(name, flaw.kind, str(flaw))
            return
        if rows["rank"].to_pylist() != list(range(1, rows.num_rows + 1)):
            found.damaged(name, ["its ranks are not 1, 2, 3 ..."])
            return
        pairs, again = self._selected_again()
        if again is None:
            return
        found.facts(marker, {"selected": again.num_rows, "pairs": pairs})
        if not rows.equals(again):
            told = zip(rows.to_pylist(), again.to_pylist(), strict=False)
            first = next((n for n, (a, b) in enumerate(told, 1) if a != b), None)
            found.damaged(
                name,
                [f"{rows.num_rows:,} rows, the candidates give {again.num_rows:,}"]
                if first is None
                else [f"rank {first} is not what the candidates give"],
            )

    def _selected_again(self) -> tuple[int, pa.Table | None]:
        """The selection that the candidates give; None where some of them are damaged."""
        parts = []
        for shard, marker in sorted(self._run.generated.items()):
            if marker.file("candidates") is not None:
                rows = self._run.table_of_stage("generate", shard, "candidates", self._schema())
                if rows is None:
                    return 0, None
                parts.append((shard, rows.filter(rows["chosen"])))
        settings = self._run.recipe.selection
        return select_pairs(
            parts,
            selector=SELECTORS.load(settings.method, settings.selector, LoadContext()),
            scorers=list(self._run.recipe.scorers),
            top_n=settings.top_n,
            top_fraction=settings.top_fraction,
            min_scores=settings.min_scores,
        )
