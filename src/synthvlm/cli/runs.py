"""Commands of runs: stages, what a run will take, and how one does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from synthvlm.cli.errors import explained
from synthvlm.cli.options import (
    CaptionsOption,
    DebugOption,
    EngineOption,
    JsonOption,
    LimitOption,
    MetricsOption,
    OutOption,
    PluginOption,
    RecipeArgument,
    RecipeToTry,
    RunArgument,
    SetOption,
    WorkersOption,
    app,
    load_plugins,
)
from synthvlm.progress.terminal import printable

if TYPE_CHECKING:
    from synthvlm.progress.display import Tracker
    from synthvlm.recipe import Recipe


def _stage_command(until: str, name: str, text: str) -> None:
    def command(
        out: OutOption,
        recipe: RecipeArgument = None,
        captions: CaptionsOption = [],  # noqa: B006
        overrides: SetOption = [],  # noqa: B006
        limit: LimitOption = None,
        engine: EngineOption = "local",
        workers: WorkersOption = None,
        metrics: MetricsOption = None,
        plugins: PluginOption = [],  # noqa: B006
        debug: DebugOption = False,
    ) -> None:
        with explained(debug):
            from synthvlm.pipeline import resumed_recipe
            from synthvlm.recipe import Recipe

            load_plugins(plugins)
            if recipe is None:
                settings = resumed_recipe(out, captions=captions, overrides=overrides, limit=limit)
            else:
                settings = Recipe.load(recipe, captions=captions, overrides=overrides, limit=limit)
            _run(settings, out, until, engine, workers, metrics)

    app.command(name, help=text)(command)


_stage_command("report", "run", "Captions in, a data set and a report out: all stages.")
_stage_command("curate", "curate", "Up to and including curation.")
_stage_command("generate", "generate", "Up to and including generation, scoring and choice.")
_stage_command("select", "select", "Up to and including selection.")
_stage_command("export", "export", "Up to and including the exported data set.")
_stage_command("report", "report", "Up to and including the report.")


@app.command()
def plan(
    recipe: RecipeToTry,
    captions: CaptionsOption = [],  # noqa: B006
    overrides: SetOption = [],  # noqa: B006
    limit: LimitOption = None,
    sample: Annotated[int, typer.Option(min=1, help="Captions to generate images for.")] = 16,
    price: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--price-per-hour", min=0, help="Of one device, in any currency."),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Devices that share the work.")] = 1,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """What a whole run will take: captions, images, hours, disk, cost; from a few tried here."""
    with explained(debug, "interrupted: nothing is left behind"):
        import json

        from synthvlm.planning.plan import plan as estimate
        from synthvlm.progress.display import terminal_progress
        from synthvlm.recipe import Recipe

        load_plugins(plugins)
        settings = Recipe.load(recipe, captions=captions, overrides=overrides, limit=limit)
        with terminal_progress(silent=as_json) as progress:
            found = estimate(
                settings, sample=sample, price_per_hour=price, gpus=gpus, progress=progress
            )
        print(json.dumps(found.values()) if as_json else printable(found.text()))


@app.command()
def tune(
    recipe: RecipeToTry,
    out: Annotated[str, typer.Option(help="Folder of the search: a new one, or one to resume.")],
    grid: Annotated[
        list[str],
        typer.Option(help="Values to try of a setting.", metavar="generation.KEY=VALUE,VALUE"),
    ],
    captions: CaptionsOption = [],  # noqa: B006
    overrides: SetOption = [],  # noqa: B006
    limit: LimitOption = None,
    sample: Annotated[int, typer.Option(min=2, help="Captions to generate images for.")] = 100,
    candidates: Annotated[int, typer.Option(min=1, help="Images of each caption.")] = 1,
    by: Annotated[
        Literal["score", "score-per-second"], typer.Option(help="What is best.")
    ] = "score",
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Grid search: which settings of generation score best, on the same captions and seeds."""
    with explained(debug):
        from synthvlm.planning.tune import parse_grid
        from synthvlm.planning.tune import tune as search
        from synthvlm.progress.display import terminal_progress
        from synthvlm.recipe import Recipe

        load_plugins(plugins)
        settings = Recipe.load(recipe, captions=captions, overrides=overrides, limit=limit)
        with terminal_progress() as progress:
            found = search(
                settings,
                parse_grid(grid),
                out,
                sample=sample,
                candidates=candidates,
                by=by,
                progress=progress,
            )
        print(printable(found.text()))
        if found.best is None:
            raise typer.Exit(1)
        print(f"\n{found.yaml()}", end="")


