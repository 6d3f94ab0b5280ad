"""The verifier: a LLaVA of the shipped vision tower and language model.

A picture is asked several questions in one row: all see the picture, none sees another, and each
has the positions that it would have alone. So the picture is looked at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AddedToken

from synthvlm.training.model import Assembled, assemble
from synthvlm.training.prompts import CHAT_TEMPLATE, SYSTEM_PROMPT
from synthvlm.training.recipe import ModelSettings

__all__ = ["CAPTION_QUESTION", "IMAGE_FEATURES", "WRITING", "Trainer", "build"]

#: The question of VQAScore.
CAPTION_QUESTION: Final = 'Does this figure show "{caption}"? Please answer yes or no.'
#: What asks for the questions that check a caption.
WRITING: Final = (
    "Write yes-or-no questions, one per line, that check each fact of this caption: {caption}"
)

IMAGE_FEATURES: Final = 65  # patches, and the token of the whole
_PATCHES = 64

# What is in every question is one token; otherwise most of a row would be such words.
_PHRASES: Final = (
    "Does this figure show",
    "Please answer yes or no.",
    "Write yes-or-no questions, one per line, that check each fact of this caption:",
    "ASSISTANT:",
    "USER:",
    "Yes",
    "No",
)


def build() -> Assembled:
    """Model and processor, with the shipped parts' weights and a new projector."""
    settings = ModelSettings(vision_tower="tiny", language_model="tiny", vision_feature_layer=-1)
    assembled = assemble(settings, "crop", seed=0)
    model, processor = assembled.model, assembled.processor
    tokenizer = processor.tokenizer
    pieces = [tokenizer(" " + text, add_special_tokens=False)["input_ids"] for text in _PHRASES]
    tokenizer.add_tokens([AddedToken(text, lstrip=True, normalized=False) for text in _PHRASES])
    before = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        for row, piece in enumerate(pieces, before):
            table[row] = table[piece].mean(0)
    model.config.vision_feature_select_strategy = "full"
    model.config.image_seq_length = IMAGE_FEATURES
    processor.vision_feature_select_strategy = "full"
    escaped = SYSTEM_PROMPT.replace("'", "\\'")
    processor.chat_template = CHAT_TEMPLATE.replace(escaped, "").replace("{{- system + ' ' -}}", "")
    return Assembled(model, processor)


class Trainer(nn.Module):
    """The model, and a head that training alone uses: how far each patch is from faultless."""

    def __init__(self, assembled: Assembled) -> None:
        """Take the model as it is; the head's weights are random."""
        super().__init__()
        self.model: Any = assembled.model
        self.errors = nn.Linear(self.model.config.vision_config.hidden_size, 1)
        self._tokenizer: Any = assembled.processor.tokenizer
        image = assembled.processor.image_token
        start = self._tokenizer(f"USER: {image}")["input_ids"][:-1]
        self._start = torch.tensor(start)

    def answer_losses(
        self, pixels: torch.Tensor, asked: Sequence[Sequence[tuple[str, bool]]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Look at n pictures once, and ask each its questions.

        Args:
            pixels: (n, 3, 64, 64), -1 to 1.
            asked: Questions and whether the answer is yes, for each picture.

        Returns:
            The mean loss of the answers; how much likelier "Yes" is than "No", in nats, for
            each question in order; the head's guess of the patches' errors, (n, 64).
        """
        rows = [[self._question(text, yes) for text, yes in questions] for questions in asked]
        embedded, mask, positions, ends = self._rows(rows)
        vision = self.model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
        first = len(self._start)
        seen = self.model.model.multi_modal_projector(vision)
        embedded = torch.cat(
            [embedded[:, :first], seen, embedded[:, first + IMAGE_FEATURES :]], dim=1
        )
        out = self.model.model.language_model(
            inputs_embeds=embedded, attention_mask=mask, position_ids=positions
        ).last_hidden_state
        where = torch.tensor(ends)
        logits = self.model.lm_head(out[where[:, 0], where[:, 1]])  # before "Yes" or "No"
        closing = self.model.lm_head(out[where[:, 0], where[:, 1] + 1])
        yes = torch.tensor([yes for questions in asked for _, yes in questions])
        answers = torch.where(yes, self._id("Yes"), self._id("No"))
        end = torch.full_like(answers, self._tokenizer.eos_token_id)
        loss = F.cross_entropy(logits, answers) + 0.1 * F.cross_entropy(closing, end)
        margin = logits[:, self._id("Yes")] - logits[:, self._id("No")]
        return loss, margin.detach(), self.errors(vision[:, 1:]).squeeze(-1)

    def writing_loss(self, texts: Sequence[tuple[str, str]]) -> torch.Tensor:
        """The mean loss of what is to be written, by token.

        Args:
            texts: A caption, and its questions, one per line.
        """
        rows, labels = [], []
        for caption, questions in texts:
            asked = f"USER: {WRITING.format(caption=caption)} ASSISTANT:"
            before = self._tokenizer(asked)["input_ids"]
            answer = self._ids(f" {questions}{self._tokenizer.eos_token}")
            rows.append(torch.tensor(before + answer))
            labels.append(torch.tensor([-100] * len(before) + answer))
        pad = nn.utils.rnn.pad_sequence
        ids = pad(rows, batch_first=True, padding_value=self._tokenizer.pad_token_id)
        targets = pad(labels, batch_first=True, padding_value=-100)[:, 1:]
        # The padding is behind: nothing that is learned looks at it.
        out = self.model.model.language_model(input_ids=ids).last_hidden_state[:, :-1]
        learned = targets != -100
        return F.cross_entropy(self.model.lm_head(out[learned]), targets[learned])

    def _id(self, word: str) -> int:
        return int(self._tokenizer.convert_tokens_to_ids(word))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _question(self, text: str, yes: bool) -> list[int]:
        return self._ids(f"\n{text} ASSISTANT: {'Yes' if yes else 'No'}")

    def _rows(
        self, rows: list[list[list[int]]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[tuple[int, int]]]:
        """Embeddings, mask, positions, and where the token before each answer is."""
        first = len(self._start) + IMAGE_FEATURES
        longest = first + max(sum(map(len, row)) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        positions = torch.zeros_like(ids)
        # Which question a token is of; 0: of the picture, -1: of none.
        part = torch.full_like(ids, -1)
        ids[:, : len(self._start)] = self._start
        positions[:, :first] = torch.arange(first)
        part[:, :first] = 0
        ends: list[tuple[int, int]] = []
        for i, row in enumerate(rows):
            at = first
            for number, question in enumerate(row, 1):
                to = at + len(question)
                ids[i, at:to] = torch.tensor(question)
                positions[i, at:to] = torch.arange(first, first + len(question))
                part[i, at:to] = number
                ends.append((i, to - 2))
                at = to
        alike = (part[:, :, None] == part[:, None, :]) | (part[:, None, :] == 0)
        mask = alike & torch.ones(longest, longest, dtype=torch.bool).tril()
        return self.model.get_input_embeddings()(ids), mask[:, None], positions, ends
