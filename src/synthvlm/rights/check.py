"""Whether the terms of what a recipe uses allow what it is for."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from synthvlm.errors import RecipeError, nearest
from synthvlm.rights.in_use import TermsInUse, terms_in_use
from synthvlm.rights.table import QUESTIONS, Answer, terms_table

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe

__all__ = ["check_terms", "unstated_use"]


def check_terms(recipe: Recipe) -> list[str]:
    """Hold a recipe's intended use against the terms of its models and captions.

    Nothing is refused where no use is stated. What is acknowledged in the recipe is let through.

    Returns:
        Notes for the user: whose terms are unknown, and so were not checked.

    Raises:
        RecipeError: Terms forbid or limit that use: a line for each model or source, which quotes
            the clause. Or the recipe names an entry, or acknowledges a name, that there is not.
    """
    used = terms_in_use(recipe)
    _check_names(recipe, used)
    if recipe.intended_use == "unspecified":
        return []
    clashing = [
        (one, question, answer)
        for one in used
        if not one.names & {*recipe.acknowledge_terms}
        for question, answer in _objections(one, recipe.intended_use)[:1]
    ]
    if clashing:
        names = [one.entry_name or one.name for one, _, _ in clashing]
        acknowledged = list(dict.fromkeys([*recipe.acknowledge_terms, *names]))
        option = shlex.quote(f"acknowledge_terms=[{', '.join(acknowledged)}]")
        raise RecipeError(
            "\n".join(
                f"{_refusal(one, question, answer, recipe.intended_use)}: take "
                f"{'other captions' if one.part == 'captions' else 'another recipe'}, or, if you "
                f"may all the same: --set {option}"
                for one, question, answer in clashing
            )
        )
    unknown = [one.name for one in used if one.licence is None]
    if not unknown:
        return []
    return [
        f"note: terms unknown, so not checked against intended_use {recipe.intended_use}: "
        f"{', '.join(unknown)}"
    ]


def unstated_use(recipe: Recipe) -> str | None:
    """What to tell a user whose recipe has no intended use, though terms limit some; or None."""
    if recipe.intended_use != "unspecified":
        return None
    limiting = [
        one.name
        for one in terms_in_use(recipe)
        if not one.names & {*recipe.acknowledge_terms} and _objections(one, "commercial")
    ]
    if not limiting:
        return None
    return (
        f"note: terms limit what the data set may be used for ({', '.join(limiting)}): to have it "
        f"checked, --set intended_use=research or commercial"
    )


def _objections(
    one: TermsInUse, intended: Literal["research", "commercial"]
) -> list[tuple[str, Answer]]:
    if one.licence is None:
        return []
    answers = one.licence.uses(intended).answers.items()
    return [(question, answer) for question, answer in answers if answer.word != "allowed"]


def _refusal(one: TermsInUse, question: str, answer: Answer, intended: str) -> str:
    licence = one.licence
    assert licence is not None
    assert answer.clause is not None
    verb = "forbids" if answer.word == "forbidden" else "limits"
    return (
        f"intended_use is {intended}, and the licence of {one.name} ({one.part}) {verb} the "
        f"{QUESTIONS[question]}: {licence.title}, {answer.clause}: "
        f'"{licence.clauses[answer.clause]}" ({licence.link})'
    )


def _check_names(recipe: Recipe, used: list[TermsInUse]) -> None:
    known = {*terms_table().entries, *(name for one in used for name in one.names)}
    for name in _unknown_names(recipe, known):
        raise RecipeError(
            f"acknowledge_terms: there is no model and no source {name!r}"
            f"{nearest(name, sorted(known))}"
        )


def _unknown_names(recipe: Recipe, known: set[str]) -> Iterator[str]:
    return (name for name in recipe.acknowledge_terms if name not in known)
