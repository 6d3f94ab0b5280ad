"""What the selected pairs are written as.

An exporter writes parts: a part is a run of consecutive pairs, in the order of the input. The
index of a format is written last, so that its existence means that the data set is whole.
"""

from __future__ import annotations

from synthvlm.components.table import Table
from synthvlm.exporters.base import DataSetFacts, ExportedPair, Exporter, Split, Write

__all__ = ["EXPORTERS", "DataSetFacts", "ExportedPair", "Exporter", "Split", "Write"]

EXPORTERS = Table(
    "exporter",
    Exporter,
    {
        "llava": "synthvlm.exporters.llava:LlavaExporter",
        "huggingface": "synthvlm.exporters.huggingface:HuggingFaceExporter",
        "messages": "synthvlm.exporters.messages:MessagesExporter",
        "webdataset": "synthvlm.exporters.webdataset:WebDatasetExporter",
        "croissant": "synthvlm.exporters.croissant:CroissantExporter",
    },
)
