"""Which prompts a pipeline's text encoders saw only the beginning of.

The tokenizers are watched while the pipeline uses them, so that templates and limits are those
that it really applies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Encoders", "watched"]

#: Arguments that shape a tokenizer's answer but not the tokens of a text.
_SHAPING = (
    "max_length", "padding", "return_attention_mask", "return_dict", "return_length",
    "return_overflowing_tokens", "return_tensors", "truncation",
)  # fmt: skip


class _Watched:
    """Stands for a tokenizer, and notes for each text whether it was cut off."""

    def __init__(self, tokenizer: Any, seen: list[bool], limit: int | None) -> None:
        for name, value in (("_tokenizer", tokenizer), ("_seen", seen), ("_limit", limit)):
            object.__setattr__(self, name, value)

    def __call__(self, text: Any, *args: Any, **kwargs: Any) -> Any:
        self._note(text if isinstance(text, list) else [text], self._tokenizer, kwargs)
        return self._tokenizer(text, *args, **kwargs)

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        method = self._tokenizer.apply_chat_template
        if kwargs.get("tokenize", True):
            several = bool(conversation) and isinstance(conversation[0], list)
            self._note(conversation if several else [conversation], method, kwargs)
        return method(conversation, *args, **kwargs)

    def _note(self, texts: list[Any], tokenize: Callable[..., Any], kwargs: Any) -> None:
        if not kwargs.get("truncation"):
            return
        limit = kwargs.get("max_length") or self._tokenizer.model_max_length
        if self._limit is not None:
            limit = min(limit, self._limit)
        plain = {name: value for name, value in kwargs.items() if name not in _SHAPING}
        if tokenize is not self._tokenizer:
            plain["return_dict"] = True
        found = tokenize(texts, **plain)["input_ids"]
        self._seen.extend(len(tokens) > limit for tokens in found)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._tokenizer, name, value)


class Encoders:
    """What each tokenizer of a pipeline saw while it was watched."""

    def __init__(self) -> None:
        """Nothing is seen yet."""
        self._seen: dict[str, list[bool]] = {}

    def of(self, name: str) -> list[bool]:
        """The list in which a tokenizer's texts are noted, in their order."""
        return self._seen.setdefault(name, [])

    def truncated(self, count: int) -> tuple[bool, ...]:
        """For each of the first texts, whether every tokenizer cut it off; empty if unknown.

        Pipelines tokenize their prompts first, and what is negative after them.
        """
        known = [seen[:count] for seen in self._seen.values() if len(seen) >= count]
        return tuple(all(cut) for cut in zip(*known, strict=True))


@contextlib.contextmanager
def watched(pipeline: Any, max_sequence_length: int | None) -> Iterator[Encoders]:
    """Watch a pipeline's tokenizers.

    Args:
        pipeline: The pipeline.
        max_sequence_length: That of its call; some pipelines cut off the encoded prompt by it.
    """
    encoders = Encoders()
    # Qwen-Image tokenizes up to 1024, drops its template's tokens, and then cuts the rest off.
    template = getattr(pipeline, "prompt_template_encode_start_idx", None)
    limit = None
    if template is not None and max_sequence_length is not None:
        limit = max_sequence_length + template
    kept = {
        name: value
        for name, value in vars(pipeline).items()
        if name.startswith("tokenizer") and callable(value)
    }
    # Not by setattr, which a pipeline understands as a change of its configuration.
    for name, tokenizer in kept.items():
        vars(pipeline)[name] = _Watched(tokenizer, encoders.of(name), limit)
    try:
        yield encoders
    finally:
        vars(pipeline).update(kept)
