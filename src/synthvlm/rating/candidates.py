"""Pairs of a run alone: the chosen candidate of a caption, and a random other one of it.

Pictures of losing candidates are not kept: they are generated again from their seeds. One whose
scores are then not those of its row is another picture than the one that lost, and is left out.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.checks.regenerated import SCORE_ROUNDING
from synthvlm.data import WITH_IMAGE, Candidate
from synthvlm.errors import RunFolderError
from synthvlm.rating.pairs import PicturePair, sample_order

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder
    from synthvlm.stages.generation.batch_generator import BatchGenerator
    from synthvlm.stages.generation.models import Models
    from synthvlm.stages.generation.requests import Prompt, ScoredImage

__all__ = ["CHOSEN", "OTHER", "candidate_pairs"]

#: What A and B are called.
CHOSEN, OTHER = "chosen", "other candidate"


@dataclass(frozen=True, slots=True)
class _Duel:
    """Two candidates of a caption of a shard."""

    shard: int
    chosen: Candidate
    other: Candidate


def candidate_pairs(
    run: RunFolder,
    recipe: Recipe,
    count: int,
    seed: int,
    progress: Progress,
    load_models: Callable[[Recipe], Models] | None = None,
) -> tuple[list[PicturePair], list[str]]:
    """The chosen candidate of some captions, each with a random other one.

    Args:
        run: The run folder.
        recipe: Its recipe.
        count: Pairs, at most.
        seed: Of the choice of captions and of candidates.
        progress: Shows pictures generated.
        load_models: Loads the generator and the scorers; by default those of the recipe.

    Returns:
        The pairs in the order of their hashes, and a line for each thing that was left out.

    Raises:
        RunFolderError: No caption has another candidate whose picture can be made again.
        ModelError: A model cannot be loaded.
    """
    every_duel = _duels(run, seed)
    duels = dict(heapq.nsmallest(count, every_duel, key=lambda duel: sample_order(seed, duel[0])))
    if not duels:
        raise RunFolderError(
            f"{run.url}: no caption has two candidates with pictures: to rate the choice among "
            f"candidates, generate several of each: --set generation.candidates=4"
        )
    pictures, problems = _regenerated(run, recipe, duels, progress, load_models)
    chosen = _chosen_pictures(run, duels)
    pairs = [
        PicturePair(
            pictures[id].text,
            id,
            (chosen[id], pictures[id].image),
            (_scores(d.chosen), _scores(d.other)),
        )
        for id, d in duels.items()
        if id in pictures and id in chosen
    ]
    lines = [f"{number:,} pairs are left out: {problem}" for problem, number in problems.items()]
    if not pairs:
        raise RunFolderError(f"{run.url}: {'; '.join(lines)}")
    return pairs, lines


def _duels(run: RunFolder, seed: int) -> Iterator[tuple[str, _Duel]]:
    """The captions with a chosen candidate and others, and which of these it is."""
    from synthvlm.run.shards import candidate_shards

    for shard in candidate_shards(run):
        captions: dict[str, list[Candidate]] = defaultdict(list)
        for part in shard.parts(shard.columns()):
            for row in part.to_pylist():
                candidate = Candidate.of_row(row)
                if candidate.status in WITH_IMAGE and candidate.reproducible:
                    captions[candidate.caption_id].append(candidate)
        for id, candidates in captions.items():
            winner = next((one for one in candidates if one.chosen), None)
            losers = {
                sample_order(seed, f"{id}\n{one.index}"): one
                for one in candidates
                if not one.chosen
            }
            if winner is not None and losers:
                yield id, _Duel(shard.number, winner, losers[min(losers)])


@dataclass(frozen=True, slots=True)
class _Regenerated:
    text: str
    image: bytes


def _regenerated(
    run: RunFolder,
    recipe: Recipe,
    duels: Mapping[str, _Duel],
    progress: Progress,
    load_models: Callable[[Recipe], Models] | None,
) -> tuple[dict[str, _Regenerated], Counter[str]]:
    """The other candidates' pictures, encoded as winners are, and what is wrong with the rest."""
    from synthvlm.stages.generation.batch_generator import BatchGenerator
    from synthvlm.stages.generation.models import Models
    from synthvlm.stages.generation.pixels import encode, encoding_of

    pictures: dict[str, _Regenerated] = {}
    problems: Counter[str] = Counter()
    generator = BatchGenerator(recipe, progress, load_models or Models.load)
    progress.start("pictures", len(duels), "pictures")
    with closing(generator):
        for shard, ids in _by_shard(duels).items():
            marker = run.marker("generate", shard)
            encoding = encoding_of(marker.facts.get("encoding")) if marker else None
            prompts = _prompts(run, recipe, shard, ids)
            while prompts:
                some = prompts[: generator.sizer.size]
                prompts = prompts[len(some) :]
                images = _generated(generator, duels, some)
                for prompt, image in zip(some, images, strict=True):
                    problem = _problem(recipe, duels[prompt.id].other, prompt, image)
                    if problem is not None or image.pixels is None:
                        problems[problem or "the safety check rejects the picture now"] += 1
                        continue
                    data = encode(image.pixels, encoding or recipe.generation.image)
                    pictures[prompt.id] = _Regenerated(prompt.text, data)
                progress.advance(len(some))
    progress.finish("pictures", f"{len(pictures):,} pictures of other candidates generated again")
    return pictures, problems


