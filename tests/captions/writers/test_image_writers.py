"""Captions of images: small real models with random weights, and a vision chat endpoint."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    OPTConfig,
)

from fakes.endpoint import Answer, FakeEndpoint, Say, Status
from random_captioner import SIDE, SMALL, WORDS, end_on, save_blip, save_words
from synthvlm.captions.readers import images
from synthvlm.captions.writers.image_captions import EndpointCaptioner, ImageCaptioner, Written
from synthvlm.endpoints.client import EndpointClient
from synthvlm.endpoints.connection import Connection
from synthvlm.endpoints.replies import ReplyStore
from synthvlm.errors import ModelError


def png(color: str, format: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, format)
    return stream.getvalue()


def pixels(*images: bytes) -> torch.Tensor:
    """What a model sees of images, by the processor itself."""
    processor = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    opened = [Image.open(io.BytesIO(image)) for image in images]
    return processor(images=opened, return_tensors="pt")["pixel_values"]


def said(model: Any, image: bytes, count: int) -> list[int]:
    """The last tokens that a model says of an image, by the model's own class."""
    settings = {"max_new_tokens": count, "num_beams": 1, "do_sample": False}
    with torch.inference_mode():
        return model.generate(pixel_values=pixels(image), **settings)[0].tolist()


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP with random weights."""
    return save_blip(tmp_path_factory.mktemp("models") / "blip")


@pytest.fixture(scope="module")
def blip2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP-2 with random weights."""
    folder = tmp_path_factory.mktemp("models") / "blip2"
    save_words(folder)
    torch.manual_seed(0)
    config = Blip2Config(
        vision_config=Blip2VisionConfig(image_size=SIDE, patch_size=16, **SMALL).to_dict(),
        qformer_config=Blip2QFormerConfig(
            vocab_size=len(WORDS), encoder_hidden_size=16, **SMALL
        ).to_dict(),
        text_config=OPTConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            ffn_dim=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            word_embed_proj_dim=16,
            max_position_embeddings=64,
            bos_token_id=2,
            eos_token_id=3,
            pad_token_id=0,
        ).to_dict(),
        num_query_tokens=4,
        image_token_index=WORDS.index("<image>"),
    )
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_a_finished_caption_is_what_the_model_says(blip: Path) -> None:
    model = BlipForConditionalGeneration.from_pretrained(blip)
    tokens = said(model, png("red"), 6)
    # Its fourth token becomes its end: a random model has no end of its own.
    end_on(blip, "sep_token_id", tokens[4])
    model = BlipForConditionalGeneration.from_pretrained(blip)
    tokens = said(model, png("red"), 6)
    expected = BertTokenizer.from_pretrained(blip).decode(tokens, skip_special_tokens=True)
    captioner = ImageCaptioner(str(blip), max_new_tokens=6)
    assert expected
    assert captioner.write([png("red")]) == [Written(expected)]
    assert captioner.write([png("red", "BMP"), b"broken", png("red")]) == [
        Written(expected),
        Written("", "the original image cannot be used: it is of no known format"),
        Written(expected),
    ]
    assert captioner.write([b""])[0].text == ""
    assert captioner.write([]) == []


def test_blip2_and_a_caption_that_is_cut_off(blip2: Path) -> None:
    model = Blip2ForConditionalGeneration.from_pretrained(blip2)
    red, blue = (said(model, png(color), 8) for color in ("red", "blue"))
    # An end that it says of one image and not of the other; no word of the words is special.
    end = next(token for token in red[9:] if token not in blue)
    end_on(blip2, "eos_token_id", end)
    captioner = ImageCaptioner(str(blip2), max_new_tokens=8)
    first, second = captioner.write([png("red"), png("blue")])
    assert first.problem is None
    assert WORDS[end] in first.text
    assert "<image>" not in first.text
    assert second == Written("", "the caption was cut off after 8 tokens (max_new_tokens)")


