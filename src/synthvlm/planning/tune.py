"""``synthvlm tune``: the settings of generation that score best, by a grid search on few captions.

The method chose its steps and guidance by mean CLIPScore on 1,000 sampled captions.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Mapping, Sequence
from itertools import product
from math import gcd
from typing import TYPE_CHECKING, Any

from synthvlm.components.settings import chosen_values
from synthvlm.data import fingerprint
from synthvlm.errors import RecipeError, RunFolderError
from synthvlm.pipeline import Pipeline
from synthvlm.planning.clock import StageClock
from synthvlm.planning.combinations import CRITERIA, Combination, Tuning, compared, measured
from synthvlm.planning.footprint import candidate_rows
from synthvlm.planning.pool import choose
from synthvlm.planning.sample_captions import CURATION, Kept, curate, recipe_for
from synthvlm.progress.display import SilentProgress
from synthvlm.recipe.yaml_text import parse_recipe
from synthvlm.run_folder.folder import RunFolder

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe

__all__ = ["parse_grid", "tune"]

RESULTS = "tune.json"
_RUNS = "runs"
_OURS = {CURATION, _RUNS, RESULTS, "sample.parquet", "kept.parquet"}

_SECTION = "generation"
#: Settings of generation that say how many images are drawn and kept, not what one looks like.
_NOT_TUNED = {"candidates", "adaptive", "image"}

#: Captions that are curated for one that is wanted: at first, and where too few are kept.
_POOLS = (4, 50)


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """The values to try of each key, from texts such as ``generation.steps=20,40``.

    Values are YAML, separated by commas.

    Raises:
        RecipeError: A text is not of that form, a key is given twice or is none to tune, or a
            value is given twice.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not key or not values.strip():
            raise RecipeError(
                f"--grid {text}: expected KEY=VALUE,VALUE, e.g. generation.steps=20,40"
            )
        section, _, name = key.partition(".")
        if section != _SECTION or not name or name.split(".")[0] in _NOT_TUNED:
            raise RecipeError(
                f"--grid {text}: {key} is none to tune: only settings of {_SECTION} that change "
                f"an image compare like with like"
            )
        if key in grid:
            raise RecipeError(f"--grid {text}: {key} is given twice: name all its values at once")
        grid[key] = parse_recipe(f"values: [{values}]", f"--grid {text}")["values"]
        if len({repr(value) for value in grid[key]}) < len(grid[key]):
            raise RecipeError(f"--grid {text}: a value is given twice")
    if not grid:
        raise RecipeError("nothing to tune: name values to try, e.g. --grid generation.steps=20,40")
    return grid


def tune(
    recipe: Recipe,
    grid: Mapping[str, Sequence[Any]],
    out: str,
    *,
    sample: int = 100,
    candidates: int = 1,
    by: str = "score",
    progress: Progress | None = None,
) -> Tuning:
    """Draw the same captions with every combination of a grid, and compare the scores.

    Each combination is a run folder of its own below ``out``, so a killed search goes on where it
    was; one that fails is told as such, and tried again by the next call.

    Args:
        recipe: What the combinations have in common; its whole-set rules are left out.
        grid: Values to try by key, as ``parse_grid`` gives them.
        out: A new folder, or that of an earlier search; a local path or fsspec URL.
        sample: Kept captions to draw, chosen by hash.
        candidates: Images of each caption; a caption's score is their mean.
        by: A name of ``CRITERIA``.
        progress: Shows the work.

    Returns:
        The combinations, best first, which are also in ``tune.json``.

    Raises:
        RecipeError: A combination does not validate, or no sampled caption is kept.
        RunFolderError: The folder holds other people's files.
    """
    if by not in CRITERIA:
        raise RecipeError(f"there is no criterion {by!r}; there are {', '.join(CRITERIA)}")
    shown = progress or SilentProgress()
    settings = _settings_of(recipe, grid, candidates)
    home = RunFolder(out)
    _refuse_strangers(home)
    kept = _sample(recipe, sample, home, shown)
    size = _shard_size(recipe, candidates)
    found = []
    for number, (values, changed) in enumerate(settings, 1):
        shown.note(f"{number} of {len(settings)}: {_words(values)}")
        trial = recipe_for(changed, kept, home, shard_size=size)
        found.append(_try(values, trial, recipe.run.max_failed_share, home, shown))
        gc.collect()  # models in reference cycles would stand in the next ones' way
    tuning = Tuning(by, len(kept), candidates, recipe.seed, tuple(compared(found, by)))
    text = json.dumps(tuning.values(), ensure_ascii=False, indent=2, default=str)
    home.write(RESULTS, text.encode("utf-8"))
    return tuning


