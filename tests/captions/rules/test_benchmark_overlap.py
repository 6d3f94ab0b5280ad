"""Overlap with benchmarks: values by hand, a naive implementation, any text, and files of texts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthvlm.captions.rules import benchmark_overlap
from synthvlm.captions.rules.batch import TextBatch, special_characters
from synthvlm.captions.rules.benchmark_overlap import (
    BenchmarkOverlap,
    benchmark_digest,
    read_benchmarks,
)
from synthvlm.captions.rules.method import WordCount, measure
from synthvlm.errors import RecipeError

QUESTION = "what is the man in the red jacket holding above his head"  # 12 words, 5 8-grams
WILD = st.lists(st.text(st.characters(codec=None), max_size=40), max_size=5)
#: Few words, so that n-grams do meet.
FEW_WORDS = st.lists(
    st.lists(st.sampled_from(["a", "b", "Σ", "İx", "7", "-", "c-d"]), max_size=7).map(" ".join),
    max_size=6,
)


def shares(benchmark: list[str], captions: list[str], ngram: int = 8) -> list[float]:
    return BenchmarkOverlap(benchmark, ngram).measure(TextBatch(captions)).tolist()


def naive_shares(benchmark: list[str], captions: list[str], n: int) -> list[float]:
    """The definition, word for word."""
    special = "".join(map(chr, special_characters()))

    def grams(text: str) -> list[tuple[str, ...]]:
        words = [word.lower().strip(special) for word in text.split(" ")]
        words = [word for word in words if word]
        if len(words) <= n:
            return [tuple(words)] if words else []
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    known = {gram for text in benchmark for gram in grams(text)}
    found = [[gram in known for gram in grams(caption)] for caption in captions]
    return [sum(hits) / max(len(hits), 1) for hits in found]


def test_shares_by_hand() -> None:
    words = QUESTION.split()
    captions = {
        QUESTION: 1.0,
        " ".join(words[:8]): 1.0,
        # 9 words, so two 8-grams, of which the first is shared.
        " ".join([*words[:8], "cup"]): 0.5,
        " ".join([*words[:7], "cup", *words[8:]]): 0.0,
        " ".join(reversed(words)): 0.0,
        "": 0.0,
        "12, 13!": 0.0,
    }
    assert shares([QUESTION], list(captions)) == list(captions.values())


def test_case_punctuation_and_numbers_are_no_difference() -> None:
    loud = '"What is: the MAN (in the red jacket) - holding 3 above... his head?"'
    assert shares([QUESTION], [loud]) == [1.0]
    assert shares([loud], [QUESTION]) == [1.0]
    # Within a word they are.
    assert shares(["a hot dog"], ["a hot-dog", "a ho.t dog", "a hot dog."]) == [0.0, 0.0, 1.0]


def test_a_short_caption_matches_a_whole_text_only() -> None:
    benchmark = [QUESTION, "A red kite", "what is the man in the red"]
    captions = [
        "a red kite.",
        "what is the man in the red",
        "what is the man",  # within two texts, equal to none
        "the red jacket",
        "a red",
        "a man with a red kite flies it on the beach",  # holds a whole short text
    ]
    assert shares(benchmark, captions) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_ngrams_do_not_run_over_the_end_of_a_text() -> None:
    first, second = "one two three", "four five six"
    assert shares([first, second], ["three four", "two three four"], 2) == [0.0, 0.5]
    assert shares(["three four"], [first, second, "three four"], 2) == [0.0, 0.0, 1.0]


def test_a_word_that_hashes_to_nothing_counts() -> None:
    assert TextBatch(["\0"]).words.hashes.tolist() == [0]
    assert shares(["\0 cat"], ["cat", "\0 cat"]) == [0.0, 1.0]


@given(FEW_WORDS, FEW_WORDS, st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_equals_the_naive_implementation(benchmark: list[str], captions: list[str], n: int) -> None:
    assert shares(benchmark, captions, n) == naive_shares(benchmark, captions, n)


def test_merging_many_hashes_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(0)
    texts = [" ".join(rng.choices("abcdefgh", k=rng.randint(1, 12))) for _ in range(600)]
    monkeypatch.setattr(benchmark_overlap, "_MIN_PENDING", 50)
    monkeypatch.setattr(benchmark_overlap, "_BATCH_CHARS", 200)
    benchmark, captions = texts[:300], texts[200:]
    expected = naive_shares(benchmark, captions, 3)
    assert 0 < sum(share > 0 for share in expected) < len(expected)
    assert shares(benchmark, captions, 3) == expected


@given(WILD, WILD, st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_any_text(benchmark: list[str], captions: list[str], n: int) -> None:
    rule = BenchmarkOverlap(benchmark, n)
    values = rule.measure(TextBatch(captions))
    assert values.shape == (len(captions),)
    assert np.all((values >= 0) & (values <= 1))
    # A benchmark overlaps itself wherever it holds words.
    batch = TextBatch(benchmark)
    own = rule.measure(batch)
    assert own.tolist() == (WordCount().measure(batch) > 0).astype(float).tolist()


def test_an_ngram_has_a_word() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BenchmarkOverlap([], 0)


def test_the_rule_of_the_table_reads_files(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text(f"{QUESTION}\nA red kite\n", "utf-8")
    rule = BenchmarkOverlap.from_files([str(tmp_path / "b.txt")], ngram=10)
    texts = ["a red kite", "a blue kite", QUESTION]
    assert measure(texts, [rule])["benchmark_overlap"].tolist() == [1.0, 0.0, 1.0]


def write_all_formats(folder: Path) -> list[str]:
    """Files of every kind, most of which lack one of the fields; two texts in each but the last."""
    rows = [{"question": "q {0} one", "answer": "a {0} one"}, {"question": "q {0} two"}]

    def named(kind: str) -> list[dict[str, str]]:
        return [{key: text.format(kind) for key, text in row.items()} for row in rows]

    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, named("jsonl"))), "utf-8")
    listed = [*named("json"), {"question": None, "answer": 3}, {"question": " ", "answer": True}]
    (folder / "b.json").write_text(json.dumps(listed), "utf-8")
    table = pa.table({"question": ["q parquet one", None], "label": [1, 2]})
    pq.write_table(table, folder / "c.parquet")
    (folder / "d.csv").write_text('id,answer\n1,"a csv, one"\n2,\n', "utf-8")
    with gzip.open(folder / "e.tsv.gz", "wb") as file:
        file.write(b"question\tanswer\nq tsv one\ta tsv one\n")
    (folder / "f.txt").write_text("txt one\n\ntxt \u201ctwo\u201d\n", "utf-8")
    return sorted(map(str, folder.iterdir()))


def test_texts_of_all_formats(tmp_path: Path) -> None:
    files = write_all_formats(tmp_path)
    expected = {
        *("q jsonl one", "a jsonl one", "q jsonl two", "q json one", "a json one", "q json two"),
        *("q parquet one", "a csv, one", "q tsv one", "a tsv one", "txt one"),
        # As written, and as a normalised caption has it.
        *("txt \u201ctwo\u201d", 'txt "two"'),
    }
    fields = ["question", "answer"]
    assert set(read_benchmarks(files, fields)) == expected
    assert set(read_benchmarks([f"{tmp_path}/*"], fields)) == expected


def test_coco_annotations(tmp_path: Path) -> None:
    path = tmp_path / "captions_val.json"
    content = {"images": [], "annotations": [{"image_id": 1, "caption": "a cat"}]}
    path.write_text(json.dumps(content), "utf-8")
    assert list(read_benchmarks([str(path)], format="coco")) == ["a cat"]


def test_files_of_other_file_systems() -> None:
    memory = fsspec.filesystem("memory")
    with memory.open("/benchmarks/a.csv", "wb") as file:
        file.write(b"question\nq one\n")
    with memory.open("/benchmarks/b.csv", "wb") as file:
        file.write(b"answer\na one\n")
    fields = ["question", "answer"]
    try:
        found = set(read_benchmarks(["memory://benchmarks/*.csv"], fields))
    finally:
        memory.rm("/benchmarks", recursive=True)
    assert found == {"q one", "a one"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "missing.txt: no such file"),
        ("*.jsonl", None, "no file matches"),
        ("a.txt", b"\n \n", "a.txt holds no text$"),
        ("a.txt", b"", "a.txt holds no text$"),
        ("a.txt", b"1, 2\n3.\n", "no word, only numbers"),
        ("a.txt", b"fine\n\xff\n", "line 2: invalid UTF-8"),
        ("a.xyz", b"x", "cannot tell the format"),
        ("a.csv", b"captoin\nx\n", "no column 'caption', only 'captoin'; did you mean"),
        ("a.csv", b"caption\n\n", "holds no text in 'caption'$"),
        ("a.csv", b"id,caption\n1,a cat\n2\n", "line 3: 1 columns, but the header has 2"),
        ("a.jsonl", b'{"q": "a"}\n', r"no field 'caption' \(found: 'q'\); set text_fields$"),
        ("a.jsonl", b'{"caption": "a cat"}\n{"caption', "line 2: invalid JSON"),
        ("a.jsonl", b'{"caption": {"a": 1}}\n', "line 1: 'caption' must be .*, not an object"),
        ("a.json", b'{"questions": []}', "this JSON object holds no 'caption'"),
        ("a.txt.gz", gzip.compress(b"a cat\n" * 99)[:-9], "a.txt.gz: cannot be read"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=message) as caught:
        BenchmarkOverlap.from_files([str(tmp_path / name)])
    assert str(caught.value).startswith("benchmark_overlap: ")
    assert "\n" not in str(caught.value)


def test_a_field_that_no_file_has_is_an_error(tmp_path: Path) -> None:
    files = write_all_formats(tmp_path)
    with pytest.raises(RecipeError, match="no file holds text in the field 'answr'"):
        list(read_benchmarks(files, ["question", "answer", "answr"]))
    # The lines of a text file have no field.
    assert "txt one" in set(read_benchmarks(files[-1:], ["question", "answr"]))


def test_a_column_of_lists_is_many_texts(tmp_path: Path) -> None:
    pq.write_table(pa.table({"q": ["a"], "choices": [["b", "c"]]}), tmp_path / "a.parquet")
    texts = list(read_benchmarks([str(tmp_path / "a.parquet")], ["q", "choices"]))
    assert texts == ["a", "b", "c"]


def test_the_digest_is_of_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat\n", "utf-8")
    (tmp_path / "b.txt").write_text("a dog\n", "utf-8")
    (tmp_path / "sub").mkdir()
    paths = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    known = benchmark_digest(paths)
    assert benchmark_digest([*reversed(paths)]) == known
    assert benchmark_digest([f"{tmp_path}/*.txt"]) == known
    assert benchmark_digest(paths[:1]) != known
    (tmp_path / "a.txt").rename(tmp_path / "sub" / "c.txt")
    moved = [str(tmp_path / "sub" / "c.txt"), paths[1]]
    assert benchmark_digest(moved) == known
    (tmp_path / "b.txt").write_text("a dox\n", "utf-8")
    assert benchmark_digest(moved) != known


def test_the_digest_tells_formats_apart(tmp_path: Path) -> None:
    for name in ("a.txt", "a.jsonl"):
        (tmp_path / name).write_text('{"caption": "a cat"}\n', "utf-8")
    text, rows = (benchmark_digest([str(tmp_path / name)]) for name in ("a.txt", "a.jsonl"))
    assert text != rows


def test_the_digest_wants_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n", "utf-8")
    with pytest.raises(RecipeError, match="holds no text"):
        benchmark_digest([str(tmp_path / "a.txt")])
