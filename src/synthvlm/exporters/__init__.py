"""What the selected pairs are written as.

An exporter writes parts: a part is a run of consecutive pairs, in the order of the input. The
index of a format is written last, so that its existence means that the data set is whole.
"""

from __future__ import annotations

from collections.abc import Callable

from synthvlm.exporters.base import ExportedPair, Exporter, Write
from synthvlm.exporters.huggingface import HuggingFaceExporter
from synthvlm.exporters.llava import LlavaExporter

__all__ = ["EXPORTERS", "ExportedPair", "Exporter", "Write"]

#: How to make each exporter, by the name that recipes use.
EXPORTERS: dict[str, Callable[..., Exporter]] = {
    "llava": LlavaExporter,
    "huggingface": HuggingFaceExporter,
}
