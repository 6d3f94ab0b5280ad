"""Blind rating of pictures."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.commands.named import run_url
from synthvlm.errors import RecipeError
from synthvlm.progress.notebook import default_progress
from synthvlm.safe_text import printable

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress
    from synthvlm.rating.prepare import Rating
    from synthvlm.rating.result import RatingResult
    from synthvlm.run import Run

__all__ = ["rate"]


def rate(
    a: str | Path | Run,
    b: str | Path | Run | None = None,
    *,
    rater: str | None = None,
    pairs: int | None = None,
    seed: int | None = None,
    question: str | None = None,
    judge: str | None = None,
    endpoint: str | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    result: bool = False,
    port: int = 0,
    browser: bool = True,
    progress: Progress | None = None,
) -> RatingResult:
    """Rate pictures of the same captions blind, on a page in the browser or by a model.

    The page is served until the call is interrupted.

    Args:
        a: A run or data set; ``LABEL=PATH`` names it.
        b: Another one. Without it, chosen candidates of the run ``a`` are rated against random
            other ones of the same captions.
        rater: Name of who rates; by default the user's.
        pairs: Pairs to rate; by default 100, or those that the folder has.
        seed: Of the choice of pairs, of their order and of the sides; by default 0, or that of the
            folder.
        question: What raters are asked; by default which picture shows the caption better.
        judge: A model that rates instead of a person: its name at ``endpoint``, else hub id or
            folder of a vision-language model, or ``tiny``.
        endpoint: Base URL of an OpenAI-compatible endpoint.
        device: Torch device of a judge that runs here, or ``auto``.
        out: Folder of the rating; by default ``ratings/A-vs-B`` below the current one.
        result: Rate nothing: only say what was rated so far.
        port: Where the page is served; 0 takes a free one.
        browser: Whether the browser is opened; else the address is printed only.
        progress: Shows the work.

    Returns:
        What all raters said so far.

    Raises:
        RecipeError: Two arguments contradict each other.
    """
    _check(rater, judge, endpoint, result=result)
    from synthvlm.rating.folder import QUESTION
    from synthvlm.rating.judges import JudgeSettings, judge_pairs
    from synthvlm.rating.prepare import open_rating, prepared, summary

    inputs = tuple(run_url(one) for one in (a, b) if one is not None)
    folder = None if out is None else str(out)
    if result:
        return summary(open_rating(inputs, folder))
    settings = None if judge is None else JudgeSettings(judge, endpoint, device)
    if settings is not None:
        settings.check(question or QUESTION)
    shown = progress or default_progress()
    rating = prepared(
        inputs,
        folder,
        count=pairs,
        seed=seed,
        question=question,
        progress=shown,
    )
    if settings is not None:
        judge_pairs(rating.folder, rating.pairs, rating.setup.question, settings, shown)
    else:
        _serve(rating, rater or _user(), port=port, browser=browser)
    return summary(rating)


def _check(rater: str | None, judge: str | None, endpoint: str | None, *, result: bool) -> None:
    """Refuse what would have no effect.

    Raises:
        RecipeError: Something would have none.
    """
    if judge is None and endpoint is not None:
        raise RecipeError("--endpoint is where a judge is: name its model with --judge, too")
    if judge is not None and rater is not None:
        raise RecipeError("a judge is a rater by the name of its model: leave --rater out")
    if result and (judge or rater) is not None:
        option = "--rater" if judge is None else "--judge"
        raise RecipeError(
            f"--result shows what all raters said, and rates nothing: leave {option} out"
        )


def _serve(rating: Rating, rater: str, *, port: int, browser: bool) -> None:
    """Serve the page until the process is interrupted."""
    from synthvlm.web.rating.page import RatingPage
    from synthvlm.web.server import LocalServer

    rating.folder.check_name(rater, is_model=False)
    page = RatingPage(rating, rater)
    with LocalServer(page.routes, port) as server:
        # Not as `printable` has it, which leaves tokens out: without it nobody sees the page.
        print(f"rate here, and end with Ctrl-C: {server.address}", file=sys.stderr, flush=True)
        if browser:
            server.open_browser()
        server.wait()
    done = f"{rater} has rated {page.done:,} of {len(rating.pairs):,} pairs"
    line = f"{done}; what all raters said: the same command with --result"
    print(printable(line), file=sys.stderr, flush=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except OSError:  # of a user without a name
        return "rater"
