"""The order of samples: batches of one modality, sorted by length, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["GroupedSampler", "grouped_order"]


def grouped_order(
    lengths: npt.NDArray[np.int64],
    has_image: npt.NDArray[np.bool_],
    batch: int,
    seed: Sequence[int],
) -> list[int]:
    """Every sample once, in batches that hold samples with an image, or without.

    Which samples of a modality share a batch is chance; within a batch they stand by falling
    length, so that the small batches of the devices need little padding. What fills no batch of
    its modality comes last, together. LLaVA-1.5 groups its instruction tuning so.

    Args:
        lengths: Tokens of each sample, shape (n,).
        has_image: Whether it has an image, shape (n,).
        batch: Samples of one step, on all devices together.
        seed: Any numbers.
    """
    random = np.random.default_rng(seed)
    batches: list[npt.NDArray[np.int64]] = []
    rest: list[npt.NDArray[np.int64]] = []
    for modality in (True, False):
        order = random.permutation(np.flatnonzero(has_image == modality))
        full = len(order) // batch * batch
        batches += list(order[:full].reshape(-1, batch))
        rest.append(order[full:])
    last = np.concatenate(rest)
    chosen = [batches[n] for n in random.permutation(len(batches))]
    chosen += [last[n : n + batch] for n in range(0, len(last), batch)]
    return [int(n) for part in chosen for n in part[np.argsort(-lengths[part], kind="stable")]]


class GroupedSampler:
    """A sampler for torch; each epoch has an order of its own."""

    def __init__(
        self,
        lengths: npt.NDArray[np.int64],
        has_image: npt.NDArray[np.bool_],
        batch: int,
        seed: int,
        *,
        grouping: bool = True,
    ) -> None:
        """Take what ``grouped_order`` needs; without grouping the order is a plain shuffle."""
        self._lengths, self._has_image = lengths, has_image
        self._batch, self._seed, self._grouping = batch, seed, grouping
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Use the order of that epoch from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Samples of an epoch."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """Their numbers, in order."""
        seed = (self._seed, self._epoch)
        if self._grouping:
            return iter(grouped_order(self._lengths, self._has_image, self._batch, seed))
        return iter(np.random.default_rng(seed).permutation(len(self)).tolist())
