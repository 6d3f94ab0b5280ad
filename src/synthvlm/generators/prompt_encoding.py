"""Prompts as a pipeline's call takes them: encoded once for all images of a prompt.

A class of which it is not known how it encodes prompts gets plain ones; then its text encoders
remember what they encoded last (``text_encoders``).

Which of them a text encoder cut off is found by watching the tokenizers while the pipeline uses
them, so that templates and limits are those that it really applies.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.errors import ModelError
from synthvlm.generators.text_encoders import TextMemory
from synthvlm.models.recent import RecentValues

if TYPE_CHECKING:
    import torch

__all__ = ["PROMPT_FACTS", "Encoders", "PromptEncoder", "PromptFacts", "watched"]


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """How a pipeline class encodes prompts.

    Attributes:
        returned: For each value that ``encode_prompt`` returns, the argument of ``__call__`` that
            it stands for; None for one that the call makes again by itself.
        scale: The argument of ``__call__`` that guides away from the negative prompt.
        above: The scale above which it does.
        apart: Whether the negative prompt is encoded by a second ``encode_prompt``, whose values
            are the arguments with ``negative_`` before their names.
        negative: The negative prompt of such a pipeline where none is given; None for no guidance.
    """

    returned: tuple[str | None, ...]
    scale: str = "guidance_scale"
    above: float = 1.0
    apart: bool = False
    negative: str | None = None


_CLASSIC = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = (*_CLASSIC, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_MASKED = (
    "prompt_embeds",
    "prompt_attention_mask",
    "negative_prompt_embeds",
    "negative_prompt_attention_mask",
)
_CHROMA = (
    "prompt_embeds",
    None,  # the places of the tokens: zeros
    "prompt_attention_mask",
    "negative_prompt_embeds",
    None,
    "negative_prompt_attention_mask",
)

#: A class that is not listed gets plain prompts.
PROMPT_FACTS = {
    "StableDiffusionPipeline": PromptFacts(_CLASSIC),
    "StableDiffusionXLPipeline": PromptFacts(_POOLED),
    "StableDiffusionXLImg2ImgPipeline": PromptFacts(_POOLED),
    "StableDiffusion3Pipeline": PromptFacts(_POOLED),
    "PixArtAlphaPipeline": PromptFacts(_MASKED),
    "PixArtSigmaPipeline": PromptFacts(_MASKED),
    "SanaPipeline": PromptFacts(_MASKED),
    "SanaSprintPipeline": PromptFacts(("prompt_embeds", "prompt_attention_mask")),
    "Lumina2Pipeline": PromptFacts(_MASKED),
    "ChromaPipeline": PromptFacts(_CHROMA),
    "ZImagePipeline": PromptFacts(_CLASSIC, above=0.0),
    "FluxPipeline": PromptFacts(
        ("prompt_embeds", "pooled_prompt_embeds", None), scale="true_cfg_scale", apart=True
    ),
    "Flux2Pipeline": PromptFacts(("prompt_embeds", None)),
    "Flux2KleinPipeline": PromptFacts(("prompt_embeds", None), apart=True, negative=""),
    "QwenImagePipeline": PromptFacts(
        ("prompt_embeds", "prompt_embeds_mask"), scale="true_cfg_scale", apart=True
    ),
}


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
        tokenized = tokenize(texts, **plain)["input_ids"]
        self._seen.extend(len(tokens) > limit for tokens in tokenized)

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
    tokenizer_calls = {
        name: value
        for name, value in vars(pipeline).items()
        if name.startswith("tokenizer") and callable(value)
    }
    # Not by setattr, which a pipeline understands as a change of its configuration.
    for name, tokenizer in tokenizer_calls.items():
        vars(pipeline)[name] = _Watched(tokenizer, encoders.of(name), limit)
    try:
        yield encoders
    finally:
        vars(pipeline).update(tokenizer_calls)


#: Arguments of ``encode_prompt`` that are not the call's own settings.
_PROMPTS = ("prompt", "prompt_2", "prompt_3", "device", "do_classifier_free_guidance")

#: Prompts that are kept encoded between batches.
_KEPT_PROMPTS = 64


@dataclass(frozen=True, slots=True)
class _Encoded:
    values: dict[str, torch.Tensor]
    truncated: bool | None


class PromptEncoder:
    """Encodes prompts for one pipeline, as its own call would.

    Attributes:
        encodes: Whether it does; a pipeline of unknown kind gets plain prompts.
        max_sequence_length: Tokens that the pipeline's last text encoder takes; None where the
            pipeline has no such setting.
    """

    def __init__(
        self, pipeline: Any, *, device: str, call: Mapping[str, Any], negative_prompt: str | None
    ) -> None:
        """Take the pipeline and the settings of its calls.

        Raises:
            ModelError: A negative prompt would do nothing.
        """
        self._pipeline, self._device = pipeline, device
        self._kind = type(pipeline).__name__
        self._facts = PROMPT_FACTS.get(self._kind)
        self._accepted = inspect.signature(pipeline.__call__).parameters
        self._call = call
        self._negative = negative_prompt
        self._known = RecentValues(_KEPT_PROMPTS, self._encode)
        self._memory = None if self._facts is not None else TextMemory(pipeline)
        self._listed: set[str] = set()
        self.encodes = self._facts is not None
        self.max_sequence_length: int | None = self._setting("max_sequence_length")
        if negative_prompt is not None:
            self._check_negative()

    def remembering(self) -> AbstractContextManager[None]:
        """What the pipeline is to be called in: plain prompts, too, are then encoded once."""
        return contextlib.nullcontext() if self._memory is None else self._memory.used()

    def arguments(self, prompts: Sequence[str]) -> tuple[dict[str, Any], tuple[bool, ...]]:
        """The call's arguments that stand for prompts, and which of them were cut off.

        The second is empty where that is not known, or not yet: of plain prompts.
        """
        if self._facts is None:
            return self._plain(prompts), ()
        rows = self._known.of(prompts)
        arguments = {
            name: self._joined(name, [row.values[name] for row in rows]) for name in rows[0].values
        }
        if "negative_prompt" in self._accepted:
            arguments["negative_prompt"] = None  # for some it is "", which they then refuse
        flags = [row.truncated for row in rows if row.truncated is not None]
        return arguments, tuple(flags) if len(flags) == len(rows) else ()

    def _setting(self, name: str) -> Any:
        """What the call will be given, or take by itself."""
        if name in self._call:
            return self._call[name]
        return self._accepted[name].default if name in self._accepted else None

    def _check_negative(self) -> None:
        if "negative_prompt" not in self._accepted:
            raise ModelError(f"{self._kind} takes no generation.negative_prompt: remove it")
        if self._facts is not None and not self._guided():
            scale, above = self._facts.scale, self._facts.above
            where = scale if scale == "guidance_scale" else f"call.{scale}"
            raise ModelError(
                f"generation.negative_prompt does nothing unless generation.{where} of a "
                f"{self._kind} is above {above:g}: raise that, or remove it"
            )

    def _guided(self) -> bool:
        assert self._facts is not None
        scale = self._setting(self._facts.scale)
        return scale is not None and scale > self._facts.above

    def _plain(self, prompts: Sequence[str]) -> dict[str, Any]:
        plain: dict[str, Any] = {"prompt": list(prompts)}
        if self._negative is not None:
            plain["negative_prompt"] = [self._negative] * len(prompts)
        return plain

    def _joined(self, name: str, rows: list[torch.Tensor]) -> Any:
        """The rows of a batch: a list where the pipeline wants one, else padded with zeros."""
        import torch

        if name in self._listed:
            return rows
        if len({row.shape for row in rows}) == 1:
            return torch.stack(rows)
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def _encode(self, prompts: list[str]) -> list[_Encoded]:
        facts = self._facts
        assert facts is not None
        with watched(self._pipeline, self.max_sequence_length) as encoders:
            values = self._values(prompts, "", negative=None if facts.apart else self._negative)
        cut = encoders.truncated(len(prompts))
        negative = facts.negative if self._negative is None else self._negative
        if facts.apart and negative is not None and self._guided():
            values |= self._values([negative] * len(prompts), "negative_", negative=None)
        return [
            _Encoded(
                {name: value[row] for name, value in values.items()}, cut[row] if cut else None
            )
            for row in range(len(prompts))
        ]

    def _values(
        self, prompts: list[str], prefix: str, *, negative: str | None
    ) -> dict[str, Sequence[torch.Tensor]]:
        """What one ``encode_prompt`` returns, by the call's names: a tensor for each prompt."""
        assert self._facts is not None
        accepted = inspect.signature(self._pipeline.encode_prompt).parameters
        # Z-Image writes its templates into the list that it is given.
        arguments: dict[str, Any] = {
            name: list(prompts) for name in _PROMPTS[:3] if name in accepted
        }
        arguments["device"] = self._device
        if "do_classifier_free_guidance" in accepted:
            arguments["do_classifier_free_guidance"] = self._guided()
        if negative is not None:
            arguments["negative_prompt"] = [negative] * len(prompts)
        for name in accepted.keys() & self._accepted.keys():
            if name not in arguments and not name.startswith(("negative_prompt", "kwargs")):
                setting = self._setting(name)
                if setting is not None:
                    arguments[name] = setting
        returned = self._pipeline.encode_prompt(**arguments)
        named = {
            prefix + name: value
            for name, value in zip(self._facts.returned, returned, strict=True)
            if name is not None
        }
        self._listed |= {name for name, value in named.items() if isinstance(value, list)}
        return _rows(named)


def _rows(named: Mapping[str, Any]) -> dict[str, Sequence[torch.Tensor]]:
    """Encoded prompts without the padding that a mask marks, and without what there is not."""
    import torch

    rows: dict[str, Sequence[torch.Tensor]] = {}
    for name, value in named.items():
        if name.endswith("_embeds_mask"):
            continue
        if f"{name}_mask" in named and value is not None:
            mask = named[f"{name}_mask"]  # None: no prompt of this batch is padded
            lengths = [value.shape[1]] * len(value) if mask is None else mask.sum(1).tolist()
            rows[name] = [row[:length] for row, length in zip(value, lengths, strict=True)]
            rows[f"{name}_mask"] = [
                torch.ones(length, dtype=torch.long, device=value.device) for length in lengths
            ]
        elif value is not None and len(value):
            rows[name] = value
    return rows
