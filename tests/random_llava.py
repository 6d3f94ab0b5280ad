"""A small real LLaVA with random weights and a chat template, and the parts it is made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import sentencepiece
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

SIDE, PATCH = 16, 8
FEATURES = (SIDE // PATCH) ** 2
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def byte_tokenizer(*merges: tuple[str, str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE that puts its beginning of text first, as Llama's does."""
    words = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words += [left + right for left, right in merges]
    made = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, list(merges)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", model_max_length=100_000
    )


#: Text in which the words of LLaVA's format are frequent; some begin a line in brackets.
_LINES = [
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions.",
    *["(USER: What is it? ASSISTANT: There is a dog.)", "A red ball on the grass"] * 9,
    *["the (USER) (USER) (USER) What is the colour of the ball? It is red. <a>"] * 9,
]


def save_sentencepiece(folder: Path, *, legacy: bool) -> Path:
    """A tokenizer as Vicuna's: SentencePiece, `USER` one token and `▁USER` more of them."""
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_LINES),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        pad_id=-1,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    settings = {"tokenizer_class": "LlamaTokenizer", "legacy": legacy, "add_bos_token": True}
    words = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **words}))
    return folder


def _language_config(words: PreTrainedTokenizerFast, **settings: object) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
        **settings,
    )


def _tower_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
    )


def _image_processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )


def save_language(folder: Path, *, tied: bool = False) -> Path:
    """A language model."""
    torch.manual_seed(1)
    words = byte_tokenizer()
    LlamaForCausalLM(_language_config(words, tie_word_embeddings=tied)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_tower(folder: Path) -> Path:
    """A vision tower."""
    torch.manual_seed(2)
    CLIPVisionModel(_tower_config()).save_pretrained(folder)
    _image_processor().save_pretrained(folder)
    return folder


#: With which " Yes" and " No" are one token each, as in Llama's tokenizer.
YES_AND_NO = (("Y", "e"), ("Ye", "s"), ("\u0120", "Yes"), ("N", "o"), ("\u0120", "No"))


def save_llava(
    folder: Path,
    seed: int = 0,
    template: str | None = TEMPLATE,
    merges: Sequence[tuple[str, str]] = (),
) -> Path:
    """A LLaVA whose answers depend on the image and the question."""
    words = byte_tokenizer(*merges)
    words.add_special_tokens({"pad_token": "<pad>"})
    words.add_tokens("<image>", special_tokens=True)
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=_tower_config(),
        # Large random weights: another input, another answer.
        text_config=_language_config(words, initializer_range=0.4),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = words.eos_token_id
    model.generation_config.pad_token_id = words.pad_token_id
    model.save_pretrained(folder)
    LlavaProcessor(
        _image_processor(),
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(folder)
    return folder
