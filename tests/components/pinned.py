"""What must stay the same from release to release: fingerprints, defaults, measures.

``python tests/components/pinned.py`` writes ``pinned.json`` anew. Read what `test_pinned.py` says
of a difference before doing that: by it, finished work of users is thrown away.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from every_setting import PLUG_INS, fingerprints, nested_settings, recipes

from synthvlm.captions.readers.normalize import normalize
from synthvlm.captions.rules import RULES
from synthvlm.captions.rules.base import TextRule
from synthvlm.captions.rules.method import measure
from synthvlm.components import plugins
from synthvlm.components.component import LoadContext
from synthvlm.components.settings import InHash, ModelName, Settings, chosen_values, identity_values
from synthvlm.data import candidate_seed, file_stem, fingerprint, is_sampled
from synthvlm.exporters import EXPORTERS
from synthvlm.generators import GENERATORS
from synthvlm.recipe import RECIPES, Recipe
from synthvlm.scorers import SCORERS
from synthvlm.selectors import SELECTORS
from synthvlm.stages.fingerprints import image_dependencies
from synthvlm.stages.generation.prompts import prompts_of

__all__ = ["FILE", "defaults", "hashes", "measures", "seeds"]

FILE = Path(__file__).with_name("pinned.json")

CAPTIONS = [
    "A red kite flies over the green hill, high above the sea.",
    " ".join(["two dogs"] * 11),
    "Call 555-123-4567 or write to jane.doe@example.com!!!",
    "Mr. John Smith of 12 Baker Street with his dog",
    "Ein roter Ball liegt auf der Wiese hinter dem Haus.",
    "IMG_2034.JPG",
    "",
    "\u201cNai\u0308ve\u201d caf\u00e9\u2026 \u2014 a \u732b on a \U0001f6f6",
]


def _identify(name: str, mark: ModelName) -> str:
    return f"content of {name}"


def hashes() -> dict[str, str]:
    """Fingerprints of fixed recipes: of the built-in ones, and of those that have every setting."""
    found: dict[str, str] = {}
    for name in sorted(RECIPES.lines()):
        if name != "tiny":  # its models are known by their content
            recipe = Recipe.load(name, captions=["captions.txt"])
            parts = image_dependencies(recipe)
            found |= {f"recipe {name}: {part}": value for part, value in parts.items()}
    tiny = Recipe.load("tiny")
    values = identity_values(tiny.generation, _identify)
    found["recipe tiny: the generator, given its model"] = fingerprint(values)
    for name, settings in tiny.scorers.items():
        identity = SCORERS.identity(name, settings, _identify)
        found[f"recipe tiny: the scorer {name}, given its model"] = fingerprint(identity)
    found["recipe tiny: what its folder of a search is named by"] = fingerprint(
        chosen_values(tiny.generation), chosen_values(tiny.run)
    )
    for plugin in PLUG_INS:
        plugins.register(plugin)
    try:
        # Paths of images count as they are spelt, so they are relative.
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            Path("files").mkdir()
            for name, plain in recipes(Path("files")).items():
                recipe = Recipe.from_values(plain)
                if name != "more":
                    work = fingerprints(recipe)
                    found |= {f"{name}: {part}": value for part, value in work.items()}
                    continue
                # This recipe has every component, new ones as well: each is pinned by itself.
                for rule, settings in recipe.curation.rules.items():
                    if settings is not None:
                        identity = RULES.identity(rule, settings, _identify)
                        found[f"rule {rule}"] = fingerprint(identity)
                for scorer, one in recipe.scorers.items():
                    found[f"scorer {scorer}"] = fingerprint(
                        SCORERS.identity(scorer, one, _identify)
                    )
    finally:
        plugins.forget()
    return found


def seeds() -> dict[str, Any]:
    """Seeds, choices by hash, and the names of files, for a fixed caption."""
    import pyarrow as pa

    rows = pa.table({"id": ["web-1"], "text": ["a dog"], "kept": [True]})
    (prompt,) = prompts_of(0, rows, "shared")
    return {
        "seed of the first candidate": candidate_seed(0, "web-1", 0),
        "seed of another one": candidate_seed(7, "web-\u732b", 3),
        "name of a file": file_stem("web-1"),
        "hash of plain values": fingerprint("a", 1, 1.0, True, None, ("b", [2.5]), [("k", "v")]),
        "fingerprint of an image": prompt.fingerprint,
        "captions with thumbnails": [n for n in range(200) if is_sampled(f"web-{n}", 0.05)],
    }


def defaults() -> dict[str, dict[str, Any]]:
    """By class, the defaults that are left out of fingerprints, as JSON has them."""
    models = nested_settings(Recipe)
    for table in (RULES, SCORERS, GENERATORS, SELECTORS, EXPORTERS):
        for name in table.names():
            models |= nested_settings(table[name].Settings)
    found = {}
    for model in sorted(models, key=lambda model: model.__name__):
        values = {
            name: _json(field.get_default(call_default_factory=True))
            for name, field in model.model_fields.items()
            if not field.is_required() and not {*_marks(field)} & {*InHash}
        }
        if values:
            assert model.__name__ not in found, "two classes of settings have one name"
            found[model.__name__] = values
    on = {table.kind: table.defaults() for table in (RULES, SCORERS)}
    found["on by default"] = {kind: _json(settings) for kind, settings in on.items()}
    return found


def _marks(field: Any) -> list[InHash]:
    return [mark for mark in field.metadata if isinstance(mark, InHash)]


def _json(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    return value


def measures() -> dict[str, list[float] | list[str]]:
    """What the text rules measure of fixed captions, and the texts that they measure."""
    texts = [normalize(text) for text in CAPTIONS]
    with tempfile.TemporaryDirectory() as folder:
        benchmark, words = Path(folder) / "benchmark.txt", Path(folder) / "words.txt"
        benchmark.write_text(CAPTIONS[0] + "\n")
        words.write_text("dogs\nball\n")
        more: dict[str, dict[str, Any]] = {
            "benchmark_overlap": {"files": [str(benchmark)]},
            "flagged_words_ratio": {"words": str(words)},
        }
        rules = []
        for name in RULES.names():
            if issubclass(RULES[name], TextRule):
                settings = RULES.settings(name, {"max": 1.0, **more.get(name, {})})
                rules.append(RULES.load(name, settings, LoadContext()))
    text_rules = [rule for rule in rules if isinstance(rule, TextRule)]
    # Six digits: the last ones differ between machines.
    values = {
        name: [float(f"{value:.6g}") for value in array]
        for name, array in measure(texts, text_rules).items()
    }
    return {"normalised text": texts, **values}


if __name__ == "__main__":
    sections = {
        "hashes": hashes(),
        "seeds": seeds(),
        "defaults": defaults(),
        "measures": measures(),
    }
    FILE.write_text(json.dumps(sections, indent=1, ensure_ascii=False) + "\n", "utf-8")
