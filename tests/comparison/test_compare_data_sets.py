"""Data sets side by side: figures against other people's code, whatever the format."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from pair_files import (
    TINY_SETTINGS,
    Made,
    conversation,
    llava,
    parquet,
    png,
    sample_pairs,
    webdataset,
)
from synthvlm import tiny
from synthvlm.comparison import data_set_comparison
from synthvlm.comparison.command import compare_command, open_inputs
from synthvlm.data_sets.pairs import LoadedPair
from synthvlm.data_sets.readers import ConversationDataSet, TableDataSet
from synthvlm.errors import CaptionSourceError, RunFolderError
from synthvlm.estimates import mean_interval
from synthvlm.progress.display import SilentProgress


def compared(*inputs: str | Path, out: Path | None = None, **changes: Any) -> list[dict[str, Any]]:
    """The figures of each data set; changes are of the settings."""
    text = compare_command(
        [str(path) for path in inputs],
        replace(TINY_SETTINGS, **changes),
        out=None if out is None else str(out),
        as_json=True,
        progress=SilentProgress(),
    )
    data_sets = json.loads(text)["data_sets"]
    assert isinstance(data_sets, list)
    return data_sets


def clip_scores(pairs: list[Made]) -> list[float]:
    """CLIPScore by transformers itself."""
    folder = tiny.clip_path()
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    words = CLIPTokenizer.from_pretrained(folder)
    pictures = CLIPImageProcessorPil.from_pretrained(folder)
    values = []
    for pair in pairs:
        image = Image.open(io.BytesIO(pair.image)).convert("RGB")
        text = words([f"A photo depicts {pair.caption}"], return_tensors="pt", truncation=True)
        with torch.inference_mode():
            found = model(**text, **pictures(images=image, return_tensors="pt"))
        cosine = (found.text_embeds * found.image_embeds).sum().item()
        values.append(max(0.0, cosine))
    return values


def ssim_scores(pairs: list[Made]) -> list[float]:
    """SSIMScore by Pillow and scikit-image themselves, as the authors' code does it."""
    values = []
    for pair in pairs:
        image = Image.open(io.BytesIO(pair.image)).convert("RGB")
        full = image.resize((768, 768), Image.Resampling.BILINEAR)
        back = full.resize((336, 336), Image.Resampling.BILINEAR)
        back = back.resize((768, 768), Image.Resampling.BILINEAR)
        grey = (np.asarray(one.convert("L")) for one in (full, back))
        values.append(float(structural_similarity(*grey)))
    return values


def test_scores_are_those_of_transformers_and_scikit_image(tmp_path: Path) -> None:
    pairs = sample_pairs(8)
    (found,) = compared(llava(tmp_path / "set", pairs))
    clip, ssim = np.array(clip_scores(pairs)), np.array(ssim_scores(pairs))
    assert clip.std() > 0.01
    assert found["clip_score"]["mean"] == pytest.approx(clip.mean(), abs=1e-6)
    assert found["ssim_score"]["mean"] == pytest.approx(ssim.mean(), abs=1e-12)
    both = mean_interval((clip + 0.5 * ssim).tolist())
    for end, value in zip(("mean", "low", "high"), (both.value, both.low, both.high), strict=True):
        assert found["score"][end] == pytest.approx(value, abs=1e-6)


def test_the_format_changes_no_figure(tmp_path: Path) -> None:
    pairs = sample_pairs(7)
    paths = [
        llava(tmp_path / "json", pairs),
        parquet(tmp_path / "pairs.parquet", pairs),
        parquet(tmp_path / "texts.parquet", pairs, text="text"),
    ]
    for number in (0, 1):
        webdataset(tmp_path / f"shard-{number:03d}.tar", pairs[number * 4 : number * 4 + 4])
    found = compared(*paths, f"shards={tmp_path}/shard-{{000..001}}.tar", sample=4)
    assert [one["label"] for one in found] == ["json", "pairs", "texts", "shards"]
    for one in found:
        del one["label"], one["path"]
    assert found[0]["scored"] == 4
    assert found[0]["records"] == 7
    assert found[0] == found[1] == found[2] == found[3]


