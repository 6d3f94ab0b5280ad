"""What the card says of the terms of a model or of captions, from what is known of them."""

from __future__ import annotations

from synthvlm.exporters.card_terms import LicenceFacts, TermsFacts
from synthvlm.rights import Answer, Licence, TermsInUse

__all__ = ["licence_facts", "terms_facts"]


def terms_facts(one: TermsInUse) -> TermsFacts:
    """The facts of the card."""
    entry = one.entry
    return TermsFacts(
        part=one.part,
        name=one.shown_name,
        revision=one.revision,
        licence=None if one.licence is None else licence_facts(one.licence),
        stated_licence=one.stated_licence,
        unknown=one.unknown,
        stated=None if entry is None else entry.stated,
        read=None if entry is None else entry.read.isoformat(),
        note=None if entry is None else entry.note,
    )


def licence_facts(licence: Licence) -> LicenceFacts:
    """A licence, with one text for each question that says for whom what is allowed."""
    research, commercial = licence.research.answers, licence.commercial.answers
    return LicenceFacts(
        title=licence.title,
        link=licence.link,
        read=licence.read.isoformat(),
        copy_read=licence.copy_read,
        answers={
            question: _answer(research.get(question), answer)
            for question, answer in commercial.items()
        },
        clauses=licence.clauses,
        conditions=licence.conditions,
        note=licence.note,
    )


def _answer(research: Answer | None, commercial: Answer) -> str:
    """One answer where both are the same."""
    if research is None or research == commercial:
        return str(commercial)
    return f"research: {research}; commercial: {commercial}"
