"""A trial of a recipe on a few captions: what was measured, and what its files weigh."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from synthvlm.data import Candidate
from synthvlm.errors import RecipeError
from synthvlm.estimates import Estimate, mean_interval
from synthvlm.models.devices import resolve_device
from synthvlm.pipeline import Pipeline
from synthvlm.planning.clock import StageClock, TimedBatch, full_batches
from synthvlm.planning.disk import FileSizes, rows_of
from synthvlm.planning.sample_captions import CURATION, curate_sample, read_pool, recipe_for
from synthvlm.recipe.selection import SelectionSettings
from synthvlm.rights import check_terms
from synthvlm.run_folder.folder import RunFolder
from synthvlm.run_folder.marker import question_stage
from synthvlm.stages.curation.rules import model_rules_on
from synthvlm.stages.generation.candidate_plan import CandidatePlan
from synthvlm.stages.generation.stopping import choose_stopping, falling_thresholds

if TYPE_CHECKING:
    from synthvlm.planning.sample_captions import CaptionPool, CuratedSample
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe

__all__ = [
    "CURATED",
    "Trial",
    "candidate_rows",
    "device_name",
    "images_per_caption",
    "run_trial",
]

#: Captions that the kept share is estimated from: at most 5 points either way.
CURATED = 400
_GENERATE = "generate"
#: Stages of the trial that show nothing of a run but the sizes of files.
_HIDDEN = ("measure", "curate", "select", "export", "report")


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
    def question_batches(self) -> list[TimedBatch]:
        """The timed batches of questions about captions, the loading of what writes included."""
        stages = map(question_stage, self.recipe.question_scorers)
        return [batch for stage in stages for batch in self.batches.get(stage, ())]

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
    for note in check_terms(recipe):
        progress.note(note)
    clock = StageClock(progress)
    generation_clock = StageClock(progress, hidden=_HIDDEN)
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
        pipeline.run("report")
        rows = candidate_rows(pipeline.folder)
        if not any(row.status == "ok" for row in rows):
            problem = next(row.problem for row in rows if row.problem is not None)
            raise RecipeError(f"none of {len(rows)} sampled images is of use: {problem}")
        formats = len(set(recipe.export.formats))
        file_sizes = FileSizes.of(pipeline.folder, RunFolder(home.path(CURATION)), formats)
        batches = clock.batches | generation_clock.batches
        yield Trial(recipe, pool, curated, batches, rows, file_sizes), pipeline.folder


def _every_candidate(recipe: Recipe) -> Recipe:
    """As the recipe, but no caption is done early, and a share of the pairs is selected.

    Few captions under adaptive best-of-k would end in small batches, which a run has few of. A
    number to select, or a lowest score, is not one for a few pairs.
    """
    generation = recipe.generation.model_copy(update={"adaptive": None})
    share = recipe.selection.top_fraction
    if recipe.most_selected is not None or recipe.selection.min_scores:
        share = 0.5
    selection = SelectionSettings(top_fraction=share)
    changes = {"generation": generation, "selection": selection, "target": None}
    return recipe.model_copy(update=changes)


def device_name(recipe: Recipe) -> str:
    """The device that a recipe runs on here, with the name of a GPU."""
    import torch

    device = resolve_device(recipe.run.device)
    if not device.startswith("cuda"):
        return device
    return f"{device} ({torch.cuda.get_device_name(device)})"


def candidate_rows(run: RunFolder) -> list[Candidate]:
    """All candidates of a run folder, in the order of shards."""
    return [Candidate.of_row(row) for row in rows_of(run, "generate", "candidates").to_pylist()]


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
    plan = CandidatePlan(ids, recipe, thresholds, known)
    needed = mean_interval([count - len(plan.unneeded(id)) for id in ids])
    if needed.low is None or needed.high is None:
        return needed
    return Estimate(needed.value, max(1.0, needed.low), min(float(count), needed.high))
