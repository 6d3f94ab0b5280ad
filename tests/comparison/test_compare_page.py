"""The page of a comparison: self-contained, harmless, the same every time."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pair_files import TINY_SETTINGS, Made, parquet, sample_pairs
from synthvlm.comparison import data_set_comparison
from synthvlm.comparison.command import compare_command
from synthvlm.comparison.embedding_map import embedding_map, principal_components
from synthvlm.errors import RunFolderError
from synthvlm.progress.display import SilentProgress

HOSTILE = [
    "<script>alert(1)</script> a red dog",
    "</style><img src=x onerror=alert(1)> a dog",
    '" onmouseover="alert(1)" x=\'',
    "{{7*7}} {% raw %} {{ config }} dog",
    "\u202egnp.exe dog \x1b[31m",
    "a red circle, plain",
    "a green circle, plain",
    "a blue square, plain",
]


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def compare(folder: Path, *inputs: str, map_points: int = 1000) -> Path:
    out = folder / "out"
    settings = replace(TINY_SETTINGS, map_points=map_points, seed=3)
    compare_command(inputs, settings, out=str(out), progress=SilentProgress())
    return out


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    made = zip(sample_pairs(len(HOSTILE)), HOSTILE, strict=True)
    pairs = [pair._replace(id=text, caption=text) for pair, text in made]
    bad = Made("<script>bad</script>", "Broken <b>one</b>", b"<svg onload=alert(1)>")
    path = parquet(folder / "x.parquet", [*pairs, bad])
    other = parquet(folder / "other.parquet", sample_pairs(10, seed=1))
    return compare(folder, f"<script>alert(2)<b>={path}", str(other))


def test_texts_stay_texts(hostile: Path) -> None:
    text = (hostile / "report.html").read_text("utf-8")
    page = Page(text)
    names = [name for _, attributes in page.tags for name in attributes]
    assert not [name for name in names if name.startswith("on")]
    assert "script" not in {tag for tag, _ in page.tags}
    assert sum(tag == "b" for tag, _ in page.tags) == 1  # the CLIP model's name
    assert page.text.count("<script>alert(2)<b>") >= 6
    shown = [caption for caption in HOSTILE if caption in page.text]
    assert len(shown) == 5
    assert "49" not in re.findall(r"\d+", page.text[page.text.index("Samples") :])
    assert "\\u202egnp.exe dog \\x1b[31m" in page.text
    assert not {"\u202e", "\x1b"} & {*text}


def test_the_page_loads_nothing(hostile: Path) -> None:
    page = Page((hostile / "report.html").read_text("utf-8"))
    links = [
        value or ""
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action")
    ]
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in links)
    assert sum(link.startswith("data:") for link in links) == 12
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_the_maps_hold_every_pair_and_say_their_perplexity(hostile: Path) -> None:
    page = Page((hostile / "report.html").read_text("utf-8"))
    dots = [attributes["class"] for tag, attributes in page.tags if tag == "circle"]
    assert dots.count("set-0") == 2 * len(HOSTILE)
    assert dots.count("set-1") == 2 * 10
    assert "perplexity 5.67, seed 3" in page.text  # (18 points - 1) / 3


def test_the_same_data_sets_make_the_same_files(tmp_path: Path) -> None:
    pairs = sample_pairs(12)
    path = parquet(tmp_path / "x.parquet", [*pairs, pairs[0]._replace(image=b"bad")])
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = (compare(tmp_path / name, str(path)) for name in "ab")
    for name in ("report.html", "comparison.json", "bad_records.jsonl"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_a_report_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", sample_pairs(4))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("of a training")
    with pytest.raises(RunFolderError, match=r"holds a report\.html that is of no comparison"):
        compare(tmp_path, str(path))
    assert (tmp_path / "out" / "report.html").read_text() == "of a training"


def test_few_points_make_no_map_and_without_the_extra_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "x.parquet", sample_pairs(3))
    page = Page((compare(tmp_path, str(path)) / "report.html").read_text("utf-8"))
    assert not [tag for tag, _ in page.tags if tag == "circle"]
    assert "no map: it needs 8 different points or more, of 3" in page.text
    monkeypatch.setattr(data_set_comparison, "has_tsne", lambda: False)
    page = Page((compare(tmp_path, str(path)) / "report.html").read_text("utf-8"))
    assert "pip install 'synthvlm[compare]'" in page.text


def test_a_map_keeps_clusters_apart() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(3, 16)
    sets = []
    for centre in centres:
        points = centre + 0.05 * rng.standard_normal((30, 16))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        sets.append(points.astype(np.float32))
    found = embedding_map(sets, seed=0)
    assert found is not None
    assert found.perplexity == pytest.approx(89 / 3)
    middles = [points.mean(axis=0) for points in found.points]
    for points, middle in zip(found.points, middles, strict=True):
        gaps = [np.linalg.norm(points - other, axis=1) for other in middles]
        own = np.linalg.norm(points - middle, axis=1)
        assert (own <= np.min(gaps, axis=0) + 1e-12).all()


def test_a_large_map_begins_from_the_main_components() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((300, 60)) * np.linspace(0.1, 3, 60) + 1).astype(np.float32)
    found = principal_components(vectors)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    assert found.shape == (300, 50)
    assert np.abs(found) == pytest.approx(np.abs(centred @ axes[:50].T), abs=1e-3)
