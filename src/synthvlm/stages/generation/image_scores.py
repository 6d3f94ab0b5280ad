"""What the scores of a batch say of each of its images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from synthvlm.scorers.base import Scores
from synthvlm.stages.generation.candidate_plan import weighted_score

if TYPE_CHECKING:
    import numpy as np

    from synthvlm.scorers.base import ScorerSettings

__all__ = ["embedding_scores", "is_truncated", "problem_of", "remarks_of", "vector_of"]


def _no_number(values: Mapping[str, float], scorers: Mapping[str, ScorerSettings]) -> str | None:
    """Why an image cannot be ranked: a NaN would win over every number, or over none."""
    for name, value in values.items():
        if not math.isfinite(value):
            return f"scorer {name!r} gave {value}"
    total = weighted_score(values, scorers)
    return None if math.isfinite(total) else f"the weighted sum of its scores is {total}"


def embedding_scores(scores: Mapping[str, Scores]) -> Scores:
    """The scores of the first scorer that embeds."""
    import numpy as np

    embedded = (batch for batch in scores.values() if batch.image_embeddings is not None)
    return next(embedded, Scores(np.zeros(0)))


def is_truncated(scores: Mapping[str, Scores], row: int) -> bool:
    """Whether a scorer saw only the beginning of an image's caption."""
    return any(batch.truncated[row] for batch in scores.values() if batch.truncated)


def problem_of(
    scores: Mapping[str, Scores],
    row: int,
    values: Mapping[str, float],
    scorers: Mapping[str, ScorerSettings],
) -> str | None:
    """Why an image has failed by its scores, or None."""
    return _own_problem(scores, row) or _no_number(values, scorers) or _no_vector(scores, row)


def _own_problem(scores: Mapping[str, Scores], row: int) -> str | None:
    """Why a scorer could not score an image, in its own words, or None."""
    for name, batch in scores.items():
        problem = batch.problems[row] if batch.problems else None
        if problem is not None:
            return f"scorer {name!r}: {problem}"
    return None


def _no_vector(scores: Mapping[str, Scores], row: int) -> str | None:
    """Which scorer's embedding of an image or its caption is no vector, or None."""
    import numpy as np

    for name, batch in scores.items():
        for vectors in (batch.image_embeddings, batch.text_embeddings):
            if vectors is not None and not np.isfinite(vectors[row]).all():
                return f"scorer {name!r} gave an embedding with NaN or infinity"
    return None


def remarks_of(scores: Mapping[str, Scores], row: int) -> dict[str, str]:
    """What scorers have to say of an image besides their numbers, by their names."""
    remarks = {name: batch.remarks[row] for name, batch in scores.items() if batch.remarks}
    return {name: remark for name, remark in remarks.items() if remark is not None}


def vector_of(vectors: np.ndarray | None, row: int) -> np.ndarray | None:
    """An image's row (shape (d,)) of vectors of shape (n, d), where there are any."""
    return None if vectors is None else vectors[row]
