"""How likely a caption is written in the wanted language."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthvlm.captions.rules.base import RuleSettings, TextRule
from synthvlm.captions.rules.batch import TextBatch
from synthvlm.components.settings import InHash
from synthvlm.errors import RecipeError

__all__ = ["LanguageShare", "check_known", "likely_languages"]

#: Probability from which on a caption counts as being in its likeliest language. A caption of a few
#: English words is below it, one of a few German words above.
_CONFIDENT = 0.3


@cache
def _identifier() -> Any:
    from py3langid.langid import (  # type: ignore[import-untyped, unused-ignore]
        MODEL_FILE,
        LanguageIdentifier,
    )

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def check_known(languages: Iterable[str]) -> None:
    """Do nothing if captions in these languages can be recognised.

    Raises:
        RecipeError: Some cannot; the message lists those that can.
    """
    known = _identifier().labels
    for language in languages:
        if language not in known:
            raise RecipeError(
                f"language: {language!r} is not known; use one of {', '.join(sorted(known))}"
            )


def likely_languages(texts: Iterable[str]) -> list[str | None]:
    """The language of each text, an ISO 639 code; None where there is too little evidence."""
    likeliest = (_identifier().classify(text) for text in texts)
    return [language if probability >= _CONFIDENT else None for language, probability in likeliest]


class LanguageSettings(RuleSettings):
    """Bounds on the probability that a caption is in a language."""

    language: Annotated[str, InHash.ALWAYS] = Field("en", description="ISO 639 code.")


class LanguageShare(TextRule):
    """Probability (0 .. 1) that a text is in the wanted language, among 139 and "none at all".

    The model is the one inside py3langid (Lui and Baldwin, "langid.py", ACL 2012, retrained by
    A. Barbaresi): naive Bayes on byte n-grams, its scores divided by the square root of the
    number of bytes before the softmax. So a short caption gets a low probability even where its
    language is the likeliest, and a text without evidence (empty, "ok", a file name) gets one
    near 0.01. Bounds belong far below 0.5: 0.1 parts English captions of three words and more
    from those in other languages; one or two words are too little evidence.
    """

    name: ClassVar[str] = "language"
    label = "Language"
    Settings = LanguageSettings

    def __init__(self, language: str = "en") -> None:
        """Load the model (about half a second).

        Args:
            language: The wanted language, an ISO 639 code such as ``en``, ``de`` or ``zh``.

        Raises:
            RecipeError: The model does not know the language.
        """
        self.language = language
        self._identifier: Any = _identifier()
        check_known([language])

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The probability of each text, shape (len(batch),)."""
        return np.fromiter(map(self._probability, batch.texts), np.float64, len(batch))

    def _probability(self, text: str) -> float:
        # Nearly all texts are in the wanted language; only the others need the whole ranking.
        likeliest, probability = self._identifier.classify(text)
        if likeliest != self.language:
            probability = dict(self._identifier.rank(text))[self.language]
        return min(float(probability), 1.0)  # a sum of float32 may round above 1
