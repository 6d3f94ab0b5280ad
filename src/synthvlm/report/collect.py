"""The facts of the report, all from the run folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.data import remark_column
from synthvlm.progress.stage_state import set_aside, set_aside_notices
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
from synthvlm.stages.curation.curate import NEAR_DUPLICATE
from synthvlm.stages.current import lost_shards, present_shards
from synthvlm.stages.generation.target import STAGE as TARGET
from synthvlm.stages.generation.target import shortfall
from synthvlm.stages.select import FIGURES, NEAR_COPIES, NEAR_DUPLICATES, NOTES
from synthvlm.stages.selection_figures import figure_tables

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.report.pairs import Floats
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = [
    "Facts",
    "ScoreFacts",
    "ScorerTime",
    "SelectionFacts",
    "StageTime",
    "collect",
    "scorer_times",
    "stage_times",
]

_STAGES = ("measure", "curate", "generate", "select")
_UNITS = {"measure": "captions", "curate": "captions", "select": "pairs", "export": "pairs"}
_GENERATE = "generate"

Event = Mapping[str, Any]


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


@dataclass(frozen=True, slots=True)
class StageTime:
    """Wall time and work of a stage; ``note`` says what was done and what was reused."""

    stage: str
    seconds: float
    items: int
    unit: str
    note: str

    @property
    def rate(self) -> float | None:
        """Items per second; None if there is no time or no item."""
        return self.items / self.seconds if self.seconds > 0 and self.items else None


_DAMAGED = "the figures of what it covers are damaged: delete done/select/00000.json and run again"


@dataclass(frozen=True, slots=True)
class SelectionFacts:
    """What the stage select recorded of its selection.

    Attributes:
        notes: What could not be done as it was asked for, and what has shifted.
        near_copies: Pairs that were left out as copies of reference images; None if those were
            not looked for.
        near_duplicates: Those that were left out because of a better twin image; None likewise.
        figures: What the selection covers, beside the best by score: a table, its header first.
        concepts: Shares of captions that name a concept: a table.
    """

    notes: tuple[str, ...]
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
            marker.facts.get(NEAR_COPIES),
            marker.facts.get(NEAR_DUPLICATES),
            figures,
            concepts,
        )


@dataclass(frozen=True, slots=True)
class ScorerTime:
    """What a scorer did in all attempts.

    Attributes:
        scorer: Its name.
        device: Where it worked.
        batches: Number of batches.
        images: Images scored.
        seconds: Of its work, added up over threads and workers.
        share: The same over the seconds that generators were busy; None where none was.
    """

    scorer: str
    device: str
    batches: int
    images: int
    seconds: float
    share: float | None

    @property
    def rate(self) -> float | None:
        """Images per second of its work."""
        return self.images / self.seconds if self.seconds > 0 else None


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


def stage_times(events: Iterable[Event], done: Mapping[str, int]) -> list[StageTime]:
    """The times of each stage that is done or has events.

    Args:
        events: From ``RunFolder.events``.
        done: Number of done shards of each stage, in the order of the stages.
    """
    passes: dict[str, list[Event]] = {stage: [] for stage in done}
    lost = Counter[str]()
    events = list(events)
    for event in events:
        if event.get("event") in ("stage", "shard"):
            passes.setdefault(str(event.get("stage")), []).append(event)
    for event in set_aside(events):
        lost[str(event.get("stage"))] += 1
    times = []
    for stage, entries in passes.items():
        shards = [entry for entry in entries if entry["event"] == "shard"]
        if shards:
            times.append(_sharded(stage, shards, lost[stage]))
        elif entries:
            times.append(_whole(stage, entries))
        elif done.get(stage):
            times.append(StageTime(stage, 0.0, 0, "", "done; the log has no times for it"))
    return times


def scorer_times(events: Iterable[Event]) -> Iterator[ScorerTime]:
    """What each scorer did, of the events of shards that say so."""
    busy = 0.0
    work_by_scorer: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        if event.get("event") == "shard" and "scorers" in event:
            busy += float(event.get("generation_seconds", 0))
            for name, work in event["scorers"].items():
                work_by_scorer.setdefault(name, []).append(work)
    for name, parts in work_by_scorer.items():
        devices = ", ".join(sorted({str(part["device"]) for part in parts}))
        batches, images = (sum(int(part[key]) for part in parts) for key in ("batches", "images"))
        seconds = sum(float(part["seconds"]) for part in parts)
        share = seconds / busy if busy else None
        yield ScorerTime(name, devices, batches, images, seconds, share)


def _whole(stage: str, entries: list[Event]) -> StageTime:
    """A stage that processes everything in each pass: the last pass is shown."""
    last = entries[-1]
    note = f"last of {len(entries)} passes" if len(entries) > 1 else "one pass"
    unit = _UNITS.get(stage, "items")
    return StageTime(stage, float(last.get("seconds", 0)), int(last.get("rows", 0)), unit, note)


def _sharded(stage: str, entries: list[Event], lost: int) -> StageTime:
    """A stage that works shard by shard: the shards of all attempts are summed."""
    names = ("generated", "regenerated", "carried", "failed")
    sums = Counter({name: sum(int(e.get(name, 0)) for e in entries) for name in names})
    items = sums["generated"] + sums["regenerated"]
    unit = "images" if stage == _GENERATE else "items"
    parts = [f"{len(entries):,} shard attempts", f"{sums['generated']:,} candidates generated"]
    if sums["regenerated"]:
        parts.append(f"{sums['regenerated']:,} winners regenerated from their seeds")
    if sums["carried"]:
        parts.append(f"{sums['carried']:,} reused from earlier attempts")
    if sums["failed"]:
        parts.append(f"{sums['failed']:,} failed")
    if lost:
        parts.append(f"{lost:,} shards set aside")
    working_s = sum(float(e.get("seconds", 0)) for e in entries)
    wall_s, workers = _wall_and_workers(_turns(entries))
    if workers > 1 and items:
        parts.append(
            f"up to {workers} workers at once, {items / working_s:.3g} {unit} a second each"
        )
    busy = sum(float(e.get("generation_seconds", 0)) for e in entries)
    if working_s and busy:
        parts.append(f"the generator waited {max(0.0, 1 - busy / working_s):.1%} of the time")
    return StageTime(stage, wall_s, items, unit, "; ".join(parts))


def _turns(entries: list[Event]) -> list[tuple[float, float]]:
    """Start and end of the work on each shard, in seconds, sorted.

    A worker works on one shard at a time, but reports it up to one shard later, when it is
    committed. So the shards of a worker are laid end to end, backwards from its last one.
    """
    turns: list[tuple[float, float]] = []
    following: dict[Any, float] = {}
    for entry in reversed(entries):
        worker = entry.get("worker")
        end = min(float(entry["time"]), following.get(worker, float("inf")))
        following[worker] = end - float(entry.get("seconds", 0))
        if following[worker] < end:
            turns.append((following[worker], end))
    return sorted(turns)


def _wall_and_workers(turns: list[tuple[float, float]]) -> tuple[float, int]:
    """Seconds in which at least one worker was busy, and how many were busy at most at once."""
    # At equal times, ends (-1) come before starts: a worker that goes on is not counted twice.
    changes = sorted([(end, -1) for _, end in turns] + [(begin, 1) for begin, _ in turns])
    total, since = 0.0, 0.0
    now = most = 0
    for time, change in changes:
        if now:
            total += time - since
        now, since = now + change, time
        most = max(most, now)
    return total, most
