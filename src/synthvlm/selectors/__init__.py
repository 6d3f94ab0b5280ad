"""Which pairs are the data set."""

from __future__ import annotations

from synthvlm.components.table import Table
from synthvlm.selectors.base import Selector

__all__ = ["SELECTORS", "Selector"]

SELECTORS = Table(
    "selector",
    Selector,
    {
        "top": "synthvlm.selectors.top:TopSelector",
        "quotas": "synthvlm.selectors.quotas:QuotaSelector",
        "coverage": "synthvlm.selectors.coverage:CoverageSelector",
    },
)
