"""The recipe's settings of the export: what is written to the data set."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from synthvlm.components.settings import InHash, Settings
from synthvlm.exporters import EXPORTERS

__all__ = ["C2paSettings", "ExportSettings"]


class C2paSettings(Settings):
    """A signed C2PA manifest in each exported image."""

    certificate: Annotated[str, InHash.NEVER] = Field(
        min_length=1, description="PEM file: the certificate, then those that it was issued by."
    )
    private_key: Annotated[str, InHash.NEVER] = Field(
        min_length=1, description="PEM file of its key."
    )


class ExportSettings(Settings):
    """What is written to ``dataset/``."""

    formats: list[str] = Field(
        ["llava", "huggingface"], min_length=1, description="Names of exporters."
    )
    images_per_folder: int = Field(10_000, ge=1, description="Pairs of a part, too.")
    instructions: list[str] | None = Field(
        None,
        min_length=1,
        description="Questions of the formats llava and messages; default: the built-in ones.",
    )
    validation_share: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="Share of pairs (by captions) held out as the split validation."
    )
    options: dict[str, dict[str, Any]] = Field(
        {}, description="Settings of exporters, by name of the format."
    )
    license: str | None = Field(None, description="Licence of the data set, for its card.")
    version: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        None, description="Version of the data set, such as 1.2.0, for its card and metadata."
    )
    image_details: bool = Field(
        True,
        description="Write model, seed and run fingerprint into each image; that it is synthetic "
        "is always written.",
    )
    c2pa: C2paSettings | None = Field(None, description="Sign each image; null: not signed.")

    @field_validator("version", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        if isinstance(value, int | float):  # YAML reads 1.10 as 1.1
            raise ValueError("a version is text: put it in quotes, as in export.version='\"1.10\"'")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.exporters()
        for name in self.options.keys() - {*self.formats}:
            raise ValueError(f"options: {name!r} is not among the formats: remove it or add that")
        return self

    def exporters(self) -> dict[str, Settings]:
        """The settings of each exporter, by name of its format."""
        options = dict(self.options)
        for name in {"llava", "messages"}.intersection(self.formats):
            if self.instructions is not None:
                options[name] = {"instructions": self.instructions, **options.get(name, {})}
        return {
            name: EXPORTERS.settings(
                name, options.get(name, {}), ("formats", place), ("options", name)
            )
            for place, name in enumerate(self.formats)
        }
