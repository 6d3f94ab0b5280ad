"""Names of private people in a caption, and what finds them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthvlm.captions.rules.base import Measured, ModelRule, RuleSettings, Subject, TextRule
from synthvlm.captions.rules.batch import TextBatch
from synthvlm.captions.rules.name_forms import NameForms
from synthvlm.captions.rules.name_text import folded_words
from synthvlm.captions.rules.name_words import TITLES
from synthvlm.captions.rules.word_files import entries, read_text
from synthvlm.components.component import LoadContext
from synthvlm.components.settings import Identify, InHash, ModelName
from synthvlm.errors import RecipeError

__all__ = ["NameRecogniser", "PersonNames", "TaggedNames", "load_allowed_names"]


class NameRecogniser(Protocol):
    """Finds names of people: ``NameForms``, ``NameTagger``, or your own."""

    def find(self, texts: Sequence[str]) -> list[list[str]]:
        """The names in each text, as written, in order; one list per text."""
        ...


class PersonNamesSettings(RuleSettings):
    """Bounds on the number of people's names, found by their form."""

    allowed: list[str] = Field([], description="Full names of public or fictional figures.")
    allowed_file: str | None = Field(None, description="More of them, one a line.")

    def all_allowed(self) -> list[str]:
        """The allowed names: those of the recipe, and those of the file.

        Raises:
            RecipeError: The file cannot be used.
        """
        more = () if self.allowed_file is None else load_allowed_names(self.allowed_file)
        return sorted({*self.allowed, *more})


class PersonNames(TextRule):
    """Number of people's names in each text, those of allowed people left out.

    An allowed name covers itself and its last word alone: "Ada Lovelace" allows "ada lovelace",
    "Mrs. Lovelace" and "Dr. Ada Lovelace", not "Ada", and not "Jane Lovelace". Letter case,
    accents, punctuation and titles are ignored.
    """

    name: ClassVar[str] = "person_names"
    label = "People's names"
    version = "2"
    Settings = PersonNamesSettings

    @classmethod
    def load(cls, settings: PersonNamesSettings, context: LoadContext) -> PersonNames:
        """Read the file of allowed names.

        Raises:
            RecipeError: The file cannot be used.
        """
        return cls(allowed=settings.all_allowed())

    @classmethod
    def identity(cls, settings: PersonNamesSettings, identify: Identify) -> object:
        """The allowed names, wherever they stand."""
        return settings.all_allowed()

    def __init__(
        self, recogniser: NameRecogniser | None = None, allowed: Iterable[str] = ()
    ) -> None:
        """Count what the recogniser finds.

        Args:
            recogniser: What finds names; None is ``NameForms``, the light built-in one.
            allowed: Full names of public or fictional figures, which do not count; see
                ``load_allowed_names``.
        """
        self._recogniser = NameForms() if recogniser is None else recogniser
        words = [_name_words(name) for name in allowed]
        self._allowed = frozenset([*words, *(w[-1:] for w in words)])

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The number (0 or more, whole) of names in each text, shape (len(batch),)."""
        names_of_texts = self._recogniser.find(batch.texts)
        counts = (sum(map(self._counts, names)) for names in names_of_texts)
        return np.fromiter(counts, np.float64, len(batch))

    def _counts(self, name: str) -> bool:
        return _name_words(name) not in self._allowed


class TaggedNamesSettings(PersonNamesSettings):
    """Bounds on the number of people's names, found by a token-classification model."""

    model: Annotated[str, ModelName()] = Field(min_length=1, description="Hub id or local folder.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    batch_size: Annotated[int, InHash.NEVER] = Field(32, ge=1, description="Captions at a time.")


class TaggedNames(ModelRule):
    """``PersonNames`` with a recogniser that is a model: asked about survivors only."""

    name: ClassVar[str] = "tagged_names"
    label = "People's names, by a model"
    Settings = TaggedNamesSettings

    @classmethod
    def load(cls, settings: TaggedNamesSettings, context: LoadContext) -> TaggedNames:
        """Load the model; see ``NameTagger``."""
        from synthvlm.captions.model_rules.name_tagger import NameTagger

        tagger = NameTagger(
            settings.model,
            device=context.device,
            dtype=context.dtype,
            revision=settings.revision,
            batch_size=settings.batch_size,
        )
        return cls(tagger, settings.all_allowed())

    @classmethod
    def identity(cls, settings: TaggedNamesSettings, identify: Identify) -> object:
        """The model, and the allowed names, wherever they stand."""
        model = identify(settings.model, ModelName())
        return model, settings.revision, settings.all_allowed()

    def __init__(self, recogniser: NameRecogniser, allowed: Iterable[str] = ()) -> None:
        """Count what the recogniser finds, as ``PersonNames`` does."""
        self._names = PersonNames(recogniser, allowed)

    def measure(self, subjects: Sequence[Subject]) -> Measured:
        """The number (0 or more, whole) of names in each caption.

        Raises:
            ModelError: The model fails.
        """
        texts = [subject.text for subject in subjects]
        return Measured(self._names.measure(TextBatch(texts)), (None,) * len(texts))


def load_allowed_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read a UTF-8 file with one full name a line; lines that begin with ``#`` are comments.

    Raises:
        RecipeError: The file is missing, unreadable, or holds no name.
    """
    names = tuple(entries(read_text(path, "allowed names")))
    if not names:
        raise RecipeError(f"allowed names: {path} holds no name; write one a line")
    return names


def _name_words(name: str) -> tuple[str, ...]:
    """The words of a name that tell who it is."""
    words = folded_words(name)
    while len(words) > 1 and words[0] in TITLES:
        words = words[1:]
    return tuple(words)
