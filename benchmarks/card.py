"""A GPU: its peak, what it does in some time, how much of that it waits, and the table of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

#: Dense peaks in half precision, single-precision sums, TFLOP/s, as vendors' data sheets have them.
PEAKS = {
    "B200": 2250.0,
    "GH200": 989.5,
    "H200": 989.5,
    "H100 NVL": 835.5,
    "H100 PCIe": 756.5,
    "H100": 989.5,
    "A100": 312.0,
    "L40S": 362.1,
    "L4": 121.0,
    "RTX 4090": 165.2,
    "V100": 125.0,
    "T4": 65.0,
}
HEADER = "| | batch | images/s | TFLOP/s | FLOP utilisation | peak GB |\n|---|---|---|---|---|---|"


class Card:
    """The device, and what is asked of it; without a GPU there is no peak and no memory."""

    def __init__(self, device: str) -> None:
        """Look at the device."""
        self.device, self.is_gpu = device, device.startswith("cuda")
        self.name = torch.cuda.get_device_name(device) if self.is_gpu else "CPU"
        self.peak = peak_tflops(self.name)
        self.dtype = "float16" if self.is_gpu else "float32"

    def clocked(self, work: Callable[[], object]) -> tuple[float, float | None]:
        """Seconds that work takes on the device, and the most memory that was taken, in GB."""
        if not self.is_gpu:
            began = time.perf_counter()
            work()
            return time.perf_counter() - began, None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - began, torch.cuda.max_memory_allocated() / 1e9

    def row(self, what: str, batch: int, images: int, tflop: float, clock: Any) -> dict[str, Any]:
        """The figures of some images, printed as a row of a table."""
        seconds, memory = clock
        rate = images * tflop / seconds
        figures = {
            "what": what,
            "batch": batch,
            "images_per_s": images / seconds,
            "tflops": rate,
            "utilisation": rate / self.peak if self.peak else None,
            "memory_gb": memory,
        }
        print(as_row(figures), flush=True)
        return figures


def as_row(figures: dict[str, Any]) -> str:
    """A row of the table."""
    used, memory = figures["utilisation"], figures["memory_gb"]
    return (
        f"| {figures['what']} | {figures['batch']} | {figures['images_per_s']:.3g} "
        f"| {figures['tflops']:.3g} | {'unknown card' if used is None else f'{used:.1%}'} "
        f"| {'' if memory is None else f'{memory:.1f}'} |"
    )


def peak_tflops(card: str) -> float | None:
    """The peak of a card by its name, e.g. ``NVIDIA H100 80GB HBM3``; None for an unknown one."""
    for name, peak in PEAKS.items():
        if all(re.search(rf"\b{word}\b", card) for word in name.split()):
            return peak
    return None


def waiting_share(events: Iterable[tuple[str, float, float]]) -> float | None:
    """The share of the time in which a device does nothing, from its first kernel to its last.

    Args:
        events: Name, start and end of what the device did, in any order and any unit of time. What
            only copies or fills memory does not begin the time: models are loaded by it.
    """
    spans = sorted((start, end, name) for name, start, end in events)
    kernels = [start for start, _, name in spans if not name.startswith(("Memcpy", "Memset"))]
    if not kernels:
        return None
    first = reached = kernels[0]
    waited = 0.0
    for start, end, _ in spans:
        if end > first:
            waited += max(0.0, start - reached)
            reached = max(reached, end)
    return waited / (reached - first) if reached > first else None
