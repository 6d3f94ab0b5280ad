"""Quotas: so many pairs of each source, concept, range of a measure, or cluster of embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from synthvlm.components.settings import Settings
from synthvlm.selectors.base import IMAGE_EMBEDDING, TEXT_EMBEDDING, Selector, best_first, matrix
from synthvlm.selectors.clusters import cluster_centers, nearest_centers

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "NAMED",
    "NONE",
    "QuotaSelector",
    "QuotaSettings",
    "bin_names",
    "filled",
    "largest_remainder",
]

#: Fields whose values are names; those of all others are numbers, which are cut into bins.
NAMED = ("source", "concept")
#: Group of the pairs whose field has no value.
NONE = "(none)"
#: Quotas that are named one by one where there are too few pairs for them.
_SHOWN = 3


class QuotaSettings(Settings):
    """How many pairs of each group; within a group the best by score."""

    field: str | None = Field(
        None,
        description="What the groups are: source, concept, a rule, a score; null: clusters.",
    )
    bins: int | list[float] = Field(
        4, description="Of numbers: their quantiles, so many; or the edges between bins."
    )
    clusters: int = Field(100, ge=1, description="Clusters of embeddings, where no field is named.")
    embeddings: Literal["text", "image"] = Field("text", description="What is clustered.")
    shares: Literal["proportional", "equal"] | dict[str, float] | list[float] = Field(
        "proportional",
        description="By value, or of the bins in their order; what they leave goes to the others.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        edges = self.bins if isinstance(self.bins, list) else []
        if isinstance(self.bins, int) and self.bins < 2:
            raise ValueError(f"bins must be at least 2, not {self.bins}")
        if self.bins == [] or any(a >= b for a, b in pairwise(edges)):
            raise ValueError("bins must be edges in ascending order, such as [0.2, 0.3]")
        self._check_unused()
        if isinstance(self.shares, str):
            return self
        if self.field is None:
            raise ValueError("shares of clusters are proportional or equal: they have no names")
        if isinstance(self.shares, list) and self.field in NAMED:
            raise ValueError(
                f"{self.field} has names, not bins: give shares by name: shares={{NAME: 0.5}}"
            )
        if isinstance(self.shares, dict) and self.field not in NAMED:
            raise ValueError(
                f"{self.field} has bins, not names: give shares in the order of the bins, such as "
                f"bins=[0.2, 0.3], shares=[0.2, 0.3, 0.5]"
            )
        shares = [*(self.shares.values() if isinstance(self.shares, dict) else self.shares)]
        if not shares or min(shares) < 0 or not 0 < sum(shares) <= 1 + 1e-9:
            raise ValueError("shares must be 0 or more, and together above 0 and at most 1")
        if isinstance(self.shares, list):
            bins = self.bins if isinstance(self.bins, int) else len(self.bins) + 1
            if len(shares) != bins:
                raise ValueError(f"shares has {len(shares)} numbers, but there are {bins} bins")
        return self

    def _check_unused(self) -> None:
        unused = [] if self.field is None else ["clusters", "embeddings"]
        unused += ["bins"] if self.field is None or self.field in NAMED else []
        for name in unused:
            if getattr(self, name) != type(self).model_fields[name].default:
                by = "clusters" if self.field is None else self.field
                raise ValueError(f"{name} has no effect on quotas by {by}: leave it out")


class QuotaSelector(Selector):
    """So many pairs of each value of a field, or of each cluster of embeddings; best first."""

    name: ClassVar[str] = "quotas"
    Settings: ClassVar[type[Settings]] = QuotaSettings

    def __init__(
        self,
        field: str | None,
        bins: int | list[float],
        clusters: int,
        embeddings: str,
        shares: str | dict[str, float] | list[float],
    ) -> None:
        """See ``QuotaSettings``."""
        self._field, self._bins, self._clusters, self._shares = field, bins, clusters, shares
        self._embeddings = TEXT_EMBEDDING if embeddings == "text" else IMAGE_EMBEDDING

    @classmethod
    def columns(cls, settings: Any) -> Sequence[str]:
        """The field, if pairs have it not anyway; without a field the embeddings."""
        assert isinstance(settings, QuotaSettings)
        if settings.field is None:
            return [TEXT_EMBEDDING if settings.embeddings == "text" else IMAGE_EMBEDDING]
        return [settings.field]

    def select(self, pairs: pa.Table, count: int | None) -> np.ndarray:
        """The best pairs of each group, as many as its quota; in the order of their scores."""
        labels, group = self.groups(pairs)
        available = np.bincount(group, minlength=len(labels))
        shares = self._weights(labels, available)
        if count is None:
            count = _fitting(available, shares)
        quotas = largest_remainder(min(count, len(pairs)), shares)
        taken = filled(available, quotas, shares)
        self.notes = _shortfall(self._field or "cluster", labels, available, quotas)
        ranked = best_first(pairs)
        order = np.argsort(group[ranked], kind="stable")
        starts = np.cumsum(available) - available
        place = np.arange(len(pairs)) - np.repeat(starts, available)
        is_kept = np.zeros(len(pairs), bool)
        is_kept[order] = place < np.repeat(taken, available)
        return ranked[is_kept]

    def sizes(self, available: Mapping[str, int], count: int) -> dict[str, int]:
        """How many of ``count`` pairs each group should have, given how many captions it has.

        Groups that a share is given to count as well where they have no captions.
        """
        given = self._shares if isinstance(self._shares, dict) else {}
        bins = bin_names(self._bins) if isinstance(self._bins, list) else []
        named = [] if self._field in NAMED else bins
        labels = [*named, *sorted({*available, *given}.difference(named))]
        captions = np.array([available.get(label, 0) for label in labels], np.int64)
        sizes = largest_remainder(count, self._weights(labels, captions))
        return dict(zip(labels, sizes.tolist(), strict=True))

    def groups(self, pairs: pa.Table) -> tuple[list[str], npt.NDArray[np.int64]]:
        """The name of each group, and the number of that of each pair (with its ``columns``)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self._field is None:
            embeddings = matrix(pairs, self._embeddings)
            if not len(embeddings):
                return [], np.zeros(0, np.int64)
            centers = cluster_centers(embeddings, self._clusters)
            numbers = nearest_centers(embeddings, centers)[:, 0].astype(np.int64)
            return [str(number) for number in range(len(centers))], numbers
        column = pairs[self._field]
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            return self._binned(column.to_numpy().astype(np.float64))
        values = pc.fill_null(column, NONE).combine_chunks().dictionary_encode()
        names = values.dictionary.to_pylist()
        given = self._shares if isinstance(self._shares, dict) else {}
        labels = sorted({*names, *given})
        place = np.array([labels.index(name) for name in names], np.int64)
        return labels, place[values.indices.to_numpy()]

    def _binned(self, values: npt.NDArray[np.float64]) -> tuple[list[str], npt.NDArray[np.int64]]:
        known = np.isfinite(values)
        if isinstance(self._bins, list):
            edges = np.array(self._bins)
        else:
            shares = np.arange(1, self._bins) / self._bins
            edges = np.quantile(values[known], shares) if known.any() else np.zeros(len(shares))
            if not isinstance(self._shares, list):  # else each bin has its share
                edges = np.unique(edges)
        labels = bin_names(edges.tolist())
        group = np.where(known, np.searchsorted(edges, values, side="right"), len(labels))
        if not known.all():
            labels.append(NONE)
        return labels, group

    def _weights(
        self, labels: Sequence[str], available: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """The share of each group; those that are not given one divide what is left."""
        if self._shares == "proportional":
            return np.asarray(available / max(1, available.sum()))
        if self._shares == "equal":
            present = available > 0
            return np.asarray(present / max(1, present.sum()))
        given: Mapping[str, float] = (
            self._shares
            if isinstance(self._shares, dict)
            else dict(zip(labels, self._shares, strict=False))  # type: ignore[arg-type]
        )
        shares = np.array([given.get(label, 0.0) for label in labels])
        others = np.array([label not in given for label in labels]) * available
        return np.asarray(shares + max(0.0, 1 - shares.sum()) * others / max(1, others.sum()))


def bin_names(edges: Sequence[float]) -> list[str]:
    """The names of the bins between some edges, in their order."""
    names = [f"{edge:.6g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in pairwise(names)]
    return [f"below {names[0]}", *between, f"{names[-1]} and above"]


def largest_remainder(total: int, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Divide a number by shares into whole numbers (Hamilton's method), ties to the first.

    Args:
        total: What is divided.
        shares: Not negative, of any sum, shape (n,).

    Returns:
        Whole numbers whose sum is ``total``, or 0 if all shares are; shape (n,).
    """
    if not shares.sum() > 0:
        return np.zeros(len(shares), np.int64)
    # Rounded, so that what floats add decides no tie.
    exact = np.round(total * shares / shares.sum(), 9)
    whole: npt.NDArray[np.int64] = np.floor(exact).astype(np.int64)
    order = np.argsort(-np.round(exact - whole, 9), kind="stable")
    whole[order[: total - whole.sum()]] += 1
    return whole


def filled(
    available: npt.NDArray[np.int64],
    quotas: npt.NDArray[np.int64],
    shares: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """How many are taken of each group, as many in all as the quotas ask for, or as there are.

    What a group is short of goes to those that have more, by their shares and the largest
    remainder, again and again; when none of those has a share, by what they have left.
    """
    count = min(quotas.sum(), available.sum())
    taken = np.minimum(quotas, available)
    while missing := int(count - taken.sum()):
        left = available - taken
        weights = np.where(left > 0, shares, 0)
        more = largest_remainder(missing, weights if weights.sum() > 0 else left.astype(float))
        taken = np.minimum(taken + more, available)
    return taken


def _fitting(available: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> int:
    """The largest number of pairs of which every group has its share."""
    limits = [a / s for a, s in zip(available.tolist(), shares.tolist(), strict=True) if s > 0]
    return math.floor(round(min(limits, default=0), 6))


def _shortfall(
    field: str,
    labels: Sequence[str],
    available: npt.NDArray[np.int64],
    quotas: npt.NDArray[np.int64],
) -> list[str]:
    thin = np.flatnonzero(available < quotas)
    if not len(thin):
        return []
    thin = thin[np.argsort(available[thin] - quotas[thin], kind="stable")]
    lacking = [f"{labels[n]} {available[n]:,} of {quotas[n]:,}" for n in thin[:_SHOWN].tolist()]
    more = f" and {len(thin) - _SHOWN:,} more" if len(thin) > _SHOWN else ""
    missing = int((quotas - available)[thin].sum())
    return [
        f"quotas: {len(thin):,} of {len(labels):,} groups by {field} have too few pairs "
        f"({', '.join(lacking)}{more}); {missing:,} pairs of other groups take their places"
    ]
