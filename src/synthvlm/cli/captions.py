"""Commands that show captions before images are generated of them."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from synthvlm.cli.errors import explained
from synthvlm.cli.options import DebugOption, PluginOption, RunArgument, app, load_plugins
from synthvlm.safe_text import printable


@app.command()
def captions(
    run: RunArgument,
    kept: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--kept/--rejected", help="Only these; default: both."),
    ] = None,
    rule: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="What this rule or step rejected, and the kept captions that it measured.",
            metavar="NAME",
        ),
    ] = None,
    near_bound: Annotated[
        bool,
        typer.Option(
            "--near-bound",
            help="Only those whose verdict a bound 10 % looser or tighter would change.",
        ),
    ] = False,
    search: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Text within the caption, in upper or lower case.", metavar="TEXT"),
    ] = None,
    sample: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Only so many of them, always the same."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON only, an object a line.")
    ] = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Read kept and rejected captions, with their measures, the bounds and the reasons."""
    with explained(debug, "interrupted; reading changes nothing"):
        from synthvlm.commands import read_captions

        load_plugins(plugins)
        to_read = read_captions(
            run, kept=kept, rule=rule, near_bound=near_bound, search=search, sample=sample
        )
        for text in to_read.json_lines() if as_json else to_read.lines():
            print(printable(text))
