"""``synthvlm tune``: the settings of generation that score best, by a grid search on few captions.

The method chose its steps and guidance by mean CLIPScore on 1,000 sampled captions.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import product
from math import gcd
from typing import TYPE_CHECKING, Any

from synthvlm.components.settings import chosen_values
from synthvlm.data import fingerprint
from synthvlm.errors import RecipeError, RunFolderError
from synthvlm.pipeline import Pipeline
from synthvlm.planning.clock import StageClock
from synthvlm.planning.combinations import (
    CRITERIA,
    Combination,
    Tuning,
    compare,
    measure_combination,
)
from synthvlm.planning.sample_captions import (
    CURATION,
    KeptCaption,
    curate_sample,
    read_pool,
    recipe_for,
)
from synthvlm.planning.trial import candidate_rows
from synthvlm.progress.notebook import default_progress
from synthvlm.recipe.generation import GenerationSettings
from synthvlm.recipe.yaml_text import parse_recipe
from synthvlm.rights import check_terms
from synthvlm.run_folder.folder import RunFolder

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe

__all__ = ["parse_grid", "tune"]

RESULTS = "tune.json"
_RUNS = "runs"
_OURS = {CURATION, _RUNS, RESULTS, "sample.parquet", "kept.parquet"}

_SECTION = "generation"
#: Settings of generation that say how many images are generated and kept, not what one looks like.
_NOT_TUNED = {"candidates", "adaptive", "image"}

#: Captions that are curated for one of the sample: at first, and where too few are kept.
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
                f"an image compare like with like{_hint(key, values)}"
            )
        if key in grid:
            raise RecipeError(f"--grid {text}: {key} is given twice: name all its values at once")
        grid[key] = parse_recipe(f"values: [{values}]", f"--grid {text}")["values"]
        if len({repr(value) for value in grid[key]}) < len(grid[key]):
            raise RecipeError(f"--grid {text}: a value is given twice")
    if not grid:
        raise RecipeError("nothing to tune: name values to try, e.g. --grid generation.steps=20,40")
    return grid


def _hint(key: str, values: str) -> str:
    """What may be meant by a key without its section, or with a section that is misspelt."""
    tuned = [name for name in GenerationSettings.model_fields if name not in _NOT_TUNED]
    first, _, rest = key.removeprefix(f"{_SECTION}.").partition(".")
    for name in (first, rest.partition(".")[0]):
        for close in get_close_matches(name, tuned, n=1, cutoff=0.8):
            below = key.partition(name)[2]
            return f"; did you mean --grid {_SECTION}.{close}{below}={values}?"
    return ""


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
    """Generate images for the same captions with every combination of a grid; compare the scores.

    Each combination is a run folder of its own below ``out``, so a killed search goes on where it
    was; one that fails is named, and tried again by the next call.

    Args:
        recipe: What the combinations have in common; its whole-set rules are left out.
        grid: Values to try by key, as ``parse_grid`` gives them.
        out: A new folder, or that of an earlier search; a local path or fsspec URL.
        sample: Kept captions to generate images for, chosen by hash.
        candidates: Images of each caption; a caption's score is their mean.
        by: A name of ``CRITERIA``.
        progress: Shows the work.

    Returns:
        The combinations, best first, which are also in ``tune.json``.

    Raises:
        RecipeError: A combination does not validate, or no sampled caption is kept.
        RunFolderError: The folder holds other files.
    """
    if by not in CRITERIA:
        raise RecipeError(f"there is no criterion {by!r}; there are {', '.join(CRITERIA)}")
    shown = progress or default_progress()
    settings = _settings_of(recipe, grid, candidates)
    for note in dict.fromkeys(note for _, changed in settings for note in check_terms(changed)):
        shown.note(note)
    home = RunFolder(out)
    _check_folder(home)
    kept_captions = _sample(recipe, sample, home, shown)
    shard_size = _shard_size(recipe, candidates)
    combinations = []
    for number, (values, changed) in enumerate(settings, 1):
        shown.note(f"{number} of {len(settings)}: {_words(values)}")
        trial = recipe_for(changed, kept_captions, home, shard_size=shard_size)
        combinations.append(_try(values, trial, recipe.run.max_failed_share, home, shown))
        gc.collect()  # models in reference cycles would stand in the next ones' way
    ranked = tuple(compare(combinations, by))
    tuning = Tuning(by, len(kept_captions), candidates, recipe.seed, ranked)
    text = json.dumps(tuning.values(), ensure_ascii=False, indent=2, default=str)
    home.write(RESULTS, text.encode("utf-8"))
    return tuning


def _settings_of(
    recipe: Recipe, grid: Mapping[str, Sequence[Any]], candidates: int
) -> list[tuple[dict[str, Any], Recipe]]:
    """Every combination, and the recipe with it; all are validated before one is tried."""
    in_common = [f"generation.candidates={candidates}", "generation.adaptive=null", "target=null"]
    # Compared are all images, by all scorers.
    for name in recipe.scorers:
        in_common += [f"scoring.{name}.minimum=null", f"scoring.{name}.only_best=null"]
    recipes = []
    for combination in product(*grid.values()):
        values = dict(zip(grid, combination, strict=True))
        changes = [f"{key}={json.dumps(value, default=str)}" for key, value in values.items()]
        recipes.append((values, recipe.changed(overrides=[*in_common, *changes])))
    return recipes


def _check_folder(home: RunFolder) -> None:
    """Refuse a folder that holds anything but an earlier search."""
    others = {name.split("/")[0] for name in home.listing("")} - _OURS
    if others:
        raise RunFolderError(
            f"{home.url} is not a folder of `synthvlm tune`: it holds {min(others)!r}; name a "
            f"new or empty folder"
        )


def _sample(recipe: Recipe, size: int, home: RunFolder, progress: Progress) -> list[KeptCaption]:
    """Kept captions with the smallest hashes; fewer than ``size`` where there are no more."""
    pool = read_pool(recipe, _POOLS[-1] * size, progress)
    progress.finish("count", f"{pool.read:,} captions")
    for times in _POOLS:
        curated = curate_sample(recipe, pool.sample[: times * size], home, progress)
        if len(curated.kept_captions) >= size or times * size >= len(pool.sample):
            break
    curated.check_not_empty()
    if len(curated.kept_captions) < size:
        progress.note(
            f"note: only {len(curated.kept_captions):,} of {size:,} captions: no more are kept"
        )
    return list(curated.kept_captions[:size])


def _shard_size(recipe: Recipe, candidates: int) -> int:
    """Captions that make full batches, as few as there can be: each shard is timed."""
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
        # A search is for its scores: the few images of an earlier one need not be kept.
        pipeline.run("generate", replace_images=True)
        rows, events = candidate_rows(pipeline.folder), pipeline.folder.events()
        combination = measure_combination(values, folder, rows, events, max_failed_share)
    except Exception as error:  # whatever a model, scheduler or device makes of the values
        problem = " ".join(str(error).split())[:300] or type(error).__name__
        combination = Combination(values, folder, problem)
    if combination.problem is not None:
        shown.note(f"warning: {_words(values)} failed: {combination.problem}")
    return combination


def _folder_name(values: Mapping[str, Any], recipe: Recipe) -> str:
    """Readable, and another one wherever times or images would not be comparable."""
    generation, run = chosen_values(recipe.generation), chosen_values(recipe.run)
    stem = re.sub(r"[^\w.=-]+", "_", _words(values))[:60]
    return f"{stem}-{fingerprint(recipe.seed, generation, run)[:8]}"


def _words(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key.removeprefix(_SECTION + '.')}={value}" for key, value in values.items())
