"""How well the rules on personal data and people's names did on the captions they were checked on.

The figures lie in ``data/privacy_figures.json``, which ``python benchmarks/privacy.py --write``
writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FIGURES_FILE", "Figures", "Tally", "read_figures"]

FIGURES_FILE = Path(__file__).parent / "data" / "privacy_figures.json"


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of captions.

    Attributes:
        captions: All that were looked at.
        actual: Those that hold what the rule looks for.
        reported: Those in which the rule finds it.
        correct: Those that are both.
    """

    captions: int
    actual: int
    reported: int
    correct: int

    def cells(self) -> tuple[str, str]:
        """Recall and precision as fractions of counts, which are few."""
        return f"{self.correct} of {self.actual}", f"{self.correct} of {self.reported}"


@dataclass(frozen=True, slots=True)
class Figures:
    """The tallies of a set of captions.

    Attributes:
        personal_data: Of the rule ``personal_data``, by language (ISO 639-1).
        person_names: Of the rule ``person_names``, by language.
        kinds: By kind of finding, over all languages; ``name`` is that of ``person_names``.
    """

    personal_data: Mapping[str, Tally]
    person_names: Mapping[str, Tally]
    kinds: Mapping[str, Tally]

    def total(self, rule: str) -> Tally:
        """The tally of ``personal_data`` or ``person_names`` over all languages."""
        parts = self._of(rule).values()
        return Tally(
            sum(one.captions for one in parts),
            sum(one.actual for one in parts),
            sum(one.reported for one in parts),
            sum(one.correct for one in parts),
        )

    def by_language(self, rule: str) -> dict[str, Tally]:
        """The tallies of ``personal_data`` or ``person_names``; "all" languages come first."""
        return {"all": self.total(rule), **self._of(rule)}

    def _of(self, rule: str) -> Mapping[str, Tally]:
        return self.personal_data if rule == "personal_data" else self.person_names


def read_figures() -> dict[str, Figures]:
    """The figures of each set, ``tuned`` and ``held_out``."""
    sets = json.loads(FIGURES_FILE.read_text("utf-8"))
    return {
        name: Figures(
            **{
                part: {key: Tally(**counts) for key, counts in tallies.items()}
                for part, tallies in parts.items()
            }
        )
        for name, parts in sets.items()
    }
