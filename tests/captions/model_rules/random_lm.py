"""Small causal language models with random weights, saved to folders."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

#: Chat templates: of all roles, of none but user and assistant, and one that forgets the system.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)
REFUSES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + CHATML
)
FORGETS_SYSTEM = (
    "{% for m in messages if m['role'] != 'system' %}[INST] {{ m['content'] | trim }} [/INST]"
    "{% endfor %}"
)
_MARKERS = ["<|start|>", "<|end|>", "<|im_start|>", "<|im_end|>"]
_WORDS = " Yes No yes no YES NO a cat sits on a red mat by the window and looks at a dog"


def tokenizer(
    *, words: str = _WORDS, start: bool = True, end: bool = True
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that knows those words, with and without a space before."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=_MARKERS,
        show_progress=False,
    )
    backend.train_from_iterator([words, *words.split()], trainer)
    names = {"bos_token": start and "<|start|>", "eos_token": end and "<|end|>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        additional_special_tokens=_MARKERS,
        **{name: token for name, token in names.items() if token},
    )


def save_lm(
    folder: Path,
    *,
    chat_template: str | None = None,
    positions: int = 2048,
    words: PreTrainedTokenizerFast | None = None,
) -> Path:
    """A Llama of two layers, its logits far from even."""
    torch.manual_seed(0)
    words = words or tokenizer()
    words.chat_template = chat_template
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
