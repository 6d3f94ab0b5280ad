"""The card's section on terms: of each model and each source of captions, unknown ones first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synthvlm.safe_text import for_markdown, markdown_table

__all__ = ["LicenceFacts", "TermsFacts", "UseFacts", "licence_blocks", "terms_section"]

HEADING = "## Models, captions and their terms"
_ADVICE = (
    "This is information, not legal advice. It is what texts said on the day on which they were "
    "read; they may have changed, and they, not this table, bind those who use the data set."
)
_KNOWN_HEADER = (
    "part", "name", "revision", "licence", "use of outputs", "sale of outputs",
    "training of other models", "read",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LicenceFacts:
    """A licence whose text was read.

    Attributes:
        title: Its name and version.
        link: Where the text is.
        read: The day on which it was read, as ``2026-11-30``.
        copy_read: Which copy was read.
        answers: For each of ``use``, ``sell`` and ``train``, for whom it is allowed or not, and by
            which clause.
        clauses: Number and words of the clauses that these name, and of its conditions.
        conditions: Numbers of the clauses that bind those who use the outputs all the same.
        note: What else has to be known, or None.
    """

    title: str
    link: str
    read: str
    copy_read: str
    answers: Mapping[str, str]
    clauses: Mapping[str, str]
    conditions: Sequence[str]
    note: str | None


@dataclass(frozen=True, slots=True)
class TermsFacts:
    """A model that took part or a source of captions, and what is known of its terms.

    Attributes:
        part: What it did, e.g. ``image generation``, or ``captions``.
        name: Its hub id or folder, or the name of the source.
        revision: On the hub, or None.
        licence: As it was read; None: its terms are unknown.
        stated_licence: What its own card says, unchecked; or None.
        unknown: Why its terms are unknown, or None.
        stated: Where its licence is named, or was looked for; None without an entry.
        read: The day on which that was read, or None.
        note: What else has to be known, or None.
    """

    part: str
    name: str
    revision: str | None = None
    licence: LicenceFacts | None = None
    stated_licence: str | None = None
    unknown: str | None = None
    stated: str | None = None
    read: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class UseFacts:
    """What the recipe says of the use of the data set.

    Attributes:
        intended: ``research``, ``commercial`` or ``unspecified``.
        acknowledged: The names whose terms it acknowledges.
    """

    intended: str = "unspecified"
    acknowledged: Sequence[str] = ()


def terms_section(terms: Sequence[TermsFacts], use: UseFacts) -> list[str]:
    """The section as blocks of Markdown."""
    unknown = [one for one in terms if one.licence is None]
    known = [one for one in terms if one.licence is not None]
    return [HEADING, _ADVICE, _use(use), *_unknown(unknown), *_known(known)]


def _use(use: UseFacts) -> str:
    text = f"Intended use, by the recipe: {for_markdown(use.intended)}."
    if use.intended == "unspecified":
        text += " So it was not checked whether the terms allow it."
    if use.acknowledged:
        names = ", ".join(map(for_markdown, use.acknowledged))
        text += f" Terms that the recipe acknowledges, whatever they say: {names}."
    return text


def _unknown(terms: Sequence[TermsFacts]) -> list[str]:
    if not terms:
        return []
    rows = [
        (one.part, one.name, one.revision or "default", one.stated_licence or "none", _reason(one))
        for one in terms
    ]
    return [
        "**Unknown terms.** Read them before the data set is used for anything:",
        markdown_table(
            ("part", "name", "revision", "licence by its own card", "why unknown"), rows
        ),
    ]


def _reason(one: TermsFacts) -> str:
    looked = f" (looked for on {one.read})" if one.read is not None else ""
    return f"{one.unknown}{looked}"


def _known(terms: Sequence[TermsFacts]) -> list[str]:
    if not terms:
        return []
    rows, licences = [], {}
    for one in terms:
        licence = one.licence
        assert licence is not None
        licences[licence.title] = licence
        answers = [licence.answers[question] for question in ("use", "sell", "train")]
        revision = one.revision or "default"
        rows.append((one.part, one.name, revision, licence.title, *answers, licence.read))
    return [
        "**Known terms.**",
        markdown_table(_KNOWN_HEADER, rows),
        "Where the licences are named:",
        "\n".join(map(_named_at, terms)),
        *(block for licence in licences.values() for block in licence_blocks(licence)),
    ]


def _named_at(one: TermsFacts) -> str:
    note = f" {for_markdown(one.note)}" if one.note is not None else ""
    return f"- {for_markdown(one.name)}: <{one.stated}>, read on {one.read}.{note}"


def licence_blocks(licence: LicenceFacts) -> list[str]:
    """A licence, and the words of the clauses that answers and conditions name."""
    head = (
        f"{for_markdown(licence.title)}: <{licence.link}>, read on {licence.read} "
        f"({for_markdown(licence.copy_read)})."
    )
    if licence.note is not None:
        head += f" {for_markdown(licence.note)}"
    lines = [
        f"- {for_markdown(number)}{' (condition)' if number in licence.conditions else ''}: "
        f'"{for_markdown(words)}"'
        for number, words in licence.clauses.items()
    ]
    return [head, "\n".join(lines)]
