"""A target of N pairs within a budget of images: how many captions are taken, and which.

Captions are taken in a fixed random order, in rounds: each round takes as many more as it should
need at the rate at which captions have given pairs so far. What a round takes depends on the
results of the rounds before and on nothing else, so the pairs are the same on any engine, with any
number of workers, and after any number of kills.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from synthvlm.progress.display import SilentProgress
from synthvlm.selectors.selection import by_caption_id, with_min_scores
from synthvlm.stages.fingerprints import images_and_captions_fingerprint, target_fingerprint
from synthvlm.stages.generation.prompts import WHOLE, TakenCaptions, place_of, read_prompts
from synthvlm.stages.near_duplicate_images import without_near_duplicates
from synthvlm.stages.selection_columns import PairColumns

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.summary import StageSummary

__all__ = ["STAGE", "Quota", "generate_to_target", "next_round", "quota_of", "shortfall"]

STAGE = "target"
CANDIDATES = "candidates"


@dataclass(frozen=True, slots=True)
class Quota:
    """How far a quota is.

    Attributes:
        needed: Pairs that it should have.
        available: Captions that curation kept.
        taken: Captions of which images were generated.
        reached: Pairs of these that have the minimum scores.
    """

    needed: int
    available: int
    taken: int = 0
    reached: int = 0

    @property
    def missing(self) -> int:
        """Pairs that it still lacks."""
        return max(0, self.needed - self.reached)


def next_round(quotas: Mapping[str, Quota], budget: int) -> dict[str, int]:
    """How many more captions each quota takes; empty where the search ends.

    The first round of a quota takes as many captions as it needs pairs. A later one takes as many
    as it lacks pairs, divided by the share of its captions that have given one so far, and two
    standard deviations more, since every round loads the models again; but at most as many as it
    has taken before, so that a bad start does not spend the budget. Where the budget does not
    suffice for all, quotas with the fewest captions come first.

    Args:
        quotas: The quotas, by name.
        budget: Captions that may still be taken.
    """
    more = {}
    for name, quota in sorted(quotas.items(), key=lambda item: (item[1].available, item[0])):
        estimated = quota.missing
        if quota.taken:
            estimated = math.ceil(quota.missing * quota.taken / max(1, quota.reached))
            estimated += math.ceil(2 * math.sqrt(estimated))
            estimated = min(estimated, quota.taken)
        count = min(estimated, quota.available - quota.taken, budget)
        if count > 0:
            more[name] = count
            budget -= count
    return more


class CaptionOrder:
    """The order in which the kept captions of a run are taken.

    Attributes:
        available: How many there are.
    """

    def __init__(self, run: RunFolder, seed: int, captions: Mapping[int, Marker]) -> None:
        """Put the shards in order; their captions are read as they are needed.

        Args:
            run: The run folder.
            seed: Of the run.
            captions: The markers of the stage curate.
        """
        self._run, self._seed, self._captions = run, seed, captions
        self._shards = sorted(captions, key=lambda shard: place_of(seed, shard, ""))
        self._kept = {shard: int(marker.facts["kept"]) for shard, marker in captions.items()}
        self.available = sum(self._kept.values())

    def end(self, count: int) -> str:
        """The place of the last one of the first ``count`` captions, 1 .. ``available``."""
        before = 0
        for shard in self._shards:
            if before + self._kept[shard] >= count:
                break
            before += self._kept[shard]
        prompts = read_prompts(self._run, shard, self._captions[shard], "")
        places = sorted(place_of(self._seed, shard, prompt.id) for prompt in prompts)
        return places[count - before - 1]


def generate_to_target(
    run: RunFolder,
    recipe: Recipe,
    captions: Mapping[int, Marker],
    generate_taken: Callable[[TakenCaptions], StageSummary],
    progress: Progress,
) -> StageSummary:
    """Generate images of more captions, round by round, until the target or its budget is reached.

    What a round reached is committed, so that a run that was killed goes on with the round in
    which it was. Where a setting changed on which the rounds depend, they are gone through again:
    images that there are count, and none is generated twice.

    Args:
        run: The run folder.
        recipe: With a target.
        captions: The markers of the stage curate.
        generate_taken: The stage generate, given the captions that count.
        progress: Is told of each round.

    Returns:
        A summary of all rounds.
    """
    search = _Search(run, recipe, captions)
    summaries: list[StageSummary] = []
    while search.take_more():
        # What an earlier target took is not put aside only to be taken back by a later round.
        summaries.append(generate_taken(search.taken.joined(search.earlier)))
        search.commit()
        progress.note(search.line())
    if not summaries or search.taken.joined(search.earlier) != search.taken:
        summaries.append(generate_taken(search.taken))
        search.commit()
    return _joined(summaries)


class _Search:
    """The rounds of a target, as far as they are."""

    def __init__(self, run: RunFolder, recipe: Recipe, captions: Mapping[int, Marker]) -> None:
        assert recipe.target is not None
        self._run, self._recipe, self._captions = run, recipe, captions
        self._order = CaptionOrder(run, recipe.seed, captions)
        self._depends = images_and_captions_fingerprint(recipe, captions)
        self._fingerprint = target_fingerprint(recipe, self._depends)
        self._budget = _captions_within_budget(recipe)
        self._quota = Quota(recipe.target.pairs, self._order.available)
        self.taken = self.earlier = TakenCaptions(recipe.seed, {})
        marker = run.marker(STAGE, 0)
        if marker is not None and marker.facts["depends"] == self._depends:
            self.earlier = TakenCaptions(recipe.seed, marker.facts["ends"])
            if marker.fingerprint == self._fingerprint:
                self.taken, self._quota = self.earlier, quota_of(marker)

    def take_more(self) -> bool:
        """Take the captions of the next round; False where the search ends."""
        more = next_round({WHOLE: self._quota}, self._budget - self._quota.taken)
        if not more:
            return False
        self._quota = replace(self._quota, taken=self._quota.taken + more[WHOLE])
        self.taken = TakenCaptions(self._recipe.seed, {WHOLE: self._order.end(self._quota.taken)})
        return True

    def commit(self) -> None:
        """Count the pairs of the captions taken that can be selected, and record it."""
        self._quota = replace(self._quota, reached=self._count_pairs())
        facts = {"ends": self.taken.ends, "depends": self._depends, **asdict(self._quota)}
        self._run.commit(STAGE, 0, self._fingerprint, [], facts)

    def _count_pairs(self) -> int:
        """Pairs that have the minimum scores, near-duplicate images aside."""
        run, recipe, generated = self._run, self._recipe, self._run.markers("generate")
        present = {n: generated[n] for n in sorted(self._captions) if n in generated}
        tables = [self._pairs(n, name) for n, m in present.items() if (name := m.file(CANDIDATES))]
        settings = recipe.selection.near_duplicate_images
        if settings is None or not tables:
            return sum(map(len, tables))
        pairs = by_caption_id(pa.concat_tables(tables))
        columns = PairColumns(run, recipe, self._captions, generated)
        progress = SilentProgress()
        return len(without_near_duplicates(run, present, pairs, settings, columns, progress)[0])

    def _pairs(self, shard: int, file: str) -> pa.Table:
        """The pairs of a shard that have the minimum scores, of the captions taken."""
        lowest, names = self._recipe.selection.min_scores, ["caption_id", "score"]
        rows = self._run.read_table(file, list(dict.fromkeys([*names, "chosen", *lowest])))
        rows = with_min_scores(rows.filter(rows["chosen"]), lowest).select(names)
        taken = [self.taken.includes(shard, id) for id in rows["caption_id"].to_pylist()]
        rows = rows.filter(pa.array(taken, pa.bool_()))
        return rows.append_column("shard", pa.array([shard] * len(rows), pa.int32()))

    def line(self) -> str:
        """How far the search is, for people."""
        quota = self._quota
        return f"target: {quota.reached:,} of {quota.needed:,} pairs from {quota.taken:,} captions"


def quota_of(marker: Marker) -> Quota:
    """How far a target is, from its marker."""
    return Quota(**{field.name: marker.facts[field.name] for field in fields(Quota)})


def _captions_within_budget(recipe: Recipe) -> int:
    """Of how many captions all candidates may be generated, those of a calibration aside."""
    assert recipe.target is not None
    adaptive, count = recipe.generation.adaptive, recipe.generation.candidates
    sample = 0 if adaptive is None or adaptive.threshold is not None else adaptive.sample
    return max(0, recipe.target.max_images // count - sample)


def _joined(summaries: Sequence[StageSummary]) -> StageSummary:
    """The summaries of all rounds as one."""
    first, last = summaries[0], summaries[-1]
    done = ("generated", "regenerated")
    counts = dict(last.counts, carried=first.counts["carried"])
    counts |= {name: sum(summary.counts[name] for summary in summaries) for name in done}
    reused = min(summary.reused for summary in summaries)
    seconds = sum(summary.seconds for summary in summaries)
    return replace(last, counts=counts, reused=reused, seconds=seconds)


def shortfall(recipe: Recipe, target: Marker | None, selected: int | None = None) -> str | None:
    """Why a run has fewer pairs than its target asks for; None where it has them.

    Args:
        recipe: The recipe.
        target: The marker of the stage target.
        selected: Pairs of the selection; None before it.
    """
    if recipe.target is None or target is None:
        return None
    quota = quota_of(target)
    selected = quota.reached if selected is None else selected
    if selected >= recipe.target.pairs:
        return None
    if quota.taken < quota.available:
        images = quota.taken * recipe.generation.candidates
        reason = f"{images:,} images are generated: raise target.max_images"
    else:
        reason = f"all {quota.available:,} captions that curation kept are taken: add captions"
    return (
        f"target: {selected:,} of {recipe.target.pairs:,} pairs; {reason}, or lower the minimum "
        f"scores; the data set has what there is"
    )
