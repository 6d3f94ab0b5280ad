"""Commands for runs: planning, status, checks, publishing and conversion."""

from __future__ import annotations

from typing import Annotated, Literal, Optional

import typer

from synthvlm.cli import completion
from synthvlm.cli.errors import explained
from synthvlm.cli.options import (
    CaptionFiles,
    CaptionsOption,
    DebugOption,
    DelimiterOption,
    FormatOption,
    JsonOption,
    LimitOption,
    NoHeaderOption,
    PluginOption,
    RecipeArgument,
    RecipeOption,
    RunArgument,
    SetOption,
    TextFieldOption,
    app,
    check_lasting,
    load_plugins,
    recipe_to_try,
    required_recipe,
    show,
)
from synthvlm.safe_text import printable


@app.command()
def plan(
    recipe: RecipeArgument = None,
    recipe_option: RecipeOption = None,
    captions: CaptionsOption = [],  # noqa: B006
    format: FormatOption = None,
    text_field: TextFieldOption = None,
    no_header: NoHeaderOption = False,
    delimiter: DelimiterOption = None,
    overrides: SetOption = [],  # noqa: B006
    limit: LimitOption = None,
    sample: Annotated[
        int, typer.Option(min=1, help="Number of captions to generate images for here.")
    ] = 16,
    price: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--price-per-hour", min=0, help="Price of one device, in any currency."),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Number of devices of the planned run.")] = 1,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Estimate a whole run (images, hours, disk, cost) from a small sample tried here."""
    with explained(debug, "interrupted; nothing was kept"):
        from synthvlm.planning.plan import plan as estimate
        from synthvlm.progress.display import terminal_progress

        files = CaptionFiles(captions, format, text_field, no_header, delimiter)
        name = required_recipe(recipe, recipe_option)
        with (
            recipe_to_try(name, files, overrides, limit, plugins) as whole,
            terminal_progress(silent=as_json) as progress,
        ):
            result = estimate(
                whole, sample=sample, price_per_hour=price, gpus=gpus, progress=progress
            )
        show(result, as_json)


@app.command()
def tune(
    out: Annotated[str, typer.Option(help="Folder of the search; an existing one is resumed.")],
    grid: Annotated[
        list[str],
        typer.Option(
            help="Values of a setting to try; repeatable.",
            metavar="generation.KEY=VALUE,VALUE",
            autocompletion=completion.complete_grid,
        ),
    ],
    recipe: RecipeArgument = None,
    recipe_option: RecipeOption = None,
    captions: CaptionsOption = [],  # noqa: B006
    format: FormatOption = None,
    text_field: TextFieldOption = None,
    no_header: NoHeaderOption = False,
    delimiter: DelimiterOption = None,
    overrides: SetOption = [],  # noqa: B006
    limit: LimitOption = None,
    sample: Annotated[
        int, typer.Option(min=2, help="Number of captions, the same for all settings.")
    ] = 100,
    candidates: Annotated[int, typer.Option(min=1, help="Images per caption.")] = 1,
    by: Annotated[
        Literal["score", "score-per-second"], typer.Option(help="Criterion of the best settings.")
    ] = "score",
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Search a grid for the generation settings that score best, on the same captions and seeds."""
    with explained(debug):
        from synthvlm.planning.tune import parse_grid
        from synthvlm.planning.tune import tune as search
        from synthvlm.progress.display import terminal_progress

        check_lasting(out)
        files = CaptionFiles(captions, format, text_field, no_header, delimiter)
        name = required_recipe(recipe, recipe_option)
        with (
            recipe_to_try(name, files, overrides, limit, plugins) as whole,
            terminal_progress() as progress,
        ):
            result = search(
                whole,
                parse_grid(grid),
                out,
                sample=sample,
                candidates=candidates,
                by=by,
                progress=progress,
            )
        print(printable(result.text()))
        if result.best is None:
            raise typer.Exit(1)
        print(printable(f"\n{result.yaml()}"), end="")


