"""Prompts as a pipeline's call takes them: encoded once for all images of a prompt."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.errors import ModelError
from synthvlm.generators.pipeline_facts import PROMPT_FACTS
from synthvlm.generators.token_limits import watched

if TYPE_CHECKING:
    import torch

__all__ = ["PromptEncoder"]

#: Arguments of ``encode_prompt`` that are not the call's own settings.
_PROMPTS = ("prompt", "prompt_2", "prompt_3", "device", "do_classifier_free_guidance")

#: Prompts that are kept encoded: a caption's candidates come in batches near each other.
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
        self._known: dict[str, _Encoded] = {}
        self._listed: set[str] = set()
        self.encodes = self._facts is not None
        self.max_sequence_length: int | None = self._setting("max_sequence_length")
        if negative_prompt is not None:
            self._check_negative()

    def arguments(self, prompts: Sequence[str]) -> tuple[dict[str, Any], tuple[bool, ...]]:
        """The call's arguments that stand for prompts, and which of them were cut off.

        The second is empty where that is not known, or not yet: of plain prompts.
        """
        if self._facts is None:
            return self._plain(prompts), ()
        unique = list(dict.fromkeys(prompts))
        fresh = [prompt for prompt in unique if prompt not in self._known]
        new = self._encode(fresh) if fresh else {}
        for prompt in unique:  # the last used come last
            self._known[prompt] = new[prompt] if prompt in new else self._known.pop(prompt)
        rows = [self._known[prompt] for prompt in prompts]
        for prompt in list(self._known)[: max(0, len(self._known) - _KEPT_PROMPTS)]:
            del self._known[prompt]
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

    def _encode(self, prompts: list[str]) -> dict[str, _Encoded]:
        facts = self._facts
        assert facts is not None
        with watched(self._pipeline, self.max_sequence_length) as encoders:
            values = self._values(prompts, "", negative=None if facts.apart else self._negative)
        cut = encoders.truncated(len(prompts))
        negative = facts.negative if self._negative is None else self._negative
        if facts.apart and negative is not None and self._guided():
            values |= self._values([negative] * len(prompts), "negative_", negative=None)
        return {
            prompt: _Encoded(
                {name: value[row] for name, value in values.items()}, cut[row] if cut else None
            )
            for row, prompt in enumerate(prompts)
        }

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
