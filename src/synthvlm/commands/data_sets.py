"""Commands on runs and other data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.commands.named import run_url
from synthvlm.progress.notebook import default_progress

if TYPE_CHECKING:
    from synthvlm.comparison.data_set_comparison import DataSetComparison
    from synthvlm.comparison.difference import Difference
    from synthvlm.comparison.model_comparison import ModelComparison
    from synthvlm.progress.display import Progress
    from synthvlm.run import Run
    from synthvlm.web.server import LocalServer

__all__ = ["compare", "convert", "diff", "view"]


def view(source: str | Path | Run, *, port: int = 0, browser: bool = False) -> LocalServer:
    """Show the pairs of a run or data set on pages that only this machine can see.

    Args:
        source: A run or a data set.
        port: Where they are served; 0: a free one.
        browser: Whether the user's browser is opened.

    Returns:
        The server, which works until its ``close()``; the pages are at its ``address``.
    """
    from synthvlm.web.explorer.view import view as serve

    server = serve(run_url(source), port=port)
    if browser:
        server.open_browser()
    return server


def convert(
    source: str | Path | Run,
    formats: Sequence[str],
    to: str | Path,
    *,
    overrides: Sequence[str] = (),
    max_failed_share: float = 0.01,
    progress: Progress | None = None,
) -> str:
    """Write the pairs of a run, or any data set, in other formats to another place.

    Args:
        source: A run or a data set.
        formats: Names of formats.
        to: A new or empty folder, or fsspec URL.
        overrides: Settings of the export, such as ``export.version=1.2.0``.
        max_failed_share: Share of records that may be no usable pairs.
        progress: Shows the work.

    Returns:
        Path or URL of the new data set.
    """
    from synthvlm.conversion.convert import convert as write

    return write(
        run_url(source),
        formats,
        str(to),
        changes=overrides,
        max_failed_share=max_failed_share,
        progress=progress or default_progress(),
    )


def compare(
    *inputs: str | Path | Run,
    out: str | Path | None = None,
    sample: int | None = 1000,
    clip: str | None = None,
    scorers: Sequence[str] = (),
    overrides: Sequence[str] = (),
    map_points: int = 1000,
    seed: int = 0,
    device: str = "auto",
    revision: str | None = None,
    progress: Progress | None = None,
) -> DataSetComparison | ModelComparison:
    """Compare data sets (scores, sizes, duplicates, maps), or results of models.

    Args:
        *inputs: Runs, data sets, or result folders of ``evaluate``; ``LABEL=PATH`` names one.
        out: Folder for the report and its numbers; None writes nothing.
        sample: Pairs to score in each data set; None for all.
        clip: Hub id or folder of a CLIP model, or ``tiny``; by default the paper's.
        scorers: Names of scorers; by default clip and ssim.
        overrides: Settings of scorers, such as ``scoring.ssim.side=32``.
        map_points: Pairs of each data set on the maps.
        seed: Of the maps.
        device: Torch device, or ``auto``.
        revision: Of the CLIP model on the hub.
        progress: Shows the work.
    """
    from synthvlm.comparison.command import compare as run_comparison
    from synthvlm.comparison.settings import ComparisonSettings, choose_scorers

    settings = ComparisonSettings(
        choose_scorers(scorers, overrides, clip=clip, revision=revision),
        sample=sample,
        device=device,
        map_points=map_points,
        seed=seed,
    )
    folder = None if out is None else str(out)
    names = [run_url(one) for one in inputs]
    return run_comparison(names, settings, out=folder, progress=progress or default_progress())


def diff(
    a: str | Path | Run,
    b: str | Path | Run,
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Difference:
    """What came, went and changed from one run or data set to another.

    Args:
        a: The first.
        b: The second.
        out: A new file that gets every difference as a line of JSON.
        progress: Shows the work.
    """
    from synthvlm.comparison.difference import diff as find

    file = None if out is None else str(out)
    return find(run_url(a), run_url(b), out=file, progress=progress or default_progress())
