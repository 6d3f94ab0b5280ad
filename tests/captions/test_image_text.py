"""Captions against their original images: transformers itself is the reference."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    BlipModel,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

from random_models import save_clip
from synthvlm.captions.model_rules import image_text
from synthvlm.captions.model_rules.image_text import (
    Alignment,
    ClipSimilarity,
    ImageTextMatching,
    decode_image,
)
from synthvlm.captions.rules.base import ModelRule, Subject
from synthvlm.errors import ModelError
from synthvlm.scorers.clip import ClipScorer

WIDTH = 32
SIDE = 32


def save_blip(folder: Path, cls: type[Any] = BlipForImageTextRetrieval) -> Path:
    """A BLIP model of single letters, with random weights."""
    torch.manual_seed(0)
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(33, 127)]
    names = [*marks, *letters, *(f"##{letter}" for letter in letters)]
    small = {
        "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": 2, "initializer_range": 0.3,
    }  # fmt: skip
    text = {
        **small, "vocab_size": len(names), "encoder_hidden_size": WIDTH,
        "max_position_embeddings": 40, "pad_token_id": 0, "bos_token_id": 2, "sep_token_id": 3,
        "eos_token_id": 3, "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0,
    }  # fmt: skip
    vision = {**small, "image_size": SIDE, "patch_size": 8}
    cls(
        BlipConfig(
            text_config=text,
            vision_config=vision,
            projection_dim=WIDTH,
            image_text_hidden_size=WIDTH,
        )
    ).save_pretrained(folder)
    BertTokenizer(vocab={name: n for n, name in enumerate(names)}).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def blip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blip(tmp_path_factory.mktemp("blip"))


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(params=["matching", "similarity", "alignment"])
def rule(request: pytest.FixtureRequest, blip_folder: Path, clip_path: Path) -> ModelRule:
    return make_rule(request.param, blip_folder, clip_path, 3)


def make_rule(kind: str, blip_folder: Path, clip_path: Path, batch_size: int) -> ModelRule:
    if kind == "matching":
        return ImageTextMatching(str(blip_folder), batch_size=batch_size)
    if kind == "similarity":
        return ClipSimilarity(str(clip_path), batch_size=batch_size)
    scorer = ClipScorer(str(clip_path))
    return Alignment(scorer.embed_images, scorer.embed_captions, batch_size=batch_size)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format, **options)
    return sink.getvalue()


def picture(seed: int, width: int = 48, height: int = 40) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


PICTURES = [picture(n, 30 + 9 * n, 70 - 7 * n) for n in range(6)]
CAPTIONS = [
    "a cat", "a red bus on a bridge", "", "dog", "a photo of two dogs in the snow and nothing else",
    "caf\u00e9 \u732b \U0001f408 [SEP] </s> <|endoftext|> \0",
]  # fmt: skip
SUBJECTS = [
    Subject(caption, encoded(image)) for caption, image in zip(CAPTIONS, PICTURES, strict=True)
]


def values_of(rule: ModelRule, subjects: list[Subject]) -> list[float]:
    measured = rule.measure(subjects)
    assert measured.values.dtype == np.float64
    assert measured.problems == (None,) * len(subjects)
    return measured.values.tolist()


def test_blip_against_transformers(blip_folder: Path) -> None:
    model = BlipForImageTextRetrieval.from_pretrained(blip_folder).eval()
    words = BertTokenizer.from_pretrained(blip_folder)
    processor = BlipImageProcessorPil.from_pretrained(blip_folder)
    expected = []
    for caption, image in zip(CAPTIONS, PICTURES, strict=True):
        text = words(caption, return_tensors="pt", truncation=True, max_length=40)
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            logits = model(
                input_ids=text["input_ids"], attention_mask=text["attention_mask"],
                pixel_values=pixels, use_itm_head=True,
            )[0]  # fmt: skip
        mismatch, match = logits[0].double().exp().tolist()
        expected.append(match / (match + mismatch))
    found = values_of(ImageTextMatching(str(blip_folder), batch_size=4), SUBJECTS)
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(found) - min(found) > 0.01


def test_clip_similarity_is_what_data_juicer_computes(clip_path: Path) -> None:
    # Its image_text_similarity_filter: processor, whole model, logits_per_text over the scale.
    model = CLIPModel.from_pretrained(clip_path).eval()
    processor = CLIPProcessor(
        CLIPImageProcessorPil.from_pretrained(clip_path), CLIPTokenizer.from_pretrained(clip_path)
    )
    expected = []
    for caption, image in zip(CAPTIONS, PICTURES, strict=True):
        inputs = processor(
            text=caption, images=[image], return_tensors="pt", truncation=True, max_length=77,
            padding=True,
        )  # fmt: skip
        with torch.inference_mode():
            scaled = model(**inputs).logits_per_text
            expected.append((scaled / model.logit_scale.exp()).item())
    found = values_of(ClipSimilarity(str(clip_path), batch_size=4), SUBJECTS)
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(found) - min(found) > 0.01
    assert min(found) < 0, "no clipping, and this seed must show it"


def test_alignment_is_the_clip_score_of_the_generated_images(clip_path: Path) -> None:
    scorer = ClipScorer(str(clip_path))
    expected = [
        scorer.score(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None], [caption]).values[0]
        for caption, image in zip(CAPTIONS, PICTURES, strict=True)
    ]
    rule = Alignment(scorer.embed_images, scorer.embed_captions, batch_size=4)
    assert values_of(rule, SUBJECTS) == pytest.approx(expected, abs=1e-6)
    prefixed = [Subject("A photo depicts " + one.text, one.image) for one in SUBJECTS]
    plain = values_of(ClipSimilarity(str(clip_path)), prefixed)
    assert values_of(rule, SUBJECTS) == pytest.approx(np.clip(plain, 0, 1), abs=1e-5)


@pytest.mark.parametrize("kind", ["matching", "similarity", "alignment"])
def test_the_batch_does_not_matter(kind: str, blip_folder: Path, clip_path: Path) -> None:
    alone = [values_of(make_rule(kind, blip_folder, clip_path, 1), [one])[0] for one in SUBJECTS]
    for size in (2, 100):
        rule = make_rule(kind, blip_folder, clip_path, size)
        assert values_of(rule, SUBJECTS[::-1])[::-1] == pytest.approx(alone, abs=1e-5)


def test_no_image_and_no_captions(rule: ModelRule) -> None:
    assert values_of(rule, []) == []
    (value,) = values_of(rule, [Subject("a cat")])
    assert np.isnan(value)


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = (30_000).to_bytes(4) * 2 + bytes([8, 2, 0, 0, 0])
    body = (
        chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


def wide(width: int, height: int) -> bytes:
    return encoded(Image.new("1", (width, height)))


BROKEN = {
    "empty": (b"", "of no known format"),
    "text": (b"<html>404</html>", "of no known format"),
    "truncated": (encoded(picture(0), "JPEG")[:-400], "truncated"),
    "header": (encoded(picture(0))[:20], "cannot be used"),
    "bomb": (bomb(), "30000 x 30000 pixels, the limit is 89,478,485 in all|exceeds limit"),
    "large": (wide(10_000, 9_000), "10000 x 9000 pixels, the limit is 89,478,485 in all"),
    "strip": (wide(1, 500), "1 x 500: a side is over 100 times the other"),
    "32-bit": (encoded(Image.new("I", (9, 9)), "TIFF"), "32-bit pixels"),
    "float": (encoded(Image.new("F", (9, 9)), "TIFF"), "32-bit pixels"),
    "eps": (encoded(picture(0), "EPS"), "of no known format"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_image_that_cannot_be_used_spoils_no_other(rule: ModelRule, name: str) -> None:
    data, message = BROKEN[name]
    expected = values_of(rule, SUBJECTS[:2])
    measured = rule.measure([SUBJECTS[0], Subject("a cat", data), SUBJECTS[1]])
    assert measured.values[[0, 2]].tolist() == pytest.approx(expected, abs=1e-5)
    assert np.isnan(measured.values[1])
    assert measured.problems[0] is measured.problems[2] is None
    problem = str(measured.problems[1])
    assert problem.startswith(f"{rule.name}: the original image cannot be used: ")
    assert "\n" not in problem
    with pytest.raises(ValueError, match=message):
        decode_image(data)


def test_a_caption_that_is_no_unicode(rule: ModelRule) -> None:
    measured = rule.measure([Subject("a \ud800", SUBJECTS[0].image), SUBJECTS[0]])
    assert np.isnan(measured.values).tolist() == [True, False]
    message = "the text is no valid Unicode: surrogates not allowed"
    assert measured.problems == (f"{rule.name}: {message}", None)


@given(st.binary(max_size=60), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]))
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_decode_or_are_refused(noise: bytes, format: str) -> None:
    data = bytearray(encoded(picture(1, 16, 16), format))
    place = len(data) // 3
    data[place : place + len(noise)] = noise
    try:
        image = decode_image(bytes(data))
    except ValueError:  # anything else is a crash
        return
    assert image.mode == "RGB"


def mean_color(data: bytes) -> list[float]:
    image = decode_image(data)
    assert image.mode == "RGB"
    assert image.size == (8, 4)
    return np.array(image, np.float64).mean(axis=(0, 1)).tolist()


RED = Image.new("RGB", (8, 4), (200, 20, 40))


def palette_with_hole() -> bytes:
    image = Image.new("P", (8, 4), 0)
    image.putpalette([200, 20, 40, 0, 0, 255])
    image.paste(1, (0, 0, 4, 4))
    return encoded(image, "PNG", transparency=1)


@pytest.mark.parametrize(
    ("data", "color"),
    [
        pytest.param(encoded(RED), (200, 20, 40), id="rgb"),
        pytest.param(encoded(RED.convert("CMYK"), "TIFF"), (200, 20, 40), id="cmyk-tiff"),
        pytest.param(
            encoded(RED.convert("CMYK"), "JPEG", quality=100), (200, 20, 40), id="cmyk-jpeg"
        ),
        pytest.param(encoded(Image.new("L", (8, 4), 70)), (70, 70, 70), id="grey"),
        pytest.param(encoded(Image.new("1", (8, 4), 1)), (255, 255, 255), id="bits"),
        pytest.param(
            encoded(Image.fromarray(np.full((4, 8), 0x4680, np.uint16))), (70, 70, 70), id="16-bit"
        ),
        pytest.param(
            encoded(Image.fromarray(np.full((4, 8), 0x4680, np.uint16)), "TIFF"), (70, 70, 70),
            id="16-bit-tiff",
        ),
        # Transparent pixels are white, whatever colour hides in them.
        pytest.param(encoded(Image.new("RGBA", (8, 4), (0, 0, 0, 0))), (255,) * 3, id="clear"),
        pytest.param(encoded(Image.new("LA", (8, 4), (0, 127))), (128,) * 3, id="half-clear"),
        pytest.param(palette_with_hole(), (227.5, 137.5, 147.5), id="palette"),
        pytest.param(
            encoded(
                RED, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 4), "blue")] * 3
            ),
            (200, 20, 40), id="animated-gif",
        ),
        pytest.param(
            encoded(
                RED, "WEBP", save_all=True, lossless=True,
                append_images=[Image.new("RGB", (8, 4), "blue")] * 3,
            ),
            (200, 20, 40), id="animated-webp",
        ),
        pytest.param(encoded(RED, "AVIF", quality=100), (200, 20, 40), id="avif"),
    ],
)  # fmt: skip
def test_images_become_rgb(data: bytes, color: tuple[float, ...]) -> None:
    assert mean_color(data) == pytest.approx(color, abs=3)


def test_an_image_is_turned_upright() -> None:
    image = Image.new("RGB", (4, 8), "black")
    image.paste((255, 255, 255), (0, 0, 4, 4))  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn a quarter clockwise to see it"
    upright = decode_image(encoded(image, "PNG", exif=exif))
    assert upright.size == (8, 4)
    assert upright.getpixel((7, 2)) == (255, 255, 255)
    assert upright.getpixel((0, 2)) == (0, 0, 0)


def test_one_image_at_a_time_is_held(rule: ModelRule, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc
    import weakref

    alive: list[weakref.ref[Image.Image]] = []

    def watched(data: bytes) -> Image.Image:
        gc.collect()
        assert sum(ref() is not None for ref in alive) <= 1  # the one that is being replaced
        image = decode_image(data)
        alive.append(weakref.ref(image))
        return image

    monkeypatch.setattr(image_text, "decode_image", watched)
    values_of(rule, SUBJECTS)
    assert len(alive) == len(SUBJECTS)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    folder = save_clip(tmp_path)
    model = CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        model.text_projection.weight.fill_(torch.nan)
    model.save_pretrained(folder)
    measured = ClipSimilarity(str(folder)).measure(SUBJECTS[:1])
    assert measured.problems == ("clip_similarity: the model gave no number; try float32",)


def test_half_precision_is_near(blip_folder: Path, clip_path: Path) -> None:
    for cls, folder in ((ImageTextMatching, blip_folder), (ClipSimilarity, clip_path)):
        full, half = cls(str(folder)), cls(str(folder), dtype="bfloat16")
        assert values_of(half, SUBJECTS) == pytest.approx(values_of(full, SUBJECTS), abs=0.05)


def test_models_that_cannot_be_used(tmp_path: Path, clip_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    no_head = save_blip(tmp_path / "no_head", BlipModel)
    damaged = save_blip(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"x" * 100)
    no_config = save_blip(tmp_path / "config")
    (no_config / "config.json").write_text(json.dumps({"model_type": "blip", "text_config": 3}))
    for cls, folder, message in [
        (ImageTextMatching, tmp_path / "empty", "holds no config.json: not a BLIP model"),
        (ImageTextMatching, no_head, "it has no weights itm_head"),
        (ImageTextMatching, damaged, "cannot load the BLIP model"),
        (ImageTextMatching, no_config, "cannot load the BLIP model"),
        (ImageTextMatching, clip_path, "cannot load the BLIP model"),
        (ClipSimilarity, no_head, "cannot load the CLIP model"),
        (ClipSimilarity, Path("nobody/no-such-model"), "cannot load the CLIP model nobody/no-such"),
    ]:
        with pytest.raises(ModelError, match=message) as caught:
            cls(str(folder))
        assert "\n" not in str(caught.value)


def test_silence(blip_folder: Path, clip_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values_of(ImageTextMatching(str(blip_folder)), SUBJECTS)
    values_of(ClipSimilarity(str(clip_path)), SUBJECTS)
    assert capfd.readouterr() == ("", "")
