"""Every setting of a recipe, by its path, and the same recipe with another valid value of it.

Several recipes have everything that excludes something else; ``plain`` has nothing on.
"""

from __future__ import annotations

import copy
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from synthvlm.captions.rules import RULES
from synthvlm.components.settings import TINY, InHash, Settings
from synthvlm.data import fingerprint
from synthvlm.errors import SynthVLMError
from synthvlm.exporters import EXPORTERS
from synthvlm.generators import Generator
from synthvlm.models.model_files import identify
from synthvlm.recipe import Recipe
from synthvlm.recipe.export import ExportSettings
from synthvlm.run_folder.marker import Marker, StoredFile
from synthvlm.run_folder.marks import Marks
from synthvlm.scorers import SCORERS
from synthvlm.selectors import Selector
from synthvlm.stages.curation.resources import is_written
from synthvlm.stages.curation.rules import model_rules_on
from synthvlm.stages.data_set_fingerprints import part_fingerprints, selection_fingerprint
from synthvlm.stages.fingerprints import (
    calibration_fingerprint,
    content_fingerprint,
    image_fingerprint,
    measured_fingerprint,
    model_rule_fingerprint,
    shard_fingerprint,
    sources_fingerprint,
    target_fingerprint,
    text_rule_fingerprints,
    verdicts_fingerprint,
    written_fingerprint,
)
from synthvlm.stages.generation.requests import Prompt
from synthvlm.stages.generation.stopping import falling_thresholds

__all__ = [
    "PLUG_INS",
    "SettingOfRecipe",
    "fingerprints",
    "nested_settings",
    "recipes",
    "settings_of",
]


class _Level(Settings):
    level: int = 1


class OwnGenerator(Generator):
    """A plug-in's generator."""

    name: ClassVar[str] = "own_generator"
    version = "1"
    Settings = _Level


class OtherGenerator(OwnGenerator):
    """Another one."""

    name: ClassVar[str] = "other_generator"


class OwnSelector(Selector):
    """A plug-in's selector."""

    name: ClassVar[str] = "own_selector"
    version = "1"
    Settings = _Level


class OtherSelector(OwnSelector):
    """Another one."""

    name: ClassVar[str] = "other_selector"


#: Plug-ins that recipes name.
PLUG_INS = (OwnGenerator, OtherGenerator, OwnSelector, OtherSelector)


