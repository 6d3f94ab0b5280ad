"""A trial of a recipe on a few captions: what was measured, and what its files weigh."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from synthvlm.data import Candidate
from synthvlm.errors import RecipeError
from synthvlm.estimates import Estimate, mean_interval
from synthvlm.models.devices import resolve_device
from synthvlm.pipeline import Pipeline
from synthvlm.planning.clock import StageClock, TimedBatch, full_batches
from synthvlm.planning.sample_captions import CURATION, curate_sample, read_pool, recipe_for
from synthvlm.run_folder.folder import RunFolder, table_bytes
from synthvlm.stages.curation.rules import model_rules_on
from synthvlm.stages.generation.candidate_plan import CandidatePlan
from synthvlm.stages.generation.stopping import choose_stopping, falling_thresholds

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.planning.sample_captions import CaptionPool, CuratedSample
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe

__all__ = [
    "CURATED",
    "FileSizes",
    "Trial",
    "candidate_rows",
    "device_name",
    "images_per_caption",
    "run_trial",
]

#: Captions that the kept share is estimated from: at most 5 points either way.
CURATED = 400
_GENERATE = "generate"


@dataclass(frozen=True, slots=True)
class Trial:
    """What was tried.

    Attributes:
        recipe: The whole run's.
        pool: Its captions, counted and sampled.
        curated: The curated sample.
        batches: The timed batches of each stage, of ``StageClock``.
        rows: All candidates of the captions that images were generated for.
        file_sizes: What their files weigh.
    """

    recipe: Recipe
    pool: CaptionPool
    curated: CuratedSample
    batches: Mapping[str, Sequence[TimedBatch]]
    rows: Sequence[Candidate]
    file_sizes: FileSizes

    @property
    def rule_batches(self) -> dict[str, Sequence[TimedBatch]]:
        """The timed batches of the rules with models."""
        names = model_rules_on(self.recipe)
        return {name: self.batches[name] for name in names if name in self.batches}

    @property
    def generation_batches(self) -> list[TimedBatch]:
        """The batches that the time of an image is taken from.

        All of them where they are too few to leave out the first, which loads the models.
        """
        return full_batches(self.batches[_GENERATE]) or list(self.batches[_GENERATE])

    @property
    def first_batch(self) -> TimedBatch:
        """The first batch of generation, loading and warm-up included."""
        return self.batches[_GENERATE][0]

    @property
    def is_warm(self) -> bool:
        """Whether ``generation_batches`` are free of loading and warm-up."""
        return bool(full_batches(self.batches[_GENERATE]))


@dataclass(frozen=True, slots=True)
class FileSizes:
    """Bytes in a run folder.

    Attributes:
        shard: Of the files of a shard, whatever they hold.
        caption: Of an input caption, in ``measures/`` and ``captions/``.
        candidate: Of a candidate, in ``candidates/``.
        pair: Of a pair beside its image, in ``pairs/``.
        image: Of an encoded image.
    """

    shard: float
    caption: float
    candidate: float
    pair: float
    image: Estimate

    @classmethod
    def of(cls, generated: RunFolder, curated: RunFolder) -> FileSizes:
        """Weigh the tables of two run folders; at least one pair must be there."""
        pairs = _table(generated, "generate", "pairs")
        measured = _table_size(_table(curated, "measure", "measures"))
        judged = _table_size(_table(curated, "curate", "captions"))
        candidates = _table_size(_table(generated, "generate", "candidates"))
        paired = _table_size(pairs.drop_columns(["image"]))
        return cls(
            sum(table.file for table in (measured, judged, candidates, paired)),
            measured.row + judged.row,
            candidates.row,
            paired.row,
            mean_interval([len(image) for image in pairs["image"].to_pylist()]),
        )


@contextmanager
def run_trial(recipe: Recipe, sample: int, progress: Progress) -> Iterator[tuple[Trial, RunFolder]]:
    """A trial of a recipe, and the run folder with its pairs, which is temporary.

    All sources are read once to count them; of their captions ``CURATED``, chosen by hash, are
    curated, and all candidates of ``sample`` kept ones generated.

    Args:
        recipe: The whole run's.
        sample: Kept captions to generate images for.
        progress: Shows the work.

    Raises:
        RecipeError: No sampled caption is kept, no image can be generated, or a model writes the
            captions.
        SynthVLMError: What a run would raise.
    """
    clock = StageClock(progress)
    generation_clock = StageClock(progress, hidden=("measure", "curate"))
    progress.note("all captions are counted first: about 100,000 a second from local files")
    began = time.monotonic()
    pool = read_pool(recipe, CURATED, clock)
    clock.finish("count", f"{pool.read:,} captions ({time.monotonic() - began:.1f} s)")
    with TemporaryDirectory(prefix="synthvlm-trial-") as temporary:
        home = RunFolder(temporary)
        curated = curate_sample(recipe, pool.sample, home, clock)
        curated.check_not_empty()
        pipeline = Pipeline(
            _every_candidate(recipe_for(recipe, curated.kept_captions[:sample], home)),
            home.path("run"),
            progress=generation_clock,
        )
        pipeline.run("generate")
        rows = candidate_rows(pipeline.folder)
        if not any(row.status == "ok" for row in rows):
            problem = next(row.problem for row in rows if row.problem is not None)
            raise RecipeError(f"none of {len(rows)} sampled images is of use: {problem}")
        file_sizes = FileSizes.of(pipeline.folder, RunFolder(home.path(CURATION)))
        batches = clock.batches | generation_clock.batches
        yield Trial(recipe, pool, curated, batches, rows, file_sizes), pipeline.folder


def _every_candidate(recipe: Recipe) -> Recipe:
    """As the recipe, but no caption is done early.

    Few captions under adaptive best-of-k would end in small batches, which a run has few of.
    """
    generation = recipe.generation.model_copy(update={"adaptive": None})
    return recipe.model_copy(update={"generation": generation})


def device_name(recipe: Recipe) -> str:
    """The device that a recipe runs on here, with the name of a GPU."""
    import torch

    device = resolve_device(recipe.run.device)
    if not device.startswith("cuda"):
        return device
    return f"{device} ({torch.cuda.get_device_name(device)})"


def candidate_rows(run: RunFolder) -> list[Candidate]:
    """All candidates of a run folder, in the order of shards."""
    return [Candidate.of_row(row) for row in _table(run, "generate", "candidates").to_pylist()]


def images_per_caption(rows: Sequence[Candidate], recipe: Recipe) -> Estimate:
    """Images that a caption needs: all candidates, or fewer with adaptive best-of-k.

    Args:
        rows: All candidates of some captions, a caption's together and in order.
        recipe: Where adaptive best-of-k has no threshold, it is calibrated on these rows, as
            a run would calibrate it.
    """
    count, adaptive = recipe.generation.candidates, recipe.generation.adaptive
    if adaptive is None:
        return Estimate.exact(count)
    threshold, decay = adaptive.threshold, adaptive.decay
    if threshold is None:
        scores = np.array([np.nan if row.score is None else row.score for row in rows])
        stopping = choose_stopping(scores.reshape(-1, count), adaptive.keep_gain)
        threshold, decay = stopping.threshold, stopping.decay
    ids = list(dict.fromkeys(row.caption_id for row in rows))
    thresholds = falling_thresholds(threshold, decay, count)
    known = {(row.caption_id, row.index): row for row in rows}
    plan = CandidatePlan(ids, count, thresholds, known)
    needed = mean_interval([count - len(plan.unneeded(id)) for id in ids])
    if needed.low is None or needed.high is None:
        return needed
    return Estimate(needed.value, max(1.0, needed.low), min(float(count), needed.high))


def _table(run: RunFolder, stage: str, folder: str) -> pa.Table:
    """The rows of all shards of a stage; at least one must have a file there."""
    import pyarrow as pa

    names = [marker.file(folder) for _, marker in sorted(run.markers(stage).items())]
    return pa.concat_tables(run.read_table(name) for name in names if name is not None)


class _TableSize(NamedTuple):
    """Bytes of a file without rows, and of a row."""

    file: float
    row: float


def _table_size(table: pa.Table) -> _TableSize:
    """The line through the sizes of a file with one row and of one with all."""
    first, whole = len(table_bytes(table.slice(0, 1))), len(table_bytes(table))
    row = (whole - first) / (len(table) - 1) if len(table) > 1 else float(first)
    return _TableSize(first - row, row)
