"""The judge of the method behind a chat endpoint: is this caption good enough to draw?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from synthvlm.captions.model_rules.judge_prompt import check_prompt, judge_messages, read_verdict
from synthvlm.captions.rules.base import Measured, ModelRule, Subject
from synthvlm.captions.writers.chat import ChatModel, ChatReply, ask_in_order

__all__ = ["EndpointJudge"]

#: Said below the question when the first reply was neither Yes nor No.
_REMINDER = "\n\nReply with exactly one word: Yes or No."

_MAX_SHOWN_CHARS = 60


class EndpointJudge(ModelRule):
    """1.0 where a language model says Yes to a caption, 0.0 where it says No.

    Equal captions are asked about once. A reply that is neither is asked for again once, in
    stricter words; if that fails too it is a problem of the caption. Give the model a store of
    replies: it is what makes a rerun free, and what a stop in the middle leaves.
    """

    name: ClassVar[str] = "judge"

    def __init__(
        self,
        model: ChatModel,
        *,
        prompt: str | None = None,
        max_tokens: int = 16,
        seed: int | None = 0,
    ) -> None:
        """Judge by a chat model, at temperature 0.

        Args:
            model: The chat model.
            prompt: As in ``judge_prompt.judge_messages``.
            max_tokens: Longest reply. A model that thinks aloud first needs some hundreds.
            seed: Sent along, None for servers that refuse a seed.

        Raises:
            RecipeError: The prompt does not hold ``{caption}`` exactly once.
        """
        self._model = model
        self._prompt = prompt if prompt is None else check_prompt(prompt)
        self._sampling: dict[str, Any] = {"temperature": 0, "max_tokens": max_tokens}
        if seed is not None:
            self._sampling["seed"] = seed

    def measure(self, subjects: Sequence[Subject]) -> Measured:
        """Judge captions; many at a time (some hundreds), so that the endpoint is kept busy.

        Raises:
            ModelError: The endpoint cannot be used.
            SynthVLMError: Its budget is used up, or a reply cannot be stored.
        """
        texts = list(dict.fromkeys(subject.text for subject in subjects))
        replies = dict(zip(texts, self._ask(texts, reminder=""), strict=True))
        again = [text for text, reply in replies.items() if _is_unreadable(reply)]
        replies.update(zip(again, self._ask(again, reminder=_REMINDER), strict=True))
        verdicts = {text: _verdict(reply) for text, reply in replies.items()}
        found = [verdicts[subject.text] for subject in subjects]
        return Measured(
            np.array([value for value, _ in found], np.float64),
            tuple(problem for _, problem in found),
        )

    def _ask(self, texts: Sequence[str], reminder: str) -> list[ChatReply]:
        return ask_in_order(
            self._model, [(self._messages(text, reminder), self._sampling) for text in texts]
        )

    def _messages(self, text: str, reminder: str) -> list[Mapping[str, Any]]:
        # Below the same question, not a second turn with the reply in it: that reply may repeat
        # what the caption told the model to say, and not every chat template takes two user turns.
        *before, last = judge_messages(text, self._prompt)
        return [*before, {**last, "content": last["content"] + reminder}]


def _is_unreadable(reply: ChatReply) -> bool:
    return reply.problem is None and read_verdict(reply.text) is None


def _verdict(reply: ChatReply) -> tuple[float, str | None]:
    """The value of a reply, or NaN and the problem."""
    if reply.problem is not None:
        return np.nan, reply.problem
    verdict = read_verdict(reply.text)
    if verdict is not None:
        return float(verdict), None
    said = " ".join(reply.text.split())
    if len(said) > _MAX_SHOWN_CHARS:
        said = said[:_MAX_SHOWN_CHARS] + "..."
    cut = " (cut off: max_tokens is too small)" if reply.finish_reason == "length" else ""
    return np.nan, f"judge: asked twice, the model said neither Yes nor No but {said!r}{cut}"