def recipes(folder: Path) -> dict[str, dict[str, Any]]:
    """Plain values of recipes that together have every setting; the folder is for their files."""
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "captions.txt").write_text(f"a caption of {name}\n")
        (folder / name / "names.txt").write_text(f"Ada {name.upper()}\n")
        (folder / name / "words.txt").write_text(f"word{name}\n")
        (folder / name / "image.png").write_bytes(f"an image of {name}".encode())
    a = f"{folder}/a"
    chat = {"url": "http://localhost:1/v1"}
    bounds = {"min": 0.1, "max": 0.9}
    whole = {
        "seed": 1,
        "limit": 5,
        "sources": [
            {"path": f"{a}/captions.txt", "name": "one", "image_field": "image"},
            {
                "path": f"{a}/captions.txt",
                "name": "two",
                "format": "csv",
                "image_root": a,
                "image_captioner": {"model": "captioner"},
            },
            {
                "path": f"{a}/captions.txt",
                "name": "three",
                "concept_writer": {
                    "model": "writer",
                    "endpoint": chat,
                    "captions_per_concept": 2,
                    "prompt": "{concept} {count}",
                },
            },
        ],
        "curation": {
            "rules": {
                "alnum_ratio": {**bounds, "languages": {"de": bounds}},
                "char_rep_ratio": bounds,
                "flagged_words_ratio": {**bounds, "words": f"{a}/words.txt"},
                "special_char_ratio": bounds,
                "word_rep_ratio": bounds,
                "char_count": bounds,
                "word_count": bounds,
                "language": bounds,
                "personal_data": bounds,
                "person_names": {**bounds, "allowed_file": f"{a}/names.txt"},
                "benchmark_overlap": {**bounds, "files": [f"{a}/captions.txt"], "format": "txt"},
                "tagged_names": {**bounds, "model": "tagger", "allowed_file": f"{a}/names.txt"},
                "perplexity": {**bounds, "model": "lm", "tokenizer": "spm"},
                "image_text_matching": {**bounds, "model": "blip"},
                "clip_similarity": {**bounds, "model": "clip"},
                "judge": {**bounds, "model": "judge", "endpoint": chat},
            },
            "near_duplicates": {},
            "alignment": {"model": "clip"},
            "concepts": {"cap": 3, "concepts": ["dog"]},
        },
        "generation": {
            "model": "org/pipeline",
            "image": {"format": "jpeg", "quality": 90},
            "loras": [{"model": "lora"}],
            "refiner": {"model": "refiner"},
            "safety": {"model": "safety", "labels": ["nsfw"]},
            "adaptive": {},
        },
        "scoring": {"clip": {"model": "clip"}, "ssim": {}},
        "selection": {"top_n": 3, "min_scores": {"clip_score": 0.1}},
        "export": {
            "options": {"llava": {"instructions": ["What is this?"]}},
            "images_per_folder": 1,
        },
        "run": {"device": "cpu"},
    }
    other = copy.deepcopy(whole)
    other["sources"][1]["image_captioner"] = {"model": "vlm", "endpoint": chat, "prompt": "Say!"}
    other["curation"]["rules"]["judge"] = {**bounds, "model": "judge", "prompt": "Is {caption} ok?"}
    other["generation"] = {
        "model": "name",
        "endpoint": {"url": "http://localhost:2/v1"},
        "adaptive": {"threshold": 0.5, "decay": 0.1},
    }
    other["selection"] = {"top_fraction": 0.5}
    other["export"] = {
        "instructions": ["What is this?"],
        "formats": ["llava"],
        "c2pa": {"certificate": "certificate.pem", "private_key": "key.pem"},
    }
    plain = {
        "sources": [{"path": f"{a}/captions.txt"}],
        "generation": {"model": "name", "image": {"format": "webp"}},
        "run": {"device": "cpu"},
    }
    parts = {
        **plain,
        "generation": {"model": "name", "vae": {"model": "decoder", "subfolder": "vae"}},
    }
    plug_ins = {
        **plain,
        "generation": {"generator": "own_generator", "options": {"level": 2}},
        "selection": {"method": "own_selector", "options": {"level": 2}},
    }
    # All other components, with their least settings: no new one needs to be added here.
    rules = {
        name: bounds | _least(RULES[name].Settings, name)
        for name in RULES.names()
        if name not in whole["curation"]["rules"] and RULES.release(name) is None
    }
    scorers = {
        name: _least(SCORERS[name].Settings, name)
        for name in SCORERS.names()
        if name not in whole["scoring"] and SCORERS.release(name) is None
    }
    more = {
        **plain,
        "curation": {"rules": rules},
        "generation": {**plain["generation"], "faces": {"model": "faces", "labels": ["face"]}},
        "scoring": scorers,
        "selection": {
            "near_duplicate_images": {"max_hash_distance": 2},
            "image_overlap": {"images": [f"{a}/image.png"]},
        },
    }
    target = {**plain, "target": {"pairs": 2, "max_images": 20}}
    named = {"whole": whole, "other": other, "plain": plain, "parts": parts, "target": target}
    return {**named, "plug-ins": plug_ins, "more": more}


def _least(model: type[Settings], name: str) -> dict[str, Any]:
    """The settings that must be given: names of models and the like; no embedded model is read."""
    fields = model.model_fields.items()
    return {key: name for key, field in fields if field.is_required() or field.default == TINY}


@dataclass(frozen=True)
class SettingOfRecipe:
    """A setting of a recipe.

    Attributes:
        keys: Where it is in the plain values.
        owner: The settings that it is a field of.
        name: Of the field.
        is_never: Whether it, or what it is part of, is marked ``InHash.NEVER``.
    """

    keys: tuple[str | int, ...]
    owner: type[Settings]
    name: str
    is_never: bool

    @property
    def path(self) -> str:
        """Its place in any recipe: a number of a list is ``*``."""
        return ".".join("*" if isinstance(key, int) else key for key in self.keys)

    def changed(self, values: dict[str, Any]) -> Recipe | None:
        """A recipe of these values with another value of this one; None: no other is valid."""
        before = Recipe.from_values(values).model_dump(mode="json")
        place: Any = before
        for key in self.keys[:-1]:
            place = place[key]
        old = place[self.keys[-1]]
        literals = list(_literals(self.owner.model_fields[self.name].annotation))
        for value in (*literals, *_others(old)):
            if value == old and type(value) is type(old):
                continue
            place[self.keys[-1]] = value
            try:
                recipe = Recipe.from_values(copy.deepcopy(before))
                fingerprints(recipe)
            except (SynthVLMError, OSError, ValueError):
                continue
            return recipe
        return None


def settings_of(recipe: Recipe) -> list[SettingOfRecipe]:
    """Every setting that a recipe has; sections are followed, not given."""
    return list(_walk(recipe, (), False))


def _walk(
    settings: Settings, keys: tuple[str | int, ...], is_never: bool
) -> Iterator[SettingOfRecipe]:
    for name, field in type(settings).model_fields.items():
        value, never = getattr(settings, name), is_never or InHash.NEVER in field.metadata
        inner = list(_settings_in(value, (*keys, name)))
        for place, one in inner:
            yield from _walk(one, place, never)
        if not inner:
            yield SettingOfRecipe((*keys, name), type(settings), name, never)


