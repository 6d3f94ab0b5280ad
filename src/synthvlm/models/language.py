"""A language model that replies to texts: any causal one of ``transformers`` for chats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from synthvlm.errors import ModelError, OutOfMemoryError, first_line, is_out_of_memory
from synthvlm.models.pretrained import load_pretrained

__all__ = [
    "WRITER_SETTINGS",
    "LanguageModel",
    "carefully",
    "check_length",
    "generated",
    "greedy",
    "pad_in_front",
]

_T = TypeVar("_T")

#: What a recipe has for a model that writes, and that makes it need less memory.
WRITER_SETTINGS = "its batch_size or reply_tokens"


class LanguageModel:
    """Replies to texts, as the user's turn of a conversation; the same every time."""

    def __init__(
        self,
        model: str,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        revision: str | None = None,
    ) -> None:
        """Load a causal language model by hub id or folder.

        Raises:
            ModelError: It cannot be found, is damaged, of another kind, or has no chat template.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        classes = [AutoModelForCausalLM, AutoTokenizer]
        self._model: Any
        self._tokenizer: Any
        self._model, self._tokenizer = load_pretrained(
            classes, "language", model, device, dtype, revision
        )
        self._name, self._device = model, device
        if not self._tokenizer.chat_template:
            raise ModelError(
                f"the language model {model} has no chat template: take one that is tuned to "
                f"follow instructions"
            )
        pad_in_front(self._tokenizer)

    def write(self, texts: Sequence[str], *, max_new_tokens: int) -> list[tuple[str, bool]]:
        """What the model replies to n texts, and whether that was cut off.

        Raises:
            OutOfMemoryError: So many texts at a time do not fit into the device's memory.
            ModelError: The chat template does not work.
            ValueError: A text is longer than what the model can hold.
        """

        def work() -> list[tuple[str, bool]]:
            batch = self._tokenizer.apply_chat_template(
                [[{"role": "user", "content": text}] for text in texts],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                padding=True,
                return_tensors="pt",
                enable_thinking=False,  # templates that do not know it ignore it
            ).to(self._model.device)
            check_length(batch, self._model, self._name)
            return generated(self._model, self._tokenizer, batch, max_new_tokens)

        return carefully(work, self._name, self._device, len(texts), WRITER_SETTINGS)


def carefully(work: Callable[[], _T], name: str, device: str, count: int, lower: str) -> _T:
    """Do work with a model; what a user can mend is told in one line.

    Args:
        work: What to do.
        name: The model.
        device: Where it runs.
        count: Questions, or texts, at a time.
        lower: What makes it need less memory: settings or options.

    Raises:
        OutOfMemoryError: There is no memory for it.
        ModelError: The chat template does not work.
    """
    from jinja2 import TemplateError

    try:
        return work()
    except Exception as error:
        problem = first_line(error)
        if isinstance(error, TemplateError):
            raise ModelError(f"the chat template of {name}: {problem}") from None
        if not is_out_of_memory(error):
            raise
    raise OutOfMemoryError(
        f"{name} ran out of memory on {device} with {count} questions at a time: lower {lower}, "
        f"or take a smaller model ({problem})"
    )


def pad_in_front(tokenizer: Any) -> None:
    """Have a tokenizer pad conversations so that replies begin where their prompts end."""
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def check_length(batch: Any, model: Any, name: str) -> None:
    """Check that the conversations of a batch are not too long for a model, where that is known.

    Raises:
        ValueError: One is.
    """
    if model.config.is_encoder_decoder:
        return
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = batch["input_ids"].shape[1]
    if limit is not None and longest >= limit:
        raise ValueError(f"it has {longest:,} tokens, and {name} holds {limit:,}")


def greedy(tokenizer: Any) -> dict[str, Any]:
    """Settings of ``generate`` with which a model replies the same every time."""
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "num_beams": 1,
        "do_sample": False,
        # Sampling settings of a model's generation_config.json would only cause warnings.
        "temperature": None,
        "top_p": None,
        "top_k": None,
    }


def generated(
    model: Any, tokenizer: Any, batch: Any, max_new_tokens: int
) -> list[tuple[str, bool]]:
    """The reply to each conversation of a batch, and whether it was cut off.

    Replies are stripped of white space and of special tokens.
    """
    import torch

    with torch.inference_mode():
        rows = model.generate(**batch, max_new_tokens=max_new_tokens, **greedy(tokenizer))
    replies = rows[:, batch["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(replies, skip_special_tokens=True)
    ends = model.generation_config.eos_token_id
    # A reply that ended is padded up to the longest one.
    whole = {tokenizer.pad_token_id, *(ends if isinstance(ends, list) else [ends])}
    is_full = replies.shape[1] == max_new_tokens
    return [
        (text.strip(), is_full and int(row[-1]) not in whole)
        for text, row in zip(texts, replies, strict=True)
    ]