@app.command()
def status(
    run: RunArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Look every 5 s until it ends.")] = False,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Say how a run is doing, from another terminal or machine."""
    with explained(debug, "no longer watching: the run goes on"):
        from synthvlm.checks.status import show_status

        load_plugins(plugins)
        show_status(run, follow=watch, as_json=as_json)


@app.command()
def verify(
    run: RunArgument,
    discard: Annotated[
        bool, typer.Option("--discard", help="Have the next run redo what is damaged.")
    ] = False,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Check that a run's files are what was written; exit status 1 if something is damaged."""
    with explained(debug, "interrupted: nothing was discarded"):
        from synthvlm.checks.verify import verify_command
        from synthvlm.progress.display import terminal_progress

        load_plugins(plugins)
        with terminal_progress(silent=as_json) as progress:
            text, is_sound = verify_command(
                run, is_discarding=discard, as_json=as_json, progress=progress
            )
        print(text)
        if not is_sound:
            raise typer.Exit(1)


@app.command()
def regenerate(
    run: RunArgument,
    id: Annotated[str, typer.Option("--id", help="Of the caption.", metavar="CAPTION_ID")],
    index: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, help="Number of a candidate; default: the winner."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All candidates that were drawn.")] = False,
    to: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Folder for the images, as PNG.", metavar="FOLDER"),
    ] = None,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Make a caption's image again and compare; exit status 1 if it is not the same."""
    with explained(debug, "interrupted: the run folder is as it was"):
        from synthvlm.checks.regenerate import regenerate_command
        from synthvlm.progress.display import terminal_progress

        load_plugins(plugins)
        with terminal_progress(silent=as_json) as progress:
            text, is_same = regenerate_command(
                run, id, index=index, every=every, to=to, as_json=as_json, progress=progress
            )
        print(text)
        if not is_same:
            raise typer.Exit(1)


@app.command()
def publish(
    run: Annotated[str, typer.Argument(help="The run folder, its export done.", metavar="RUN")],
    target: Annotated[
        str,
        typer.Argument(
            help="hf://datasets/ORG/NAME or .../NAME@REVISION; or a folder or fsspec URL.",
            metavar="TARGET",
        ),
    ],
    private: Annotated[bool, typer.Option("--private", help="On the hub: nobody else's.")] = False,
    message: Annotated[Optional[str], typer.Option(help="On the hub: of the commits.")] = None,  # noqa: UP045
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, change nothing.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Copy the finished data set to the Hugging Face hub or to any folder; its card last."""
    with explained(debug):
        from synthvlm.progress.display import terminal_progress
        from synthvlm.publishing import publish as send

        with terminal_progress() as progress:
            done = send(
                run, target, private=private, message=message, dry_run=dry_run, progress=progress
            )
        print(done.url)


def _run(
    recipe: Recipe,
    out: str,
    until: str,
    engine: str,
    workers: int | None,
    metrics: str | None,
) -> None:
    from synthvlm.engines import make_engine
    from synthvlm.pipeline import Pipeline
    from synthvlm.progress.display import Tracker, terminal_progress

    if workers is None and engine == "local" and recipe.run.device not in ("auto", "cuda"):
        workers = 1  # the recipe names one device
    used = None if until == "curate" else make_engine(engine, workers)
    with terminal_progress() as shown:
        progress = Tracker(shown)
        pipeline = Pipeline(recipe, out, engine=used, progress=progress)
        with _serving(progress, metrics):
            pipeline.run(until)
    if until in ("export", "report"):
        progress.note(f"data set: {pipeline.folder.path('dataset')}")


def _serving(tracker: Tracker, address: str | None) -> AbstractContextManager[object]:
    if address is None:
        return nullcontext()
    from synthvlm.progress.metrics import serve_metrics

    return serve_metrics(tracker, address)
