"""The data-set card: what the data set is, how it was made, from which models and licences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise

import yaml

from synthvlm.exporters.card_image_overlap import ImageOverlapFacts, image_overlap_text
from synthvlm.exporters.card_summary import SummaryFacts, training_summary
from synthvlm.exporters.card_terms import TermsFacts, UseFacts, terms_section
from synthvlm.exporters.configurations import Configurations
from synthvlm.exporters.edited_card import BEGIN, END
from synthvlm.safe_text import fenced, for_markdown, markdown_table

__all__ = ["TITLE", "CardFacts", "about", "data_set_card", "reading_header"]

TITLE = "Synthetic image-caption pairs"


@dataclass(frozen=True, slots=True)
class CardFacts:
    """The content of the card.

    Attributes:
        license: Licence of the data set, or None.
        formats: The exported formats.
        terms: The models that took part and the sources of captions, with their terms.
        sources: For each caption source, its selected pairs.
        funnel: What was counted on the way: label and number.
        scores: For each score by its label, its means over all pairs and over the selected ones.
        abouts: For each score by its label, what it measures.
        usages: For each exported format, how it is read: Markdown.
        checks: The curation rules that were on, with their bounds.
        personal_data_checked: Whether captions with e-mail addresses and the like were rejected.
        names_checked: How captions with names of people were found, or None.
        reproducible: Whether images can be regenerated from their seeds.
        recipe: The resolved recipe as YAML.
        benchmarks: Names of the files of benchmarks that captions must not overlap, without their
            folders; none if that was not checked.
        overlapping: Captions that were rejected because they overlap.
        privacy_figures: Tables of how well the rules on personal data and names that were on do:
            recall and precision by language and by kind, each with its header first.
        data_files: The files that ``datasets`` reads, relative to the data set.
        identity: A hash of the files of the data set.
        version: As its maker numbers it, or None.
        method: By what pairs were selected.
        coverage: Tables of what the selection covers, each with its header first.
        selection_notes: What the selection could not do as it was asked to, and what it shifts.
        use: What the recipe says of the use of the data set.
        summary: What the summary of training content needs besides; None leaves it out.
        image_overlap: What images were compared with, or None.
    """

    license: str | None
    formats: Sequence[str]
    usages: Sequence[str]
    abouts: Mapping[str, str]
    terms: Sequence[TermsFacts]
    sources: Mapping[str, int]
    funnel: Sequence[tuple[str, int]]
    scores: Mapping[str, tuple[float, float]]
    checks: Sequence[str]
    personal_data_checked: bool
    names_checked: str | None
    reproducible: bool
    recipe: str
    benchmarks: Sequence[str] = ()
    overlapping: int = 0
    privacy_figures: Sequence[Sequence[Sequence[str]]] = ()
    data_files: Configurations = field(default_factory=dict)
    identity: str = ""
    version: str | None = None
    method: str = "score"
    coverage: Sequence[Sequence[Sequence[str]]] = ()
    selection_notes: Sequence[str] = ()
    use: UseFacts = field(default_factory=UseFacts)
    summary: SummaryFacts | None = None
    image_overlap: ImageOverlapFacts | None = None

    @property
    def selected(self) -> int:
        """Pairs in the data set."""
        return sum(self.sources.values())


def about(pairs: int, method: str, project: str = "SynthVLM") -> str:
    """What the data set is, in two sentences."""
    return (
        f"{pairs:,} pairs of a caption and an image that was generated from it, chosen by {method} "
        f"with {project} (synthvlm {version('synthvlm')}). Every image is synthetic: none is a "
        f"photograph of a real scene."
    )


def data_set_card(facts: CardFacts) -> str:
    """The card as Markdown, with the front matter that the hub and ``datasets`` read."""
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(facts), sort_keys=False)}---",
        BEGIN,
        f"# {TITLE}",
        about(
            facts.selected,
            for_markdown(facts.method),
            "[SynthVLM](https://arxiv.org/abs/2407.20756)",
        ),
        *([] if facts.version is None else [f"Version: {for_markdown(facts.version)}"]),
        "## Counts",
        markdown_table(
            ("step", "number"), [(label, f"{count:,}") for label, count in facts.funnel]
        ),
        "## Scores",
        " ".join(
            f"{for_markdown(name)}: {for_markdown(about)}." for name, about in facts.abouts.items()
        )
        + " Means:",
        markdown_table(
            ("score", "all pairs", "selected"),
            [(name, f"{a:.4f}", f"{b:.4f}") for name, (a, b) in facts.scores.items()],
        ),
        *_coverage(facts),
        *terms_section(facts.terms, facts.use),
        "## Captions",
        markdown_table(
            ("source", "pairs"), [(name, f"{n:,}") for name, n in facts.sources.items()]
        ),
        "What was checked of each caption:\n\n"
        + "\n".join(f"- {check}" for check in facts.checks or ["nothing"]),
        _privacy(facts),
        _contamination(facts),
        image_overlap_text(facts.image_overlap),
        *training_summary(facts.summary, facts.image_overlap),
        "## Use",
        *facts.usages,
        "## Making it again",
        _reproduction(facts.reproducible),
        fenced(facts.recipe, "yaml"),
        END,
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: CardFacts) -> dict[str, object]:
    front: dict[str, object] = {"pretty_name": TITLE}
    if facts.license is not None:
        front["license"] = facts.license
    if facts.version is not None:
        front["version"] = facts.version
    front["task_categories"] = ["image-to-text", "text-to-image", "visual-question-answering"]
    front["tags"] = ["synthetic", "synthvlm", "image-caption"]
    return front | reading_header(facts.selected, facts.data_files, facts.identity)


def reading_header(count: int, data_files: Configurations, identity: str) -> dict[str, object]:
    """What of a card's header says how the data set is read.

    Args:
        count: Pairs.
        data_files: The files that ``datasets`` reads.
        identity: A hash of the files of the data set.
    """
    header: dict[str, object] = {"size_categories": [_size_category(count)]}
    configs = [
        {
            "config_name": name,
            # `datasets` takes data sets with the same configuration for the same data set.
            "description": f"synthvlm data set {identity}",
            "data_files": [
                {"split": split, "path": list(files)} for split, files in splits.items()
            ],
        }
        for name, splits in data_files.items()
    ]
    return header | ({"configs": configs} if configs else {})


def _size_category(count: int) -> str:
    """The hub's name for a number of rows."""
    names = ["1K", "10K", "100K", "1M", "10M", "100M", "1B"]
    if count < 1000:
        return "n<1K"
    for power, (low, high) in enumerate(pairwise(names)):
        if count < 10 ** (power + 4):
            return f"{low}<n<{high}"
    return "n>1B"


