"""The recipe's settings of sources: where captions come from, and who writes them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from synthvlm.components.settings import InHash, ModelName, Settings, SourcePath
from synthvlm.endpoints.connection import EndpointSettings

__all__ = ["STDIN", "ConceptWriterSettings", "ImageCaptionerSettings", "SourceSettings"]


#: The path that stands for standard input.
STDIN = "-"


def _column_name(value: object) -> object:
    """Columns may be given by their numbers."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _delimiter(text: str) -> str:
    text = {r"\t": "\t", "tab": "\t"}.get(text, text)
    if len(text) != 1 or text in "\"'\r\n\0" or text.isalnum():
        raise ValueError("expected one character, such as ';' or '|', or \\t for a tab")
    return text


_Column = Annotated[str, BeforeValidator(_column_name)]
_Delimiter = Annotated[str, AfterValidator(_delimiter)]


class ImageCaptionerSettings(Settings):
    """A model that writes a caption of each image of a source."""

    model: Annotated[str, ModelName()] = Field(
        min_length=1, description="Name at the endpoint, else hub id or folder."
    )
    endpoint: Annotated[EndpointSettings | None, InHash.NEVER] = Field(
        None, description="null: the model runs here."
    )
    prompt: str | None = Field(None, description="Of an endpoint; default: the built-in one.")
    max_tokens: Annotated[int, InHash.ALWAYS] = Field(100, ge=1, description="Longest caption.")
    num_beams: Annotated[int, InHash.ALWAYS] = Field(
        1, ge=1, description="Of a model that runs here."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    batch_size: Annotated[int, InHash.NEVER] = Field(16, ge=1, description="Images at a time.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.prompt is not None and self.endpoint is None:
            raise ValueError("prompt is for an endpoint; a model that runs here is not asked")
        if self.endpoint is not None and (self.num_beams != 1 or self.revision is not None):
            raise ValueError("num_beams and revision are for a model that runs here")
        return self


class ConceptWriterSettings(Settings):
    """A language model that writes captions of each concept of a list."""

    model: str = Field(min_length=1, description="Name at the endpoint.")
    endpoint: Annotated[EndpointSettings, InHash.NEVER]
    captions_per_concept: int = Field(ge=1, description="All different.")
    prompt: str | None = Field(None, description="Holds {concept} and {count}; default: built-in.")
    temperature: Annotated[float, InHash.ALWAYS] = Field(0.9, ge=0.0, description="Of sampling.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.prompt is not None:
            for place in ("{concept}", "{count}"):
                if place not in self.prompt:
                    raise ValueError(f"prompt must hold {place}")
        return self


class SourceSettings(Settings):
    """Where captions come from."""

    path: Annotated[SourcePath, InHash.NEVER] = Field(
        description="File, glob, fsspec URL, data set of the hub, or `tiny` (bundled captions).",
    )
    # The stem of the path stands for a name that is not set, so both are hashed as one.
    name: Annotated[str | None, InHash.NEVER] = Field(
        None, min_length=1, description="Stays on every row; default: stem."
    )
    format: Annotated[
        Literal[
            "auto", "txt", "json", "jsonl", "csv", "tsv", "flickr", "cc3m", "cc12m", "parquet",
            "coco", "llava", "webdataset", "images", "huggingface",
        ],
        InHash.ALWAYS,
    ] = Field("auto", description="auto: by the ending of the path.")  # fmt: skip
    text_field: Annotated[_Column, InHash.ALWAYS] = Field(
        "caption",
        description="Column (name, or number from 1) or key; inside of another: `row.caption`.",
    )
    id_field: Annotated[_Column | None, InHash.ALWAYS] = Field(
        "id", description="Column or key of the id; `id` is optional. null: rows are numbered."
    )
    image_field: Annotated[_Column | None, InHash.NEVER] = Field(
        None, description="Column or key of the original image."
    )
    header: bool = Field(True, description="Of a CSV or TSV: its first row names the columns.")
    delimiter: _Delimiter | None = Field(
        None, description="Of a CSV or TSV; null: that of the format, or another if evident."
    )
    quoting: bool | None = Field(
        None,
        description="Of a CSV or TSV: fields may stand in double quotes; null: by its format, or "
        "where evident.",
    )
    image_root: Annotated[SourcePath | None, InHash.NEVER] = Field(
        None, description="Folder of the original images; default: that of the source."
    )
    split: Annotated[str, InHash.ALWAYS] = Field("train", description="Of a Hugging Face data set.")
    subset: str | None = Field(None, description="Of a Hugging Face data set.")
    revision: str | None = Field(None, description="Of a data set on the hub.")
    terms: Annotated[str | None, InHash.NEVER] = Field(
        None, description="Entry of the table of terms for its captions, such as coco-captions."
    )
    image_captioner: Annotated[ImageCaptionerSettings | None, InHash.NEVER] = Field(
        None, description="Writes a caption of each image; those of the source are not read."
    )
    concept_writer: Annotated[ConceptWriterSettings | None, InHash.NEVER] = Field(
        None, description="Writes captions; the source lists the concepts, in text_field."
    )

    @property
    def has_images(self) -> bool:
        """Whether its captions may have original images."""
        if self.image_captioner is not None or self.image_field is not None:
            return True
        format: str = self.format
        if format == "auto":
            ending = re.search(r"\.(tar|json)(\.(gz|bz2|xz|zst))?$", self.path)
            format = {"tar": "webdataset", "json": "json"}.get(ending[1] if ending else "", format)
        # COCO captions and LLaVA conversations are known by their content, so not here.
        is_json_with_images = format == "json" and self.image_root is not None
        formats = ("coco", "flickr", "llava", "webdataset", "images")
        return is_json_with_images or format in formats

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.image_captioner is not None and self.concept_writer is not None:
            raise ValueError("image_captioner and concept_writer are both set: choose one")
        return self
