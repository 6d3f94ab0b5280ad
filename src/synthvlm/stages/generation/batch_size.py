"""How many images are generated at a time."""

from __future__ import annotations

from typing import Literal

__all__ = ["BatchSizer"]

_LARGEST = 256
#: A larger batch must save this share of the time per image to be worth its memory.
_GAIN = 0.05


class BatchSizer:
    """A batch size that is given, or found while running; it never grows after memory ran out.

    ``auto`` begins with one image and doubles as long as an image takes less time than in the
    batches before; the first batch of a size warms up and is not timed.
    """

    def __init__(self, setting: Literal["auto"] | int) -> None:
        """Take the recipe's setting."""
        self._searching = setting == "auto"
        self.size: int = 1 if setting == "auto" else setting
        self._best: float | None = None
        self._is_warm = False

    def record_batch(self, images: int, seconds: float) -> None:
        """Take note of a batch that was generated."""
        if not self._searching or images != self.size:
            return
        if not self._is_warm:
            self._is_warm = True
            return
        each = seconds / images
        if self._best is not None and each > self._best * (1 - _GAIN):
            self._searching = False
            self.size //= 2
        elif self.size >= _LARGEST:
            self._searching = False
        else:
            self._best, self._is_warm = each, False
            self.size *= 2

    def shrink(self, images: int) -> int:
        """A batch did not fit into memory; the size to go on with, below that of the batch."""
        self._searching = False
        self.size = max(1, min(self.size, images // 2))
        return self.size