@app.command()
def status(
    run: RunArgument,
    watch: Annotated[
        bool, typer.Option("--watch", help="Update every 5 s until the run ends.")
    ] = False,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Show the state of a run, from any terminal or machine."""
    with explained(debug, "stopped watching; the run continues"):
        from synthvlm.checks.status import show_status

        load_plugins(plugins)
        show_status(run, follow=watch, as_json=as_json)


@app.command()
def verify(
    run: RunArgument,
    discard: Annotated[
        bool, typer.Option("--discard", help="Make the next run redo what is damaged.")
    ] = False,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Check that the files of a run are intact. Exit status 1 if something is damaged."""
    with explained(debug, "interrupted; nothing was discarded"):
        from synthvlm.commands import verify as check
        from synthvlm.progress.display import terminal_progress

        load_plugins(plugins)
        with terminal_progress(silent=as_json) as progress:
            result = check(run, discard=discard, progress=progress)
        show(result, as_json)
        if result.bad:
            raise typer.Exit(1)


@app.command()
def regenerate(
    run: RunArgument,
    id: Annotated[str, typer.Option("--id", help="Id of the caption.", metavar="CAPTION_ID")],
    index: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, help="Number of the candidate; default: the winner."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All candidates that were generated.")
    ] = False,
    to: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Write the images there as PNG.", metavar="FOLDER"),
    ] = None,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Generate an image of a run again and compare. Exit status 1 if it is not the same."""
    with explained(debug, "interrupted; the run folder was not changed"):
        from synthvlm.commands import regenerate as make_again
        from synthvlm.progress.display import terminal_progress

        if to is not None:
            check_lasting(to)
        load_plugins(plugins)
        with terminal_progress(silent=as_json) as progress:
            result = make_again(run, id, index=index, all=every, to=to, progress=progress)
        show(result, as_json)
        if not result.is_same:
            raise typer.Exit(1)


@app.command()
def mark(
    run: RunArgument,
    ids: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Ids of captions; none lists the marks.", metavar="CAPTION_ID"),
    ] = None,
    reason: Annotated[
        str, typer.Option(help="wrong, ugly, unsafe, duplicate, other, or a word of your own.")
    ] = "wrong",
    note: Annotated[str, typer.Option(help="Any text.", metavar="TEXT")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take these marks back.")] = False,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Mark pairs as bad: the next selection and export leave them out. Or list the marks."""
    with explained(debug, "interrupted; a mark is written whole or not at all"):
        from synthvlm.commands import mark as mark_pairs

        load_plugins(plugins)
        show(mark_pairs(run, *(ids or []), reason=reason, note=note, remove=remove), as_json)


@app.command()
def publish(
    run: Annotated[str, typer.Argument(help="Run folder with a finished export.", metavar="RUN")],
    target: Annotated[
        str,
        typer.Argument(
            help="hf://datasets/ORG/NAME[@REVISION], a folder, or an fsspec URL.",
            metavar="TARGET",
        ),
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Hub only: create a private repository.")
    ] = False,
    message: Annotated[Optional[str], typer.Option(help="Hub only: title of the commits.")] = None,  # noqa: UP045
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, but change nothing.")
    ] = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Copy the finished data set to the Hugging Face hub or to a folder."""
    with explained(debug):
        from synthvlm.progress.display import terminal_progress
        from synthvlm.publishing import publish as send

        check_lasting(target)
        load_plugins(plugins)
        with terminal_progress() as progress:
            done = send(
                run, target, private=private, message=message, dry_run=dry_run, progress=progress
            )
        print(printable(done.url))


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(help="Run folder or data set.", metavar="RUN_OR_DATASET")
    ],
    formats: Annotated[
        list[str],
        typer.Option(
            "--format",
            help="Name of a format (`synthvlm components`); repeatable.",
            metavar="NAME",
            autocompletion=completion.complete_exporter,
        ),
    ],
    place: Annotated[
        str, typer.Option("--to", help="New or empty folder, or fsspec URL.", metavar="PLACE")
    ],
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="A setting of the export, e.g. export.version=1.2.0; repeatable.",
            metavar="export.KEY=VALUE",
            autocompletion=completion.complete_export,
        ),
    ] = [],  # noqa: B006
    max_failed_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of records that may be no usable pairs."),
    ] = 0.01,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Write a run's pairs, or any data set, in other formats to another place."""
    with explained(debug, "interrupted; the same command writes the place anew"):
        from synthvlm.conversion.convert import convert as write
        from synthvlm.progress.display import terminal_progress

        check_lasting(place)
        load_plugins(plugins)
        with terminal_progress() as progress:
            where = write(
                source,
                formats,
                place,
                changes=overrides,
                max_failed_share=max_failed_share,
                progress=progress,
            )
        print(printable(where))
