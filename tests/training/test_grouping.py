"""The order of samples."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from synthvlm.training.samples import GroupedSampler, grouped_order

SAMPLES = st.lists(st.tuples(st.integers(1, 2048), st.booleans()), min_size=1, max_size=60)


@given(samples=SAMPLES, batch=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_batches(samples: list[tuple[int, bool]], batch: int, seed: int) -> None:
    lengths = np.array([length for length, _ in samples])
    has_image = np.array([image for _, image in samples])
    order = grouped_order(lengths, has_image, batch, (seed, 0))
    assert sorted(order) == list(range(len(samples)))
    assert order == grouped_order(lengths, has_image, batch, (seed, 0))
    pure = sum(int((has_image == kind).sum()) // batch for kind in (True, False))
    for n in range(0, len(order), batch):
        part = order[n : n + batch]
        assert (np.diff(lengths[part]) <= 0).all()
        if n < pure * batch:
            assert len(set(has_image[part])) == 1


def test_epochs_and_seeds_differ() -> None:
    lengths, has_image = np.arange(64), np.arange(64) % 2 == 0

    def order(seed: int, epoch: int, *, grouping: bool) -> list[int]:
        sampler = GroupedSampler(lengths, has_image, 8, seed, grouping=grouping)
        sampler.set_epoch(epoch)
        assert len(sampler) == 64
        return list(sampler)

    for grouping in (True, False):
        orders = [order(s, e, grouping=grouping) for s, e in ((0, 0), (0, 1), (1, 0))]
        assert len({tuple(o) for o in orders}) == 3
        assert orders[0] == order(0, 0, grouping=grouping)
        assert all(sorted(o) == list(range(64)) for o in orders)


def test_which_samples_share_a_batch_is_not_a_matter_of_length() -> None:
    lengths = np.arange(1000)
    order = grouped_order(lengths, np.ones(1000, bool), 100, (0, 0))
    means = [lengths[order[n : n + 100]].mean() for n in range(0, 1000, 100)]
    assert np.std(means) < 100  # of sorted data it would be 287
