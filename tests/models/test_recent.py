"""Tests of what is remembered of the texts used last."""

from synthvlm.models.recent import RecentValues


class Upper:
    """Makes texts upper case, and remembers the batches that it was asked for."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, texts: list[str]) -> list[str]:
        self.batches.append(texts)
        return [text.upper() for text in texts]


def test_each_text_of_a_batch_is_computed_once() -> None:
    upper = Upper()
    values = RecentValues(8, upper)
    assert values.of(["a", "b", "a"]) == ["A", "B", "A"]
    assert values.of(["b", "c"]) == ["B", "C"]
    assert upper.batches == [["a", "b"], ["c"]]


def test_those_used_last_are_remembered() -> None:
    upper = Upper()
    values = RecentValues(2, upper)
    values.of(["a", "b"])
    values.of(["a", "c"])  # b was used longest ago
    values.of(["a", "c"])
    values.of(["b"])
    assert upper.batches == [["a", "b"], ["c"], ["b"]]


def test_a_batch_may_be_larger_than_what_is_remembered() -> None:
    upper = Upper()
    values = RecentValues(1, upper)
    assert values.of(["a", "b", "c"]) == ["A", "B", "C"]
    assert values.of(["c"]) == ["C"]
    assert upper.batches == [["a", "b", "c"]]
