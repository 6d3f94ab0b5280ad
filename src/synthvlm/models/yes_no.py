"""How sure a model is that an answer is Yes, by the probabilities of the tokens of the answer.

VQAScore (Lin et al. 2024, "Evaluating Text-to-Visual Generation with Image-to-Text Generation") is
the likelihood of the answer "Yes" to a question that quotes the caption. As its authors' code
computes it (github.com/linzhiqiu/t2v_metrics):

    exp(1/n * (log p(t_1 | image, question) + ... + log p(t_n | image, question, t_1 ... t_n-1)))

Of LLaVA-1.5 and 1.6, t_1 ... t_n are the tokens of "Yes" and the end of the text
(``llava_model.py`` at commit 1bec390); of later models those of "Yes" alone (``gemma3_model.py``
and ``qwen3vl_model.py`` at commit 6ecb74f), so that it is p("Yes") where that is one token.

That code writes LLaVA-1.5's system message and pads images to squares. Here both are left to the
chat template and the image processor that come with a model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import torch

__all__ = ["YesAnswer", "YesTokens", "shares_of_yes", "tokens_reading_as"]

#: Models whose answers VQAScore's authors score with the end of the text, as LLaVA-1.5's.
_SCORED_TO_THE_END = {"llava", "llava_next"}


@dataclass(frozen=True, slots=True)
class YesAnswer:
    """How sure a model is that the answer to a question is Yes.

    Attributes:
        likelihood: Of the answer "Yes", 0 .. 1, as VQAScore has it.
        share: p(Yes) / (p(Yes) + p(No)), 0 .. 1: above 0.5 the model would rather say Yes than No.
        problem: Why the question could not be asked; the numbers are then NaN.
    """

    likelihood: float
    share: float
    problem: str | None = None

    @classmethod
    def failed(cls, problem: str) -> YesAnswer:
        """No answer."""
        return cls(math.nan, math.nan, problem)


@dataclass(frozen=True, slots=True)
class YesTokens:
    """The tokens by which a model says Yes.

    Attributes:
        answer: Those of the answer "Yes" whose likelihood is VQAScore.
        place: The first position in which "Yes" and "No" differ.
        yes: Tokens that read as Yes there, in any case.
        no: Tokens that read as No there.
    """

    answer: Sequence[int]
    place: int
    yes: Sequence[int]
    no: Sequence[int]

    @classmethod
    def of(cls, processor: Any, model_type: str) -> Self:
        """Those of a model.

        Args:
            processor: With a tokenizer and a chat template.
            model_type: Of the model's configuration.

        Raises:
            TemplateError: The chat template does not work.
        """
        tokenizer = processor.tokenizer
        yes, no = (_answer_tokens(processor, answer) for answer in ("Yes", "No"))
        place = next(n for n, (a, b) in enumerate(zip(yes, no, strict=False)) if a != b)
        vocabulary = tokenizer.get_vocab()
        ways = [
            tokens_reading_as(tokenizer.convert_ids_to_tokens(tokens[place]), vocabulary)
            for tokens in (yes, no)
        ]
        end = [tokenizer.eos_token_id] if model_type in _SCORED_TO_THE_END else []
        return cls([*yes, *end], place, *ways)

    def forced(self) -> list[Any]:
        """What has a model of ``transformers`` say the answer, to be used once."""
        return [_Forced(self.answer)]

    def read(self, logits: Sequence[torch.Tensor]) -> list[YesAnswer]:
        """The answers to n questions.

        Args:
            logits: For each token of ``answer``, those of the next token before it, of shape
                (n, vocabulary).
        """
        import torch

        steps = [step.double() for step in logits]
        likelihoods = [
            step[:, token] - step.logsumexp(-1)
            for step, token in zip(steps, self.answer, strict=True)
        ]
        means = torch.stack(likelihoods).mean(0).exp().tolist()
        shares = shares_of_yes(steps[self.place], self.yes, self.no)
        return [YesAnswer(mean, share) for mean, share in zip(means, shares, strict=True)]


def shares_of_yes(logits: torch.Tensor, yes: Sequence[int], no: Sequence[int]) -> list[float]:
    """p(Yes) / (p(Yes) + p(No)) of n texts.

    Args:
        logits: Of the next token, float64, of shape (n, vocabulary).
        yes: Tokens that read as Yes, at least one.
        no: Tokens that read as No, at least one.
    """
    # A ratio of sums of softmax values: what it is divided by cancels.
    difference = logits[:, yes].logsumexp(-1) - logits[:, no].logsumexp(-1)
    shares: list[float] = difference.sigmoid().tolist()
    return shares


def _answer_tokens(processor: Any, answer: str) -> list[int]:
    """The tokens of an answer, with the space that the chat template puts before it."""
    tokenizer, apply = processor.tokenizer, processor.apply_chat_template
    asked = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    said = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    prompt = str(apply([asked], add_generation_prompt=True, tokenize=False))
    whole = str(apply([asked, said], tokenize=False))
    space = re.match(rf"(\s*){answer}", whole[len(prompt) :])
    text = prompt + (space[1] if space and whole.startswith(prompt) else "") + answer
    before, tokens = (
        tokenizer(one, add_special_tokens=False)["input_ids"] for one in (prompt, text)
    )
    if tokens[: len(before)] == before:
        return list(tokens[len(before) :])
    return list(tokenizer(answer, add_special_tokens=False)["input_ids"])


class _Forced:
    """Has a model say some tokens, whatever it would say."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._left = list(tokens)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        forced = scores.new_full(scores.shape, -math.inf)
        forced[:, self._left.pop(0)] = 0
        return forced


def tokens_reading_as(word: str, vocabulary: Mapping[str, int]) -> list[int]:
    """Tokens that read as a word, in any case, with or without a space before it.

    Byte-level BPE and SentencePiece mark that space.
    """
    mark = "[\u0120\u2581 ]?"
    pattern = re.compile(mark + re.escape(re.sub(f"^{mark}", "", word)), re.IGNORECASE)
    return sorted(token for text, token in vocabulary.items() if pattern.fullmatch(text))
