"""TRL's own trainer takes a step on an export as it is, with two kinds of model."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unicodedata import normalize

import datasets
import pytest
import torch
from data_sets_on_disk import hostile_pairs, write_data_set
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

END, PAD = "<|im_end|>", "<|endoftext|>"
QWEN = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
SMOL = ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"]
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for block in message.content %}"
    "{% if block.type == 'image' %}IMAGE{% else %}{{ block.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
)
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


class QwenImages(Qwen2_5_VLProcessor):
    """Without its reader of videos, which needs torchvision."""

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str) -> None:
        self.image_token, self.video_token = QWEN[2:]
        self.image_token_id, self.video_token_id = tokenizer.convert_tokens_to_ids(QWEN[2:])
        super(Qwen2_5_VLProcessor, self).__init__(
            image_processor, tokenizer, chat_template=chat_template
        )


def byte_tokenizer(marks: list[str]) -> Qwen2Tokenizer:
    marks = [PAD, "<|im_start|>", END, *marks]
    names = [*bytes_to_unicode().values(), *marks]
    words = Qwen2Tokenizer(vocab={name: n for n, name in enumerate(names)}, merges=[])
    words.add_tokens(marks, special_tokens=True)
    words.pad_token, words.eos_token = PAD, END
    return words


def qwen() -> tuple[Any, Any]:
    words = byte_tokenizer(QWEN)
    start, end, image, video = words.convert_tokens_to_ids(QWEN)
    config = Qwen2_5_VLConfig(
        text_config=TEXT
        | {
            "vocab_size": len(words),
            "bos_token_id": None,
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
            "rope_parameters": {
                "mrope_section": [1, 1, 2],
                "rope_type": "default",
                "rope_theta": 1e6,
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
        },
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
    )
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 56 * 56})
    chat = CHAT.replace("IMAGE", "".join((QWEN[0], QWEN[2], QWEN[1])))
    return Qwen2_5_VLForConditionalGeneration(config), QwenImages(images, words, chat)


def smolvlm() -> tuple[Any, Any]:
    """SmolVLM of 256M, 500M and 2.2B parameters is of the kind Idefics3."""
    words = byte_tokenizer(SMOL)
    config = Idefics3Config(
        text_config=TEXT
        | {
            "model_type": "llama",
            "vocab_size": len(words),
            "bos_token_id": None,
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        image_token_id=words.convert_tokens_to_ids(SMOL[0]),
        pad_token_id=words.pad_token_id,
        scale_factor=2,
    )
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    processor = Idefics3Processor(
        images, words, image_seq_len=4, chat_template=CHAT.replace("IMAGE", SMOL[0])
    )
    return Idefics3ForConditionalGeneration(config), processor


@pytest.mark.parametrize("make", [qwen, smolvlm])
def test_a_step_of_trl(make: Any, tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    pairs = [pair for pair in hostile_pairs("train") if len(pair.caption) < 1000]
    write_data_set(tmp_path / "set", ["llava", "messages"], [pairs])
    rows = datasets.load_dataset(
        str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache")
    )
    torch.manual_seed(0)
    model, processor = make()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    trainer = SFTTrainer(
        model=model,
        processing_class=processor,
        train_dataset=rows,
        args=SFTConfig(
            output_dir=str(tmp_path / "out"),
            max_length=None,
            max_steps=1,
            per_device_train_batch_size=len(pairs),
            learning_rate=1e-2,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            dataloader_pin_memory=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )
    (batch,) = trainer.get_train_dataloader()
    decoded = [processor.tokenizer.decode(ids) for ids in batch["input_ids"]]
    for pair in pairs:  # the tokenizer composes characters
        assert sum(normalize("NFC", pair.caption) in text for text in decoded) == 1
    assert batch["pixel_values"].unique().numel() >= len(pairs)  # each image has its shade
    result = trainer.train()
    assert result.global_step == 1
    assert 0 < result.training_loss < 20
    changed = [n for n, w in model.named_parameters() if not torch.equal(w, before[n])]
    assert any("vis" in name for name in changed)
    assert any("lm_head" in name for name in changed)
