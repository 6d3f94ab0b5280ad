"""One attempt at one shard of generate, score and choose.

What an earlier attempt left is carried over candidate by candidate: an image is generated only
where its row is missing, or where it is now the winner and its pixels were not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

from synthvlm.data import (
    Candidate,
    Pair,
    candidate_seed,
    candidate_table,
    pair_schema,
    preview_schema,
    table_of,
)
from synthvlm.stages.fingerprints import UNFINISHED, shard_fingerprint
from synthvlm.stages.generation.batch_generator import BatchGenerator
from synthvlm.stages.generation.calibrate import Calibration
from synthvlm.stages.generation.candidate_plan import CandidatePlan, Key, reusable_row, row_of
from synthvlm.stages.generation.prompts import STAGE, ShardCaptions
from synthvlm.stages.generation.requests import GenerationRequest, Prompt, ScoredImage
from synthvlm.stages.generation.shard_images import ShardImages
from synthvlm.stages.generation.stored_images import CANDIDATE_FOLDERS, PAIR_FOLDERS, PreviousShard

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.engines.base import Reporter
    from synthvlm.stages.generation.models import GenerationContext

__all__ = ["COUNTS", "ShardAttempt"]


#: What an attempt counts, in candidates.
COUNTS = ("generated", "regenerated", "carried", "failed", "pending", "unsafe", "skipped")


class ShardAttempt:
    """Generates, scores and chooses: ``generate`` on the models' thread, then ``commit`` on any."""

    def __init__(
        self,
        context: GenerationContext,
        prompts: Sequence[Prompt],
        captions: ShardCaptions,
        previous: PreviousShard,
        calibration: Calibration,
        calibrated_pairs: Mapping[Key, Pair],
        batch_generator: BatchGenerator,
        progress: Reporter,
    ) -> None:
        """Plan the attempt.

        Args:
            context: What all work of generation shares.
            prompts: The shard's kept captions.
            captions: All of the shard.
            previous: What an earlier attempt left.
            calibration: When a caption is done, and the candidates of its sample.
            calibrated_pairs: Best images of the sample, those that are encoded as they should be.
            batch_generator: Generates and scores.
            progress: Shows candidates done.
        """
        recipe = context.recipe
        self._context, self._recipe, self._previous = context, recipe, previous
        self._captions = captions
        self._batch_generator, self._progress = batch_generator, progress
        self._prompts = {prompt.id: prompt for prompt in prompts}
        self._thresholds, self._sample = calibration.thresholds, calibration.sample
        self._calibrated = calibration.candidates
        self._count = recipe.generation.candidates
        known = self._known_rows()
        self._plan = CandidatePlan(list(self._prompts), self._count, self._thresholds, known)
        self._images = ShardImages(
            recipe,
            self._plan,
            previous,
            calibration,
            calibrated_pairs,
            batch_generator.in_background,
        )
        self._pending: Future[list[ScoredImage]] | None = None
        self.counts = dict.fromkeys(COUNTS, 0)
        self.counts["carried"] = len(known)
        self._shown = self._pending_winners = 0

    def generate(self) -> None:
        """Generate missing candidates, and winners of which there is no image any more."""
        self._report_progress()
        while True:
            self._generate_missing()
            if not self.counts["carried"]:
                return  # whatever the last scores are, nothing is left to generate
            self._collect_pending()
            missing = self._winners_without_pixels()
            if not missing and self._plan.all_complete():
                return
            self._regenerate(missing)

    def _generate_missing(self) -> None:
        while True:
            keys = self._plan.next_batch(self._batch_generator.sizer.size)
            if not keys and (self._pending is None or not self._plan.waits_for_scores()):
                break
            requests = [self._request(key) for key in keys]
            generated = self._batch_generator.generate(requests) if requests else None
            # Scores of the batch before, not of this one: it is scored while the next is generated.
            self._collect_pending()
            self._pending = generated
            self.counts["generated"] += len(keys)
            self._report_progress()

    def record_pending(self, reason: str) -> None:
        """Record what is left to generate as pending; the next run generates it."""
        self._collect_pending()
        self._pending_winners = len(self._winners_without_pixels())
        for id in self._prompts:
            for index in range(self._count):
                if index not in self._plan.rows[id] and index not in self._plan.unneeded(id):
                    self._plan.record(self._empty_row(id, index, "pending", reason))
        self._winners_without_pixels()  # what captions won before is kept

    def commit(self, shard: int) -> None:
        """Choose the winners, and write the shard's files and its marker."""
        run = self._context.run
        self._collect_pending()
        self._mark_winners()
        rows = [row for id in self._prompts for row in self._final_rows(id)]
        for status in ("failed", "pending", "unsafe"):
            self.counts[status] = sum(row.status == status for row in rows)
        self.counts["pending"] += self._pending_winners
        self.counts["skipped"] = sum(row.status == "skipped" for row in rows)
        pairs, previews = self._images.finished_pairs(self._prompts), self._images.previews
        tables = {
            "candidates": candidate_table(rows, list(self._recipe.scorers)),
            "pairs": table_of(pairs, pair_schema()),
            "previews": table_of([previews[key] for key in sorted(previews)], preview_schema()),
        }
        tables |= self._unused_tables()
        files = [
            run.write_table(name, shard, table) for name, table in tables.items() if len(table)
        ]
        fingerprint = shard_fingerprint(
            self._recipe,
            self._context.image_fingerprint,
            self._thresholds,
            list(self._prompts.values()),
            self._sample,
        )
        if self.counts["pending"]:  # also for releases that know no pending candidates
            fingerprint = UNFINISHED + fingerprint
        run.commit(STAGE, shard, fingerprint, files, self._facts(rows))

    def _facts(self, rows: Sequence[Candidate]) -> dict[str, object]:
        """What the shard's marker holds, for later stages, reports and the next attempt."""
        return {
            "captions": len(self._prompts),
            "candidates": len(rows),
            "failed": self.counts["failed"],
            "pending": self.counts["pending"],
            "unsafe": self.counts["unsafe"],
            "skipped": self.counts["skipped"],
            "truncated": len({row.caption_id for row in rows if row.truncated}),
            "prompt_truncated": len({row.caption_id for row in rows if row.prompt_truncated}),
            "irreproducible": sum(row.score is not None and not row.reproducible for row in rows),
            "encoding": self._images.encoding,
            "depends": dict(self._context.image_dependencies),
        }

    def _unused_tables(self) -> dict[str, pa.Table]:
        """Earlier candidates and images of captions that the rules reject or the limit leaves out.

        They are kept for when the captions come back.
        """
        previous, context = self._previous, self._context
        is_same = previous.depends == context.image_dependencies
        rows = [
            row
            for row in previous.candidates.values()
            if is_same
            and row.caption_id not in self._prompts
            and self._captions.has(row.caption_id, row.fingerprint, context.image_fingerprint)
        ]
        keys = {(row.caption_id, row.index) for row in rows}
        pairs = [
            pair
            for key, pair in previous.pairs.items()
            if key in keys and previous.encoding == self._images.encoding
        ]
        candidates, images = CANDIDATE_FOLDERS[1], PAIR_FOLDERS[1]
        return {
            candidates: candidate_table(rows, list(self._recipe.scorers)),
            images: table_of(pairs, pair_schema()),
        }

    def _known_rows(self) -> dict[Key, Candidate]:
        """Rows that need no new image; those of an earlier attempt before those of calibration."""
        known: dict[Key, Candidate] = {}
        for key in ((id, index) for id in self._prompts for index in range(self._count)):
            for rows in (self._previous.candidates, self._calibrated):
                row = rows.get(key)
                if row is None or row.fingerprint != self._prompts[row.caption_id].fingerprint:
                    continue
                reusable = reusable_row(row, self._recipe)
                if reusable is not None:
                    known.setdefault(key, reusable)
        return known

    def _request(self, key: Key) -> GenerationRequest:
        seed = candidate_seed(self._recipe.seed, *key)
        return GenerationRequest(*key, self._prompts[key[0]].text, seed)

    def _row_of(self, image: ScoredImage) -> Candidate:
        return row_of(image, self._prompts[image.request.id].fingerprint, self._recipe)

    def _collect_pending(self) -> None:
        """Wait for the images of the batch that is being scored, and record them."""
        if self._pending is not None:
            for image in self._pending.result():
                self._record_image(image)
            self._pending = None

    def _record_image(self, image: ScoredImage) -> None:
        is_complete = self._plan.record(self._row_of(image))
        self._images.add(image)
        if is_complete:
            # Encoded as soon as its caption is complete, so that pixels never pile up.
            self._images.encode_if_winner(image.request.id)

    def _regenerate(self, keys: Sequence[Key]) -> None:
        """Generate winners again whose pixels were not kept.

        The row of an image that can be made again stays, for the choice was made by it. Another
        image than before gets a row of its own, and so does a failure; then another candidate may
        be the winner, or the caption no longer done.
        """
        size = self._batch_generator.sizer.size
        for start in range(0, len(keys), size):
            requests = [self._request(key) for key in keys[start : start + size]]
            for image in self._batch_generator.generate(requests).result():
                row = self._plan.rows[image.request.id][image.request.index]
                if row.status == "ok" and image.pixels is not None and image.reproducible:
                    self._images.encode(image)
                else:
                    self._record_image(image)
            self.counts["regenerated"] += len(requests)

    def _winners_without_pixels(self) -> list[Key]:
        """Winners of complete captions of which there is neither an image nor its file."""
        missing = []
        for id in self._prompts:
            if not self._plan.is_caption_complete(id):
                continue
            self._images.encode_if_winner(id)
            winner = self._plan.winner(id)
            if winner is not None and not self._images.has_winner(id, winner):
                missing.append((id, winner))
        return missing

    def _mark_winners(self) -> None:
        for id in self._prompts:
            self._images.encode_if_winner(id)
            winner = self._plan.winner(id)
            if winner is None or id not in self._images.pairs:
                continue
            rows = self._plan.rows[id]
            rows[winner] = replace(rows[winner], chosen=True)
            self._images.preview_losers(id, winner)

    def _final_rows(self, id: str) -> list[Candidate]:
        """All rows of a caption; candidates that were not needed and are not there, ``skipped``."""
        rows, unneeded = self._plan.rows[id], self._plan.unneeded(id)
        for index in unneeded:
            if index not in rows or rows[index].status in ("failed", "pending"):
                rows[index] = self._empty_row(id, index, "skipped")
        return [rows[index] for index in range(self._count)]

    def _empty_row(self, id: str, index: int, status: str, problem: str | None = None) -> Candidate:
        """The row of a candidate that was not generated."""
        seed, image = self._request((id, index)).seed, self._prompts[id].fingerprint
        return Candidate(id, index, seed, status, image, problem=problem)

    def _report_progress(self) -> None:
        """Report how many candidates need no more work."""
        done = self.counts["carried"] + self.counts["generated"]
        if self._thresholds is not None:
            rows, plan = self._plan.rows, self._plan
            done += sum(n not in rows[id] for id in self._prompts for n in plan.unneeded(id))
        self._progress.advance(done - self._shown)
        self._shown = done
