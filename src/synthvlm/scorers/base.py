"""What a scorer is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from pydantic import Field

from synthvlm.components.component import Component, LoadContext
from synthvlm.components.settings import Identify, InHash, Settings
from synthvlm.errors import PluginError

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = [
    "QuestionScorer",
    "QuestionWriter",
    "Scorer",
    "ScorerSettings",
    "Scores",
    "WrittenQuestions",
    "check_scores",
]

#: By how much the length of an embedding may differ from 1.
_UNIT = 0.01


class ScorerSettings(Settings):
    """What all scorers have: the score of a pair is the weighted sum of their values."""

    weight: Annotated[float, InHash.NEVER] = Field(
        1.0, ge=0.0, description="Of this score in the weighted sum."
    )
    minimum: Annotated[float | None, InHash.NEVER] = Field(
        None, allow_inf_nan=False, description="A candidate whose score is lower cannot win."
    )
    only_best: Annotated[int | None, InHash.NEVER] = Field(
        None,
        ge=1,
        description="Score only so many candidates of a caption: those that the scorers without "
        "this setting rank highest; null: all.",
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a batch of n pairs.

    Attributes:
        values: float64, shape (n,); higher is better. An image with NaN or infinity has failed.
        image_embeddings: float32, shape (n, d), unit length, from scorers that embed; the same.
        text_embeddings: The same for the captions.
        truncated: For each caption, whether the scorer saw only its beginning.
        remarks: For each pair what the scorer has to say besides the number, for people to read,
            or None; from scorers with ``has_remarks``.
        problems: For each pair why its value is NaN, or None.
    """

    values: np.ndarray
    image_embeddings: np.ndarray | None = None
    text_embeddings: np.ndarray | None = None
    truncated: tuple[bool, ...] | None = None
    remarks: tuple[str | None, ...] | None = None
    problems: tuple[str | None, ...] | None = None

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """The scores of several batches as those of one; what any part lacks, it lacks, too."""
        import numpy as np

        def all_of(name: str) -> np.ndarray | None:
            rows = [getattr(part, name) for part in parts]
            return None if any(row is None for row in rows) else np.concatenate(rows)

        def each_of(name: str) -> tuple[Any, ...] | None:
            rows = [getattr(part, name) for part in parts]
            return None if any(row is None for row in rows) else tuple(chain.from_iterable(rows))

        return cls(
            np.concatenate([part.values for part in parts]),
            all_of("image_embeddings"),
            all_of("text_embeddings"),
            each_of("truncated"),
            each_of("remarks"),
            each_of("problems"),
        )


class Scorer(Component):
    """Scores pairs of image and caption; higher is better.

    A scorer has a column of its own, ``<name>_score``, in every table of candidates and pairs.

    Attributes:
        about: One sentence for the data-set card: what the number measures.
        on_cpu: Whether it works on the CPU, image by image: it then scores on threads of its own
            beside the generator.
        has_remarks: Whether it says something of a pair besides the number (``Scores.remarks``);
            then there is a column ``<name>_remarks``, too, in tables of candidates.
        may_embed: Whether its scores may hold embeddings. Where no scorer's may, a recipe that
            needs them is refused before anything is generated.
        device: Where it works, for the log, if that is neither the CPU nor the device of the run,
            such as ``endpoint``.
    """

    Settings: ClassVar[type[Settings]] = ScorerSettings
    about: ClassVar[str] = ""
    on_cpu: ClassVar[bool] = False
    has_remarks: ClassVar[bool] = False
    may_embed: ClassVar[bool] = True
    device: str = ""

    @classmethod
    def label_of(cls, settings: Any) -> str:
        """The label of values by some settings; values under different labels do not compare."""
        return cls.label or cls.name

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        """Score n images (uint8, shape (n, 3, height, width), RGB) against n captions."""
        raise NotImplementedError


class QuestionScorer(Scorer):
    """Scores images by questions about their captions.

    A run has a model write the questions, once for each caption and before any image is generated.
    """

    @classmethod
    def load_writer(cls, settings: Any, context: LoadContext) -> QuestionWriter:
        """Load what writes the questions.

        Raises:
            ModelError: A model cannot be found or loaded.
            RecipeError: An endpoint cannot be used.
        """
        raise NotImplementedError

    @classmethod
    def writer_identity(cls, settings: Any, identify: Identify) -> object:
        """What the questions of a caption depend on in the settings: plain values."""
        raise NotImplementedError

    def score_answers(self, images: torch.Tensor, questions: Sequence[Sequence[str]]) -> Scores:
        """Score n images (as in ``score``) by the questions about the caption of each."""
        raise NotImplementedError


class QuestionWriter(Protocol):
    """Writes the questions of captions."""

    def write(self, captions: Sequence[str]) -> Sequence[WrittenQuestions]:
        """The questions of n captions, in their order; one that fails spoils no other.

        Raises:
            SynthVLMError: No more can be written at all.
        """
        ...


class WrittenQuestions(Protocol):
    """The questions of a caption, at least one; or the problem why there are none."""

    @property
    def questions(self) -> tuple[str, ...]:
        """To be answered by yes or no."""
        ...

    @property
    def problem(self) -> str | None:
        """Why there are none."""
        ...


def check_scores(name: str, scores: Scores, count: int) -> None:
    """Hold a scorer to its contract.

    Raises:
        PluginError: The scores are not one number for each pair, or the embeddings not one vector
            of unit length; the message names it.
    """
    import numpy as np

    values: object = getattr(scores, "values", None)
    if not isinstance(values, np.ndarray) or values.shape != (count,):
        kind = "no array" if not isinstance(values, np.ndarray) else f"shape {values.shape}"
        raise PluginError(f"scorer {name!r}: its values have {kind}, not shape ({count},)")
    if values.dtype.kind not in "fiu":
        raise PluginError(f"scorer {name!r}: its values are of type {values.dtype}, no numbers")
    for part in ("truncated", "remarks", "problems"):
        entries = getattr(scores, part)
        if entries is not None and len(entries) != count:
            raise PluginError(f"scorer {name!r}: {part} has {len(entries)} entries, not {count}")
    for embeddings in (scores.image_embeddings, scores.text_embeddings):
        if embeddings is None:
            continue
        shape: tuple[int, ...] = getattr(embeddings, "shape", ())
        if not isinstance(embeddings, np.ndarray) or len(shape) != 2 or shape[0] != count:
            raise PluginError(f"scorer {name!r}: embeddings have shape {shape}, not ({count}, d)")
        # An image without a score, or with NaN in an embedding, has failed.
        usable = np.isfinite(values) & np.isfinite(embeddings).all(axis=1)
        lengths = np.linalg.norm(embeddings[usable].astype(np.float64), axis=1)
        if not (np.abs(lengths - 1) < _UNIT).all():
            raise PluginError(f"scorer {name!r}: embeddings are not of unit length")
