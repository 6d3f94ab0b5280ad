"""The commands as functions: the words of the command line, and results instead of text.

Results have ``text()``, what the command prints, and ``values()``, what it prints by ``--json``.
A run is named by its folder, or is a ``Run``. In a notebook progress is a bar, elsewhere nothing
is shown. All raise ``SynthVLMError`` with one line about what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synthvlm.progress.notebook import default_progress
from synthvlm.run import Run

if TYPE_CHECKING:
    from synthvlm.checks.findings import Verification
    from synthvlm.checks.regenerated import Regeneration
    from synthvlm.checks.status import Status
    from synthvlm.comparison.data_set_comparison import DataSetComparison
    from synthvlm.comparison.difference import Difference
    from synthvlm.comparison.model_comparison import ModelComparison
    from synthvlm.evaluation.results import Results
    from synthvlm.planning.combinations import Tuning
    from synthvlm.planning.cost import Cost
    from synthvlm.planning.plan import Plan
    from synthvlm.progress.display import Progress
    from synthvlm.publishing import Published
    from synthvlm.recipe import Recipe
    from synthvlm.training.recipe import TrainingRecipe
    from synthvlm.training.report import TrainingSummary

__all__ = [
    "compare",
    "convert",
    "cost",
    "diff",
    "evaluate",
    "plan",
    "publish",
    "regenerate",
    "status",
    "train",
    "tune",
    "verify",
]


def plan(
    recipe: Recipe,
    *,
    sample: int = 16,
    price_per_hour: float | None = None,
    gpus: int = 1,
    progress: Progress | None = None,
) -> Plan:
    """Estimate a whole run from a few captions tried here: captions, images, hours, disk, cost.

    Args:
        recipe: Of the whole run.
        sample: Kept captions to generate images for.
        price_per_hour: Of one device, in any currency.
        gpus: Devices that share the work.
        progress: Shows the work.
    """
    from synthvlm.planning.plan import plan as estimate

    return estimate(
        recipe, sample=sample, price_per_hour=price_per_hour, gpus=gpus, progress=progress
    )


def tune(
    recipe: Recipe,
    out: str | Path,
    grid: Mapping[str, Sequence[Any]],
    *,
    sample: int = 100,
    candidates: int = 1,
    by: Literal["score", "score-per-second"] = "score",
    progress: Progress | None = None,
) -> Tuning:
    """Search a grid for the settings of generation that score best.

    Args:
        recipe: What the combinations have in common.
        out: A new folder, or that of an earlier search; a local path or fsspec URL.
        grid: Values to try by key, such as ``{"generation.steps": [20, 40]}``.
        sample: Kept captions, the same for all combinations.
        candidates: Images of each caption.
        by: What the best combination is the best in.
        progress: Shows the work.
    """
    from synthvlm.planning.tune import tune as search

    return search(
        recipe, grid, str(out), sample=sample, candidates=candidates, by=by, progress=progress
    )


def status(run: str | Path | Run) -> Status:
    """The state of a run, which may be at work anywhere.

    Args:
        run: The run.
    """
    from synthvlm.checks.status import status as state_of
    from synthvlm.run.kept_recipe import open_folder

    return state_of(*open_folder(_url(run)))


def verify(
    run: str | Path | Run, *, discard: bool = False, progress: Progress | None = None
) -> Verification:
    """Check that the files of a run are intact.

    Args:
        run: The run.
        discard: Make the next run redo what is damaged.
        progress: Shows the stages, in shards.
    """
    from synthvlm.checks.verify import verify_run

    return verify_run(_url(run), discard=discard, progress=progress or default_progress())


def regenerate(
    run: str | Path | Run,
    id: str,
    *,
    index: int | None = None,
    all: bool = False,
    to: str | Path | None = None,
    progress: Progress | None = None,
) -> Regeneration:
    """Make an image of a run again and compare it with the stored one.

    Args:
        run: The run.
        id: Of the caption.
        index: Number of the candidate; by default that of the winner.
        all: All candidates that were generated.
        to: Folder or URL to which each new image is written as PNG.
        progress: Shows notes of the generator.
    """
    from synthvlm.checks.regenerate import regenerate as make_again
    from synthvlm.run.kept_recipe import open_folder

    folder = None if to is None else str(to)
    return make_again(
        *open_folder(_url(run)), id, index=index, every=all, to=folder, progress=progress
    )


def publish(
    run: str | Path | Run,
    target: str | Path,
    *,
    private: bool = False,
    message: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Published:
    """Copy the finished data set of a run to the Hugging Face hub or to a folder.

    Args:
        run: The run.
        target: ``hf://datasets/ORG/NAME[@REVISION]``, a local path or any other fsspec URL.
        private: Create a private repository; hub only.
        message: Title of the commits; hub only.
        dry_run: Check everything, but change nothing.
        progress: Shows the files that are checked and sent.
    """
    from synthvlm.publishing import publish as send

    return send(
        _url(run),
        str(target),
        private=private,
        message=message,
        dry_run=dry_run,
        progress=progress or default_progress(),
    )


def convert(
    source: str | Path | Run,
    formats: Sequence[str],
    to: str | Path,
    *,
    overrides: Sequence[str] = (),
    max_failed_share: float = 0.01,
    progress: Progress | None = None,
) -> str:
    """Write the pairs of a run, or any data set, in other formats to another place.

    Args:
        source: A run or a data set.
        formats: Names of formats.
        to: A new or empty folder, or fsspec URL.
        overrides: Settings of the export, such as ``export.version=1.2.0``.
        max_failed_share: Share of records that may be no usable pairs.
        progress: Shows the work.

    Returns:
        Path or URL of the new data set.
    """
    from synthvlm.conversion.convert import convert as write

    return write(
        _url(source),
        formats,
        str(to),
        changes=overrides,
        max_failed_share=max_failed_share,
        progress=progress or default_progress(),
    )


def train(
    recipe: str | Path | TrainingRecipe,
    out: str | Path,
    *,
    data: Sequence[str | Path | Run] = (),
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> TrainingSummary:
    """Train a LLaVA on exported data, or go on where an earlier call was stopped.

    Args:
        recipe: Name of a built-in recipe for training, a YAML file, or a recipe.
        out: Folder of the training.
        data: Runs or data sets that replace the recipe's.
        overrides: Changes of the form ``KEY=VALUE``; these two are for a recipe by its name.
        progress: Shows the work.
    """
    from synthvlm.training.recipe import TrainingRecipe
    from synthvlm.training.train import train as fit

    if not isinstance(recipe, TrainingRecipe):
        paths = [_url(one) for one in data]
        recipe = TrainingRecipe.load(recipe, data=paths, overrides=overrides)
    return fit(recipe, out, progress=progress)


def evaluate(
    model: str | Path,
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Results:
    """Evaluate a model on benchmarks or questions of one's own.

    Args:
        model: Hub id, folder, or output folder of ``train``.
        out: Folder of answers and results: a new one, or one to go on with; None: none is kept.
        progress: Shows the work.
        **settings: Fields of ``synthvlm.evaluation.settings.EvaluationSettings``, such as
            ``benchmarks="easy-vqa"`` or ``questions="questions.jsonl"``.
    """
    from synthvlm.evaluation.evaluation import evaluate as ask
    from synthvlm.evaluation.settings import EvaluationSettings

    folder = None if out is None else str(out)
    shown = progress or default_progress()
    results, _ = ask(str(model), EvaluationSettings(**settings), out=folder, progress=shown)
    return results


def compare(
    *inputs: str | Path | Run,
    out: str | Path | None = None,
    sample: int | None = 1000,
    clip: str | None = None,
    scorers: Sequence[str] = (),
    overrides: Sequence[str] = (),
    map_points: int = 1000,
    seed: int = 0,
    device: str = "auto",
    revision: str | None = None,
    progress: Progress | None = None,
) -> DataSetComparison | ModelComparison:
    """Compare data sets (scores, sizes, duplicates, maps), or results of models.

    Args:
        *inputs: Runs, data sets, or result folders of ``evaluate``; ``LABEL=PATH`` names one.
        out: Folder for the report and its numbers; None writes nothing.
        sample: Pairs to score in each data set; None for all.
        clip: Hub id or folder of a CLIP model, or ``tiny``; by default the paper's.
        scorers: Names of scorers; by default clip and ssim.
        overrides: Settings of scorers, such as ``scoring.ssim.side=32``.
        map_points: Pairs of each data set on the maps.
        seed: Of the maps.
        device: Torch device, or ``auto``.
        revision: Of the CLIP model on the hub.
        progress: Shows the work.
    """
    from synthvlm.comparison.command import compare as run_comparison
    from synthvlm.comparison.settings import ComparisonSettings, choose_scorers

    settings = ComparisonSettings(
        choose_scorers(scorers, overrides, clip=clip, revision=revision),
        sample=sample,
        device=device,
        map_points=map_points,
        seed=seed,
    )
    folder = None if out is None else str(out)
    names = [_url(one) for one in inputs]
    return run_comparison(names, settings, out=folder, progress=progress or default_progress())


def diff(
    a: str | Path | Run,
    b: str | Path | Run,
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Difference:
    """What came, went and changed from one run or data set to another.

    Args:
        a: The first.
        b: The second.
        out: A new file that gets every difference as a line of JSON.
        progress: Shows the work.
    """
    from synthvlm.comparison.difference import diff as find

    file = None if out is None else str(out)
    return find(_url(a), _url(b), out=file, progress=progress or default_progress())


def cost(
    recipe: Recipe,
    captioner: str | Path,
    *,
    images: str | Path | None = None,
    pairs: int = 16,
    batch_size: int = 4,
    max_new_tokens: int = 100,
    prompt: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
) -> Cost:
    """Measure what a usable pair costs, generated by a recipe, or by captioning images.

    Args:
        recipe: The route that generates images.
        captioner: Hub id, folder, or output folder of ``train``.
        images: Folder of images to caption; None for those that are generated.
        pairs: Captions to generate images for, and images to caption, at most.
        batch_size: Images that the captioner is given at a time.
        max_new_tokens: Longest caption.
        prompt: What the captioner is asked; None for the built-in request.
        revision: Of the captioner on the hub.
        progress: Shows the work.
    """
    from synthvlm.planning.cost import cost as measure

    return measure(
        recipe,
        str(captioner),
        images=None if images is None else str(images),
        pairs=pairs,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        prompt=prompt,
        revision=revision,
        progress=progress or default_progress(),
    )


def _url(named: str | Path | Run) -> str:
    return named.folder.url if isinstance(named, Run) else str(named)
