"""The recipe's settings of selection: which pairs are the data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from synthvlm.components.contract import contract
from synthvlm.components.settings import InHash, Settings, SourcePath
from synthvlm.selectors import SELECTORS
from synthvlm.selectors.base import EMBEDDINGS

__all__ = [
    "ImageOverlapSettings",
    "NearDuplicateImageSettings",
    "SelectionSettings",
    "TargetSettings",
]


def _without_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: bound for name, bound in value.items() if bound is not None}
    return value


class NearDuplicateImageSettings(Settings):
    """Of images that are nearly the same, the best by score stays; by either measure."""

    max_similarity: float | None = Field(
        0.98,
        gt=0.0,
        lt=1.0,
        description="Above this cosine of their embeddings; null: they are not compared.",
    )
    max_hash_distance: int | None = Field(
        None,
        ge=0,
        le=7,
        description="Where so many of the 64 bits of their difference hashes differ, or fewer; "
        "null: not compared.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_similarity is None and self.max_hash_distance is None:
            raise ValueError("max_similarity and max_hash_distance are both null: set one")
        return self


class ImageOverlapSettings(Settings):
    """Images that are near copies of reference images, or of a part of one, are left out."""

    # Their content is hashed, where they are compared.
    images: Annotated[list[SourcePath], InHash.NEVER] = Field(
        min_length=1,
        description="Pictures, .tar shards, Parquet files, or folders of them; globs, fsspec URLs.",
    )
    image_field: str = Field(
        "image", min_length=1, description="Column of the images in Parquet files."
    )
    max_similarity: Annotated[float, InHash.ALWAYS] = Field(
        0.9, ge=0.5, lt=1.0, description="Above it, an image is a near copy."
    )


class SelectionSettings(Settings):
    """Which pairs are kept, and how many; neither number keeps all."""

    method: str = Field(
        "top",
        description="Name of a selector: top (best by score), quotas, coverage, or a plug-in's.",
    )
    options: Annotated[dict[str, Any], InHash.NEVER] = Field(
        {}, description="Settings of the selector."
    )
    top_n: int | None = Field(None, ge=1, description="Pairs that are kept.")
    top_fraction: float | None = Field(
        None, gt=0.0, le=1.0, description="Share of all pairs that is kept, rounded up."
    )
    min_scores: Annotated[dict[str, float], BeforeValidator(_without_null)] = Field(
        {}, description="Lowest scores (inclusive), e.g. {clip_score: 0.25, score: 0.7}."
    )

    near_duplicate_images: NearDuplicateImageSettings | None = None
    image_overlap: ImageOverlapSettings | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        SELECTORS.settings(self.method, self.options, ("method",), ("options",))
        if self.top_n is not None and self.top_fraction is not None:
            raise ValueError(
                "top_n and top_fraction are both set: --set selection.top_fraction=null, or "
                "--set selection.top_n=null"
            )
        return self

    @property
    def is_by_score(self) -> bool:
        """Whether the best pairs by score are selected, without exception."""
        has_exceptions = self.near_duplicate_images is not None or self.image_overlap is not None
        return self.method == "top" and not has_exceptions

    @property
    def selector(self) -> Settings:
        """The settings of the selector."""
        return SELECTORS.settings(self.method, self.options)

    @property
    def needs_embeddings(self) -> bool:
        """Whether it compares pairs by their embeddings."""
        twins = self.near_duplicate_images
        is_compared = twins is not None and twins.max_similarity is not None
        return is_compared or not set(EMBEDDINGS).isdisjoint(self.selector_columns)

    @property
    def selector_columns(self) -> Sequence[str]:
        """The columns of pairs that the selector needs; see ``Selector.columns``."""
        with contract("selector", self.method):
            return list(SELECTORS[self.method].columns(self.selector))


class TargetSettings(Settings):
    """Exactly so many pairs, of no more images than needed (docs/generation.md)."""

    pairs: int = Field(ge=1, description="Pairs that fulfil the minimum scores, and are selected.")
    max_images: int = Field(ge=1, description="Images after which the search ends.")
