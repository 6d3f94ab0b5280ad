"""The command of blind rating."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from synthvlm.cli.errors import explained
from synthvlm.cli.options import (
    BrowserOption,
    DebugOption,
    DeviceOption,
    JsonOption,
    PluginOption,
    PortOption,
    app,
    load_plugins,
    show,
)


@app.command()
def rate(
    a: Annotated[
        str, typer.Argument(help="Run folder or data set.", metavar="[LABEL=]A[::IMAGES]")
    ],
    b: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            help="Another one; without it, chosen candidates of the run A are rated against random "
            "others.",
            metavar="[LABEL=]B[::IMAGES]",
        ),
    ] = None,
    rater: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Name of who rates; default: your user name.", metavar="NAME"),
    ] = None,
    pairs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Number of pairs to rate; default: 100, or as before."),
    ] = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Of the choice of pairs, order and sides; default: 0, or as before."),
    ] = None,
    question: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What raters are asked; default: which shows the caption better."),
    ] = None,
    judge: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="A model that rates: its name at --endpoint, hub id, folder, or tiny.",
            metavar="MODEL",
        ),
    ] = None,
    endpoint: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="OpenAI-compatible endpoint of --judge.", metavar="URL"),
    ] = None,
    device: DeviceOption = "auto",
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Folder of the rating; default: ratings/A-vs-B.", metavar="FOLDER"),
    ] = None,
    result: Annotated[
        bool, typer.Option("--result", help="Rate nothing, show what was rated so far.")
    ] = False,
    port: PortOption = 0,
    browser: BrowserOption = True,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Rate pictures of the same captions blind: which of two is better? By people or a model."""
    with explained(debug):
        from synthvlm.commands import rate as run_rating
        from synthvlm.progress.display import terminal_progress

        load_plugins(plugins)
        with terminal_progress(silent=as_json) as progress:
            rating = run_rating(
                a,
                b,
                rater=rater,
                pairs=pairs,
                seed=seed,
                question=question,
                judge=judge,
                endpoint=endpoint,
                device=device,
                out=out,
                result=result,
                port=port,
                browser=browser,
                progress=progress,
            )
        if judge is not None or result or as_json:  # raters need not know how it stands
            show(rating, as_json)