def _by_shard(duels: Mapping[str, _Duel]) -> dict[int, list[str]]:
    shards: dict[int, list[str]] = defaultdict(list)
    for id, duel in duels.items():
        shards[duel.shard].append(id)
    return dict(sorted(shards.items()))


def _prompts(run: RunFolder, recipe: Recipe, shard: int, ids: Sequence[str]) -> list[Prompt]:
    """The captions, with what their images depend on now and the questions about them."""
    from synthvlm.stages.fingerprints import candidate_fingerprint, image_fingerprint
    from synthvlm.stages.generation.requests import Prompt
    from synthvlm.stages.questions import with_questions

    marker = run.marker("curate", shard)
    name = None if marker is None else marker.file("captions")
    if name is None:
        raise RunFolderError(f"{run.url}: the captions of shard {shard} are lost: synthvlm verify")
    rows = run.iter_rows(name, "id", set(ids))
    texts = {row["id"]: str(row["text"]) for row in rows}
    shared = image_fingerprint(recipe)
    prompts = [Prompt(id, texts[id], candidate_fingerprint(shared, id, texts[id])) for id in texts]
    return with_questions(run, recipe, shard, prompts)


def _generated(
    generator: BatchGenerator, duels: Mapping[str, _Duel], prompts: Sequence[Prompt]
) -> list[ScoredImage]:
    from synthvlm.stages.generation.requests import GenerationRequest

    requests = [
        GenerationRequest(
            one.id, duels[one.id].other.index, one.text, duels[one.id].other.seed, one.questions
        )
        for one in prompts
    ]
    return generator.generate(requests).result()


def _problem(recipe: Recipe, row: Candidate, prompt: Prompt, image: ScoredImage) -> str | None:
    """Why a new picture cannot stand for the candidate; None if it can."""
    if row.fingerprint != prompt.fingerprint:
        return "the candidate was made with another recipe, caption or models than the present ones"
    if image.problem is not None:
        return image.problem
    for name in recipe.first_scorers:
        if name in row.scores and name in image.scores:
            difference = abs(row.scores[name] - image.scores[name])
            if difference > SCORE_ROUNDING:
                return (
                    f"generated again, the picture has another {name} score than its row by more "
                    f"than {SCORE_ROUNDING:g}, so it is another one"
                )
    return None


def _chosen_pictures(run: RunFolder, duels: Mapping[str, _Duel]) -> dict[str, bytes]:
    images = {}
    for shard, ids in _by_shard(duels).items():
        marker = run.marker("generate", shard)
        name = None if marker is None else marker.file("pairs")
        if name is not None:
            for row in run.iter_rows(name, "caption_id", set(ids)):
                images[row["caption_id"]] = row["image"]
    return images


def _scores(candidate: Candidate) -> dict[str, float]:
    total = {} if candidate.score is None else {"score": candidate.score}
    return {**candidate.scores, **total}
