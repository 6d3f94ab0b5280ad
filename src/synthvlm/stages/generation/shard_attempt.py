"""One attempt at one shard of generate, score and choose.

What an earlier attempt left is carried over candidate by candidate: an image is generated only
where its row is missing, or where it is now the winner and its pixels were not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from synthvlm.data import (
    WITH_IMAGE,
    Candidate,
    Pair,
    pair_schema,
    preview_schema,
    table_of,
)
from synthvlm.errors import SynthVLMError
from synthvlm.stages.fingerprints import UNFINISHED, shard_fingerprint
from synthvlm.stages.generation.batch_generator import BatchGenerator
from synthvlm.stages.generation.calibrate import Calibration
from synthvlm.stages.generation.candidate_plan import (
    CandidatePlan,
    Key,
    captions_rejected,
    judged,
    reusable_row,
    row_of,
    table_of_rows,
)
from synthvlm.stages.generation.finalists import FinalistBatches
from synthvlm.stages.generation.prompts import STAGE, ShardCaptions
from synthvlm.stages.generation.requests import GenerationRequest, Prompt, ScoredImage
from synthvlm.stages.generation.shard_images import ShardImages
from synthvlm.stages.generation.stored_images import CANDIDATE_FOLDERS, PAIR_FOLDERS, PreviousShard

if TYPE_CHECKING:
    from synthvlm.engines.base import Reporter
    from synthvlm.stages.generation.batch_scorer import ScorerWork
    from synthvlm.stages.generation.models import GenerationContext

__all__ = ["COUNTS", "ShardAttempt"]


#: Statuses that an attempt counts, in candidates.
_STATUSES = ("failed", "pending", "unsafe", "skipped", "rejected", "outranked")
#: What an attempt counts, in candidates; and captions without a pair, for all were rejected.
COUNTS = ("generated", "regenerated", "carried", *_STATUSES, "captions_rejected")


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
        self._plan = CandidatePlan(list(self._prompts), recipe, self._thresholds, known)
        self._images = ShardImages(
            recipe,
            self._plan,
            previous,
            calibration,
            calibrated_pairs,
            batch_generator.in_background,
        )
        self._pending: Future[list[ScoredImage]] | None = None
        self.work: dict[str, ScorerWork] = {}
        self._finalists = FinalistBatches(batch_generator, self.work)
        self.counts = dict.fromkeys(COUNTS, 0)
        self.counts["carried"] = len(known)
        self._shown = self._pending_winners = 0
        self._has_scored = False
        self._unasked = sum(self._record_unasked(prompt) for prompt in prompts)

    def generate(self) -> None:
        """Generate missing candidates, and again images that are needed and not kept."""
        self._report_progress()
        while True:
            self._generate_missing()
            if self._recipe.finalists is None:
                self._report_progress()
                if not self.counts["carried"]:
                    return  # whatever the last scores are, nothing is left to generate
            self._collect_pending()
            self._score_finalists(flush=True)
            self._report_progress()
            missing = self._images_to_regenerate()
            if not missing and self._plan.all_complete():
                return
            self._regenerate(missing)

    @property
    def has_new_rows(self) -> bool:
        """Whether more is known of candidates than before."""
        return self.counts["generated"] > 0 or self._has_scored

    def _generate_missing(self) -> None:
        while True:
            keys = self._plan.next_batch(self._batch_generator.sizer.size)
            if not keys and (self._pending is None or not self._plan.waits_for_scores()):
                break
            self._report_progress()  # of the batches before: the last one is done with its scores
            requests = [self._request(key) for key in keys]
            generated = self._batch_generator.generate(requests, self.work) if requests else None
            # Scores of the batch before, not of this one: it is scored while the next is generated.
            self._collect_pending()
            self._pending = generated
            self.counts["generated"] += len(keys)
            self._score_finalists()

    def record_pending(self, reason: str) -> None:
        """Record what is left to generate or to score as pending; the next run does it."""
        with suppress(SynthVLMError):  # what ends the run is known already
            self._collect_pending()
        with suppress(SynthVLMError):
            for image in self._finalists.collect():
                self._record_finalist(image)
        for id in self._prompts:
            for index in self._plan.unscored(id):
                row = self._plan.rows[id][index]
                self._plan.record(replace(row, status="pending", problem=reason))
        self._pending_winners = len(self._images_to_regenerate())
        for id in self._prompts:
            for index in range(self._count):
                if index not in self._plan.rows[id] and index not in self._plan.unneeded(id):
                    self._plan.record(self._empty_row(id, index, "pending", reason))
        self._images_to_regenerate()  # what captions won before is kept

    def commit(self, shard: int) -> None:
        """Choose the winners, and write the shard's files and its marker."""
        run, failure = self._context.run, None
        try:
            self._collect_pending()
        except SynthVLMError as error:  # of a scorer behind an endpoint, say: the rest is kept
            failure = error
            self.record_pending(f"not scored: {error}")
        self._mark_winners()
        rows = [row for id in self._prompts for row in self._final_rows(id)]
        for status in _STATUSES:
            self.counts[status] = sum(row.status == status for row in rows)
        self.counts["pending"] += self._pending_winners
        self.counts["captions_rejected"] = captions_rejected(
            (row.caption_id, row.status) for row in rows
        )
        pairs, previews = self._images.finished_pairs(self._prompts), self._images.previews
        unused_rows, unused_pairs = self._previous.unused(
            self._captions, self._prompts, self._context.image_dependencies, self._images.encoding
        )
        tables = {
            "candidates": table_of_rows(rows, self._recipe),
            "pairs": table_of(pairs, pair_schema()),
            "previews": table_of([previews[key] for key in sorted(previews)], preview_schema()),
            CANDIDATE_FOLDERS[1]: table_of_rows(unused_rows, self._recipe),
            PAIR_FOLDERS[1]: table_of(unused_pairs, pair_schema()),
        }
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
        if failure is not None:
            raise failure

    def _facts(self, rows: Sequence[Candidate]) -> dict[str, object]:
        """What the shard's marker holds, for later stages, reports and the next attempt."""
        uses = ("rejected", "outranked", "captions_rejected")
        return {
            "captions": len(self._prompts),
            "candidates": len(rows),
            "failed": self.counts["failed"],
            "pending": self.counts["pending"],
            "unsafe": self.counts["unsafe"],
            "skipped": self.counts["skipped"],
            **{name: self.counts[name] for name in uses if self.counts[name]},
            "truncated": len({row.caption_id for row in rows if row.truncated}),
            "prompt_truncated": len({row.caption_id for row in rows if row.prompt_truncated}),
            "irreproducible": sum(row.score is not None and not row.reproducible for row in rows),
            "encoding": self._images.encoding,
            "depends": dict(self._context.image_dependencies),
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
        id, index = key
        return self._prompts[id].request(index, self._recipe.seed)

    def _row_of(self, image: ScoredImage) -> Candidate:
        return row_of(image, self._prompts[image.request.id].fingerprint, self._recipe)

    def _collect_pending(self) -> None:
        """Wait for the images of the batch that is being scored, and record them."""
        pending, self._pending = self._pending, None
        for image in [] if pending is None else pending.result():
            self._record_image(image)

    def _record_image(self, image: ScoredImage) -> None:
        is_complete = self._plan.record(self._row_of(image))
        self._images.add(image)
        if is_complete:
            self._proceed(image.request.id)

    def _proceed(self, id: str) -> None:
        """Encode the winner of a complete caption, or first have its finalists scored.

        As soon as that can be, so that pixels never pile up.
        """
        unscored = self._plan.unscored(id)
        for index in unscored:
            image = self._images.held(id, index)
            if image is not None:
                self._finalists.add(image)
        if not unscored:
            self._images.encode_if_winner(id)

    def _score_finalists(self, *, flush: bool = False) -> None:
        for image in self._finalists.score(flush=flush):
            self._record_finalist(image)

    def _record_finalist(self, image: ScoredImage) -> None:
        """Record the scores that a finalist lacked; those that it had stay."""
        id, index = image.request.id, image.request.index
        row = self._plan.rows[id][index]
        if image.problem is not None:
            self._images.drop(id, index)
            row = replace(row, status="failed", score=None, problem=image.problem)
        else:
            self._images.hold(image)
            scores, remarks = {**image.scores, **row.scores}, {**image.remarks, **row.remarks}
            row = replace(row, truncated=row.truncated or image.truncated)
            row = judged(replace(row, scores=scores, remarks=remarks), self._recipe)
        self._plan.record(row)
        self._has_scored = True
        if not self._plan.unscored(id):
            self._images.encode_if_winner(id)

    def _regenerate(self, keys: Sequence[Key]) -> None:
        """Generate images again whose pixels were not kept: winners, and finalists to be scored.

        The row of an image that can be made again stays, for the choice was made by it. Another
        image than before gets a row of its own, and so does a failure; then another candidate may
        be the winner, or the caption no longer done.
        """
        size = self._batch_generator.sizer.size
        for start in range(0, len(keys), size):
            requests = [self._request(key) for key in keys[start : start + size]]
            for image in self._batch_generator.generate(requests, self.work).result():
                self._record_regenerated(image)
            self.counts["regenerated"] += len(requests)
            self._score_finalists()

    def _record_regenerated(self, image: ScoredImage) -> None:
        row = self._plan.rows[image.request.id][image.request.index]
        if row.status not in WITH_IMAGE or image.pixels is None or not image.reproducible:
            self._record_image(image)
        elif self._recipe.finalists is None or (
            row.status == "ok" and image.image_embedding is not None
        ):
            self._images.encode(image)
        else:  # for its scores; of a winner, for embeddings by a scorer with `only_best`
            self._images.hold(image)
            self._finalists.add(image)

    def _images_to_regenerate(self) -> list[Key]:
        """Finalists to be scored and winners of which there is neither an image nor its file."""
        missing = []
        for id in self._prompts:
            unscored = self._plan.unscored(id)
            missing += [(id, n) for n in unscored if self._images.held(id, n) is None]
            if unscored or not self._plan.is_caption_complete(id):
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
            if winner is None or id in self._images.pairs:
                self._images.preview_losers(id, winner)
            if winner is None or id not in self._images.pairs:
                continue
            rows = self._plan.rows[id]
            rows[winner] = replace(rows[winner], chosen=True)

    def _final_rows(self, id: str) -> list[Candidate]:
        """All rows of a caption; candidates that were not needed and are not there, ``skipped``."""
        rows, unneeded = self._plan.rows[id], self._plan.unneeded(id)
        for index in unneeded:
            if index not in rows or rows[index].status in ("failed", "pending"):
                rows[index] = self._empty_row(id, index, "skipped")
        finalists = {row.index for row in self._plan.finalists(id)}
        for index, row in rows.items():
            # What an earlier recipe had the last scorers say of it, a minimum too, does not count.
            is_beaten = index not in finalists and self._plan.may_win(row)
            if is_beaten and row.status in ("ok", "rejected"):
                rows[index] = replace(row, status="outranked", score=None, problem=None)
        return [rows[index] for index in range(self._count)]

    def _record_unasked(self, prompt: Prompt) -> int:
        """Record a caption's images that could not be scored: how many, none is generated."""
        indices = range(self._count) if prompt.problem is not None else ()
        missing = [index for index in indices if index not in self._plan.rows[prompt.id]]
        for index in missing:
            self._plan.record(self._empty_row(prompt.id, index, "failed", prompt.problem))
        return len(missing)

    def _empty_row(self, id: str, index: int, status: str, problem: str | None = None) -> Candidate:
        """The row of a candidate that was not generated."""
        seed, image = self._request((id, index)).seed, self._prompts[id].fingerprint
        return Candidate(id, index, seed, status, image, problem=problem)

    def _report_progress(self) -> None:
        """Report how many candidates need no more work."""
        done = self.counts["carried"] + self.counts["generated"] + self._unasked
        if self._thresholds is not None:
            rows, plan = self._plan.rows, self._plan
            done += sum(n not in rows[id] for id in self._prompts for n in plan.unneeded(id))
        self._progress.advance(done - self._shown)
        self._shown = done
