"""The facts of the report, all from the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.data import remark_column
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
from synthvlm.report.times import Event, ScorerTime, StageTime, scorer_times, stage_times
from synthvlm.stages.curation.curate import NEAR_DUPLICATE
from synthvlm.stages.current import lost_shards, present_shards
from synthvlm.stages.generation.target import STAGE as TARGET
from synthvlm.stages.generation.target import shortfall
from synthvlm.stages.select import FIGURES, MARKED, NEAR_COPIES, NEAR_DUPLICATES, NOTES
from synthvlm.stages.selection_figures import figure_tables

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.report.pairs import Floats
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = [
    "Facts",
    "ScoreFacts",
    "SelectionFacts",
    "collect",
]

_STAGES = ("measure", "curate", "generate", "select")
_GENERATE = "generate"


@dataclass(frozen=True, slots=True)
class ScoreFacts:
    """A score before and after selection.

    Attributes:
        name: Its column, such as ``clip_score`` or ``score``.
        everything: Scores of all pairs, float64, shape (pairs,).
        selected: Scores of the selected pairs; None if there is no selection.
        candidates_mean: Mean over all ok candidates; None if not all were generated.
        cut: The lowest selected value, if the selection depends on this score.
    """

    name: str
    everything: Floats
    selected: Floats | None
    candidates_mean: float | None
    cut: float | None


_DAMAGED = "the figures of what it covers are damaged: delete done/select/00000.json and run again"


@dataclass(frozen=True, slots=True)
class SelectionFacts:
    """What the stage select recorded of its selection.

    Attributes:
        notes: What could not be done as it was asked for, and what has shifted.
        marked: Pairs that are marked as bad, by reason.
        near_copies: Pairs that were left out as copies of reference images; None if those were
            not looked for.
        near_duplicates: Those that were left out because of a better twin image; None likewise.
        figures: What the selection covers, beside the best by score: a table, its header first.
        concepts: Shares of captions that name a concept: a table.
    """

    notes: tuple[str, ...]
    marked: Mapping[str, int]
    near_copies: int | None
    near_duplicates: int | None
    figures: list[list[str]]
    concepts: list[list[str]]

    @classmethod
    def of(cls, marker: Marker) -> SelectionFacts:
        """Read them from the marker; one of an earlier version has none."""
        tables = figure_tables(marker.facts.get(FIGURES))
        notes = tuple(marker.facts.get(NOTES, ()))
        if tables is None:
            notes = (*notes, _DAMAGED)
        figures, concepts = tables or ([], [])
        return cls(
            notes,
            dict(marker.facts.get(MARKED, {})),
            marker.facts.get(NEAR_COPIES),
            marker.facts.get(NEAR_DUPLICATES),
            figures,
            concepts,
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """The content of a run folder; None for what no stage has produced yet."""

    captions: int | None
    funnel: Funnel | None
    measures: tuple[Distribution, ...]
    near_duplicates: tuple[NearDuplicate, ...]
    candidates: Candidates | None
    pairs: int | None
    selected: int | None
    selection: SelectionFacts | None
    scores: tuple[ScoreFacts, ...]
    gallery: tuple[Part, ...]
    times: tuple[StageTime, ...]
    scorer_times: tuple[ScorerTime, ...]
    notices: tuple[str, ...]
    as_of: float | None


def collect(run: RunFolder, recipe: Recipe) -> Facts:
    """Read what a run has done so far; what is missing becomes a notice."""
    markers = {stage: run.markers(stage) for stage in _STAGES}
    events = run.events()
    markers[_GENERATE] = present_shards(markers["curate"], markers[_GENERATE], lost_shards(events))
    events = [event for event in events if _is_present(event, markers[_GENERATE])]
    notices = _missing(markers)
    funnel = read_funnel(run, recipe, markers["curate"]) if markers["curate"] else None
    if funnel is not None:
        captions: int | None = funnel.captions
    else:
        captions = count_captions(markers["measure"]) if markers["measure"] else None
    candidates = pairs = selected = None
    if markers["generate"]:
        candidates, pairs = read_candidates(run, recipe, markers["generate"])
        is_whole = len(markers["generate"]) == len(markers["curate"])
        if funnel is not None and is_whole and recipe.target is None:
            notices += _unequal(funnel.kept, candidates.captions)
    if pairs is not None and markers["select"]:
        selection = run.read_table(markers["select"][0].files[0].path)
        pairs, outdated = join_selection(pairs, selection)
        selected = pairs.filter(pairs["rank"].is_valid())
        if outdated:
            notices.append(
                f"The selection is older than the candidates: {outdated:,} of its rows are no "
                f"longer pairs. Run the stage select again."
            )
    problem = shortfall(recipe, run.marker(TARGET, 0), None if selected is None else len(selected))
    notices += [problem] if problem else []
    notices += set_aside_notices(events)
    return Facts(
        captions=captions,
        funnel=funnel,
        measures=read_distributions(run, recipe, markers["curate"]),
        near_duplicates=read_near_duplicates(run, markers["curate"])
        if funnel is not None and funnel.removed(NEAR_DUPLICATE)
        else (),
        candidates=candidates,
        pairs=None if pairs is None else pairs.num_rows,
        selected=None if selected is None else selected.num_rows,
        selection=SelectionFacts.of(markers["select"][0]) if selected is not None else None,
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
            is_by_score=recipe.selection.is_by_score,
            scores=recipe.score_columns[:-1],
            remarks=[remark_column(name) for name in recipe.scorers_with_remarks],
        ),
        times=tuple(stage_times(events, {stage: len(done) for stage, done in markers.items()})),
        scorer_times=tuple(scorer_times(events)),
        notices=tuple(notices),
        as_of=max((float(event.get("time", 0)) for event in events), default=None),
    )


def _is_present(event: Event, generated: Mapping[int, Marker]) -> bool:
    """Whether an event is not of a shard that is no longer part of the data set."""
    is_of_shard = event.get("event") == "shard" and event.get("stage") == _GENERATE
    return not is_of_shard or event.get("shard") in generated


def _missing(markers: Mapping[str, Mapping[int, Marker]]) -> list[str]:
    """Notices of the stages that are not done."""
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
                f"The stage {stage} is done for {done:,} of {shards:,} shards: the report covers "
                f"only these."
            )
    return notices


def _unequal(kept: int, generated: int) -> list[str]:
    if kept == generated:
        return []
    return [
        f"{kept:,} captions are kept and {generated:,} have candidates: run the stage generate "
        f"again."
    ]


def _scores(
    recipe: Recipe, candidates: Candidates | None, pairs: pa.Table | None, selected: pa.Table | None
) -> tuple[ScoreFacts, ...]:
    if candidates is None or pairs is None or not pairs.num_rows:
        return ()
    everything = scores_of(pairs, recipe)
    chosen = scores_of(selected, recipe) if selected is not None and selected.num_rows else None
    cuts: dict[str, float | None] = dict(recipe.selection.min_scores)
    if (
        chosen is not None
        and recipe.selection.is_by_score
        and len(chosen["score"]) < pairs.num_rows
    ):
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
