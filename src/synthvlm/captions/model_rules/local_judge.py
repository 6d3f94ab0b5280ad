"""A language model on this machine as the judge of captions: how likely it is to say Yes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from synthvlm.captions.model_rules.judge_prompt import SYSTEM_MESSAGE, check_prompt, judge_messages
from synthvlm.captions.model_rules.perplexity import CausalLm, by_length
from synthvlm.captions.rules.base import Measured, ModelRule, Subject
from synthvlm.errors import ModelError, first_line

__all__ = ["LocalJudge"]


class LocalJudge(ModelRule):
    """p(Yes) / (p(Yes) + p(No)), by the model's probabilities of the next token.

    A judge that is asked to write answers Yes where the value is above 0.5 (if it answers at all:
    what the model would rather say than Yes or No does not count). All tokens that are the whole
    word, in any case and with or without a space before it, are summed.

    The conversation (``judge_messages``) is put in the tokenizer's chat template; where that drops
    or refuses a system message, it goes in front of the user's, and where there is no template,
    both go in front of "Answer:". A model that thinks aloud is told not to, if its template can.
    """

    name: ClassVar[str] = "judge"

    def __init__(
        self,
        model: str,
        *,
        prompt: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 16,
        revision: str | None = None,
    ) -> None:
        """Load the model.

        Args:
            model: A hub id or folder of a causal language model of ``transformers``, one tuned to
                follow instructions.
            prompt: The user's message, with ``{caption}`` exactly once; None is the default.
            device: A torch device.
            dtype: ``float32``, ``float16`` or ``bfloat16``.
            batch_size: Captions at a time.
            revision: Branch, tag or commit on the hub.

        Raises:
            RecipeError: The prompt does not hold ``{caption}`` exactly once.
            ModelError: The model cannot be found, is damaged, or its tokenizer has no token for
                Yes or No, or a chat template that does not work.
        """
        self._prompt = None if prompt is None else check_prompt(prompt)
        self._lm = CausalLm(model, device=device, dtype=dtype, revision=revision)
        self._batch_size = batch_size
        vocabulary = self._lm.tokenizer.get_vocab()
        self._yes = _tokens_of("yes", vocabulary)
        self._no = _tokens_of("no", vocabulary)
        if not self._yes or not self._no:
            raise ModelError(
                f"the tokenizer of {model} has no single token for Yes or for No; "
                "use another model as the judge"
            )
        self._takes_system = True
        if self._lm.tokenizer.chat_template:
            self._settle_system_message(model)

    def measure(self, subjects: Sequence[Subject]) -> Measured:
        """p(Yes) / (p(Yes) + p(No)) of each caption, 0 .. 1.

        A caption that makes the conversation longer than the model takes is a problem.

        Raises:
            ModelError: The model fails on a batch, for want of memory say.
        """
        values = np.full(len(subjects), np.nan)
        problems: list[str | None] = [None] * len(subjects)
        encoded: dict[int, list[int]] = {}
        for row, subject in enumerate(subjects):
            try:
                tokens = self._tokens(subject.text)
                self._lm.check_length(tokens)
                encoded[row] = tokens
            except ValueError as error:
                problems[row] = f"judge: {error}"
        for rows in by_length(encoded, self._batch_size):
            values[rows] = self._shares_of_yes([encoded[row] for row in rows])
            for row in rows:
                if np.isnan(values[row]):
                    problems[row] = "judge: the model gave no finite number; try float32"
        return Measured(values, tuple(problems))

    def _shares_of_yes(self, batch: list[list[int]]) -> list[float]:
        import torch

        ends = [len(tokens) - 1 for tokens in batch]
        positions = sorted(set(ends))  # the logits of a whole conversation would be gigabytes
        logits = self._lm.logits(batch, positions)
        last = [positions.index(end) for end in ends]
        found = logits[torch.arange(len(batch)), last].double().cpu()
        # A ratio of sums of softmax values: what it is divided by cancels.
        yes = found[:, self._yes].logsumexp(dim=-1)
        no = found[:, self._no].logsumexp(dim=-1)
        shares: list[float] = torch.sigmoid(yes - no).tolist()
        return shares

    def _tokens(self, caption: str) -> list[int]:
        messages = judge_messages(caption, self._prompt)
        if self._lm.tokenizer.chat_template:
            return self._lm.encode(self._rendered(messages), markers=True)
        text = "\n\n".join([*(message["content"] for message in messages), "Answer:"])
        start = self._lm.tokenizer.bos_token_id
        return [*([] if start is None else [start]), *self._lm.encode(text)]

    def _rendered(self, messages: list[dict[str, str]]) -> str:
        if not self._takes_system:
            content = "\n\n".join(message["content"] for message in messages)
            messages = [{"role": "user", "content": content}]
        # Templates that know no enable_thinking ignore it.
        text: Any = self._lm.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return str(text)

    def _settle_system_message(self, model: str) -> None:
        """Find out whether the chat template has a place for a system message."""
        messages = judge_messages("a cat", self._prompt)
        try:
            self._takes_system = SYSTEM_MESSAGE in self._rendered(messages)
        except Exception:  # templates refuse by raising, each in its own way
            self._takes_system = False
        try:
            rendered = self._rendered(messages)
        except Exception as error:
            raise ModelError(
                f"the chat template of {model} does not work: {first_line(error)}"
            ) from error
        if messages[1]["content"].strip() not in rendered:
            raise ModelError(f"the chat template of {model} drops the user's message")


def _tokens_of(word: str, vocabulary: dict[str, int]) -> list[int]:
    """Tokens that are a word as a whole; byte-level BPE and SentencePiece mark the space."""
    pattern = re.compile(rf"[\u0120\u2581 ]?{word}", re.IGNORECASE)
    return sorted(token for text, token in vocabulary.items() if pattern.fullmatch(text))
