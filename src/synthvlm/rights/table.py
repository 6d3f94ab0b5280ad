"""The table of terms, ``terms.yaml``: licences with their clauses, and who is under which."""

from __future__ import annotations

from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from synthvlm.components.settings import Settings
from synthvlm.errors import RecipeError, nearest

__all__ = ["Answer", "Entry", "Licence", "TermsTable", "Uses", "terms_table"]

#: The uses of outputs that are asked about, and what is asked of each.
QUESTIONS = {
    "use": "use of outputs",
    "sell": "sale of outputs",
    "train": "training of other models",
}


class Answer(Settings):
    """Whether something may be done with outputs, and the clause that says so.

    Written as ``allowed``, ``allowed by 5``, ``limited by 2.d`` or ``forbidden by 2.b``.

    Attributes:
        word: ``limited``: under a condition that depends on who does it, or on what is trained.
        clause: Number of the clause; None where the text has none on it.
    """

    word: Literal["allowed", "limited", "forbidden"]
    clause: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        word, _, clause = value.partition(" by ")
        return {"word": word, "clause": clause or None}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.word != "allowed" and self.clause is None:
            raise ValueError(f"{self.word}: no clause is named")
        return self

    def __str__(self) -> str:
        return self.word if self.clause is None else f"{self.word} by {self.clause}"


class Uses(Settings):
    """The answers for one kind of user: a researcher, or a company."""

    use: Answer
    sell: Answer | None = None
    train: Answer

    @property
    def answers(self) -> dict[str, Answer]:
        """By question, those that are answered."""
        answers = {"use": self.use, "sell": self.sell, "train": self.train}
        return {question: answer for question, answer in answers.items() if answer is not None}


class Licence(Settings):
    """A licence whose text was read.

    Attributes:
        title: Its name and version.
        link: Where the text is.
        read: The day on which it was read.
        copy_read: Which copy was read, e.g. a repository at a commit.
        clauses: Number and words of each clause that an answer or condition names, as in the text.
        research: The answers for research that is not commercial.
        commercial: The answers for a commercial use.
        conditions: Numbers of the clauses that bind those who use the outputs all the same.
        note: What else has to be known.
    """

    title: str
    link: str = Field(pattern=r"^https://")
    read: date
    copy_read: str
    clauses: dict[str, str]
    research: Uses
    commercial: Uses
    conditions: list[str] = Field([])
    note: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.commercial.sell is None:
            raise ValueError(f"{self.title}: commercial: sell is not answered")
        answers = [*self.research.answers.values(), *self.commercial.answers.values()]
        named = {answer.clause for answer in answers if answer.clause} | {*self.conditions}
        for number in sorted(named ^ self.clauses.keys()):
            raise ValueError(f"{self.title}: clause {number} is named but not quoted, or unused")
        return self

    def uses(self, intended: Literal["research", "commercial"]) -> Uses:
        """The answers for that use."""
        return self.research if intended == "research" else self.commercial


class Entry(Settings):
    """A model, or a source of captions, and the licence that it is under.

    Attributes:
        kind: What it is.
        licence: Key of the licence; None: unknown, for no text that could be read says it.
        stated: Where it is said that it is under that licence, or where that was looked for.
        read: The day on which that was read.
        also: Further names: ids on the hub.
        note: What else has to be known; of an unknown one why it is.
    """

    kind: Literal["model", "captions"]
    licence: str | None = None
    stated: str = Field(pattern=r"^https://")
    read: date
    also: list[str] = Field([])
    note: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.licence is None and self.note is None:
            raise ValueError("an unknown licence needs a note that says why it is unknown")
        return self


class TermsTable(Settings):
    """All licences and entries by their names."""

    licences: dict[str, Licence]
    entries: dict[str, Entry]

    @model_validator(mode="after")
    def _check(self) -> Self:
        named = {entry.licence for entry in self.entries.values()} - {None}
        for name in sorted(map(str, named ^ self.licences.keys())):
            raise ValueError(f"licence {name} is named but not there, or of no entry")
        names = [(e.kind, name) for key, e in self.entries.items() for name in (key, *e.also)]
        for kind, name in sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{name} names two entries of kind {kind}")
        return self

    def find(self, name: str, kind: Literal["model", "captions"]) -> str | None:
        """The name of the entry of that kind that is called so; None if there is none."""
        for key, entry in self.entries.items():
            if entry.kind == kind and name in (key, *entry.also):
                return key
        return None

    def named(self, name: str, kind: Literal["model", "captions"], place: str) -> str:
        """As ``find``, where a recipe names an entry.

        Args:
            name: The name of an entry, or another name of its.
            kind: What it has to be.
            place: The setting, for the message.

        Raises:
            RecipeError: There is none.
        """
        key = self.find(name, kind)
        if key is None:
            known = [key for key, entry in self.entries.items() if entry.kind == kind]
            raise RecipeError(
                f"{place}: the table of terms has no {kind} {name!r}{nearest(name, known)}; "
                f"docs/rights.md lists all"
            )
        return key

    def licence_of(self, entry: str) -> Licence | None:
        """The licence of an entry; None where it is unknown."""
        name = self.entries[entry].licence
        return None if name is None else self.licences[name]


@cache
def terms_table() -> TermsTable:
    """The table of this release."""
    text = files("synthvlm.rights").joinpath("terms.yaml").read_text(encoding="utf-8")
    return TermsTable.model_validate(yaml.safe_load(text))
