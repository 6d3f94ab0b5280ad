"""What was found in the data of a training."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from synthvlm.conversations import BadRecord

__all__ = ["MASKED", "TRUNCATED", "DataFacts"]

#: Problems of records that are used all the same.
TRUNCATED = "its end was cut off at max_tokens (used)"
MASKED = "its trained parts are no whole tokens (used without loss)"
_EXAMPLES = 10


@dataclass(slots=True)
class DataFacts:
    """What was found in the data.

    Attributes:
        records: Read in all.
        samples: Used in training.
        with_image: Of these.
        tokens: Of all samples; image tokens included.
        problems: Number of records with each problem.
        examples: Where the first ten of each problem are.
        digests: SHA-256 of each JSON file.
        models: What each model of the recipe was when the data were checked, by its setting.
    """

    records: int = 0
    samples: int = 0
    with_image: int = 0
    tokens: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)

    def add(self, record: BadRecord) -> None:
        """Count a record with a problem."""
        self.problems[record.problem] += 1
        found = self.examples.setdefault(record.problem, [])
        if len(found) < _EXAMPLES:
            found.append(record.where)

    @property
    def failed(self) -> int:
        """Records that nothing is learnt from."""
        return self.problems.total() - self.problems[TRUNCATED]

    def values(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "records": self.records,
            "samples": self.samples,
            "with_image": self.with_image,
            "tokens": self.tokens,
            "problems": dict(self.problems),
            "examples": self.examples,
            "digests": self.digests,
            "models": self.models,
        }

    @classmethod
    def of(cls, values: dict[str, Any]) -> DataFacts:
        """From ``values``."""
        return cls(**{**values, "problems": Counter(values["problems"])})
