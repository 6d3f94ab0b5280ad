"""Control tokens of tokenizers and chat templates, left in a caption by a model or a scraper.

Each is text that a tokenizer may read as something else than text: in a prompt or in training data
it ends the caption, opens a turn of a chat, or stands for an image. What is found, whatever its
case:

- anything between ``<|`` and ``|>``, such as ``<|endoftext|>``, ``<|im_start|>``, ``<|eot_id|>``,
  and the same with the full-width bars of DeepSeek;
- in angle brackets, with a ``/`` or not, the names in ``NAMES``: ``<s>``, ``</s>``, ``<pad>``,
  ``<image>``, ``<start_of_turn>``; a number may follow: ``<image_1>``, ``<extra_id_0>``;
- in square brackets the names in ``BRACKETED``: ``[INST]``, ``[/INST]``, ``[CLS]``;
- Llama's ``<<SYS>>`` and ``<</SYS>>``.
"""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from synthvlm.captions.rules.base import TextRule
from synthvlm.captions.rules.batch import TextBatch

__all__ = ["BRACKETED", "NAMES", "ControlTokens"]

#: Names of tokens in angle brackets.
NAMES = (
    # Begin, end and padding of texts; classes and masks.
    *("s", "pad", "unk", "bos", "eos", "cls", "sep", "mask", "bot", "eot", "eod", "eop"),
    # T5, Gemma, Phi: places and turns.
    *("extra_id", "unused", "reserved", "start_of_turn", "end_of_turn", "end_of_utterance"),
    # Images and videos: LLaVA, Gemma, InternVL, Qwen-VL, Idefics, Chameleon.
    *("image", "images", "img", "video", "audio", "im_start", "im_end", "im_patch", "vid_start"),
    *("vid_end", "vi_start", "vi_end", "start_of_image", "end_of_image", "image_soft_token"),
    *("img_context", "fake_token_around_image", "image_placeholder", "racm3:break"),
    # Grounding, thoughts and tools.
    *("grounding", "phrase", "object", "box", "ref", "quad", "loc", "think", "tool_call"),
    *("tool_response", "fim_prefix", "fim_middle", "fim_suffix", "fim_pad"),
)
#: Names of tokens in square brackets: Llama 2, Mistral, BERT.
BRACKETED = (
    *("INST", "CLS", "SEP", "MASK", "PAD", "UNK", "BOS", "EOS", "IMG", "IMG_BREAK", "IMG_END"),
    *("SYSTEM_PROMPT", "AVAILABLE_TOOLS", "TOOL_CALLS", "TOOL_RESULTS", "THINK"),
)

#: Longest name between ``<|`` and ``|>`` that is taken for a token.
_LONGEST = 64
_TOKEN = re.compile(
    rf"<[|\uff5c][^<>|\uff5c\n]{{1,{_LONGEST}}}[|\uff5c]>"
    rf"|</?(?:{'|'.join(map(re.escape, NAMES))})(?:[ _-]?\d{{1,5}})?/?>"
    rf"|\[/?(?:{'|'.join(BRACKETED)})\]"
    r"|<</?SYS>>",
    re.IGNORECASE,
)


class ControlTokens(TextRule):
    """Number of control tokens of tokenizers and chat templates, such as ``<image>``, ``</s>``."""

    name: ClassVar[str] = "control_tokens"
    label = "Control tokens"

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The number (0 or more, whole) of each text, shape (len(batch),)."""
        result = np.zeros(len(batch))
        for row, text in enumerate(batch.texts):
            if "<" in text or "[" in text:
                result[row] = len(_TOKEN.findall(text))
        return result
