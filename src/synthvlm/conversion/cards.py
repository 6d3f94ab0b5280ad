"""The cards of converted data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from synthvlm.components.settings import published_name
from synthvlm.conversion.sources import ForeignPairs
from synthvlm.exporters import EXPORTERS
from synthvlm.exporters.card import TITLE, about, data_set_card, reading_header
from synthvlm.exporters.configurations import configurations
from synthvlm.exporters.edited_card import BEGIN, END
from synthvlm.safe_text import fenced, for_markdown
from synthvlm.stages.card_facts import card_facts, selected_by

if TYPE_CHECKING:
    from synthvlm.conversion.sources import SelectedRun
    from synthvlm.recipe.export import ExportSettings

__all__ = ["foreign_card", "run_card"]

#: Of another data set's card, so much is quoted.
_QUOTED_CHARS = 100_000


def run_card(source: SelectedRun, files: Sequence[str], identity: str) -> str:
    """The card of the run, with how the new formats are read.

    Args:
        source: The run.
        files: Names of the files of the data set.
        identity: A hash of them.
    """
    work = source.run.work
    facts = card_facts(
        source.run.run,
        source.recipe,
        work.captions,
        work.generated,
        data_files=configurations(source.recipe.export.formats, files),
        identity=identity,
    )
    return data_set_card(facts)


def titles(
    source: SelectedRun | ForeignPairs, settings: ExportSettings, count: int
) -> tuple[str, str, str | None]:
    """Title, description in plain text, and licence of a converted data set.

    Args:
        source: The run, or the data set.
        settings: Of the formats.
        count: Pairs that were written.
    """
    if not isinstance(source, ForeignPairs):
        return TITLE, about(count, selected_by(source.recipe)), settings.license
    license = settings.license or _header_of(_card_of(Path(source.path))).get("license")
    return (
        _title(source),
        f"{count:,} pairs of a caption and an image, converted from {published_name(source.path)} "
        f"by synthvlm {version('synthvlm')}, which did not make them.",
        license if isinstance(license, str) else None,
    )


def _title(source: ForeignPairs) -> str:
    return f"{source.data_set.label}, converted"


def foreign_card(
    source: ForeignPairs, settings: ExportSettings, files: Sequence[str], identity: str, count: int
) -> str:
    """A card that says what is known, and that the pairs were not made here.

    Args:
        source: The data set.
        settings: Of the formats.
        files: Names of the files of the data set.
        identity: A hash of them.
        count: Pairs that were written.
    """
    quoted = _card_of(Path(source.path))
    header = _header_of(quoted)
    front: dict[str, Any] = {"pretty_name": _title(source)}
    license = settings.license or header.get("license")
    if isinstance(license, str):
        front["license"] = license
    if settings.version is not None:
        front["version"] = settings.version
    front["tags"] = ["image-caption"]
    front |= reading_header(count, configurations(settings.formats, files), identity)
    name = for_markdown(published_name(source.path))
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {for_markdown(_title(source))}",
        f"{count:,} pairs of a caption and an image, converted from {name} by synthvlm "
        f"{version('synthvlm')}. They were **not made by this conversion**: captions and images "
        f"are copied as they were, and no image is marked. Where they come from, whether images "
        f"are photographs or synthetic, who is shown in them, and what may be done with them is "
        f"known only as far as the data set itself says.",
        "## Counts",
        "\n".join(f"- {for_markdown(label)}: {n:,}" for label, n in _counts(source, count)),
        "## Use",
        *(usage for name in settings.formats if (usage := EXPORTERS[name].usage)),
        *_quotation(quoted),
    ]
    return "\n\n".join(parts) + "\n"


def _counts(source: ForeignPairs, count: int) -> Iterator[tuple[str, int]]:
    yield "records read", source.losses.records
    for problem, number in source.losses.problems.most_common():
        yield f"left out: {problem}", number
    yield "pairs", count
    if source.numbered:
        yield "pairs whose id got a number, for others have it too", source.numbered
    if source.shortened:
        yield "records of which only the first answer was taken", source.shortened


def _quotation(card: str) -> list[str]:
    if not card:
        return [
            "## Origin",
            "No card was found beside the data set: licence and origin are unknown.",
        ]
    made = "It was made by a run of SynthVLM. " if BEGIN in card else ""
    text = card.replace(BEGIN, "").replace(END, "")
    cut = " (its beginning)" if len(text) > _QUOTED_CHARS else ""
    about = f"{made}The card that lay beside the data set, as it was{cut}:"
    return ["## Origin", about, fenced(text[:_QUOTED_CHARS], "markdown")]


def _card_of(path: Path) -> str:
    """The text of the card of a data set; "" where none is beside it."""
    folder = path if path.is_dir() else path.parent
    try:
        text = (folder / "README.md").read_text("utf-8-sig", "replace")
    except OSError:
        return ""
    return text if text.startswith("---\n") else ""  # of a program, say


def _header_of(card: str) -> dict[str, Any]:
    try:
        header = yaml.safe_load(card.split("---\n", 2)[1]) if card else None
    except (yaml.YAMLError, IndexError, ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}