def _reproduction(reproducible: bool) -> str:
    if reproducible:
        return "Each image is determined by its row's seed and this recipe:"
    return (
        "The generator or its scheduler generates noise of its own: images cannot be made again "
        "from their seeds."
    )


def _coverage(facts: CardFacts) -> list[str]:
    tables = [markdown_table(header, rows) for header, *rows in facts.coverage if rows]
    notes = [f"- Note: {for_markdown(note)}" for note in facts.selection_notes]
    if not tables and not notes:
        return []
    about = (
        "A caption is covered by the selected caption that is most similar to it by their "
        "embeddings (1 is the most); beside it, what the same number of pairs would cover that "
        "are the best by score alone. Looked at in samples, by a hash of the caption's id."
    )
    return ["## Coverage", about, *tables, *(["\n".join(notes)] if notes else [])]


def _privacy(facts: CardFacts) -> str:
    data = "Captions were **not** checked for personal data such as addresses and phone numbers."
    if facts.personal_data_checked:
        data = (
            "Captions were checked by pattern (rule `personal_data`) for e-mail and postal "
            "addresses, phone, card, account, national-identity and licence-plate numbers."
        )
    names = "They were **not** checked for names of people."
    if facts.names_checked is not None:
        names = (
            f"They were checked for names of people {facts.names_checked}, which misses some; "
            f"the recipe below lists the names that were allowed."
        )
    if not facts.privacy_figures:
        return f"{data} {names}"
    measured = (
        "What was found of made-up captions that hold such data (recall), and how much of what was "
        "found is such data (precision), on captions that the rules were not changed for. Other "
        "languages and kinds were not measured, and real captions may be harder:"
    )
    tables = [markdown_table(header, rows) for header, *rows in facts.privacy_figures]
    return "\n\n".join([f"{data} {names}", measured, *tables])


def _contamination(facts: CardFacts) -> str:
    if not facts.benchmarks:
        return "Captions were **not** checked for overlap with evaluation benchmarks."
    names = ", ".join(for_markdown(name) for name in facts.benchmarks)
    return (
        f"Captions were checked for n-grams of words that occur in evaluation benchmarks: {names}. "
        f"Rejected for it: {facts.overlapping:,}."
    )
