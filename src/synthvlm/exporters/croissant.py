"""Croissant 1.1: a description of the files of the other formats, for search engines and tools."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import orjson

from synthvlm.data import score_column
from synthvlm.exporters.base import DataSetFacts, ExportedPair, Exporter, Write
from synthvlm.exporters.huggingface import HuggingFaceExporter

__all__ = ["CroissantExporter"]

_VERSION = "http://mlcommons.org/croissant/1.1"
#: Media types by the ends of names; a file of another kind is plain bytes.
_MEDIA_TYPES = {
    ".parquet": "application/x-parquet",
    ".jsonl": "application/jsonlines",
    ".json": "application/json",
    ".tar": "application/x-tar",
    ".yaml": "application/yaml",
    ".csv": "text/csv",
}
_TERMS = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileProperty fileObject "
    "fileSet format includes isArray isLiveDataset jsonPath key md5 parentField path recordSet "
    "references regex repeated replace samplingRate separator source subField transform"
)
#: What the terms mean, as the specification gives it.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _TERMS.split()},
}


class CroissantExporter(Exporter):
    """Writes ``croissant.json``: files with checksums, and the columns of the Parquet files."""

    name: ClassVar[str] = "croissant"
    usage = (
        "Croissant: `croissant.json` describes the files; "
        '`mlcroissant.Dataset("croissant.json").records("train")` reads the Parquet files in '
        "`data/`."
    )

    def write_part(self, part: int, pairs: Iterable[ExportedPair], write: Write) -> bytes:
        """Nothing: it has no pairs of its own."""
        return b""

    def finish(self, parts: Iterable[bytes], write: Write) -> None:
        """Nothing: see ``describe``."""

    def describe(self, facts: DataSetFacts, write: Write) -> None:
        """Write the description."""
        write("croissant.json", [orjson.dumps(_description(facts), option=orjson.OPT_INDENT_2)])


def _description(facts: DataSetFacts) -> dict[str, Any]:
    about: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _VERSION,
        "name": facts.name,
        "description": facts.description,
        "identifier": facts.identity,
        "keywords": ["synthetic", "image-caption"],
    }
    if facts.license is not None:
        about["license"] = facts.license
    if facts.version is not None:
        about["version"] = facts.version
    tables = [split for split in facts.splits if _tables(facts, split)]
    return about | {
        "distribution": [
            *(_file(name, *facts.files[name]) for name in sorted(facts.files)),
            *map(_images, facts.image_folders),
            *map(_file_set, tables),
        ],
        "recordSet": [_record_set(split, facts) for split in tables],
    }


def _tables(facts: DataSetFacts, split: str) -> bool:
    before, _, after = HuggingFaceExporter.tables.format(split=split).partition("*")
    return any(name.startswith(before) and name.endswith(after) for name in facts.files)


def _file(name: str, size: int, sha256: str) -> dict[str, Any]:
    suffix = next((suffix for suffix in _MEDIA_TYPES if name.endswith(suffix)), "")
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": _MEDIA_TYPES.get(suffix, "application/octet-stream"),
        "sha256": sha256,
    }


def _images(folder: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": folder,
        "name": folder,
        "encodingFormat": ["image/png", "image/jpeg", "image/webp"],
        "includes": f"{folder}/*/*",
    }


def _file_set(split: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{split}-tables",
        "name": f"{split}-tables",
        "encodingFormat": _MEDIA_TYPES[".parquet"],
        "includes": HuggingFaceExporter.tables.format(split=split),
    }


def _record_set(split: str, facts: DataSetFacts) -> dict[str, Any]:
    columns = {
        "id": ("sc:Text", "Of the caption."),
        "image": ("sc:ImageObject", "Generated from the caption."),
        "caption": ("sc:Text", "What the image shows."),
        "source": ("sc:Text", "Where the caption is from."),
        "rank": ("sc:Integer", "Place in the selection, 1 is best."),
        **{
            score_column(name): ("sc:Float", f"Score of the pair by {name}.")
            for name in facts.scores
        },
        "score": ("sc:Float", "Weighted sum of the scores."),
        "seed": ("sc:Integer", "Of the image."),
        "index": ("sc:Integer", "Of the image among the candidates of its caption."),
    }
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "description": f"{facts.splits[split]} pairs of a caption and an image.",
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{split}/{name}",
                "name": name,
                "description": about,
                "dataType": kind,
                "source": {
                    "fileSet": {"@id": f"{split}-tables"},
                    "extract": {"column": name},
                    **({"transform": {"jsonPath": "bytes"}} if name == "image" else {}),
                },
            }
            for name, (kind, about) in columns.items()
        ],
    }
