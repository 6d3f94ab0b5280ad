"""The commands as functions: the words of the command line, and results instead of text.

Results have ``text()``, what the command prints, and ``values()``, what it prints by ``--json``.
A run is named by its folder, or is a ``Run``. In a notebook progress is a bar, elsewhere nothing
is shown. All raise ``SynthVLMError`` with one line about what is wrong.
"""

from __future__ import annotations

from synthvlm.commands.data_sets import compare, convert, diff, view
from synthvlm.commands.models import evaluate, train
from synthvlm.commands.rating import rate
from synthvlm.commands.recipes import cost, tune
from synthvlm.commands.runs import (
    mark,
    publish,
    read_captions,
    regenerate,
    status,
    verify,
)

__all__ = [
    "compare",
    "convert",
    "cost",
    "diff",
    "evaluate",
    "mark",
    "publish",
    "rate",
    "read_captions",
    "regenerate",
    "status",
    "train",
    "tune",
    "verify",
    "view",
]
