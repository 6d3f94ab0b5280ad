"""How many images are generated at a time."""

from __future__ import annotations

import pytest

from synthvlm.stages.generation.batch_size import BatchSizer


def find(sizer: BatchSizer, seconds_per_image: dict[int, float], limit: int = 1000) -> int:
    for _ in range(limit):
        size = sizer.size
        sizer.record_batch(size, size * seconds_per_image.get(size, 1.0))
    return sizer.size


def test_it_doubles_while_an_image_gets_cheaper() -> None:
    assert find(BatchSizer("auto"), {1: 1.0, 2: 0.6, 4: 0.4, 8: 0.39, 16: 0.1}) == 4
    assert find(BatchSizer("auto"), {2**n: 0.5**n for n in range(20)}) == 256


def test_a_warm_up_is_not_timed() -> None:
    sizer = BatchSizer("auto")
    sizer.record_batch(1, 1.0)
    sizer.record_batch(1, 1.0)
    assert sizer.size == 2
    sizer.record_batch(2, 100.0)  # compiles
    sizer.record_batch(2, 1.0)
    assert sizer.size == 4


@pytest.mark.parametrize("setting", ["auto", 8])
def test_it_never_grows_after_memory_ran_out(setting: str) -> None:
    sizer = BatchSizer(setting)  # type: ignore[arg-type]
    assert sizer.shrink(8) == min(sizer.size, 4)
    size = sizer.size
    assert find(sizer, {}) == size
    assert sizer.shrink(1) == 1
