"""The score with which a caption is done, found on a sample of captions before generation."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

__all__ = ["STAGE", "Sample", "choose_threshold", "threshold_of"]

STAGE = "calibrate"


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


def threshold_of(
    run: RunFolder,
    recipe: Recipe,
    engine: Engine,
    shared: str,
    sample: Sample,
    progress: Progress,
) -> tuple[float | None, Mapping[Key, Candidate]]:
    """The score with which a caption is done, and the candidates drawn to find it.

    It is fixed once in a run: more captions do not move it.

    Returns:
        The recipe's threshold or the calibrated one, None without adaptive best-of-k; and the
        candidates of the sample.
    """
    adaptive = recipe.generation.adaptive
    if adaptive is None or adaptive.threshold is not None:
        return None if adaptive is None else adaptive.threshold, {}
    scoring, count = recipe.scoring, recipe.generation.candidates
    wanted = fingerprint(
        STAGE, shared, count, adaptive.keep_gain, adaptive.sample,
        scoring.clip.weight, scoring.ssim.weight,
    )  # fmt: skip
    marker = run.markers(STAGE).get(0)
    if marker is None or marker.fingerprint != wanted:
        prompts = sample.prompts()
        progress.start(STAGE, len(prompts) * count, "candidates")
        for result in engine.run(lambda: _Worker(run, recipe, prompts, wanted, progress), [0]):
            run.event("shard", stage=STAGE, shard=0, seconds=result.seconds, **result.counts)
        marker = run.markers(STAGE)[0]
        facts = marker.facts
        progress.finish(
            STAGE,
            f"captions are done at score {facts['threshold']:.4f}: on {len(prompts)} captions "
            f"{facts['images_per_caption']:.2f} of {count} images each keep "
            f"{facts['gain_kept']:.0%} of the gain",
        )
    run.sweep(STAGE, [STAGE], {0: marker})
    name = marker.file(STAGE)
    rows = [] if name is None else run.read_table(name).to_pylist()
    candidates = [Candidate(**row) for row in rows]
    return float(marker.facts["threshold"]), {(c.caption_id, c.index): c for c in candidates}


def choose_threshold(scores: np.ndarray, keep_gain: float) -> tuple[float, float, float]:
    """The lowest score to stop at that keeps a share of what best-of-k gains over one candidate.

    Args:
        scores: float64, shape (captions, k), in the order of drawing; NaN for a failure.
        keep_gain: Share (above 0, at most 1) of the gain in mean score.

    Returns:
        The threshold, the images per caption and the share of the gain that it comes to on these
        captions. Without any gain the threshold is the lowest score: one image each.

    Raises:
        ValueError: No candidate has a score.
    """
    usable = scores[~np.isnan(scores).all(axis=1)]
    if not len(usable):
        raise ValueError("no candidate has a score")
    first, best = usable[:, 0], np.nanmax(usable, axis=1)
    gain = float(np.mean(best) - np.nanmean(first)) if not np.isnan(first).all() else 0.0
    known = np.unique(usable[~np.isnan(usable)])
    low, high = 0, len(known) - 1
    while low < high:  # the gain kept grows with the threshold
        middle = (low + high) // 2
        kept, _ = _outcome(usable, known[middle])
        if kept - np.nanmean(first) >= keep_gain * gain:
            high = middle
        else:
            low = middle + 1
    kept, images = _outcome(usable, known[low])
    share = (kept - float(np.nanmean(first))) / gain if gain > 0 else 1.0
    return float(known[low]), images, share


def _outcome(scores: np.ndarray, threshold: float) -> tuple[float, float]:
    """Mean score of the winners, and images per caption, with a threshold."""
    reached = scores >= threshold
    stops = np.where(reached.any(axis=1), reached.argmax(axis=1), scores.shape[1] - 1)
    drawn = np.arange(scores.shape[1]) <= stops[:, None]
    best = np.nanmax(np.where(drawn, scores, -np.inf), axis=1)
    return float(best[np.isfinite(best)].mean()), float((stops + 1).mean())


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
        threshold, images, gain = choose_threshold(scores.reshape(-1, count), adaptive.keep_gain)
        file = self._run.write_table(STAGE, shard, candidate_table(rows))
        facts = {
            "threshold": threshold,
            "images_per_caption": round(images, 3),
            "gain_kept": round(gain, 4),
            "captions": len(self._prompts),
        }
        self._run.commit(STAGE, shard, self._wanted, [file], facts)
