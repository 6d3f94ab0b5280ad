"""The scores with which a caption is done, found on a sample of captions before generation."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthvlm.data import Candidate, candidate_seed, fingerprint
from synthvlm.engines.base import ShardResult
from synthvlm.stages.candidate_rows import candidate_table, row_of
from synthvlm.stages.drawing import Drawer, Image, Order
from synthvlm.stages.prompts import Prompt

if TYPE_CHECKING:
    from synthvlm.engines.base import Engine
    from synthvlm.progress import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.stages.candidate_plan import Key
    from synthvlm.store import RunFolder

__all__ = ["STAGE", "Sample", "Stopping", "choose_stopping", "thresholds_of"]

STAGE = "calibrate"

#: The decays that are tried, in standard deviations of the scores of a caption's candidates.
_DECAYS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)


class Sample:
    """The captions with the smallest hashes of their ids."""

    def __init__(self, size: int) -> None:
        """Begin with none."""
        self._size = size
        self._smallest: list[tuple[int, str, Prompt]] = []

    def add(self, prompts: Iterable[Prompt]) -> None:
        """Consider captions."""
        for prompt in prompts:
            key = -int(fingerprint("calibrate", prompt.id)[:12], 16)
            if len(self._smallest) < self._size:
                heapq.heappush(self._smallest, (key, prompt.id, prompt))
            elif key > self._smallest[0][0]:
                heapq.heapreplace(self._smallest, (key, prompt.id, prompt))

    def prompts(self) -> list[Prompt]:
        """The chosen captions, by id."""
        return sorted((prompt for _, _, prompt in self._smallest), key=lambda p: p.id)


def thresholds_of(
    run: RunFolder,
    recipe: Recipe,
    engine: Engine,
    shared: str,
    sample: Sample,
    progress: Progress,
) -> tuple[tuple[float, ...] | None, Mapping[Key, Candidate]]:
    """The best scores so far with which a caption is done, and the candidates drawn to find them.

    They are fixed once in a run: more captions do not move them.

    Returns:
        For each candidate's number the recipe's threshold or the calibrated one, None without
        adaptive best-of-k; and the candidates of the sample.
    """
    adaptive, count = recipe.generation.adaptive, recipe.generation.candidates
    if adaptive is None:
        return None, {}
    if adaptive.threshold is not None:
        return _falling(adaptive.threshold, adaptive.decay, count), {}
    weights = (recipe.scoring.clip.weight, recipe.scoring.ssim.weight)
    wanted = fingerprint(STAGE, shared, count, adaptive.keep_gain, adaptive.sample, weights)
    marker = run.markers(STAGE).get(0)
    if marker is None or marker.fingerprint != wanted:
        prompts = sample.prompts()
        if not prompts:
            return None, {}
        progress.start(STAGE, len(prompts) * count, "candidates")
        for result in engine.run(lambda: _Worker(run, recipe, prompts, wanted, progress), [0]):
            run.event("shard", stage=STAGE, shard=0, seconds=result.seconds, **result.counts)
        marker = run.markers(STAGE)[0]
        facts = marker.facts
        progress.finish(
            STAGE,
            f"captions are done at score {facts['threshold']:.4f}, less {facts['decay']:.4f} for "
            f"each candidate more: on {len(prompts)} captions {facts['images_per_caption']:.2f} "
            f"of {count} images each keep {facts['gain_kept']:.0%} of the gain",
        )
    run.sweep(STAGE, [STAGE], {0: marker})
    name = marker.file(STAGE)
    rows = [] if name is None else run.read_table(name).to_pylist()
    candidates = [Candidate(**row) for row in rows]
    thresholds = _falling(marker.facts["threshold"], marker.facts["decay"], count)
    return thresholds, {(c.caption_id, c.index): c for c in candidates}


@dataclass(frozen=True, slots=True)
class Stopping:
    """When a caption is done, and what that comes to on the captions it was found on.

    Attributes:
        threshold: Best score so far with which a caption is done at its first candidate.
        decay: How much lower that is for every further one.
        images: Images per caption.
        gain: Share of what best-of-k gains in mean score over one candidate.
    """

    threshold: float
    decay: float
    images: float
    gain: float


def choose_stopping(scores: np.ndarray, keep_gain: float) -> Stopping:
    """The thresholds that need the fewest images to keep a share of best-of-k's gain.

    They fall from candidate to candidate, for low scores tell that a caption is a hard one, of
    which more candidates gain little. A caption's candidates could have come in any order, so all
    rotations of their order count.

    Args:
        scores: float64, shape (captions, k), in the order of drawing; NaN for a failure.
        keep_gain: Share (above 0, at most 1) of the gain in mean score.

    Raises:
        ValueError: No candidate has a score.
    """
    usable = scores[~np.isnan(scores).all(axis=1)]
    if not len(usable):
        raise ValueError("no candidate has a score")
    count = usable.shape[1]
    # A failure counts as the worst score there is: it never wins, and stops nothing.
    filled = np.where(np.isnan(usable), np.nanmin(usable), usable)
    rotations = np.concatenate([np.roll(filled, turn, axis=1) for turn in range(count)])
    first, best = float(filled.mean()), float(filled.max(axis=1).mean())
    found = []
    for share in _DECAYS:
        decay = share * float(filled.std(axis=1).mean())
        values = np.unique(filled)
        levels = np.unique(np.concatenate([values + decay * index for index in range(count)]))
        low, high = 0, len(levels) - 1
        while low < high:  # what is kept grows with the threshold
            middle = (low + high) // 2
            score, _ = _outcome(rotations, levels[middle], decay)
            if score >= first + keep_gain * (best - first):
                high = middle
            else:
                low = middle + 1
        score, images = _outcome(rotations, levels[low], decay)
        gain = (score - first) / (best - first) if best > first else 1.0
        found.append(Stopping(float(levels[low]), decay, images, gain))
    return min(found, key=lambda one: one.images)


def _outcome(scores: np.ndarray, threshold: float, decay: float) -> tuple[float, float]:
    """Mean score of the winners, and images per caption."""
    count = scores.shape[1]
    so_far = np.maximum.accumulate(scores, axis=1)
    reached = so_far >= np.array(_falling(threshold, decay, count))
    stops = np.where(reached.any(axis=1), reached.argmax(axis=1), count - 1)
    return float(so_far[np.arange(len(scores)), stops].mean()), float((stops + 1).mean())


def _falling(threshold: float, decay: float, count: int) -> tuple[float, ...]:
    return tuple(threshold - decay * index for index in range(count))


class _Worker:
    """Draws all candidates of the sample, and commits their scores and the threshold."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        prompts: Sequence[Prompt],
        wanted: str,
        progress: Progress,
    ) -> None:
        self._run, self._recipe, self._prompts = run, recipe, prompts
        self._wanted, self._progress = wanted, progress

    def __call__(self, shards: Iterable[int]) -> Iterator[ShardResult]:
        recipe = self._recipe
        fingerprints = {prompt.id: prompt.fingerprint for prompt in self._prompts}
        for shard in shards:
            began = time.monotonic()
            with Drawer(recipe, self._progress) as drawer:
                rows = [
                    row_of(image, fingerprints[image.order.id], recipe.scoring)
                    for image in self._images(drawer)
                ]
            self._commit(shard, rows)
            seconds = round(time.monotonic() - began, 3)
            yield ShardResult(shard, {"generated": len(rows)}, seconds, drawer.drawing_s)

    def _images(self, drawer: Drawer) -> Iterator[Image]:
        count = self._recipe.generation.candidates
        orders = [
            Order(
                prompt.id, index, prompt.text, candidate_seed(self._recipe.seed, prompt.id, index)
            )
            for prompt in self._prompts
            for index in range(count)
        ]
        while orders:
            size = drawer.sizer.size
            batch, orders = orders[:size], orders[size:]
            yield from drawer.draw(batch).result()
            self._progress.advance(len(batch))

    def _commit(self, shard: int, rows: Sequence[Candidate]) -> None:
        adaptive = self._recipe.generation.adaptive
        assert adaptive is not None
        count = self._recipe.generation.candidates
        scores = np.array([np.nan if r.score is None else r.score for r in rows])
        found = choose_stopping(scores.reshape(-1, count), adaptive.keep_gain)
        file = self._run.write_table(STAGE, shard, candidate_table(rows))
        facts = {
            "threshold": found.threshold,
            "decay": found.decay,
            "images_per_caption": round(found.images, 3),
            "gain_kept": round(found.gain, 4),
            "captions": len(self._prompts),
        }
        self._run.commit(STAGE, shard, self._wanted, [file], facts)
