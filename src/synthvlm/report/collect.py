"""Everything that the report says, gathered from the run folder and from nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.progress.stage_state import set_aside_notices
from synthvlm.report.curation import (
    Distribution,
    Funnel,
    NearDuplicate,
    count_captions,
    read_distributions,
    read_funnel,
    read_near_duplicates,
)
from synthvlm.report.gallery import Part, build_gallery
from synthvlm.report.pairs import Candidates, join_selection, read_candidates, scores_of
from synthvlm.report.throughput import StageTime, stage_times

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.report.pairs import Floats
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["Facts", "ScoreFacts", "collect"]

_STAGES = ("measure", "curate", "generate", "select")


@dataclass(frozen=True, slots=True)
class ScoreFacts:
    """A score before and after selection.

    Attributes:
        name: Its column, such as ``clip_score`` or ``score``.
        everything: Of all pairs.
        selected: Of the selected ones; None where there is no selection.
        candidates_mean: Mean over all ok candidates; None where not all were drawn.
        cut: The lowest value that was selected, if selection cuts at this score.
    """

    name: str
    everything: Floats
    selected: Floats | None
    candidates_mean: float | None
    cut: float | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run folder holds; None where a stage has not left anything yet."""

    captions: int | None
    funnel: Funnel | None
    measures: tuple[Distribution, ...]
    near_duplicates: tuple[NearDuplicate, ...]
    candidates: Candidates | None
    pairs: int | None
    selected: int | None
    scores: tuple[ScoreFacts, ...]
    gallery: tuple[Part, ...]
    times: tuple[StageTime, ...]
    notices: tuple[str, ...]
    as_of: float | None


def collect(run: RunFolder, recipe: Recipe) -> Facts:
    """Read what is done of a run; what is not done is left out and noted."""
    markers = {stage: run.markers(stage) for stage in _STAGES}
    notices = _missing(markers)
    captions = count_captions(run, markers["measure"]) if markers["measure"] else None
    funnel = read_funnel(run, recipe, markers["curate"]) if markers["curate"] else None
    candidates = pairs = selected = None
    if markers["generate"]:
        candidates, pairs = read_candidates(run, recipe, markers["generate"])
        if funnel is not None and len(markers["generate"]) == len(markers["curate"]):
            notices += _unequal(funnel.kept, candidates.captions)
    if pairs is not None and markers["select"]:
        selection = run.read_table(markers["select"][0].files[0].path)
        pairs, strangers = join_selection(pairs, selection)
        selected = pairs.filter(pairs["rank"].is_valid())
        if strangers:
            notices.append(
                f"The selection is older than the candidates: {strangers:,} of its rows are no "
                f"pair any more. Run the stage select again."
            )
    events = run.events()
    notices += set_aside_notices(events)
    return Facts(
        captions=funnel.captions if funnel is not None else captions,
        funnel=funnel,
        measures=read_distributions(run, recipe, markers["curate"]),
        near_duplicates=read_near_duplicates(run, markers["curate"]),
        candidates=candidates,
        pairs=None if pairs is None else pairs.num_rows,
        selected=None if selected is None else selected.num_rows,
        scores=_scores(recipe, candidates, pairs, selected),
        gallery=()
        if pairs is None
        else build_gallery(
            run,
            pairs,
            markers["curate"],
            markers["generate"],
            size=recipe.report.gallery,
            min_scores=recipe.selection.min_scores,
            scores=recipe.score_columns[:-1],
        ),
        times=tuple(stage_times(events, {stage: len(done) for stage, done in markers.items()})),
        notices=tuple(notices),
        as_of=max((float(event.get("time", 0)) for event in events), default=None),
    )


def _missing(markers: Mapping[str, Mapping[int, Marker]]) -> list[str]:
    """What is not done yet, stage by stage."""
    notices = []
    shards = len(markers["measure"])
    for stage, shows in (
        ("measure", "no caption has been read"),
        ("curate", "no caption has been accepted or rejected"),
        ("generate", "there are no images and no scores"),
        ("select", "no pair has been selected"),
    ):
        done = len(markers[stage])
        if not done:
            notices.append(f"The stage {stage} is not done: {shows} yet.")
        elif stage in ("curate", "generate") and done < shards:
            notices.append(
                f"The stage {stage} is done for {done:,} of {shards:,} shards: what follows "
                f"covers these."
            )
    return notices


def _unequal(kept: int, generated: int) -> list[str]:
    if kept == generated:
        return []
    return [
        f"{kept:,} captions are kept and {generated:,} have candidates: the stage generate is "
        f"not up to date with the captions."
    ]


def _scores(
    recipe: Recipe, candidates: Candidates | None, pairs: pa.Table | None, selected: pa.Table | None
) -> tuple[ScoreFacts, ...]:
    if candidates is None or pairs is None or not pairs.num_rows:
        return ()
    everything = scores_of(pairs, recipe)
    chosen = scores_of(selected, recipe) if selected is not None and selected.num_rows else None
    cuts: dict[str, float | None] = dict(recipe.selection.min_scores)
    if chosen is not None and len(chosen["score"]) < pairs.num_rows:
        cuts["score"] = float(chosen["score"].min())
    return tuple(
        ScoreFacts(
            name,
            everything[name],
            None if chosen is None else chosen[name],
            candidates.mean(name),
            cuts.get(name) if chosen is not None else None,
        )
        for name in recipe.score_columns
    )
