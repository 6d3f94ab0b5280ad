"""Commands on a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.commands.named import run_url
from synthvlm.errors import RunFolderError
from synthvlm.progress.notebook import default_progress

if TYPE_CHECKING:
    from synthvlm.checks.findings import Verification
    from synthvlm.checks.read_captions import CaptionsToRead
    from synthvlm.checks.regenerated import Regeneration
    from synthvlm.checks.status import Status
    from synthvlm.progress.display import Progress
    from synthvlm.publishing import Published
    from synthvlm.run import Run
    from synthvlm.run.marking import MarkedPairs

__all__ = ["mark", "publish", "read_captions", "regenerate", "status", "verify"]


def status(run: str | Path | Run) -> Status:
    """The state of a run, which may be at work anywhere.

    Args:
        run: The run.
    """
    from synthvlm.checks.status import status as state_of
    from synthvlm.run.kept_recipe import open_folder

    return state_of(*open_folder(run_url(run)))


def read_captions(
    run: str | Path | Run,
    *,
    kept: bool | None = None,
    rule: str | None = None,
    near_bound: bool = False,
    search: str | None = None,
    sample: int | None = None,
) -> CaptionsToRead:
    """Kept and rejected captions, with their measures, the bounds and the reasons.

    It is the command ``captions``: ``synthvlm.captions`` is a package.

    Args:
        run: The run.
        kept: Only kept ones, or only rejected ones; None for both.
        rule: What this rule or step rejected, and the kept captions that it measured.
        near_bound: Only those whose verdict a bound 10 % looser or tighter would change.
        search: Text within the caption, in upper or lower case.
        sample: Only so many of them, always the same.
    """
    from synthvlm.checks.read_captions import CaptionsToRead, Query

    return CaptionsToRead(run_url(run), Query(kept, rule, near_bound, search), sample)


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

    return verify_run(run_url(run), discard=discard, progress=progress or default_progress())


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
        *open_folder(run_url(run)), id, index=index, every=all, to=folder, progress=progress
    )


def mark(
    run: str | Path | Run,
    *ids: str,
    reason: str = "wrong",
    note: str = "",
    remove: bool = False,
) -> MarkedPairs:
    """Mark pairs as bad, so that the next selection leaves them out.

    Args:
        run: The run.
        *ids: Of the captions; none lists the marks.
        reason: A short one: ``wrong``, ``ugly``, ``unsafe``, ``duplicate``, ``other``, or any.
        note: Any text.
        remove: Take the marks of these pairs back.

    Returns:
        All marks of the run.
    """
    from synthvlm.run.kept_recipe import open_folder
    from synthvlm.run.marking import mark_pairs, marked_pairs

    if not (remove or reason.strip()):
        raise RunFolderError("a mark needs a reason, such as wrong; to take marks back: --remove")
    folder, _ = open_folder(run_url(run))
    if ids:
        mark_pairs(folder, ids, "" if remove else reason.strip(), note)
    return marked_pairs(folder)


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
        run_url(run),
        str(target),
        private=private,
        message=message,
        dry_run=dry_run,
        progress=progress or default_progress(),
    )