def _settings_in(
    value: Any, keys: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Settings]]:
    if isinstance(value, Settings):
        yield keys, value
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _settings_in(item, (*keys, place))
    elif isinstance(value, dict):
        for place, item in value.items():
            yield from _settings_in(item, (*keys, place))


def nested_settings(model: type[Settings]) -> set[type[Settings]]:
    """The settings that are part of some settings, and those themselves."""
    found: set[type[Settings]] = set()

    def add(annotation: Any) -> None:
        is_settings = isinstance(annotation, type) and issubclass(annotation, Settings)
        if is_settings and annotation not in found:
            found.add(annotation)
            for field in annotation.model_fields.values():
                add(field.annotation)
        for argument in typing.get_args(annotation):
            add(argument)

    add(model)
    return found


def _literals(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is typing.Literal:
        yield from typing.get_args(annotation)
    for argument in typing.get_args(annotation):
        yield from _literals(argument)


def _others(value: Any) -> Iterator[Any]:
    """Values that a setting may have instead of one."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 1, value + 8, value / 2, value + 0.05, value - 1)
    elif isinstance(value, str):
        yield from (value.replace("/a/", "/b/"), "de", "other_generator", "other_selector")
        yield from (value + "2", f"{value[:-1]}b", value + " again")
    elif isinstance(value, list):
        yield from (["llava", "huggingface"], ["llava"], [*value, "another"])
        yield [str(item).replace("/a/", "/b/") for item in value]
    elif isinstance(value, dict):
        yield from ({**value, "another": 1}, {"score": 0.5}, {"llava": {"instructions": ["Eh?"]}})
        yield from ({"level": 5}, {})
    endpoint = {"url": "http://localhost:1/v1"}
    yield "Is {caption} there?"
    yield from (None, 1, 2, 0.25, "another", True, {}, [], ["another"], endpoint, ";")
    yield from ({"model": "another"}, [{"model": "another"}], {"cap": 1, "concepts": ["dog"]})
    yield {"pairs": 1, "max_images": 10}
    yield {"images": [str(Path(__file__).parents[2] / "docs/images/pairs.png")]}
    yield {"certificate": "another", "private_key": "another"}
    yield {"model": "another", "endpoint": endpoint, "captions_per_concept": 1}


class _Selected:
    """Stands for the selected pairs of a run."""

    def __init__(self, settings: ExportSettings) -> None:
        self._size, self._share = min(settings.images_per_folder, 4), settings.validation_share

    def parts(self) -> Iterator[pa.Table]:
        rows = pa.table({"rank": list(range(4))})
        if self._share:
            rows = rows.append_column("split", pa.array(["train"] * 4))
        for start in range(0, 4, self._size):
            yield rows.slice(start, self._size)

    def inputs(self, part: pa.Table) -> list[str]:
        return ["checksum"]


def fingerprints(recipe: Recipe) -> dict[str, str]:
    """Every fingerprint that a recipe decides, by the work that is known by it.

    What one depends on through another is not in it: a changed image changes no selection here.
    """
    content = content_fingerprint(recipe)
    rules = text_rule_fingerprints(recipe)
    generation = recipe.generation
    adaptive, thresholds = generation.adaptive, None
    if adaptive is not None and adaptive.threshold is not None:
        thresholds = falling_thresholds(adaptive.threshold, adaptive.decay, generation.candidates)
    found = {
        "captions": content,
        "end of captions": sources_fingerprint(recipe, "content"),
        "shard of captions": measured_fingerprint(recipe, "content", 1, [("id", None)]),
        "verdicts": verdicts_fingerprint(recipe, {0: Marker("measures", facts={"rules": {}})}),
        "images": image_fingerprint(recipe),
        "choice": shard_fingerprint(recipe, "images", thresholds, [Prompt("id", "text", "x")]),
        "selection": selection_fingerprint(
            recipe, {}, {0: Marker("x", (StoredFile("candidates/x", 1, "checksum"),))}, Marks()
        ),
        "export": fingerprint(
            sorted(part_fingerprints(recipe, _Selected(recipe.export)).items())  # type: ignore[arg-type]
        ),
        "formats": fingerprint(
            [
                EXPORTERS.identity(name, one, identify)
                for name, one in recipe.export.exporters().items()
            ]
        ),
    }
    if adaptive is not None and adaptive.threshold is None:
        found["calibration"] = calibration_fingerprint(recipe, adaptive, "images")
    if recipe.target is not None:
        found["rounds of the target"] = target_fingerprint(recipe, "images and captions", Marks())
    found |= {f"measures of {name}": value for name, value in rules.items()}
    found |= {
        f"measures of {name}": model_rule_fingerprint(recipe, name)
        for name in model_rules_on(recipe)
    }
    for number, source in enumerate(recipe.sources):
        if is_written(source):
            found[f"written {number}"] = written_fingerprint(recipe, source)
    return found
