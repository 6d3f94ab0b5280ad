"""The recipe's settings of curation: which captions become prompts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from synthvlm.recipe_base import Settings, SourcePath
from synthvlm.recipe_endpoints import EndpointSettings

__all__ = [
    "AlignmentSettings",
    "BenchmarkOverlapBounds",
    "Bounds",
    "ConceptSettings",
    "CurationSettings",
    "ImageTextBounds",
    "JudgeBounds",
    "NearDuplicateSettings",
    "PerplexityBounds",
    "PersonNamesBounds",
    "RuleSettings",
    "TaggedNamesBounds",
]


NonEmpty = Annotated[str, Field(min_length=1)]


class Bounds(Settings):
    """Keep a caption whose measure lies within the bounds, both inclusive."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("needs min, max or both (null switches the rule off)")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: nothing could pass")
        return self


class NgramBounds(Bounds):
    """Bounds on a repetition ratio of n-grams."""

    ngram: int = Field(10, ge=1)


class FlaggedWordsBounds(Bounds):
    """Bounds on the share of flagged words."""

    words: str | None = Field(None, description="JSON word list; default: the built-in list.")


class LanguageBounds(Bounds):
    """Bounds on the probability that a caption is in a language."""

    language: str = Field("en", description="ISO 639 code.")


class PersonNamesBounds(Bounds):
    """Bounds on the number of people's names, found by their form."""

    allowed: list[str] = Field([], description="Full names of public or fictional figures.")
    allowed_file: str | None = Field(None, description="More of them, one a line.")


class BenchmarkOverlapBounds(Bounds):
    """Bounds on the share of n-grams of words that occur in evaluation benchmarks."""

    max: float | None = 0.0
    files: list[SourcePath] = Field(min_length=1, description="Files, globs or fsspec URLs.")
    text_fields: list[NonEmpty] = Field(
        ["caption"], min_length=1, description="Columns or keys of texts; a file may lack some."
    )
    format: Literal["auto", "txt", "json", "jsonl", "csv", "tsv", "parquet", "coco"] = "auto"
    ngram: int = Field(8, ge=1, description="Words of an n-gram.")


class TaggedNamesBounds(PersonNamesBounds):
    """Bounds on the number of people's names, found by a token-classification model."""

    model: str = Field(min_length=1, description="Hub id or local folder.")
    revision: str | None = None
    batch_size: int = Field(32, ge=1)


class PerplexityBounds(Bounds):
    """Bounds on perplexity: by KenLM with SentencePiece, or by a causal language model."""

    model: str = Field(min_length=1, description="KenLM file, or hub id or folder of a causal LM.")
    tokenizer: str | None = Field(
        None, description="SentencePiece file of the KenLM model; null: the model is a causal LM."
    )
    revision: str | None = None
    batch_size: int = Field(16, ge=1)


class ImageTextBounds(Bounds):
    """Bounds on the agreement of a caption and its original image; one without is let pass."""

    model: str = Field(min_length=1, description="Hub id or local folder.")
    revision: str | None = None
    batch_size: int = Field(16, ge=1)


class JudgeBounds(Bounds):
    """Bounds on a language model's verdict: 1 is Yes, 0 is No."""

    model: str = Field(min_length=1, description="Name at the endpoint, else hub id or folder.")
    endpoint: EndpointSettings | None = Field(None, description="null: the model runs here.")
    prompt: str | None = Field(None, description="Holds {caption} once; default: the built-in.")
    reply_tokens: int = Field(16, ge=1, description="Longest reply of an endpoint.")
    revision: str | None = None
    batch_size: int = Field(16, ge=1, description="Captions at a time of a local model.")

    @model_validator(mode="after")
    def _check_prompt(self) -> Self:
        if self.prompt is not None and self.prompt.count("{caption}") != 1:
            raise ValueError("prompt must hold {caption} exactly once")
        return self


class RuleSettings(Settings):
    """The rules in their order; null switches one off. Defaults: SynthVLM's supplement."""

    alnum_ratio: Bounds | None = Bounds(min=0.60)
    char_rep_ratio: NgramBounds | None = NgramBounds(max=0.09373663)
    flagged_words_ratio: FlaggedWordsBounds | None = FlaggedWordsBounds(max=0.0)
    special_char_ratio: Bounds | None = Bounds(min=0.16534802, max=0.42023757)
    word_rep_ratio: NgramBounds | None = NgramBounds(max=0.03085751)
    char_count: Bounds | None = None
    word_count: Bounds | None = None
    language: LanguageBounds | None = None
    personal_data: Bounds | None = None
    person_names: PersonNamesBounds | None = None
    benchmark_overlap: BenchmarkOverlapBounds | None = None
    tagged_names: TaggedNamesBounds | None = None
    perplexity: PerplexityBounds | None = None
    image_text_matching: ImageTextBounds | None = None
    clip_similarity: ImageTextBounds | None = None
    judge: JudgeBounds | None = None


class NearDuplicateSettings(Settings):
    """Near-duplicates: of captions that are similar enough, the first stays."""

    similarity: float = Field(
        0.6,
        gt=0.0,
        le=1.0,
        description="Jaccard similarity of words and pairs of adjacent words.",
    )


class AlignmentSettings(Settings):
    """The alignment round: of the captions with an original image, the share that fits it best."""

    model: str = Field("openai/clip-vit-base-patch32", min_length=1, description="A CLIP model.")
    revision: str | None = None
    prefix: str = "A photo depicts "
    top_fraction: float = Field(0.4, gt=0.0, le=1.0)
    batch_size: int = Field(32, ge=1)


class ConceptSettings(Settings):
    """Concept balancing: each concept picks its first ``cap`` captions, in an order by hash."""

    cap: int = Field(ge=1, description="Captions that each concept picks.")
    concepts: list[str] = Field(min_length=1, description="Words and phrases.")
    keep_unmatched: bool = Field(True, description="Keep captions that mention no concept.")


class CurationSettings(Settings):
    """Which captions become prompts."""

    fix_unicode: bool = True
    normalize_punctuation: bool = True
    rules: RuleSettings = RuleSettings()
    deduplicate: bool = True
    near_duplicates: NearDuplicateSettings | None = None
    alignment: AlignmentSettings | None = None
    concepts: ConceptSettings | None = None