def test_captions_and_images_are_described(tmp_path: Path) -> None:
    a, b, c = sample_pairs(3)
    pairs = [
        Made("1", "A red kite over the wide green sea", a.image),
        Made("2", "A red kite over the wide green sea", b.image),
        Made("3", "a red kite over the wide, green sea!", b.image),
        Made("4", "Snow", c.image),
    ]
    (found,) = compared(parquet(tmp_path / "x.parquet", pairs))
    assert found["words"] == {"median": 8.0, "mean": 6.25, "min": 1, "max": 8}
    # A tiny CLIP's tokens, counted by transformers.
    words = CLIPTokenizer.from_pretrained(tiny.clip_path())
    tokens = [len(words(pair.caption, add_special_tokens=False)["input_ids"]) for pair in pairs]
    assert found["tokens"]["mean"] == np.mean(tokens)
    assert found["vocabulary"] == 9
    assert found["type_token"] == {"types": 9, "tokens": 25}
    assert found["duplicate_captions"] == 1
    assert found["near_duplicate_captions"] == 2
    assert found["duplicate_files"] == 1
    assert found["duplicate_pixels_in_sample"] == 1
    assert found["width"] == {"median": 64.0, "mean": 60.5, "min": 50, "max": 64}
    assert found["height"]["max"] == 70


def test_types_are_counted_among_equally_many_words(tmp_path: Path) -> None:
    pairs = sample_pairs(6)
    small = parquet(tmp_path / "s.parquet", pairs[:2])
    found = compared(small, parquet(tmp_path / "l.parquet", pairs))
    assert {one["type_token"]["tokens"] for one in found} == {found[0]["type_token"]["tokens"]}
    assert found[0]["vocabulary"] < found[1]["vocabulary"]


def test_equal_pixels_in_unequal_files_are_found(tmp_path: Path) -> None:
    first, _ = sample_pairs(2)
    sink = io.BytesIO()
    Image.open(io.BytesIO(first.image)).save(sink, "WEBP", lossless=True)
    pairs = [first, Made("other", "Another caption", sink.getvalue())]
    (found,) = compared(parquet(tmp_path / "x.parquet", pairs))
    assert found["duplicate_files"] == 0
    assert found["duplicate_pixels_in_sample"] == 1


def test_the_sample_is_that_of_the_ids(tmp_path: Path) -> None:
    pairs = sample_pairs(12)
    one = parquet(tmp_path / "one.parquet", pairs)
    found = compared(one, parquet(tmp_path / "two.parquet", [*reversed(pairs)]), sample=5)
    assert found[0]["clip_score"]["mean"] == pytest.approx(found[1]["clip_score"]["mean"], abs=1e-6)
    (whole,) = compared(tmp_path / "one.parquet", sample=None)
    assert whole["scored"] == 12
    assert whole["clip_score"]["mean"] != found[0]["clip_score"]["mean"]


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


@pytest.mark.parametrize("format", ["llava", "webdataset"])
def test_images_are_never_all_in_memory(tmp_path: Path, format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (150, 150, 3), dtype=np.uint8)
    image = png(Image.fromarray(noise))
    pairs = [Made(f"p{n}", "Noise, and nothing else.", image) for n in range(60)]
    write = llava if format == "llava" else webdataset
    path = write(tmp_path / ("x" if format == "llava" else "x.tar"), pairs)
    (opened,) = open_inputs([str(path)])
    assert isinstance(opened, ConversationDataSet | TableDataSet)
    next(opened.pairs())  # imports
    tracemalloc.start()
    assert sum(isinstance(pair, LoadedPair) for pair in opened.pairs()) == 60
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(image) * 60 > 4_000_000
    assert peak < 1_000_000


BAD = [
    ({"id": "no-turns", "image": "p0.png"}, "it has no conversations"),
    ({"id": "text", "conversations": conversation("x", "x", "y")["conversations"]}, "no image"),
    (
        {
            "id": "no-mark",
            "image": "p0.png",
            "conversations": [
                {"from": "human", "value": "What?"},
                {"from": "gpt", "value": "A dog."},
            ],
        },
        "no <image>",
    ),
    (conversation("blank", "p0.png", "  "), "the caption is empty"),
    (conversation("outside", "../p0.png", "A dog."), "within the folder of images"),
    (conversation("absent", "absent.png", "A dog."), "absent.png"),
    (conversation("broken", "broken.png", "A dog."), "cannot be used"),
    (conversation("cut", "cut.png", "A dog."), "cannot be used"),
    ("no object", "no JSON object"),
]


