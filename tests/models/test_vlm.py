"""A vision-language model: a small random LLaVA, loaded from its folder as any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from random_llava import byte_tokenizer, save_llava
from synthvlm.errors import ModelError, OutOfMemoryError
from synthvlm.models.vlm import VisionLanguageModel, resolved

IMAGES = [Image.new("RGB", (40, 60), "red"), None, Image.new("RGB", (64, 20), "blue"), None]
QUESTIONS = ["what colour?", "and now a much longer question, of text alone?", "what?", "why?"]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("vlm") / "llava")


@pytest.fixture(scope="module")
def model(llava: Path) -> VisionLanguageModel:
    return VisionLanguageModel(str(llava), device="cpu")


def test_a_batch_gets_the_answers_of_one_at_a_time(model: VisionLanguageModel) -> None:
    together = model.answer(IMAGES, QUESTIONS, max_new_tokens=8)
    alone = [
        model.answer([image], [question], max_new_tokens=8)[0]
        for image, question in zip(IMAGES, QUESTIONS, strict=True)
    ]
    assert together == alone
    assert len(set(together)) == 4


def test_answers_depend_on_the_image_and_on_its_absence(model: VisionLanguageModel) -> None:
    answers = model.answer([IMAGES[0], IMAGES[2], None], ["what?"] * 3, max_new_tokens=8)
    assert len(set(answers)) == 3


def test_memory_that_does_not_suffice_is_one_line(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(*args: object, **options: object) -> torch.Tensor:
        return torch.empty(1 << 48)  # an error of the CPU's allocator

    model = VisionLanguageModel(str(llava), device="cpu")
    monkeypatch.setattr(LlavaForConditionalGeneration, "generate", hungry)
    line = r"out of memory on cpu with 2 questions at a time: lower --batch-size"
    with pytest.raises(OutOfMemoryError, match=line) as found:
        model.answer(IMAGES, QUESTIONS, max_new_tokens=8)
    assert "\n" not in str(found.value)
    with pytest.raises(OutOfMemoryError, match="with 2 questions at a time: lower its batch_size,"):
        model.say_yes([Image.new("RGB", (40, 60))] * 2, QUESTIONS[:2])
    with pytest.raises(OutOfMemoryError, match="lower its batch_size or reply_tokens, or take"):
        model.write(QUESTIONS, max_new_tokens=8)
    monkeypatch.setattr(LlavaForConditionalGeneration, "from_pretrained", hungry)
    with pytest.raises(ModelError, match="does not fit into the memory of cpu"):
        VisionLanguageModel(str(llava), device="cpu")


def test_what_a_model_cannot_hold_is_not_asked(model: VisionLanguageModel) -> None:
    with pytest.raises(ValueError, match=r"it has 3,0\d\d tokens, and .* holds 2,048"):
        model.answer([None], ["x" * 3000], max_new_tokens=8)


def test_a_broken_chat_template_is_one_line(llava: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(llava, tmp_path / "copy"))
    (copy / "chat_template.jinja").write_text("{{ messages")
    broken = VisionLanguageModel(str(copy), device="cpu")
    with pytest.raises(ModelError, match=r"the chat template of .*copy: unexpected end"):
        broken.answer([None], ["why?"], max_new_tokens=8)


def test_an_answer_is_what_transformers_generates_by_hand(
    llava: Path, model: VisionLanguageModel
) -> None:
    processor = AutoProcessor.from_pretrained(llava, backend="pil")
    reference = LlavaForConditionalGeneration.from_pretrained(llava)
    prompt = "<s>USER: <image>\nwhat colour? ASSISTANT:"
    batch = processor(text=prompt, images=IMAGES[0], return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        row = reference.generate(**batch, max_new_tokens=8, do_sample=False)[0]
    expected = processor.tokenizer.decode(
        row[batch["input_ids"].shape[1] :], skip_special_tokens=True
    )
    assert model.answer(IMAGES[:1], QUESTIONS[:1], max_new_tokens=8) == [expected.strip()]


def test_sampling_that_a_model_asks_for_by_itself_is_off(llava: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(llava, tmp_path / "sampling"))
    settings = json.loads((copy / "generation_config.json").read_text())
    settings |= {"do_sample": True, "temperature": 5.0, "top_p": 0.99}
    (copy / "generation_config.json").write_text(json.dumps(settings))
    sampling = VisionLanguageModel(str(copy), device="cpu")
    first = sampling.answer(IMAGES, QUESTIONS, max_new_tokens=8)
    assert first == VisionLanguageModel(str(llava), device="cpu").answer(
        IMAGES, QUESTIONS, max_new_tokens=8
    )


def test_nothing_asked_is_nothing_answered(model: VisionLanguageModel) -> None:
    assert model.answer([], [], max_new_tokens=8) == []


def test_what_does_not_go_together_is_refused(model: VisionLanguageModel) -> None:
    with pytest.raises(ValueError, match="1 images for 2 questions"):
        model.answer([None], ["a", "b"], max_new_tokens=8)
    with pytest.raises(ValueError, match="holds <image>"):
        model.answer([None], ["an <image>?"], max_new_tokens=8)


def test_a_model_without_a_chat_template_or_processor_is_one_line(
    llava: Path, tmp_path: Path, clip_folder: Path
) -> None:
    bare = save_llava(tmp_path / "bare", template=None)
    with pytest.raises(ModelError, match="no chat template: save its AutoProcessor"):
        VisionLanguageModel(str(bare), device="cpu")
    words = Path(shutil.copytree(llava, tmp_path / "words"))
    for name in ("processor_config.json", "preprocessor_config.json"):
        (words / name).unlink(missing_ok=True)
    byte_tokenizer().save_pretrained(words)
    for model in (words, clip_folder, tmp_path / "absent"):
        with pytest.raises(ModelError) as raised:
            VisionLanguageModel(str(model), device="cpu")
        assert "\n" not in str(raised.value)
        assert str(model) in str(raised.value)


def test_auto_is_told_and_what_is_not_known_is_one_line() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolved("auto", "auto") == (device, "bfloat16" if device == "cuda" else "float32")
    assert resolved("cpu", "float16") == ("cpu", "float16")
    with pytest.raises(ModelError, match="device 'gpu' is not known"):
        resolved("gpu", "auto")
    with pytest.raises(ModelError, match="dtype 'int8' is not known"):
        resolved("cpu", "int8")
