"""``synthvlm plan``: what a run will take, extrapolated from a few captions tried here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from synthvlm.errors import RecipeError
from synthvlm.estimates import Estimate, aligned, quantity, range_of
from synthvlm.models.devices import resolve_device
from synthvlm.pipeline import Pipeline
from synthvlm.planning.clock import StageClock
from synthvlm.planning.extrapolation import Line, Trial, lines_of, notes_on
from synthvlm.planning.footprint import Footprint, candidate_rows
from synthvlm.planning.pool import choose
from synthvlm.planning.sample_captions import CURATION, curate, recipe_for
from synthvlm.progress.display import SilentProgress
from synthvlm.run_folder.folder import RunFolder

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe

__all__ = ["CURATED", "Plan", "device_name", "plan", "tried"]

#: Captions that the kept share is estimated from: at most 5 points either way.
CURATED = 400


@dataclass(frozen=True, slots=True)
class Plan:
    """What a whole run will take.

    Attributes:
        device: That the times are of.
        lines: The estimates.
        notes: What was tried, what was assumed, and what is not included.
    """

    device: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> Estimate:
        """The estimate of that name."""
        return next(line.estimate for line in self.lines if line.name == name)

    def text(self) -> str:
        """A table for people, and the notes below it."""
        rows = [("", "estimate", "95 % range")]
        for line in self.lines:
            estimate, unit = line.estimate, line.unit
            rows.append((line.what, quantity(estimate.value, unit), range_of(estimate, unit)))
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"on {self.device}:", *aligned(rows), "", *notes])

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON; ``low`` and ``high`` are null where no range can be told."""
        lines = {
            line.name: {
                "value": line.estimate.value,
                "low": line.estimate.low,
                "high": line.estimate.high,
                "unit": line.unit,
            }
            for line in self.lines
        }
        return {"device": self.device, "estimates": lines, "notes": list(self.notes)}


def plan(
    recipe: Recipe,
    *,
    sample: int = 16,
    price_per_hour: float | None = None,
    gpus: int = 1,
    progress: Progress | None = None,
) -> Plan:
    """Estimate captions kept, images, time, disk and cost of a whole run.

    All sources are read once to count them; of their captions ``CURATED``, chosen by hash, are
    curated, and all candidates of ``sample`` kept ones drawn, in a temporary folder.

    Args:
        recipe: The whole run's.
        sample: Kept captions to draw.
        price_per_hour: Of one device, in any currency.
        gpus: Devices that share the work.
        progress: Shows the work.

    Raises:
        RecipeError: No sampled caption is kept, no image can be drawn, or a model writes the
            captions.
        SynthVLMError: What a run would raise.
    """
    with tried(recipe, sample, progress or SilentProgress()) as (trial, _):
        return Plan(
            device_name(recipe),
            tuple(lines_of(trial, price_per_hour, gpus)),
            tuple(notes_on(trial, gpus)),
        )


@contextmanager
def tried(recipe: Recipe, sample: int, shown: Progress) -> Iterator[tuple[Trial, RunFolder]]:
    """A trial of a recipe, and the run folder with the pairs that it drew, which is temporary.

    All sources are read once to count them; of their captions ``CURATED``, chosen by hash, are
    curated, and all candidates of ``sample`` kept ones drawn.

    Args:
        recipe: The whole run's.
        sample: Kept captions to draw.
        shown: Shows the work.

    Raises:
        RecipeError: No sampled caption is kept, no image can be drawn, or a model writes the
            captions.
        SynthVLMError: What a run would raise.
    """
    clock, drawing = StageClock(shown), StageClock(shown, hidden=("measure", "curate"))
    shown.note("all captions are counted first: about 100,000 a second from local files")
    began = time.monotonic()
    pool = choose(recipe, CURATED, clock)
    clock.finish("count", f"{pool.read:,} captions ({time.monotonic() - began:.1f} s)")
    with TemporaryDirectory(prefix="synthvlm-trial-") as temporary:
        home = RunFolder(temporary)
        curated = curate(recipe, pool.sample, home, clock)
        curated.refuse_none()
        pipeline = Pipeline(
            _every_candidate(recipe_for(recipe, curated.kept[:sample], home)),
            home.path("run"),
            progress=drawing,
        )
        pipeline.run("generate")
        rows = candidate_rows(pipeline.folder)
        if not any(row.status == "ok" for row in rows):
            problem = next(row.problem for row in rows if row.problem is not None)
            raise RecipeError(f"none of {len(rows)} sampled images is of use: {problem}")
        footprint = Footprint.of(pipeline.folder, RunFolder(home.path(CURATION)))
        laps = clock.laps | drawing.laps
        yield Trial(recipe, pool, curated, laps, rows, footprint), pipeline.folder


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
