"""Commands that show pages in the user's browser."""

from __future__ import annotations

from typing import Annotated

import typer

from synthvlm.cli.errors import explained
from synthvlm.cli.options import (
    BrowserOption,
    DebugOption,
    PluginOption,
    PortOption,
    app,
    load_plugins,
)


@app.command()
def view(
    source: Annotated[
        str, typer.Argument(help="Run folder or data set.", metavar="RUN_OR_DATASET")
    ],
    port: PortOption = 0,
    browser: BrowserOption = True,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Search, filter, look at and mark the pairs of a run or data set, in the browser."""
    with explained(debug):
        from synthvlm.commands import view as serve

        load_plugins(plugins)
        server = serve(source, port=port, browser=browser)
        # With its token, without which nobody else can see the pages.
        print(f"{server.address}\nCtrl-C ends it.", flush=True)
        server.wait()
