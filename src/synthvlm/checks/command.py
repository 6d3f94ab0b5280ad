"""``synthvlm verify``."""

from __future__ import annotations

import json

from synthvlm.checks.discard import discard
from synthvlm.checks.opened_run import opened_run
from synthvlm.checks.verify import verify
from synthvlm.progress.display import Progress
from synthvlm.progress.terminal import printable

__all__ = ["verify_command"]


def verify_command(
    url: str, *, is_discarding: bool, as_json: bool, progress: Progress
) -> tuple[str, bool]:
    """Verify a run folder, and discard what is damaged if that is wanted.

    Returns:
        What to print, and whether the folder is sound.

    Raises:
        RunFolderError: It is no run folder; or, if something is to be discarded, a run works in it.
    """
    run, recipe = opened_run(url)
    lines: list[str] = []
    if is_discarding:
        with run.held(note=progress.note):
            found = verify(run, recipe, progress)
            lines = discard(run, found)
    else:
        found = verify(run, recipe, progress)
    if as_json:
        return json.dumps({**found.values(), "discarded": lines}), not found.bad
    return printable(found.text(discarded=lines)), not found.bad
