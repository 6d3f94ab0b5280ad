"""Data sets side by side: scores, sizes, captions, duplicates, and maps of their embeddings."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synthvlm.captions.rules.batch import TextBatch
from synthvlm.comparison.embedding_map import FEWEST, EmbeddingMap, embedding_map, has_tsne
from synthvlm.comparison.facts import (
    CaptionFacts,
    ImageFacts,
    TokenCounter,
    read_caption_facts,
    read_image_facts,
)
from synthvlm.comparison.settings import (
    OF_RUNS,
    ComparisonSettings,
    LoadedScorers,
    model_label,
)
from synthvlm.data import score_column
from synthvlm.estimates import Estimate, mean_interval
from synthvlm.models.model_files import clip_path
from synthvlm.report.published import differences

if TYPE_CHECKING:
    import numpy.typing as npt

    from synthvlm.data_sets.pairs import BadPair, DataSet
    from synthvlm.progress.display import Progress
    from synthvlm.scorers.clip import ClipSettings

__all__ = ["DataSetComparison", "DataSetFacts", "compare_data_sets", "spread"]

#: Words among which the distinct ones are counted, at most.
_TYPE_TOKENS = 10_000


@dataclass(frozen=True, slots=True)
class DataSetFacts:
    """A data set, measured.

    Attributes:
        label: What it is called.
        path: As the user wrote it.
        captions: Its captions.
        images: Its images and scores.
        sampled: Pairs that were to be scored.
        scores: Mean of each scorer, by its name.
        score: Mean of the weighted sum of the scorers.
        types: Distinct ones among the first ``type_tokens`` words of the sample.
        type_tokens: The same number for all data sets that are compared.
    """

    label: str
    path: str
    captions: CaptionFacts
    images: ImageFacts
    sampled: int
    scores: Mapping[str, Estimate]
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
        captions, images = self.captions, self.images
        truncated = [np.zeros(self.scored, bool), *images.scored.truncated.values()]
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
            **{score_column(name): _interval(mean) for name, mean in self.scores.items()},
            "score": _interval(self.score),
            "truncated_captions": int(np.any(truncated, axis=0).sum()),
            "width": spread(images.sizes[:, 0]),
            "height": spread(images.sizes[:, 1]),
            "words": spread(captions.words),
            "tokens": None if captions.tokens is None else spread(captions.tokens),
            "vocabulary": captions.vocabulary,
            "type_token": {"types": self.types, "tokens": self.type_tokens},
            "duplicate_captions": captions.duplicates,
            "near_duplicate_captions": captions.near_duplicates,
            "duplicate_files": images.same_file,
            "duplicate_pixels_in_sample": images.same_pixels,
        }


@dataclass(frozen=True, slots=True)
class DataSetComparison:
    """Data sets, measured alike.

    Attributes:
        data_sets: In the order in which they were given.
        settings: How they were measured.
        device: That scored.
        image_map: Of image embeddings; None where there is none.
        text_map: Of text embeddings, likewise.
        notes: What people should know of the figures.
    """

    data_sets: tuple[DataSetFacts, ...]
    settings: ComparisonSettings
    device: str
    image_map: EmbeddingMap | None
    text_map: EmbeddingMap | None
    notes: tuple[str, ...]

    @property
    def embedded_by(self) -> str | None:
        """Name of the scorer whose embeddings the maps show."""
        return self.data_sets[0].images.scored.embedded_by

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        clip, ssim = self.settings.clip, self.settings.ssim
        values: dict[str, Any] = {"kind": "data sets"}
        if clip is not None:
            values |= {"clip": clip.model}
        if ssim is not None:
            sides = [ssim.side, ssim.model_input_side]
            values |= {"ssim_sides": sides, "ssim_weight": ssim.weight}
        return {
            **values,
            "scoring": {
                name: settings.model_dump(mode="json", exclude=OF_RUNS)
                for name, settings in self.settings.scorers.items()
            },
            "comparable_with_published": self.settings.is_comparable,
            "data_sets": [facts.values() for facts in self.data_sets],
            "notes": list(self.notes),
        }


def compare_data_sets(
    data_sets: Sequence[DataSet], settings: ComparisonSettings, progress: Progress
) -> DataSetComparison:
    """Measure data sets alike.

    Each is read twice as a stream: its captions, then its images, of which a sample chosen by a
    hash of the id is decoded and scored.

    Args:
        data_sets: One or more.
        settings: How they are measured.
        progress: Shows the work.

    Raises:
        CaptionSourceError: A data set cannot be read, or has no usable pair.
        ModelError: A scorer's model cannot be loaded.
        PluginError: A scorer of a user fails.
    """
    with ExitStack() as resources:
        scorers = LoadedScorers.load(settings, resources)
        count_tokens = None if settings.clip is None else _token_counter(settings.clip)
        measured = [
            _measure(data_set, settings, scorers, count_tokens, progress) for data_set in data_sets
        ]
    tokens = min(len(_sample_words(captions, images)) for captions, images in measured)
    facts = tuple(
        _facts(data_set, captions, images, settings, tokens)
        for data_set, (captions, images) in zip(data_sets, measured, strict=True)
    )
    notes = list(_notes(facts, settings))
    image_map = text_map = None
    missing = _missing_for_maps(facts)
    if settings.map_points and missing:
        notes.append(f"no map: {missing}")
    elif settings.map_points:
        scored = [one.images.scored for one in facts]
        images = [pairs.image_embeddings for pairs in scored]
        texts = [pairs.text_embeddings for pairs in scored]
        image_map = _map("images", images, settings.seed, progress)
        text_map = _map("texts", texts, settings.seed, progress)
        if image_map is None or text_map is None:
            points = sum(map(len, images))
            notes.append(f"no map: it needs {FEWEST} different points or more, of {points:,}")
    return DataSetComparison(facts, settings, scorers.device, image_map, text_map, tuple(notes))


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
    settings: ComparisonSettings,
    scorers: LoadedScorers,
    count_tokens: TokenCounter | None,
    progress: Progress,
) -> tuple[CaptionFacts, ImageFacts]:
    began = time.monotonic()
    progress.start(f"{data_set.label}: captions", None, "captions")
    captions = read_caption_facts(data_set, count_tokens, progress)
    progress.finish(
        f"{data_set.label}: captions",
        f"{captions.count:,} captions, {len(captions.bad):,} bad records "
        f"({time.monotonic() - began:.1f} s)",
    )
    began = time.monotonic()
    progress.start(f"{data_set.label}: images", captions.count, "images")
    images = read_image_facts(data_set, captions, scorers, settings, progress)
    progress.finish(
        f"{data_set.label}: images",
        f"{len(images.scored.positions):,} pairs scored, {len(images.bad):,} bad images "
        f"({time.monotonic() - began:.1f} s)",
    )
    return captions, images


def _facts(
    data_set: DataSet,
    captions: CaptionFacts,
    images: ImageFacts,
    settings: ComparisonSettings,
    tokens: int,
) -> DataSetFacts:
    scores = images.scored.scores
    weighted = sum(own.weight * scores[name] for name, own in settings.scorers.items())
    return DataSetFacts(
        data_set.label,
        data_set.path,
        captions,
        images,
        settings.sample_size(captions.count),
        {name: mean_interval(values.tolist()) for name, values in scores.items()},
        mean_interval(np.asarray(weighted).tolist()),
        len(np.unique(_sample_words(captions, images)[:tokens])),
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


def _token_counter(clip: ClipSettings) -> TokenCounter:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(clip_path(clip.model), revision=clip.revision)

    def count(texts: Sequence[str]) -> list[int]:
        rows = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [len(row) for row in rows]

    return count


def _missing_for_maps(facts: Sequence[DataSetFacts]) -> str | None:
    """What maps need that is not there."""
    if any(one.images.scored.embedded_by is None for one in facts):
        return "it needs a scorer with embeddings of images and captions, such as clip"
    return None if has_tsne() else "it needs openTSNE, pip install 'synthvlm[compare]'"


def _map(
    name: str, embeddings: Sequence[npt.NDArray[np.float32]], seed: int, progress: Progress
) -> EmbeddingMap | None:
    stage = f"map of {name}"
    began = time.monotonic()
    progress.start(stage, None, "points")
    plane = embedding_map(embeddings, seed=seed)
    points = sum(map(len, embeddings))
    progress.finish(stage, f"{points:,} points ({time.monotonic() - began:.1f} s)")
    return plane


def _notes(facts: Sequence[DataSetFacts], settings: ComparisonSettings) -> Iterator[str]:
    for one in facts:
        if one.sampled < one.captions.count:
            yield (
                f"{one.label}: scores are of {one.scored:,} pairs of {one.captions.count:,}, "
                f"chosen by a hash of the id; the other images were opened, not decoded"
            )
        for name, truncated in one.images.scored.truncated.items():
            if truncated.any():
                yield (
                    f"{one.label}: {truncated.sum():,} of {one.scored:,} scored captions are "
                    f"longer than {model_label(name)} reads; it scored their beginning"
                )
    yield from differences(settings.clip, settings.ssim)
    if settings.clip is None:
        yield "no numbers of tokens: they are CLIP's, and the scorer clip is off"


def _interval(estimate: Estimate) -> dict[str, float | None]:
    return {"mean": estimate.value, "low": estimate.low, "high": estimate.high}