def test_bad_records_are_counted_and_named(tmp_path: Path) -> None:
    pairs = sample_pairs(3)
    path = llava(tmp_path / "set", pairs, [record for record, _ in BAD])
    (tmp_path / "set/images/broken.png").write_bytes(b"no image")
    (tmp_path / "set/images/cut.png").write_bytes(pairs[0].image[:-200])
    (found,) = compared(path, out=tmp_path / "out", map_points=0)
    faults = {"bad record": 6, "missing image": 1, "broken image": 2}
    assert found["bad"] == {"count": 9, "faults": faults}
    assert found["records"] == 12
    assert found["scored"] == 3
    clean = compared(llava(tmp_path / "clean", pairs))[0]
    assert found["clip_score"] == clean["clip_score"]
    rows = [json.loads(line) for line in _lines(tmp_path / "out/bad_records.jsonl")]
    assert len(rows) == 9
    for record, problem in BAD:
        name = record["id"] if isinstance(record, dict) else "record 12"
        row = next(row for row in rows if name in row["where"])
        assert problem in row["problem"]
    text = compare_command([str(path)], TINY_SETTINGS, progress=SilentProgress())
    assert "set: 9 bad records" in text
    assert all(problem in text for _, problem in BAD)


def test_an_id_cannot_pass_for_a_line_of_ours(tmp_path: Path) -> None:
    more = [conversation("x\nbad ones   none\x1b[2J", "gone.png", "A dog.")]
    path = llava(tmp_path / "set", sample_pairs(2), more)
    text = compare_command([str(path)], TINY_SETTINGS, progress=SilentProgress())
    assert "(id x bad ones none" in text


def test_a_bomb_is_called_one(tmp_path: Path) -> None:
    bomb = b"\x89PNG\r\n\x1a\n"
    sides = struct.pack(">II", 30_000, 30_000) + b"\x08\x02\0\0\0"
    for kind, data in ((b"IHDR", sides), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        bomb += struct.pack(">I", len(data)) + kind + data + checksum
    path = parquet(tmp_path / "x.parquet", [*sample_pairs(2), Made("bomb", "A bomb.", bomb)])
    text = compare_command([str(path)], TINY_SETTINGS, progress=SilentProgress())
    assert "broken image: the original image cannot be used: Image size (900000000 pixels)" in text


def test_a_folder_that_cannot_be_written_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "x.parquet", sample_pairs(2))
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(data_set_comparison, "compare_data_sets", None)  # not reached
    with pytest.raises(RunFolderError, match="not a folder"):
        compared(path, out=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_ten_bad_records_are_shown_and_the_rest_is_told(tmp_path: Path) -> None:
    more = [conversation(f"gone{n}", f"gone{n}.png", "A dog.") for n in range(13)]
    path = llava(tmp_path / "set", sample_pairs(2), more)
    text = compare_command([str(path)], TINY_SETTINGS, progress=SilentProgress())
    assert text.count("(id gone") == 10
    assert "and 3 more" in text


def test_bad_samples_of_a_shard_are_counted(tmp_path: Path) -> None:
    one = sample_pairs(1)[0]
    more = [
        ("a.json", b"{broken"), ("a.png", one.image),
        ("b.txt", b"no image"),
        ("c.png", one.image),
        ("d.png", b"GIF87a"), ("d.txt", b"broken image"),
    ]  # fmt: skip
    (found,) = compared(webdataset(tmp_path / "x.tar", [one], more))
    assert found["bad"]["faults"] == {"bad record": 2, "missing image": 1, "broken image": 1}
    assert found["scored"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no JSON", "x.json: expected conversations or messages"),
        ("[", "x.json"),
        ("[]", "none of 0 records is a usable pair"),
        ('[{"id": "a"}]', r"none of 1 records is a usable pair; the first: .*no conversations"),
    ],
)
def test_a_data_set_without_a_pair_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(CaptionSourceError, match=message) as error:
        compared(path)
    assert "\n" not in str(error.value)


def test_a_sample_without_a_usable_image_is_one_line(tmp_path: Path) -> None:
    path = llava(tmp_path / "set", [], [conversation("a", "a.png", "A dog.")])
    with pytest.raises(CaptionSourceError, match="none of 1 sampled images can be used; the first"):
        compared(path)
