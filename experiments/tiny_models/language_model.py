"""The small language model and its tokenizer."""

from __future__ import annotations

import re
from random import Random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.tiny_models.language_rows import sample_row

__all__ = ["build", "make_tokenizer"]

VOCABULARY = 1024

# Everyday words, so that questions from outside the world are not spelt letter by letter.
_EVERYDAY = """
what is the color colour of shape in this image picture which does contain present there not no
yes a an are it how many where object objects describe see shown show say tell answer question
briefly short caption words summarize photo drawing give write name look at and or with
"""


def make_tokenizer(seed: int = 0) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the training texts: no text is out of its vocabulary."""
    rng = Random(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = ["".join(re.sub("</s>", " ", text) for text, _ in sample_row(rng)) for _ in range(6000)]
    tokenizer.train_from_iterator([*texts, *[_EVERYDAY.replace("\n", " ")] * 20], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def build(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model, 1.1 million parameters."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
