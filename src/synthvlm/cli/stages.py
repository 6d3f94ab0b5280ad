"""The commands of the stages: run, curate, generate, select, export, report."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from synthvlm.cli.errors import explained
from synthvlm.cli.options import (
    CaptionFiles,
    CaptionsOption,
    DebugOption,
    DelimiterOption,
    EngineOption,
    ExportFormatsOption,
    FormatOption,
    LimitOption,
    MetricsOption,
    NoHeaderOption,
    OutOption,
    PluginOption,
    RecipeArgument,
    RecipeOption,
    SetOption,
    TextFieldOption,
    TopFractionOption,
    TopNOption,
    WorkersOption,
    app,
    check_lasting,
    data_set_overrides,
    load_plugins,
    named_recipe,
)

if TYPE_CHECKING:
    from pathlib import Path

    from synthvlm.progress.display import Tracker
    from synthvlm.recipe import Recipe


def _stage_command(until: str, name: str, text: str) -> None:
    def command(
        out: OutOption,
        recipe: RecipeArgument = None,
        recipe_option: RecipeOption = None,
        captions: CaptionsOption = [],  # noqa: B006
        format: FormatOption = None,
        text_field: TextFieldOption = None,
        no_header: NoHeaderOption = False,
        delimiter: DelimiterOption = None,
        overrides: SetOption = [],  # noqa: B006
        limit: LimitOption = None,
        top_n: TopNOption = None,
        top_fraction: TopFractionOption = None,
        formats: ExportFormatsOption = None,
        engine: EngineOption = "local",
        workers: WorkersOption = None,
        metrics: MetricsOption = None,
        plugins: PluginOption = [],  # noqa: B006
        replace_images: Annotated[
            bool,
            typer.Option(
                "--replace-images",
                help="Let images of an earlier run be lost if captions, seed or models changed.",
            ),
        ] = False,
        debug: DebugOption = False,
    ) -> None:
        with explained(debug):
            from synthvlm.recipe import Recipe
            from synthvlm.recipe.piped import captions_piped_in
            from synthvlm.run.kept_recipe import resumed_recipe

            check_lasting(out)
            load_plugins(plugins)
            files = CaptionFiles(captions, format, text_field, no_header, delimiter)
            shorthands = data_set_overrides(overrides, top_n, top_fraction, formats)
            changes = [*files.overrides(), *shorthands, *overrides]
            name = named_recipe(recipe, recipe_option)
            if name is None:
                settings = resumed_recipe(out, captions=captions, overrides=changes, limit=limit)
            else:
                settings = Recipe.load(name, captions=captions, overrides=changes, limit=limit)
            with captions_piped_in(settings) as (whole, piped):
                _run(
                    whole,
                    out,
                    until,
                    engine,
                    workers,
                    metrics,
                    replace_images=replace_images,
                    piped=piped,
                )

    app.command(name, help=text)(command)


_stage_command("report", "run", "Run all stages: from captions to a data set and a report.")
_stage_command("curate", "curate", "Run the stages up to curation.")
_stage_command("generate", "generate", "Run the stages up to generation and scoring.")
_stage_command("select", "select", "Run the stages up to selection.")
_stage_command("export", "export", "Run the stages up to the exported data set.")
_stage_command("report", "report", "Run the stages up to the report, which is written anew.")


def _run(
    recipe: Recipe,
    out: str,
    until: str,
    engine: str,
    workers: int | None,
    metrics: str | None,
    *,
    replace_images: bool,
    piped: Path | None,
) -> None:
    from synthvlm.engines import make_engine
    from synthvlm.pipeline import Pipeline
    from synthvlm.progress.display import Tracker, terminal_progress
    from synthvlm.rights import unstated_use

    if workers is None and engine == "local" and recipe.run.device not in ("auto", "cuda"):
        workers = 1  # several would share the one device that the recipe names
    used = None if until == "curate" else make_engine(engine, workers)
    with terminal_progress() as shown:
        progress = Tracker(shown)
        note = unstated_use(recipe)
        if note is not None:
            progress.note(note)
        pipeline = Pipeline(recipe, out, engine=used, progress=progress, piped=piped)
        with _serving(progress, metrics):
            pipeline.run(until, replace_images=replace_images)
    if until in ("export", "report"):
        progress.note(f"data set: {pipeline.folder.path('dataset')}")
        progress.note(f"look at all pairs: synthvlm view {shlex.quote(out)}")


def _serving(tracker: Tracker, address: str | None) -> AbstractContextManager[object]:
    if address is None:
        return nullcontext()
    from synthvlm.progress.metrics import serve_metrics

    return serve_metrics(tracker, address)
