"""A target of N pairs within a budget of images: how many captions are taken, and which.

Captions are taken in a fixed random order, in rounds: each round takes as many more as it should
need at the rate at which captions have given pairs so far. What a round takes depends on the
results of the rounds before and on nothing else, so the pairs are the same on any engine, with any
number of workers, and after any number of kills.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from synthvlm.components.component import LoadContext
from synthvlm.progress.display import SilentProgress
from synthvlm.run_folder.marks import read_marks
from synthvlm.selectors import SELECTORS
from synthvlm.selectors.quotas import QuotaSelector
from synthvlm.selectors.selection import by_caption_id, with_min_scores
from synthvlm.stages.fingerprints import images_and_captions_fingerprint, target_fingerprint
from synthvlm.stages.generation.prompts import WHOLE, CaptionQuotas, TakenCaptions, place_of
from synthvlm.stages.image_overlap import ImageOverlap
from synthvlm.stages.near_duplicate_images import without_near_duplicates
from synthvlm.stages.selection_columns import PairColumns

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.summary import StageSummary

__all__ = ["STAGE", "Quota", "generate_to_target", "next_round", "quota_shares", "shortfall"]

STAGE = "target"
CANDIDATES = "candidates"
#: Quotas that are named where they lack pairs.
_SHOWN = 5


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
    """The order in which the kept captions of a run are taken, by quota.

    Attributes:
        available: How many captions each quota has.
    """

    def __init__(
        self, run: RunFolder, seed: int, captions: Mapping[int, Marker], quotas: CaptionQuotas
    ) -> None:
        """Put the shards in order, and count their captions; they are read if there are quotas.

        Args:
            run: The run folder.
            seed: Of the run.
            captions: The markers of the stage curate.
            quotas: Of which quota a caption is.
        """
        self._run, self._seed, self._captions, self._quotas = run, seed, captions, quotas
        self._shards = sorted(captions, key=lambda shard: place_of(seed, shard, ""))
        self._counts = {
            shard: Counter({WHOLE: int(marker.facts["kept"])})
            if quotas.field is None
            else Counter(self.quotas_of(shard).values())
            for shard, marker in captions.items()
        }
        self.available = sum(self._counts.values(), Counter[str]())

    def quotas_of(self, shard: int) -> dict[str, str]:
        """The quota of each kept caption of a shard, by its id."""
        name = self._captions[shard].file("captions")
        if name is None:
            return {}
        table = self._run.read_table(name, self._quotas.columns)
        table = table.filter(table["kept"])
        return dict(zip(table["id"].to_pylist(), self._quotas.names(table), strict=True))

    def end(self, quota: str, count: int) -> str:
        """The place of the last one of the first ``count`` captions of a quota, from 1."""
        before = 0
        for shard in self._shards:
            if before + self._counts[shard][quota] >= count:
                break
            before += self._counts[shard][quota]
        ids = [id for id, name in self.quotas_of(shard).items() if name == quota]
        return sorted(place_of(self._seed, shard, id) for id in ids)[count - before - 1]


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
    shards = run.markers("generate")
    return _joined(summaries, [marker for n, marker in shards.items() if n in captions])


class _Search:
    """The rounds of a target, as far as they are."""

    def __init__(self, run: RunFolder, recipe: Recipe, captions: Mapping[int, Marker]) -> None:
        self._run, self._recipe, self._captions = run, recipe, captions
        self.taken = self.earlier = TakenCaptions(recipe.seed, {}, CaptionQuotas.of(recipe))
        self._order = CaptionOrder(run, recipe.seed, captions, self.taken.quotas)
        self._depends = images_and_captions_fingerprint(recipe, captions)
        self._marks = read_marks(run)
        self._fingerprint = target_fingerprint(recipe, self._depends, self._marks)
        self._budget = _captions_within_budget(recipe)
        self._scored: dict[str, pa.Table] = {}
        overlap = recipe.selection.image_overlap
        self._overlap = None if overlap is None else ImageOverlap(run, overlap, SilentProgress())
        marker = run.marker(STAGE, 0)
        if marker is not None and marker.facts["depends"] == self._depends:
            self.earlier = replace(self.taken, ends=marker.facts["ends"])
        if marker is not None and marker.fingerprint == self._fingerprint:
            self.taken, self._quotas = self.earlier, quotas_of(marker)
        else:
            available = self._order.available
            sizes = _sizes(recipe, available)
            self._quotas = {name: Quota(n, available[name]) for name, n in sizes.items() if n}

    def take_more(self) -> bool:
        """Take the captions of the next round; False where the search ends."""
        left = self._budget - sum(quota.taken for quota in self._quotas.values())
        more = next_round(self._quotas, left)
        ends = dict(self.taken.ends)
        for name, count in more.items():
            taken = self._quotas[name].taken + count
            self._quotas[name] = replace(self._quotas[name], taken=taken)
            ends[name] = self._order.end(name, taken)
        self.taken = replace(self.taken, ends=ends)
        return bool(more)

    def commit(self) -> None:
        """Count the pairs of the captions taken that can be selected, and record it."""
        reached = self._count_pairs()
        self._quotas = {n: replace(quota, reached=reached[n]) for n, quota in self._quotas.items()}
        quotas = {name: asdict(quota) for name, quota in self._quotas.items()}
        facts = {"ends": self.taken.ends, "depends": self._depends, "quotas": quotas}
        self._run.commit(STAGE, 0, self._fingerprint, [], facts)

    def _count_pairs(self) -> Counter[str]:
        """Pairs of each quota with the minimum scores: no copies, no twins, none marked as bad."""
        run, recipe, generated = self._run, self._recipe, self._run.markers("generate")
        present = {
            n: generated[n]
            for n in sorted(self._captions)
            if n in generated and self.taken.reaches(n)
        }
        tables = [self._pairs(n, name) for n, m in present.items() if (name := m.file(CANDIDATES))]
        if not tables:
            return Counter()
        pairs, settings = pa.concat_tables(tables), recipe.selection.near_duplicate_images
        if self._overlap is not None:
            pairs, _ = self._overlap.without(present, by_caption_id(pairs))
        if settings is not None:
            columns = PairColumns(run, recipe, self._captions, generated)
            pairs, _ = without_near_duplicates(
                run, present, by_caption_id(pairs), settings, columns, SilentProgress()
            )
        return Counter(pairs["quota"].to_pylist())

    def _pairs(self, shard: int, file: str) -> pa.Table:
        """The pairs of a shard that have the minimum scores, of the captions taken."""
        if file not in self._scored:  # most shards are as the round before left them
            self._scored[file] = self._read_pairs(shard, file)
        rows = self._scored[file]
        named = zip(rows["caption_id"].to_pylist(), rows["quota"].to_pylist(), strict=True)
        taken = [self.taken.includes(shard, id, quota) for id, quota in named]
        return rows.filter(pa.array(taken, pa.bool_()))

    def _read_pairs(self, shard: int, file: str) -> pa.Table:
        """The pairs of a shard that have the minimum scores, and the quota of each."""
        lowest, names = self._recipe.selection.min_scores, ["caption_id", "score"]
        columns = [*names, "chosen", *lowest, *self._marks.columns]
        rows, _ = self._marks.split(self._run.read_table(file, list(dict.fromkeys(columns))))
        rows = with_min_scores(rows.filter(rows["chosen"]), lowest).select(names)
        ids, quotas = rows["caption_id"].to_pylist(), self._order.quotas_of(shard)
        rows = rows.append_column("quota", pa.array(map(quotas.get, ids), pa.string()))
        rows = rows.append_column("shard", pa.array([shard] * len(rows), pa.int32()))
        return rows.filter(rows["quota"].is_valid())

    def line(self) -> str:
        """How far the search is, for people."""
        quotas = self._quotas.values()
        reached, needed = sum(q.reached for q in quotas), sum(q.needed for q in quotas)
        taken = sum(q.taken for q in quotas)
        line = f"target: {reached:,} of {needed:,} pairs from {taken:,} captions"
        return line + _missing_quotas(self._quotas)


def quotas_of(marker: Marker) -> dict[str, Quota]:
    """How far each quota of a target is, from its marker."""
    return {name: Quota(**values) for name, values in marker.facts["quotas"].items()}


def quota_shares(target: Marker | None) -> dict[str, float]:
    """The share of each quota of a target, from its marker."""
    quotas = {} if target is None else quotas_of(target)
    needed = sum(quota.needed for quota in quotas.values())
    return {name: quota.needed / needed for name, quota in quotas.items()}


def _sizes(recipe: Recipe, available: Mapping[str, int]) -> dict[str, int]:
    """How many pairs each quota should have."""
    assert recipe.target is not None
    if CaptionQuotas.of(recipe).field is None:
        return {WHOLE: recipe.target.pairs}
    selector = SELECTORS.load(recipe.selection.method, recipe.selection.selector, LoadContext())
    assert isinstance(selector, QuotaSelector)
    return selector.sizes(available, recipe.target.pairs)


def _missing_quotas(quotas: Mapping[str, Quota]) -> str:
    """The quotas that lack pairs, the worst first; empty without quotas."""
    lacking = {name: q.missing for name, q in quotas.items() if name != WHOLE and q.missing}
    worst = sorted(lacking.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name} {count:,}" for name, count in worst[:_SHOWN])
    more = f", {len(worst) - _SHOWN} more" if len(worst) > _SHOWN else ""
    return f"; missing of quotas: {named}{more}" if worst else ""


def _captions_within_budget(recipe: Recipe) -> int:
    """Of how many captions all candidates may be generated, those of a calibration aside."""
    assert recipe.target is not None
    adaptive, count = recipe.generation.adaptive, recipe.generation.candidates
    sample = 0 if adaptive is None or adaptive.threshold is not None else adaptive.sample
    return max(0, recipe.target.max_images // count - sample)


def _joined(summaries: Sequence[StageSummary], shards: Collection[Marker]) -> StageSummary:
    """The summaries of all rounds as one; what became of candidates is that of all shards."""
    first, last = summaries[0], summaries[-1]
    if len(summaries) == 1:
        return first
    done = ("generated", "regenerated")
    counts = {name: sum(int(m.facts.get(name, 0)) for m in shards) for name in last.counts}
    counts |= {name: sum(summary.counts[name] for summary in summaries) for name in done}
    counts["carried"] = first.counts["carried"]
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
    quotas = quotas_of(target)
    if selected is None:
        selected = sum(min(quota.needed, quota.reached) for quota in quotas.values())
    lacking = {name: quota for name, quota in quotas.items() if quota.missing}
    if selected >= recipe.target.pairs and not lacking:
        return None
    if any(quota.taken < quota.available for quota in lacking.values()):
        images = sum(q.taken for q in quotas.values()) * recipe.generation.candidates
        reason = f"{images:,} images are generated: raise target.max_images"
    else:
        count = sum(quota.available for quota in (lacking or quotas).values())
        reason = f"all {count:,} captions that curation kept are taken: add captions"
    return (
        f"target: {selected:,} of {recipe.target.pairs:,} pairs{_missing_quotas(quotas)}; "
        f"{reason}{_what_else_helps(recipe)}; the data set has what there is"
    )


def _what_else_helps(recipe: Recipe) -> str:
    """Which settings keep pairs of captions taken from counting."""
    selection = recipe.selection
    has_minimum = any(scorer.minimum is not None for scorer in recipe.scorers.values())
    helps = ", or lower the minimum scores" if has_minimum or selection.min_scores else ""
    if selection.image_overlap is not None:
        helps += ", or raise selection.image_overlap.max_similarity"
    if selection.near_duplicate_images is not None:
        helps += ", or have selection.near_duplicate_images leave out fewer"
    return helps
