"""Control tokens of tokenizers and chat templates, left in a caption by a model or a scraper.

Each is text that a tokenizer may read as something else than text: in a prompt or in training data
it ends the caption, opens a turn of a chat, or stands for an image. What is found, whatever its
case:

- anything between ``<|`` and ``|>``, such as ``<|endoftext|>``, ``<|im_start|>``, ``<|eot_id|>``,
  and the same with the full-width bars of DeepSeek;
- in angle brackets, with a ``/`` or not, the names in ``NAMES``: ``<s>``, ``</s>``, ``<pad>``,
  ``<image>``, ``<start_of_turn>``; a number may follow: ``<image_1>``, ``<extra_id_0>``;
- in square brackets the names in ``BRACKETED``: ``[INST]``, ``[/INST]``, ``[CLS]``;
- Llama's ``<<SYS>>`` and ``<</SYS>>``;
- bytes of SentencePiece, ``<0x0A>``;
- the role marks of chats written as text: ``USER:``, ``ASSISTANT:``, in capitals, and
  ``### Human``, ``### Assistant``, ``### Instruction``;
- the special tokens of the tokenizers that the recipe names (``tokenizers``).
"""

from __future__ import annotations

import re
from functools import cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthvlm.captions.rules.base import RuleSettings, TextRule
from synthvlm.captions.rules.batch import TextBatch
from synthvlm.components.component import LoadContext
from synthvlm.components.settings import Identify, ModelName
from synthvlm.errors import RecipeError, first_line

__all__ = ["BRACKETED", "NAMES", "ControlTokens", "control_tokens"]

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
    *("region", "point", "points", "seg", "image placeholder", "jupyter_code"),
    *("tool_response", "fim_prefix", "fim_middle", "fim_suffix", "fim_pad"),
)
#: Names of tokens in square brackets: Llama 2, Mistral, BERT.
BRACKETED = (
    *("INST", "CLS", "SEP", "MASK", "PAD", "UNK", "BOS", "EOS", "IMG", "IMG_BREAK", "IMG_END"),
    *("AUDIO", "gMASK", "SYSTEM_PROMPT", "AVAILABLE_TOOLS", "TOOL_CALLS", "TOOL_RESULTS", "THINK"),
)

#: Longest name between ``<|`` and ``|>`` that is taken for a token.
_LONGEST = 64
_TOKENS = (
    rf"<[|\uff5c][^<>|\uff5c\n]{{1,{_LONGEST}}}[|\uff5c]>"
    rf"|<\s?[/\\]?\s?(?:{'|'.join(map(re.escape, NAMES))})(?:[ _-]?\d{{1,5}})?\s?/?>"
    r"|<0x[0-9a-f]{2}>"
    rf"|\[/?(?:{'|'.join(BRACKETED)})\]"
    r"|<</?SYS>>"
    r"|(?-i:\b(?:USER|ASSISTANT|SYSTEM) ?:)"
    r"|###\s?(?:user|human|assistant|system|instruction|response|input)\b"
)
_TOKEN = re.compile(_TOKENS, re.IGNORECASE)


def control_tokens(text: str) -> list[str]:
    """The control tokens in a text, in their order, without those of named tokenizers."""
    return _TOKEN.findall(text) if _may_hold(text) else []


def _may_hold(text: str) -> bool:
    return "<" in text or "[" in text or ":" in text or "###" in text


class ControlTokensSettings(RuleSettings):
    """Bounds on the number of control tokens."""

    tokenizers: list[str] = Field(
        [], description="Folders of tokenizers whose special tokens count as well."
    )


class ControlTokens(TextRule):
    """Number of control tokens of tokenizers and chat templates, such as ``<image>``, ``</s>``."""

    name: ClassVar[str] = "control_tokens"
    label = "Control tokens"
    version = "2"
    Settings = ControlTokensSettings

    @classmethod
    def load(cls, settings: ControlTokensSettings, context: LoadContext) -> ControlTokens:
        """Read the special tokens of the named tokenizers.

        Raises:
            RecipeError: One cannot be read.
        """
        return cls(special_tokens(tuple(settings.tokenizers)))

    @classmethod
    def identity(cls, settings: ControlTokensSettings, identify: Identify) -> object:
        """The content of the named tokenizers."""
        return [identify(folder, ModelName()) for folder in settings.tokenizers]

    def __init__(self, special: frozenset[str] = frozenset()) -> None:
        """Count these tokens as well."""
        longest_first = sorted(special, key=lambda token: (-len(token), token))
        self._token = re.compile(
            "|".join([_TOKENS, *(f"(?-i:{re.escape(token)})" for token in longest_first)]),
            re.IGNORECASE,
        )
        self._all = bool(special)

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The number (0 or more, whole) of each text, shape (len(batch),)."""
        result = np.zeros(len(batch))
        for row, text in enumerate(batch.texts):
            if self._all or _may_hold(text):
                result[row] = len(self._token.findall(text))
        return result


@cache
def special_tokens(tokenizers: tuple[str, ...]) -> frozenset[str]:
    """The special tokens of tokenizers of ``transformers``, by their folders.

    Raises:
        RecipeError: A folder is missing or holds no tokenizer.
    """
    tokens: set[str] = set()
    for folder in tokenizers:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            raise RecipeError(
                f"control_tokens.tokenizers: {folder} is not the folder of a tokenizer: "
                f"{first_line(error)}"
            ) from error
        tokens |= {
            *tokenizer.all_special_tokens,
            *map(str, tokenizer.added_tokens_decoder.values()),
        }
    # A word that is a special token of some models is no sign of damage by itself.
    return frozenset(token for token in tokens if token.strip() and not token.isalnum())