def test_a_folder_that_is_no_such_model(tmp_path: Path, clip_folder: Path, blip: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        ImageCaptioner(str(tmp_path))
    with pytest.raises(ModelError, match="cannot load the image-to-text model"):
        ImageCaptioner(str(clip_folder))


def test_pickled_weights_are_refused(tmp_path: Path, blip: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(blip, folder)
    model = BlipForConditionalGeneration.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        ImageCaptioner(str(folder))


def endpoint(server: FakeEndpoint, **settings: Any) -> EndpointClient:
    own = {name: settings.pop(name) for name in ("max_tokens", "store") if name in settings}
    connection = Connection(server.base_url, backoff_s=0.01, max_tries=2, **settings)
    return EndpointClient(connection, "fake", **own)


def image_of(messages: list[dict[str, Any]]) -> tuple[str, Image.Image]:
    """Media type and picture of what was sent."""
    url = messages[0]["content"][0]["image_url"]["url"]
    head, _, data = url.partition(";base64,")
    return head, Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def sees(messages: list[dict[str, Any]]) -> Answer:
    """Tells the colour."""
    red, _, blue = image_of(messages)[1].convert("RGB").getpixel((0, 0))  # type: ignore[misc]
    if red > 200:
        return Say("  A red\n picture. ", delay_s=0.1)
    return "A blue picture." if blue > 200 else Status(400, "no such colour")


def test_an_endpoint_sees_the_images() -> None:
    with FakeEndpoint(sees) as server:
        captioner = EndpointCaptioner(endpoint(server), prompt="What is it?")
        written = captioner.write([png("red"), b"broken", png("blue"), png("lime")])
        assert len(server.received) == 3
        body = server.received[0].body
    assert [one.text for one in written] == ["A red picture.", "", "A blue picture.", ""]
    assert written[1].problem == "the original image cannot be used: it is of no known format"
    assert "no such colour" in str(written[3].problem)
    assert body["messages"][0]["content"][1] == {"type": "text", "text": "What is it?"}
    assert (body["temperature"], body["max_tokens"], body["seed"]) == (0, 100, 0)


@pytest.mark.parametrize(
    ("format", "sent"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp"), ("BMP", "png")]
)
def test_formats_that_endpoints_do_not_take_are_sent_as_png(format: str, sent: str) -> None:
    with FakeEndpoint("A picture.") as server:
        EndpointCaptioner(endpoint(server)).write([png("red", format)])
        head, picture = image_of(server.received[0].messages)
    assert head == f"data:image/{sent}"
    assert (picture.format, picture.size) == (sent.upper(), (40, 30))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Say("A red", finish_reason="length"), "the caption was cut off after 100 tokens"),
        (Say(" \n"), "the model wrote an empty caption"),
        (Say(None), "the model wrote an empty caption"),
        (Say("<think>A red one?</think>\n"), "the model wrote an empty caption"),
    ],
)
def test_replies_that_are_no_captions(answer: Answer, problem: str) -> None:
    with FakeEndpoint(answer) as server:
        [written] = EndpointCaptioner(endpoint(server)).write([png("red")])
    assert written.text == ""
    assert str(written.problem).startswith(problem)


def test_what_a_model_thinks_aloud_is_no_caption() -> None:
    with FakeEndpoint(Say("<think>\nRed?\n</think>\n\nA red picture.")) as server:
        [written] = EndpointCaptioner(endpoint(server)).write([png("red")])
    assert (written.text, written.problem) == ("A red picture.", None)


def test_a_rerun_asks_for_nothing(tmp_path: Path) -> None:
    images = [png("red" if n % 3 else "blue", size=(20, 20 + n)) for n in range(10)]
    with FakeEndpoint(sees) as server:
        for _ in range(2):
            with ReplyStore(tmp_path) as store:
                written = EndpointCaptioner(endpoint(server, store=store)).write(images)
            assert [one.text for one in written] == [
                "A red picture." if n % 3 else "A blue picture." for n in range(10)
            ]
            assert len(server.received) == 10


def test_a_decompression_bomb_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with FakeEndpoint("A picture.") as server:
        [written] = EndpointCaptioner(endpoint(server)).write([png("red")])  # 1,200 pixels
        assert server.received == []
    assert "the limit is 1,000 in all" in str(written.problem)
