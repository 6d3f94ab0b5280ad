"""From what a user named to a folder with pairs to rate."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.data_sets.inputs import Named, parse_input
from synthvlm.errors import RecipeError, RunFolderError
from synthvlm.rating.folder import QUESTION, RatedPair, RatingFolder, Setup
from synthvlm.rating.pairs import PicturePair

if TYPE_CHECKING:
    from synthvlm.data_sets.pairs import DataSet
    from synthvlm.progress.display import Progress
    from synthvlm.rating.result import RatingResult

__all__ = ["PAIRS", "Rating", "open_rating", "prepared", "summary"]

#: Pairs to rate if nothing else is said.
PAIRS = 100
_FOLDER = "ratings"


@dataclass(frozen=True, slots=True)
class Rating:
    """A rating whose pairs are there.

    Attributes:
        folder: Where it is kept.
        setup: What is rated.
        pairs: The pairs.
    """

    folder: RatingFolder
    setup: Setup
    pairs: list[RatedPair]


def prepared(
    inputs: tuple[str, ...],
    out: str | None,
    *,
    count: int | None,
    seed: int | None,
    question: str | None,
    progress: Progress,
) -> Rating:
    """The rating of two data sets, or of a run; its pairs are chosen and copied the first time.

    With a larger count, pairs are added to those that there are.

    Args:
        inputs: A and B as for ``parse_input``, or a run folder alone.
        out: The folder; None for ``ratings/A-vs-B`` below the current one.
        count: Pairs to rate; None for what the folder has, or 100.
        seed: Of the choice of pairs, of their order and of the sides; None for what the folder
            has, or 0.
        question: What raters are asked; None for what the folder has, or the default.
        progress: Shows the work.

    Raises:
        RecipeError: An input is no data set, or both have one label.
        RunFolderError: The folder is of another rating.
        CaptionSourceError: The data sets have no caption in common.
    """
    named = _named(inputs)
    folder = RatingFolder(out or default_folder(named))
    setup, pairs = folder.setup(), folder.pairs()
    if setup is not None:
        _check_same(folder, setup, inputs, seed, question)
        if count is None or count == setup.count:
            return Rating(folder, setup, pairs)
    asked_pairs = count or (PAIRS if setup is None else setup.count)
    question = question or (QUESTION if setup is None else setup.question)
    seed = seed if seed is not None else 0 if setup is None else setup.seed
    labels, available, notes = _available(inputs, named, asked_pairs, seed, progress)
    if len(available) < asked_pairs:
        notes = [f"{len(available):,} pairs can be rated, of {asked_pairs:,} asked for", *notes]
    setup = Setup(inputs, labels, question, seed, asked_pairs, tuple(notes))
    earlier = {(pair.caption_id, pair.images[0], str(pair.scores)): pair for pair in pairs}
    added = [
        folder.add_pair(one.caption, one.caption_id, one.images, one.scores) for one in available
    ]
    # A picture that was generated again may differ by a grey level from the one that was rated.
    pairs = [
        earlier.get((pair.caption_id, pair.images[0], str(pair.scores)), pair) for pair in added
    ]
    folder.write(setup, pairs)
    return Rating(folder, setup, pairs)


def open_rating(inputs: tuple[str, ...], out: str | None) -> Rating:
    """A rating that there is.

    Raises:
        RunFolderError: There is none.
    """
    folder = RatingFolder(out or default_folder(_named(inputs)))
    setup, pairs = folder.setup(), folder.pairs()
    if setup is None:
        names = " ".join(map(shlex.quote, inputs))
        raise RunFolderError(f"{folder.path} holds no rating yet: synthvlm rate {names}")
    return Rating(folder, setup, pairs)


def summary(rating: Rating) -> RatingResult:
    """What was rated so far."""
    from synthvlm.rating.counting import rating_result

    folder = rating.folder
    result = rating_result(str(folder.path), rating.setup, rating.pairs, folder.answers())
    return replace(result, damaged_lines=folder.damaged_lines())


def default_folder(named: list[Named]) -> Path:
    """``ratings/A-vs-B``, by the labels."""
    names = [re.sub(r"[^\w.-]+", "-", one.label) for one in named]
    return Path(_FOLDER) / ("-vs-".join(names) if len(names) > 1 else f"{names[0]}-candidates")


def _named(inputs: tuple[str, ...]) -> list[Named]:
    if not inputs:
        raise RecipeError("nothing to rate: name two data sets, or a run: synthvlm rate A B")
    if len(inputs) == 1 and "://" in inputs[0]:
        return [Named(inputs[0].rstrip("/").rpartition("/")[2], inputs[0])]
    named = [parse_input(text) for text in inputs]
    if len(named) > 1 and named[0].label == named[1].label:
        raise RecipeError(
            f"both are called {named[0].label!r}: give them names, as in first={named[0].path}"
        )
    return named


def _check_same(
    folder: RatingFolder,
    setup: Setup,
    inputs: tuple[str, ...],
    seed: int | None,
    question: str | None,
) -> None:
    """Refuse to put two ratings into one folder."""
    for what, before, now in (
        ("inputs", setup.inputs, inputs),
        ("--seed", setup.seed, setup.seed if seed is None else seed),
        ("--question", setup.question, question or setup.question),
    ):
        if before != now:
            shown = " ".join(before) if isinstance(before, tuple) else before
            raise RunFolderError(
                f"{folder.path} holds a rating with other {what} ({shown}): name another folder "
                f"with --out, or leave the change out"
            )


def _available(
    inputs: tuple[str, ...], named: list[Named], count: int, seed: int, progress: Progress
) -> tuple[tuple[str, str], list[PicturePair], list[str]]:
    """What A and B are called, the pairs, and what is to be said of them."""
    if len(inputs) == 1:
        from synthvlm.rating.candidates import CHOSEN, OTHER, candidate_pairs
        from synthvlm.run.kept_recipe import open_folder

        run, recipe = open_folder(named[0].path)
        return (CHOSEN, OTHER), *candidate_pairs(run, recipe, count, seed, progress)
    from synthvlm.rating.pairs import shared_pairs
    from synthvlm.rating.scoring import with_scores

    a, b = (_opened(one) for one in named)
    pairs, left_out = shared_pairs(a, b, count, seed, progress)
    pairs, not_scored = with_scores(pairs, a, b, progress)
    return (named[0].label, named[1].label), pairs, [*left_out, *not_scored]


def _opened(named: Named) -> DataSet:
    """A data set, or the run whose it is, with the scores that were recorded."""
    from synthvlm.checks.current import runs_of
    from synthvlm.data_sets.inputs import open_data_set
    from synthvlm.data_sets.run_pairs import RunPairs

    for folder in () if named.images else runs_of(named.path):
        run = RunPairs(str(folder))
        run.label = named.label
        return run
    return open_data_set(named, with_facts=True)
