"""Data sets side by side: scores, sizes, captions, duplicates, and maps of their embeddings."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synthvlm.captions.rules.batch import TextBatch
from synthvlm.comparison.caption_facts import CaptionFacts, read_caption_facts
from synthvlm.comparison.embedding_map import FEWEST, EmbeddingMap, embedding_map, has_tsne
from synthvlm.comparison.image_facts import ImageFacts, read_image_facts
from synthvlm.estimates import Estimate, mean_interval
from synthvlm.models.devices import resolve_device
from synthvlm.models.model_files import clip_path
from synthvlm.report.published import is_comparable

if TYPE_CHECKING:
    import numpy.typing as npt

    from synthvlm.comparison.data_sets import BadPair, DataSet
    from synthvlm.progress.display import Progress
    from synthvlm.scorers.clip import ClipScorer

__all__ = [
    "SSIM_SIDES",
    "SSIM_WEIGHT",
    "DataSetComparison",
    "DataSetFacts",
    "compare_data_sets",
    "spread",
]

#: As in the paper: score = CLIPScore + 0.5 * SSIMScore, compared at 768 pixels through 336.
SSIM_WEIGHT = 0.5
SSIM_SIDES = (768, 336)
#: Words among which the distinct ones are counted, at most.
_TYPE_TOKENS = 10_000
#: Pairs on the page.
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class DataSetFacts:
    """A data set, measured.

    Attributes:
        label: What it is called.
        path: As the user wrote it.
        captions: Its captions.
        images: Its images and scores.
        sampled: Pairs that were to be scored.
        clip: Mean CLIPScore.
        ssim: Mean SSIMScore.
        score: Mean of CLIPScore + 0.5 * SSIMScore.
        types: Distinct ones among the first ``type_tokens`` words of the sample.
        type_tokens: The same number for all data sets that are compared.
    """

    label: str
    path: str
    captions: CaptionFacts
    images: ImageFacts
    sampled: int
    clip: Estimate
    ssim: Estimate
    score: Estimate
    types: int
    type_tokens: int

    @property
    def bad(self) -> tuple[BadPair, ...]:
        """All records that are no usable pairs."""
        return self.captions.bad + self.images.bad

    @property
    def records(self) -> int:
        """Records read, good and bad."""
        return self.captions.count + len(self.captions.bad)

    @property
    def scored(self) -> int:
        """Pairs that were scored."""
        return len(self.images.scored.positions)

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        facts, images = self.captions, self.images
        return {
            "label": self.label,
            "path": self.path,
            "records": self.records,
            "bad": {
                "count": len(self.bad),
                "faults": dict(Counter(bad.fault for bad in self.bad)),
            },
            "sampled": self.sampled,
            "scored": self.scored,
            "clip_score": _interval(self.clip),
            "ssim_score": _interval(self.ssim),
            "score": _interval(self.score),
            "truncated_captions": images.scored.truncated,
            "width": spread(images.sizes[:, 0]),
            "height": spread(images.sizes[:, 1]),
            "words": spread(facts.words),
            "tokens": spread(facts.tokens),
            "vocabulary": facts.vocabulary,
            "type_token": {"types": self.types, "tokens": self.type_tokens},
            "duplicate_captions": facts.duplicates,
            "near_duplicate_captions": facts.near_duplicates,
            "duplicate_files": images.same_file,
            "duplicate_pixels_in_sample": images.same_pixels,
        }


@dataclass(frozen=True, slots=True)
class DataSetComparison:
    """Data sets, measured alike.

    Attributes:
        data_sets: In the order in which they were given.
        clip: The CLIP model.
        device: That scored.
        image_map: Of image embeddings; None where there is none.
        text_map: Of text embeddings, likewise.
        seed: Of the maps.
        notes: What people should know of the figures.
    """

    data_sets: tuple[DataSetFacts, ...]
    clip: str
    device: str
    image_map: EmbeddingMap | None
    text_map: EmbeddingMap | None
    seed: int
    notes: tuple[str, ...]

    @property
    def comparable(self) -> bool:
        """Whether the scorers are those of the published figures."""
        return is_comparable(self.clip, *SSIM_SIDES)

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "kind": "data sets",
            "clip": self.clip,
            "ssim_sides": list(SSIM_SIDES),
            "ssim_weight": SSIM_WEIGHT,
            "comparable_with_published": self.comparable,
            "data_sets": [one.values() for one in self.data_sets],
            "notes": list(self.notes),
        }


def compare_data_sets(
    data_sets: Sequence[DataSet],
    *,
    sample: int | None = 1000,
    clip: str,
    revision: str | None = None,
    device: str = "auto",
    mapped: int = 0,
    seed: int = 0,
    progress: Progress,
) -> DataSetComparison:
    """Measure data sets alike.

    Each is read twice as a stream: its captions, then its images, of which a sample chosen by a
    hash of the id is decoded and scored.

    Args:
        data_sets: One or more.
        sample: Pairs of each to score; None for all.
        clip: Hub id or folder of a CLIP model, or ``tiny``.
        revision: Of the CLIP model on the hub.
        device: Torch device of the CLIP model, or ``auto``.
        mapped: Pairs of each on the maps, taken from the sample; 0 for no maps.
        seed: Of the maps.
        progress: Shows the work.

    Raises:
        CaptionSourceError: A data set cannot be read, or has no usable pair.
        ModelError: The CLIP model cannot be loaded.
    """
    from synthvlm.scorers.clip import ClipScorer

    used = resolve_device(device)
    scorer = ClipScorer(clip_path(clip), device=used, revision=revision)
    measured = [
        _measure(one, sample, scorer, _token_counter(clip, revision), mapped, progress)
        for one in data_sets
    ]
    tokens = min(len(_sample_words(*one)) for one in measured)
    facts = tuple(
        _facts(data_set, captions, images, sample, tokens)
        for data_set, (captions, images) in zip(data_sets, measured, strict=True)
    )
    images = texts = None
    notes = list(_notes(facts, clip))
    if mapped and not has_tsne():
        notes.append("no map: it needs openTSNE, pip install 'synthvlm[compare]'")
    elif mapped:
        images = _map(facts, "images", seed, progress)
        texts = _map(facts, "texts", seed, progress)
        if images is None or texts is None:
            points = sum(len(one.images.scored.images) for one in facts)
            notes.append(f"no map: it needs {FEWEST} different points or more, of {points:,}")
    return DataSetComparison(facts, clip, used, images, texts, seed, tuple(notes))


def spread(values: npt.NDArray[np.int64]) -> dict[str, float]:
    """Median, mean, minimum and maximum of some numbers, at least one."""
    return {
        "median": float(np.median(values)),
        "mean": float(values.mean()),
        "min": int(values.min()),
        "max": int(values.max()),
    }


def _measure(
    data_set: DataSet,
    sample: int | None,
    scorer: ClipScorer,
    count_tokens: Callable[[Sequence[str]], Sequence[int]],
    mapped: int,
    progress: Progress,
) -> tuple[CaptionFacts, ImageFacts]:
    from synthvlm.scorers.ssim import SsimScorer

    began = time.monotonic()
    progress.start(f"{data_set.label}: captions", None, "captions")
    captions = read_caption_facts(data_set, count_tokens, progress)
    progress.finish(
        f"{data_set.label}: captions",
        f"{captions.count:,} captions, {len(captions.bad):,} bad records "
        f"({time.monotonic() - began:.1f} s)",
    )
    began = time.monotonic()
    wanted = captions.count if sample is None else min(sample, captions.count)
    progress.start(f"{data_set.label}: images", captions.count, "images")
    images = read_image_facts(
        data_set,
        captions.order,
        wanted,
        clip=scorer,
        ssim=SsimScorer(side=SSIM_SIDES[0], model_input_side=SSIM_SIDES[1]),
        mapped=min(mapped, wanted),
        shown=min(_SHOWN, wanted),
        progress=progress,
    )
    progress.finish(
        f"{data_set.label}: images",
        f"{len(images.scored.positions):,} pairs scored, {len(images.bad):,} bad images "
        f"({time.monotonic() - began:.1f} s)",
    )
    return captions, images


def _facts(
    data_set: DataSet, captions: CaptionFacts, images: ImageFacts, sample: int | None, tokens: int
) -> DataSetFacts:
    scored = images.scored
    words = _sample_words(captions, images)[:tokens]
    return DataSetFacts(
        data_set.label,
        data_set.path,
        captions,
        images,
        captions.count if sample is None else min(sample, captions.count),
        mean_interval(scored.clip.tolist()),
        mean_interval(scored.ssim.tolist()),
        mean_interval((scored.clip + SSIM_WEIGHT * scored.ssim).tolist()),
        len(np.unique(words)),
        tokens,
    )


def _sample_words(captions: CaptionFacts, images: ImageFacts) -> npt.NDArray[np.uint64]:
    """Hashes of the first words of the scored captions, in the order of the sample."""
    texts = dict(zip(images.scored.positions.tolist(), images.scored.captions, strict=True))
    words: list[int] = []
    for position in captions.order.tolist():
        if len(words) >= _TYPE_TOKENS:
            break
        if position in texts:
            words += TextBatch([texts[position]]).words.hashes.tolist()
    return np.array(words[:_TYPE_TOKENS], np.uint64)


def _token_counter(clip: str, revision: str | None) -> Callable[[Sequence[str]], Sequence[int]]:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(clip_path(clip), revision=revision)

    def count(texts: Sequence[str]) -> list[int]:
        rows = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [len(row) for row in rows]

    return count


def _map(
    facts: Sequence[DataSetFacts], name: str, seed: int, progress: Progress
) -> EmbeddingMap | None:
    stage = f"map of {name}"
    sets = [getattr(one.images.scored, name) for one in facts]
    began = time.monotonic()
    progress.start(stage, None, "points")
    found = embedding_map(sets, seed=seed)
    points = sum(map(len, sets))
    progress.finish(stage, f"{points:,} points ({time.monotonic() - began:.1f} s)")
    return found


def _notes(facts: Sequence[DataSetFacts], clip: str) -> list[str]:
    notes = []
    for one in facts:
        if one.sampled < one.captions.count:
            notes.append(
                f"{one.label}: scores are of {one.scored:,} pairs of {one.captions.count:,}, "
                f"chosen by a hash of the id; the other images were opened, not decoded"
            )
        if one.images.scored.truncated:
            notes.append(
                f"{one.label}: {one.images.scored.truncated:,} of {one.scored:,} scored captions "
                f"are longer than CLIP reads; it scored their beginning"
            )
    if not is_comparable(clip, *SSIM_SIDES):
        notes.append(
            f"CLIPScores are by {clip}, the published ones by CLIP ViT-B/32: not comparable"
        )
    return notes


def _interval(estimate: Estimate) -> dict[str, float | None]:
    return {"mean": estimate.value, "low": estimate.low, "high": estimate.high}
