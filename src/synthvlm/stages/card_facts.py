"""Gather from the run folder what the data-set card says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import yaml

from synthvlm.data import CHOSEN_SCORES, MODEL_MEASURES, TEXT_MEASURES
from synthvlm.exporters.card import CardFacts, ModelFacts
from synthvlm.model_files import clip_path, pipeline_path
from synthvlm.recipe import source_name
from synthvlm.recipe_base import published_name
from synthvlm.selection import by_shard
from synthvlm.stages.curate import REASONS, totals
from synthvlm.stages.select import SELECTION_FILE
from synthvlm.stages.text_rules import bounds_of

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.store import Marker, RunFolder

__all__ = ["card_facts"]

#: Licences of the built-in recipes' models, as their cards on the hub state them.
_KNOWN_LICENSES = {
    "stabilityai/stable-diffusion-xl-base-1.0": "openrail++",
    "stabilityai/stable-diffusion-xl-refiner-1.0": "openrail++",
    "stabilityai/stable-diffusion-3-medium-diffusers": "stabilityai-ai-community",
}

#: What the markers of generated shards count.
_COUNTED = (
    "candidates",
    "failed",
    "unsafe",
    "skipped",
    "truncated",
    "prompt_truncated",
    "irreproducible",
)


def card_facts(
    run: RunFolder, recipe: Recipe, captions: dict[int, Marker], generated: dict[int, Marker]
) -> CardFacts:
    """Count, average and look up what the card needs."""
    import pyarrow.compute as pc

    shown = recipe.published()
    curated = totals(captions)
    selection = run.read_table(SELECTION_FILE)
    reasons = [name for name in REASONS if name in curated]
    candidates = {
        name: sum(int(marker.facts.get(name, 0)) for marker in generated.values())
        for name in _COUNTED
    }
    sums, pairs = _sums(run, generated)
    funnel = [
        ("captions read", curated["captions"]),
        *((f"rejected: {reason}", curated[reason]) for reason in reasons),
        ("captions kept", curated["kept"]),
        ("captions longer than the scorer's text tower", candidates["truncated"]),
        ("captions longer than the generator reads", candidates["prompt_truncated"]),
        ("candidates", candidates["candidates"]),
        ("candidates failed", candidates["failed"]),
        ("candidates rejected as unsafe", candidates["unsafe"]),
        ("candidates not needed", candidates["skipped"]),
        ("pairs", pairs),
        ("pairs selected", selection.num_rows),
    ]
    return CardFacts(
        license=recipe.export.license,
        formats=recipe.export.formats,
        models=_models(recipe),
        sources=_sources(run, recipe, captions, selection),
        funnel=funnel,
        scores={
            name: (sums[name] / max(1, pairs), pc.mean(selection[name]).as_py() or 0.0)
            for name in CHOSEN_SCORES
        },
        checks=_checks(shown),
        personal_data_checked=recipe.curation.rules.personal_data is not None,
        names_checked=_names_checked(shown),
        reproducible=not candidates["irreproducible"],
        recipe=shown.to_yaml(),
        benchmarks=_benchmarks(recipe),
        overlapping=curated.get("benchmark_overlap", 0),
    )


def _sums(run: RunFolder, generated: dict[int, Marker]) -> tuple[dict[str, float], int]:
    import pyarrow.compute as pc

    sums = dict.fromkeys(CHOSEN_SCORES, 0.0)
    pairs = 0
    for _, marker in sorted(generated.items()):
        name = marker.file("candidates")
        if name is None:
            continue
        table = run.read_table(name, [*CHOSEN_SCORES, "chosen"])
        table = table.filter(table["chosen"])
        pairs += table.num_rows
        for score in CHOSEN_SCORES:
            sums[score] += pc.sum(table[score]).as_py() or 0.0
    return sums, pairs


def _sources(
    run: RunFolder, recipe: Recipe, captions: dict[int, Marker], selection: pa.Table
) -> dict[str, int]:
    """Selected pairs of each source; the captions are read a shard at a time."""
    import pyarrow.compute as pc

    counts = Counter({source_name(source): 0 for source in recipe.sources})
    for shard, rows in by_shard(selection.select(["shard", "caption_id"])):
        name = captions[shard].file("captions")
        assert name is not None
        table = run.read_table(name, ["id", "source"])
        for entry in pc.value_counts(
            table["source"].filter(pc.is_in(table["id"], rows["caption_id"].combine_chunks()))
        ):
            counts[entry["values"].as_py()] += entry["counts"].as_py()
    return dict(counts)


def _checks(recipe: Recipe) -> list[str]:
    curation = recipe.curation
    checks = []
    for name, (lowest, highest) in bounds_of(recipe, (*TEXT_MEASURES, *MODEL_MEASURES)).items():
        low = f" >= {lowest}" if lowest is not None else ""
        high = f" <= {highest}" if highest is not None else ""
        model = getattr(getattr(curation.rules, name), "model", None)
        by = f" (by `{model}`)" if model else ""
        checks.append(f"`{name}`{low}{' and' if low and high else ''}{high}{by}")
    if curation.deduplicate:
        checks.append("exact duplicates removed")
    if curation.near_duplicates is not None:
        checks.append(
            f"near-duplicates removed (Jaccard similarity of words and pairs of words >= "
            f"{curation.near_duplicates.similarity})"
        )
    if curation.alignment is not None:
        share = f"{curation.alignment.top_fraction:.0%}"
        checks.append(f"of captions with an original image, the best {share} by CLIPScore kept")
    if curation.concepts is not None:
        checks.append(f"at most {curation.concepts.cap:,} captions picked by each concept")
    return checks


def _names_checked(recipe: Recipe) -> str | None:
    rules = recipe.curation.rules
    if rules.tagged_names is not None:
        return f"by the model `{rules.tagged_names.model}`"
    return None if rules.person_names is None else "by their form"


def _benchmarks(recipe: Recipe) -> list[str]:
    """Names of the benchmark files: no folder, and of a URL no query, which may hold a secret."""
    rule = recipe.curation.rules.benchmark_overlap
    paths = [] if rule is None else rule.files
    return [PurePath(urlsplit(p).path if "://" in p else p).name or "benchmark" for p in paths]


def _models(recipe: Recipe) -> list[ModelFacts]:
    settings, clip = recipe.generation, recipe.scoring.clip
    models = [_model("image generation", settings.model, settings.revision, pipeline_path)]
    if settings.refiner is not None:
        refiner = settings.refiner
        models.append(_model("refinement", refiner.model, refiner.revision, pipeline_path))
    models.append(_model("CLIPScore", clip.model, clip.revision, clip_path))
    return models


def _model(part: str, name: str, revision: str | None, locate: object) -> ModelFacts:
    assert callable(locate)
    return ModelFacts(part, published_name(name), revision, _license(name, Path(locate(name))))


def _license(name: str, folder: Path) -> str | None:
    """The licence that a model folder's card states, or the known one of a hub id."""
    card = folder / "README.md"
    if card.is_file():
        parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
        if len(parts) == 3:
            try:
                front = yaml.safe_load(parts[1])
            except yaml.YAMLError:
                front = None
            if isinstance(front, dict) and front.get("license"):
                return str(front["license"])
    return _KNOWN_LICENSES.get(name)
