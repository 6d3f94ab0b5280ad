"""The recipe's settings of curation: which captions become prompts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainValidator, SerializeAsAny

from synthvlm.captions.rules import RULES
from synthvlm.captions.rules.base import RuleSettings
from synthvlm.components.settings import InHash, ModelName, Settings

__all__ = ["AlignmentSettings", "ConceptSettings", "CurationSettings", "NearDuplicateSettings"]


class NearDuplicateSettings(Settings):
    """Near-duplicates: of captions that are similar enough, the first stays."""

    similarity: Annotated[float, InHash.ALWAYS] = Field(
        0.95,
        gt=0.0,
        le=1.0,
        description="Jaccard similarity of words and pairs of adjacent words.",
    )


class AlignmentSettings(Settings):
    """The alignment round: of the captions with an original image, the share that fits it best."""

    model: Annotated[str, ModelName("clip"), InHash.ALWAYS] = Field(
        "openai/clip-vit-base-patch32", min_length=1, description="A CLIP model."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    prefix: Annotated[str, InHash.ALWAYS] = Field(
        "A photo depicts ", description="What is put before each caption."
    )
    top_fraction: Annotated[float, InHash.NEVER] = Field(
        0.4, gt=0.0, le=1.0, description="Share that is kept."
    )
    batch_size: Annotated[int, InHash.NEVER] = Field(32, ge=1, description="Captions at a time.")


class ConceptSettings(Settings):
    """Concept balancing: each concept picks its first ``cap`` captions, in an order by hash."""

    cap: int = Field(ge=1, description="Captions that each concept picks.")
    concepts: list[str] = Field(min_length=1, description="Words and phrases.")
    keep_unmatched: bool = Field(True, description="Keep captions that mention no concept.")


class CurationSettings(Settings):
    """Which captions become prompts."""

    fix_unicode: bool = Field(True, description="Mend text that was decoded wrongly.")
    normalize_punctuation: bool = Field(True, description="Write Unicode punctuation as ASCII.")
    remove_invisible: bool = Field(
        False, description="Drop characters that show nothing, such as zero-width spaces."
    )
    rules: Annotated[
        dict[str, SerializeAsAny[RuleSettings] | None], PlainValidator(RULES.validate)
    ] = Field(
        default_factory=RULES.defaults,
        description="By name of the rule; null switches one off that is on by default.",
    )
    deduplicate: bool = Field(True, description="Of equal captions, keep the first.")
    near_duplicates: NearDuplicateSettings | None = None
    alignment: AlignmentSettings | None = None
    concepts: ConceptSettings | None = None
