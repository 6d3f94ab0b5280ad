"""Gather the content of the data-set card from the run folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from synthvlm.captions.rules import RULES
from synthvlm.captions.rules.benchmark_overlap import BenchmarkOverlapSettings
from synthvlm.captions.rules.person_names import TaggedNamesSettings
from synthvlm.captions.rules.privacy_figures import read_figures
from synthvlm.data import score_column
from synthvlm.exporters import EXPORTERS
from synthvlm.exporters.card import CardFacts
from synthvlm.exporters.card_image_overlap import ImageOverlapFacts
from synthvlm.exporters.card_terms import UseFacts
from synthvlm.exporters.configurations import Configurations
from synthvlm.recipe import source_name
from synthvlm.rights import terms_in_use
from synthvlm.safe_text import for_markdown
from synthvlm.scorers import SCORERS, scorer_label
from synthvlm.selectors.selection import by_shard
from synthvlm.stages.curation.curate import reasons_in_order, totals
from synthvlm.stages.curation.rules import rules_on
from synthvlm.stages.select import FIGURES, MARKED, NEAR_COPIES, NEAR_DUPLICATES, NOTES, REFERENCES
from synthvlm.stages.select import STAGE as SELECT
from synthvlm.stages.selected_pairs import SELECTION_FILE
from synthvlm.stages.selection_figures import figure_tables
from synthvlm.stages.summary_facts import summary_facts
from synthvlm.stages.terms_facts import terms_facts

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["card_counts", "card_facts", "privacy_figures", "selected_by"]

#: What the markers of generated shards count.
_COUNTED = (
    "candidates",
    "failed",
    "unsafe",
    "skipped",
    "truncated",
    "prompt_truncated",
    "irreproducible",
    "rejected",
    "outranked",
    "captions_rejected",
)


def card_counts(captions: dict[int, Marker], generated: dict[int, Marker]) -> list[tuple[str, int]]:
    """The counts of the card that the markers hold: label and number."""
    curated = totals(captions)
    candidates = _candidate_counts(generated)
    reasons = reasons_in_order(name for name in curated if name not in ("captions", "kept"))
    taken = sum(int(marker.facts.get("captions", 0)) for marker in generated.values())
    return [
        ("captions read", curated["captions"]),
        *((f"rejected: {reason}", curated[reason]) for reason in reasons),
        ("captions kept", curated["kept"]),
        *([("captions of which images were generated", taken)] if taken < curated["kept"] else []),
        ("captions longer than the scorer's text tower", candidates["truncated"]),
        ("captions longer than the generator reads", candidates["prompt_truncated"]),
        ("candidates", candidates["candidates"]),
        ("candidates failed", candidates["failed"]),
        ("candidates rejected as unsafe", candidates["unsafe"]),
        ("candidates not needed", candidates["skipped"]),
        *(
            (label, candidates[name])
            for name, label in (
                ("rejected", "candidates below the minimum of a scorer"),
                ("outranked", "candidates that only some scorers saw"),
                ("captions_rejected", "captions without a pair: all candidates rejected"),
            )
            if candidates[name]
        ),
    ]


def _candidate_counts(generated: dict[int, Marker]) -> dict[str, int]:
    return {
        name: sum(int(marker.facts.get(name, 0)) for marker in generated.values())
        for name in _COUNTED
    }


def card_facts(
    run: RunFolder,
    recipe: Recipe,
    captions: dict[int, Marker],
    generated: dict[int, Marker],
    *,
    data_files: Configurations | None = None,
    identity: str = "",
) -> CardFacts:
    """Count, average and look up what the card needs; of the files, see ``CardFacts``."""
    import pyarrow.compute as pc

    shown = recipe.published()
    curated = totals(captions)
    selection = run.read_table(SELECTION_FILE)
    marker = run.marker(SELECT, 0)
    selected = {} if marker is None else marker.facts
    figures = selected.get(FIGURES)
    sums, pairs = _sums(run, generated, recipe.score_columns)
    labels = {score_column(n): scorer_label(n, scorer) for n, scorer in recipe.scorers.items()}
    labels["score"] = "Weighted score"
    funnel = [
        *card_counts(captions, generated),
        ("pairs", pairs),
        *_marked(selected.get(MARKED)),
        *(
            (f"pairs left out as {what}", selected[name])
            for name, what in (
                (NEAR_COPIES, "near copies of reference images"),
                (NEAR_DUPLICATES, "near-duplicate images"),
            )
            if name in selected
        ),
        ("pairs selected", selection.num_rows),
    ]
    sources = _sources(run, recipe, captions, selection)
    return CardFacts(
        license=recipe.export.license,
        formats=recipe.export.formats,
        usages=[usage for name in recipe.export.formats if (usage := EXPORTERS[name].usage)],
        abouts={
            labels[score_column(n)]: about for n in recipe.scorers if (about := SCORERS[n].about)
        },
        terms=[terms_facts(one) for one in terms_in_use(recipe)],
        use=UseFacts(recipe.intended_use, shown.acknowledge_terms),
        sources=sources,
        funnel=funnel,
        scores={
            labels[name]: (sums[name] / max(1, pairs), pc.mean(selection[name]).as_py() or 0.0)
            for name in recipe.score_columns
        },
        checks=_checks(shown),
        personal_data_checked="personal_data" in rules_on(recipe),
        names_checked=_names_checked(shown),
        reproducible=not _candidate_counts(generated)["irreproducible"],
        recipe=shown.to_yaml(),
        benchmarks=_benchmarks(recipe),
        overlapping=curated.get("benchmark_overlap", 0),
        privacy_figures=privacy_figures(shown),
        data_files=data_files or {},
        identity=identity,
        version=recipe.export.version,
        method=selected_by(recipe),
        coverage=figure_tables(figures) or [],
        selection_notes=selected.get(NOTES, ()),
        summary=summary_facts(recipe, generated, sources),
        image_overlap=_image_overlap(recipe, selected),
    )


def _marked(counts: Mapping[str, int] | None) -> list[tuple[str, int]]:
    """How many pairs people marked as bad, and why."""
    if not counts:
        return []
    reasons = ", ".join(f"{reason}: {n:,}" for reason, n in counts.items())
    return [(f"pairs left out as marked by hand ({reasons})", sum(counts.values()))]


def selected_by(recipe: Recipe) -> str:
    """By what pairs are selected, in a word."""
    return "score" if recipe.selection.method == "top" else recipe.selection.method


def _sums(
    run: RunFolder, generated: dict[int, Marker], scores: Sequence[str]
) -> tuple[dict[str, float], int]:
    import pyarrow.compute as pc

    sums = dict.fromkeys(scores, 0.0)
    pairs = 0
    for _, marker in sorted(generated.items()):
        name = marker.file("candidates")
        if name is None:
            continue
        table = run.read_table(name, [*scores, "chosen"])
        table = table.filter(table["chosen"])
        pairs += table.num_rows
        for score in scores:
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
    for name, rule in rules_on(recipe).items():
        lowest, highest = rule.bounds
        low = f" >= {lowest}" if lowest is not None else ""
        high = f" <= {highest}" if highest is not None else ""
        model = getattr(rule, "model", None)
        by = f" (by {for_markdown(model)})" if model else ""
        release = RULES.release(name)
        by += f" (plug-in, {for_markdown(' '.join(release))})" if release is not None else ""
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
    rules = rules_on(recipe)
    tagger = rules.get("tagged_names")
    if isinstance(tagger, TaggedNamesSettings):
        return f"by the model {for_markdown(tagger.model)}"
    return "by their form (rule `person_names`)" if "person_names" in rules else None


def privacy_figures(recipe: Recipe) -> list[list[list[str]]]:
    """How well the rules on personal data and names that are on do, on captions made for a test.

    Returns:
        A table by language and a table by kind, the header first; none if neither rule is on.
    """
    labels = {
        name: RULES.label(name)
        for name in ("personal_data", "person_names")
        if name in rules_on(recipe)
    }
    if not labels:
        return []
    figures = read_figures()["held_out"]
    columns = ["recall", "precision"]
    by_language = [
        ["language", "captions"] + [f"{labels[n]}: {c}" for n in labels for c in columns]
    ]
    tallies = {name: figures.by_language(name) for name in labels}
    for language, one in next(iter(tallies.values())).items():
        cells = [cell for name in labels for cell in tallies[name][language].cells()]
        by_language.append([language, str(one.captions), *cells])
    rule_of = {"name": "person_names"}
    by_kind = [["kind", *columns]]
    for kind, one in figures.kinds.items():
        if rule_of.get(kind, "personal_data") in labels:
            by_kind.append([kind.replace("_", " "), *one.cells()])
    return [by_language, by_kind]


def _image_overlap(recipe: Recipe, selected: Mapping[str, Any]) -> ImageOverlapFacts | None:
    settings, references = recipe.selection.image_overlap, selected.get(REFERENCES)
    if settings is None or references is None:
        return None
    return ImageOverlapFacts(
        names=list(map(_file_name, settings.images)),
        references=references.get("references", 0),
        unreadable=references.get("unreadable", 0),
        max_similarity=settings.max_similarity,
        left_out=selected[NEAR_COPIES],
    )


def _benchmarks(recipe: Recipe) -> list[str]:
    """Names of the benchmark files: no folder, and of a URL no query, which may hold a secret."""
    rule = rules_on(recipe).get("benchmark_overlap")
    paths = rule.files if isinstance(rule, BenchmarkOverlapSettings) else []
    return list(map(_file_name, paths))


def _file_name(path: str) -> str:
    return PurePath(urlsplit(path).path if "://" in path else path).name or "benchmark"
