"""One shard of generate, score and choose.

What an earlier attempt at the shard left is carried over candidate by candidate: an image is
generated only where its row is missing, or where it is now the winner and its pixels were not
kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from synthvlm.data import (
    Candidate,
    Pair,
    Preview,
    candidate_schema,
    candidate_seed,
    is_sampled,
    pair_schema,
    preview_schema,
)
from synthvlm.engines.base import ShardResult
from synthvlm.errors import GenerationError
from synthvlm.stages.models import Models
from synthvlm.stages.pixels import decode, encode, thumbnail
from synthvlm.stages.prompts import Prompt, image_fingerprint, read_prompts, shard_fingerprint

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from synthvlm.progress import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.store import Marker, RunFolder

__all__ = ["STAGE", "GenerationWorker"]

STAGE = "generate"

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Drawn:
    """An image in hand: pixels (uint8, shape (height, width, 3)) and its embeddings."""

    candidate: Candidate
    pixels: np.ndarray
    image_embedding: np.ndarray
    text_embedding: np.ndarray


class GenerationWorker:
    """Does shards of the generate stage; loads its models when the first image is needed."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        captions: dict[int, Marker],
        done: dict[int, Marker],
        progress: Progress,
    ) -> None:
        """Take the run, the resolved recipe, and the markers of captions and earlier attempts."""
        self._run, self._recipe, self._progress = run, recipe, progress
        self._captions, self._done = captions, done
        self._shared = image_fingerprint(recipe)
        self._models: Models | None = None

    @property
    def models(self) -> Models:
        """The models, loaded at first use."""
        if self._models is None:
            self._models = Models.load(self._recipe)
            if not self._models.generator.reproducible:
                self._progress.note(
                    "note: this scheduler draws noise of its own, images cannot be regenerated"
                )
        return self._models

    def __call__(self, shard: int) -> ShardResult:
        """Bring one shard up to date and commit it."""
        began = time.monotonic()
        prompts = read_prompts(self._run, self._captions[shard], self._shared)
        attempt = _Attempt(self, prompts, _Earlier.read(self._run, self._done.get(shard)))
        attempt.work()
        counts = attempt.commit(shard)
        return ShardResult(shard, counts, round(time.monotonic() - began, 3))


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What an earlier attempt at a shard left: rows by key, winners, thumbnails."""

    candidates: dict[Key, Candidate]
    pairs: dict[Key, Pair]
    previews: dict[Key, Preview]
    encoding: object

    @classmethod
    def read(cls, run: RunFolder, marker: Marker | None) -> _Earlier:
        if marker is None:
            return cls({}, {}, {}, None)

        def rows(folder: str) -> list[dict[str, Any]]:
            name = marker.file(folder)
            return run.read_table(name).to_pylist() if name else []

        candidates = [Candidate(**row) for row in rows("candidates")]
        pairs = [Pair(**row) for row in rows("pairs")]
        previews = [Preview(**row) for row in rows("previews")]
        return cls(
            {(c.caption_id, c.index): c for c in candidates},
            {(p.caption_id, p.index): p for p in pairs},
            {(p.caption_id, p.index): p for p in previews},
            marker.facts.get("encoding"),
        )


class _Attempt:
    """One attempt at one shard."""

    def __init__(self, worker: GenerationWorker, prompts: list[Prompt], earlier: _Earlier) -> None:
        self._worker, self._recipe = worker, worker._recipe
        self._prompts = {prompt.id: prompt for prompt in prompts}
        self._indices = range(self._recipe.generation.candidates)
        self._earlier = earlier
        image = self._recipe.generation.image
        self._encoding = f"{image.format}-{image.quality}"
        self._rows: dict[str, dict[int, Candidate]] = {prompt.id: {} for prompt in prompts}
        self._best: dict[str, Drawn] = {}
        self._pairs: dict[str, Pair] = {}
        self._previews: dict[Key, Preview] = {}
        self._counts = {"generated": 0, "regenerated": 0, "carried": 0, "failed": 0}

    def work(self) -> None:
        """Generate what is missing, choose, and redraw winners whose pixels are not at hand."""
        missing = []
        for key in self._keys():
            known = self._carried(key)
            if known is None:
                missing.append(key)
            else:
                self._rows[key[0]][key[1]] = known
                self._counts["carried"] += 1
        self._worker._progress.advance(self._counts["carried"])
        for chunk in _chunks(missing, self._recipe.run.batch_size):
            for drawn in self._draw(chunk):
                self._take(drawn)
            self._counts["generated"] += len(chunk)
            self._worker._progress.advance(len(chunk))
        self._choose()
        lost = [
            (id, row.index)
            for id, rows in self._rows.items()
            for row in rows.values()
            if row.chosen and id not in self._pairs
        ]
        for chunk in _chunks(lost, self._recipe.run.batch_size):
            for drawn in self._draw(chunk):
                self._redrawn(drawn)
            self._counts["regenerated"] += len(chunk)

    def commit(self, shard: int) -> dict[str, int]:
        """Write the shard's files and its marker; returns the counts."""
        import pyarrow as pa

        run, recipe = self._worker._run, self._recipe
        rows = [self._rows[id][index] for id, index in self._keys()]
        self._counts["failed"] = sum(row.status == "failed" for row in rows)
        tables: dict[str, tuple[Sequence[object], pa.Schema]] = {
            "candidates": (rows, candidate_schema()),
            "pairs": ([self._pairs[p] for p in self._prompts if p in self._pairs], pair_schema()),
            "previews": ([self._previews[k] for k in sorted(self._previews)], preview_schema()),
        }
        files = []
        for folder, (records, schema) in tables.items():
            if records:
                columns = {n: [getattr(r, n) for r in records] for n in schema.names}
                table = pa.Table.from_pydict(columns, schema)
                files.append(run.write_table(folder, shard, table))
        wanted = shard_fingerprint(recipe, self._worker._shared, list(self._prompts.values()))
        facts = {
            "captions": len(self._prompts),
            "candidates": len(rows),
            "failed": self._counts["failed"],
            "truncated": sum(row.truncated and row.index == 0 for row in rows),
            "encoding": self._encoding,
        }
        run.commit(STAGE, shard, wanted, files, facts)
        return self._counts

    def _keys(self) -> Iterator[Key]:
        return ((id, index) for id in self._prompts for index in self._indices)

    def _carried(self, key: Key) -> Candidate | None:
        row = self._earlier.candidates.get(key)
        if (
            row is None
            or row.status != "ok"
            or row.fingerprint != self._prompts[key[0]].fingerprint
        ):
            return None
        if key in self._earlier.previews:
            self._previews[key] = self._earlier.previews[key]
        return replace(row, score=self._score(row), chosen=False)

    def _score(self, row: Candidate) -> float:
        weights = self._recipe.scoring
        assert row.clip_score is not None
        assert row.ssim_score is not None
        return weights.clip.weight * row.clip_score + weights.ssim.weight * row.ssim_score

    def _draw(self, keys: Sequence[Key]) -> list[Drawn | Candidate]:
        """Generate and score; a candidate that fails comes back as its row alone."""
        try:
            return self._draw_batch(keys)
        except GenerationError as error:
            if len(keys) == 1:
                return [self._failed(keys[0], str(error))]
            return [drawn for key in keys for drawn in self._draw([key])]

    def _draw_batch(self, keys: Sequence[Key]) -> list[Drawn | Candidate]:
        models = self._worker.models
        texts = [self._prompts[id].text for id, _ in keys]
        images = models.generator.generate(texts, [self._seed(key) for key in keys])
        clip = models.clip.score(images.pixels, texts)
        ssim = models.ssim.score(images.pixels, texts)
        pixels = images.pixels.permute(0, 2, 3, 1).cpu().numpy()
        assert clip.image_embeddings is not None
        assert clip.text_embeddings is not None
        assert clip.truncated is not None
        drawn: list[Drawn | Candidate] = []
        for n, key in enumerate(keys):
            problem = images.problems[n]
            if problem is not None:
                drawn.append(self._failed(key, problem))
                continue
            row = Candidate(
                caption_id=key[0],
                index=key[1],
                seed=self._seed(key),
                status="ok",
                fingerprint=self._prompts[key[0]].fingerprint,
                clip_score=float(clip.values[n]),
                ssim_score=float(ssim.values[n]),
                truncated=clip.truncated[n],
            )
            row = replace(row, score=self._score(row))
            drawn.append(Drawn(row, pixels[n], clip.image_embeddings[n], clip.text_embeddings[n]))
        return drawn

    def _failed(self, key: Key, problem: str) -> Candidate:
        return Candidate(
            caption_id=key[0],
            index=key[1],
            seed=self._seed(key),
            status="failed",
            fingerprint=self._prompts[key[0]].fingerprint,
            problem=problem,
        )

    def _seed(self, key: Key) -> int:
        return candidate_seed(self._recipe.seed, *key)

    def _take(self, drawn: Drawn | Candidate) -> None:
        row = drawn.candidate if isinstance(drawn, Drawn) else drawn
        self._rows[row.caption_id][row.index] = row
        if not isinstance(drawn, Drawn):
            return
        best = self._best.get(row.caption_id)
        if best is None or _rank(row) < _rank(best.candidate):
            self._best[row.caption_id] = drawn
        if is_sampled(row.caption_id, self._recipe.report.preview_share):
            preview = Preview(row.caption_id, row.index, thumbnail(drawn.pixels))
            self._previews[row.caption_id, row.index] = preview
        if len(self._rows[row.caption_id]) == len(self._indices):
            # Encoded as soon as its caption is complete, so that a shard's pixels never pile up.
            self._settle(row.caption_id)

    def _settle(self, id: str) -> None:
        best = self._best.pop(id, None)
        if best is not None and best.candidate.index == self._winner(id):
            self._pairs[id] = self._encode(best)

    def _winner(self, id: str) -> int | None:
        usable = [row for row in self._rows[id].values() if row.status == "ok"]
        return min(usable, key=_rank).index if usable else None

    def _choose(self) -> None:
        for id, rows in self._rows.items():
            self._settle(id)
            winner = self._winner(id)
            if winner is None:
                continue
            rows[winner] = replace(rows[winner], chosen=True)
            self._previews.pop((id, winner), None)
            self._preview_earlier_winner(id, winner)
            if id not in self._pairs and self._earlier.encoding == self._encoding:
                carried = self._earlier.pairs.get((id, winner))
                if carried is not None:
                    self._pairs[id] = carried

    def _preview_earlier_winner(self, id: str, winner: int) -> None:
        """A winner that lost its place leaves a thumbnail, as any loser of a sampled caption."""
        if not is_sampled(id, self._recipe.report.preview_share):
            return
        for index in self._indices:
            pair = self._earlier.pairs.get((id, index))
            if pair is not None and index != winner and (id, index) not in self._previews:
                self._previews[id, index] = Preview(id, index, thumbnail(decode(pair.image)))

    def _redrawn(self, drawn: Drawn | Candidate) -> None:
        """Take a winner's pixels again; its row stays, for the choice was made by it."""
        if isinstance(drawn, Drawn):
            self._pairs[drawn.candidate.caption_id] = self._encode(drawn)
        else:
            self._rows[drawn.caption_id][drawn.index] = drawn

    def _encode(self, drawn: Drawn) -> Pair:
        import numpy as np

        settings = self._recipe.generation.image
        height, width = drawn.pixels.shape[:2]
        return Pair(
            caption_id=drawn.candidate.caption_id,
            index=drawn.candidate.index,
            image=encode(drawn.pixels, settings),
            format=settings.format,
            width=width,
            height=height,
            image_embedding=drawn.image_embedding.astype(np.float16),
            text_embedding=drawn.text_embedding.astype(np.float16),
        )


def _rank(row: Candidate) -> tuple[float, int]:
    """Sort key of usable candidates: best score first, ties to the lower index."""
    assert row.score is not None
    return (-row.score, row.index)


def _chunks(items: Sequence[Key], size: int) -> Iterator[Sequence[Key]]:
    return (items[start : start + size] for start in range(0, len(items), size))
