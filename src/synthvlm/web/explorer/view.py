"""``synthvlm view``: a run or a data set in the browser of whoever looks at it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from synthvlm.checks.current import runs_of
from synthvlm.data_sets.inputs import open_data_set, parse_input
from synthvlm.run.kept_recipe import open_folder
from synthvlm.web.explorer.data_set_collection import DataSetCollection
from synthvlm.web.explorer.routes import Explorer
from synthvlm.web.explorer.run_collection import RunCollection
from synthvlm.web.server import LocalServer

if TYPE_CHECKING:
    from synthvlm.web.explorer.collection import Collection

__all__ = ["open_collection", "view"]


def view(source: str, *, port: int = 0) -> LocalServer:
    """Serve the explorer of a run or data set on loopback, until it is closed.

    Args:
        source: A run folder, at a URL too, what is in its ``dataset/``, or any data set that
            ``compare`` reads.
        port: Where; 0 takes a free one.

    Raises:
        RunFolderError: The run has no pairs yet, or is damaged.
        CaptionSourceError: The data set cannot be read.
        RecipeError: The recipe of the run cannot be read.
        SynthVLMError: The port is taken.
    """
    return LocalServer(Explorer(open_collection(source)).routes(), port)


def open_collection(source: str) -> Collection:
    """What ``view`` shows of a run or data set."""
    if "://" in source and not os.path.exists(source):
        return RunCollection(*open_folder(source))
    named = parse_input(source)
    for folder in () if named.images else runs_of(named.path):
        return RunCollection(*open_folder(str(folder)))
    return DataSetCollection(open_data_set(named, with_facts=True))
