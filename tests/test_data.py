from __future__ import annotations

import string

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from synthvlm.data import candidate_seed, file_stem, fingerprint, is_sampled, take_rows


def test_seeds_are_stable_for_ever() -> None:
    # Written down once: a change would make every earlier data set impossible to regenerate.
    assert candidate_seed(0, "captions-0", 0) == 6585794952544826037
    assert candidate_seed(7, "a", 3) == 2249941389360838689


@given(st.text(), st.text(), st.integers(0, 2**63 - 1), st.integers(0, 100))
def test_seeds_differ_and_fit(one: str, other: str, run_seed: int, index: int) -> None:
    seed = candidate_seed(run_seed, one, index)
    assert 0 <= seed < 2**63
    assert seed != candidate_seed(run_seed, one, index + 1)
    assert (seed == candidate_seed(run_seed, other, index)) == (one == other)


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_file_names_hold_nothing_of_the_id(id: str) -> None:
    stem = file_stem(id)
    assert len(stem) == 32
    assert set(stem) <= set(string.hexdigits)


def test_fingerprints_tell_structure_apart() -> None:
    values = [("ab", "c"), ("a", "bc"), (("a", "b"),), ("a", "b"), ("1",), (1,), (None,), ()]
    assert len({fingerprint(*value) for value in values}) == len(values)


def test_the_sampled_share_is_about_right() -> None:
    sampled = sum(is_sampled(f"caption-{n}", 0.25) for n in range(4000))
    assert 900 < sampled < 1100
    assert not is_sampled("x", 0.0)
    assert is_sampled("x", 1.0)


@given(
    st.lists(st.lists(st.text(max_size=2), max_size=4), max_size=5),
    st.lists(st.integers(0, 100), max_size=20),
)
def test_rows_are_taken_from_any_chunks_in_any_order(
    chunks: list[list[str]], places: list[int]
) -> None:
    texts = [text for chunk in chunks for text in chunk]
    column = pa.chunked_array(chunks, pa.string())
    rows = [place % len(texts) for place in places] if texts else []
    table = pa.table({"text": column, "n": range(len(texts))})
    taken = take_rows(table, np.array(rows, np.int64))
    assert taken.to_pydict() == {"text": [texts[row] for row in rows], "n": rows}
    assert taken.schema == table.schema


def test_rows_are_taken_from_more_than_2_gib_of_text() -> None:
    """The chunks share one buffer, so that the test needs no memory; `Table.take` fails here."""
    table = pa.table({"id": pa.chunked_array([pa.array(["x" * 2**20])] * 2049), "n": range(2049)})
    assert take_rows(table, np.array([2048, 0, 7]))["n"].to_pylist() == [2048, 0, 7]