def _settings_of(
    recipe: Recipe, grid: Mapping[str, Sequence[Any]], candidates: int
) -> list[tuple[dict[str, Any], Recipe]]:
    """Every combination, and the recipe with it; all are validated before one is drawn."""
    alike = [f"generation.candidates={candidates}", "generation.adaptive=null"]
    found = []
    for combination in product(*grid.values()):
        values = dict(zip(grid, combination, strict=True))
        changes = [f"{key}={json.dumps(value, default=str)}" for key, value in values.items()]
        found.append((values, recipe.changed(overrides=[*alike, *changes])))
    return found


def _refuse_strangers(home: RunFolder) -> None:
    strangers = {name.split("/")[0] for name in home.listing("")} - _OURS
    if strangers:
        raise RunFolderError(
            f"{home.url} is not a folder of `synthvlm tune`: it holds {min(strangers)!r}; name a "
            f"new or empty folder"
        )


def _sample(recipe: Recipe, wanted: int, home: RunFolder, progress: Progress) -> list[Kept]:
    """Kept captions with the smallest hashes; fewer than wanted where there are no more."""
    pool = choose(recipe, _POOLS[-1] * wanted, progress)
    progress.finish("count", f"{pool.read:,} captions")
    for times in _POOLS:
        curated = curate(recipe, pool.sample[: times * wanted], home, progress)
        if len(curated.kept) >= wanted or times * wanted >= len(pool.sample):
            break
    curated.refuse_none()
    if len(curated.kept) < wanted:
        progress.note(f"note: only {len(curated.kept):,} of {wanted:,} captions: no more are kept")
    return list(curated.kept[:wanted])


def _shard_size(recipe: Recipe, candidates: int) -> int:
    """Captions that make full batches, as few as there can be: each shard tells its time."""
    batch = recipe.run.batch_size
    return 16 if batch == "auto" else batch // gcd(batch, candidates)


def _try(
    values: dict[str, Any],
    recipe: Recipe,
    max_failed_share: float,
    home: RunFolder,
    shown: Progress,
) -> Combination:
    folder = f"{_RUNS}/{_folder_name(values, recipe)}"
    progress = StageClock(shown, hidden=("measure", "curate"))
    try:
        pipeline = Pipeline(recipe, home.path(folder), progress=progress)
        pipeline.run("generate")
        rows, events = candidate_rows(pipeline.folder), pipeline.folder.events()
        found = measured(values, folder, rows, events, max_failed_share)
    except Exception as error:  # whatever a model, scheduler or device makes of the values
        problem = " ".join(str(error).split())[:300] or type(error).__name__
        found = Combination(values, folder, problem)
    if found.problem is not None:
        shown.note(f"warning: {_words(values)} failed: {found.problem}")
    return found


def _folder_name(values: Mapping[str, Any], recipe: Recipe) -> str:
    """Speaking, and another one wherever times or images would not be comparable."""
    generation, run = chosen_values(recipe.generation), chosen_values(recipe.run)
    stem = re.sub(r"[^\w.=-]+", "_", _words(values))[:60]
    return f"{stem}-{fingerprint(recipe.seed, generation, run)[:8]}"


def _words(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key.removeprefix(_SECTION + '.')}={value}" for key, value in values.items())
