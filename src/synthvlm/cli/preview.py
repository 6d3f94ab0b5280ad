"""The command ``preview``: what it prints, with pictures where the terminal shows any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

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
    SetOption,
    TextFieldOption,
    app,
    check_lasting,
    recipe_to_try,
    required_recipe,
    show,
)
from synthvlm.safe_text import printable

if TYPE_CHECKING:
    from synthvlm.planning.preview import Preview


@app.command()
def preview(
    recipe: RecipeArgument = None,
    recipe_option: RecipeOption = None,
    captions: CaptionsOption = [],  # noqa: B006
    format: FormatOption = None,
    text_field: TextFieldOption = None,
    no_header: NoHeaderOption = False,
    delimiter: DelimiterOption = None,
    overrides: SetOption = [],  # noqa: B006
    limit: LimitOption = None,
    pairs: Annotated[int, typer.Option(min=1, help="Number of captions to generate for.")] = 10,
    keep: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="New folder for the run that was made, with reports.", metavar="FOLDER"),
    ] = None,
    contact_sheet: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--contact-sheet", help="Draw all candidates there.", metavar="FILE.png"),
    ] = None,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Take a few captions through every stage, and show what becomes of them."""
    interrupted = "interrupted; nothing was kept" if keep is None else "interrupted"
    with explained(debug, interrupted):
        from synthvlm.planning.preview import preview as make
        from synthvlm.progress.display import terminal_progress

        if keep is not None:
            check_lasting(keep)
        files = CaptionFiles(captions, format, text_field, no_header, delimiter)
        name = required_recipe(recipe, recipe_option)
        with (
            recipe_to_try(name, files, overrides, limit, plugins) as whole,
            terminal_progress(silent=as_json) as progress,
        ):
            result = make(
                whole, pairs=pairs, keep=keep, contact_sheet=contact_sheet, progress=progress
            )
        if as_json:
            show(result, as_json)
        else:
            _print(result)


def _print(result: Preview) -> None:
    from synthvlm.cli.pictures import print_picture, terminal_pictures
    from synthvlm.planning.contact_sheet import strip

    print(printable(result.head()))
    pictures = terminal_pictures()
    for number, caption in enumerate(result.captions):
        print()
        if pictures is not None:
            image = strip(caption, pictures.side, pictures.per_line)
            if image is not None:
                print_picture(image, pictures.form)
        print(printable(result.about(number)))
    print(printable(f"\n{result.end()}"))
