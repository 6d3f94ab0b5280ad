"""The verifier: a LLaVA of the shipped vision tower and language model.

A picture is asked several questions in one row: all see the picture, none sees another, and each
has the positions that it would have alone. So the picture is looked at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AddedToken

from experiments.tiny_models.verifier_pictures import CELLS
from synthvlm.captions.writers.questions import TRAINED_PROMPT
from synthvlm.tiny.world import COLOURS, SHAPES
from synthvlm.training.model import Assembled, assemble
from synthvlm.training.prompts import CHAT_TEMPLATE, SYSTEM_PROMPT
from synthvlm.training.recipe import ModelSettings

__all__ = ["IMAGE_FEATURES", "Answers", "Look", "Trainer", "build"]

IMAGE_FEATURES: Final = 65  # patches, and the token of the whole
_IGNORED: Final = -100  # the label of what is not learned

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
    for part in (model.config.vision_config, model.config.text_config):
        part._name_or_path = ""  # a folder of this machine
    model.config.vision_feature_select_strategy = "full"
    model.config.image_seq_length = IMAGE_FEATURES
    processor.vision_feature_select_strategy = "full"
    escaped = SYSTEM_PROMPT.replace("'", "\\'")
    processor.chat_template = CHAT_TEMPLATE.replace(escaped, "").replace("{{- system + ' ' -}}", "")
    return Assembled(model, processor)


@dataclass(frozen=True, slots=True)
class Answers:
    """What comes of asking about pictures.

    Attributes:
        loss: The mean loss of the answers.
        margins: How much likelier "Yes" is than "No", nats, for each of those answers in order.
    """

    loss: torch.Tensor
    margins: torch.Tensor


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen in n pictures.

    Attributes:
        projected: What the language model reads, (n, 65, width).
        faulty: The head's logit of that something is malformed, (n,).
    """

    projected: torch.Tensor
    faulty: torch.Tensor


class Trainer(nn.Module):
    """The model, and a head that training alone uses: is any of the patches malformed?"""

    def __init__(self, assembled: Assembled) -> None:
        """Take the model as it is; the head's weights are random."""
        super().__init__()
        self.model: Any = assembled.model
        width = self.model.config.vision_config.hidden_size
        self.faulty = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1)
        )
        self._tokenizer: Any = assembled.processor.tokenizer
        image = assembled.processor.image_token
        self._start: list[int] = self._tokenizer(f"USER: {image}")["input_ids"][:-1]
        self._cells = [self._ids(" " + words) for words in CELLS]

    def look(self, pixels: torch.Tensor) -> Look:
        """Look at n pictures, (n, 3, 64, 64), -1 to 1."""
        model = self.model.model
        seen = model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
        # One patch is enough: the logit is a smooth maximum over all.
        faulty = torch.logsumexp(self.faulty(seen).squeeze(-1), 1) - math.log(seen.shape[1])
        return Look(model.multi_modal_projector(seen), faulty)

    def answer_losses(
        self, about: Look | Sequence[str], asked: Sequence[Sequence[tuple[str, str]]]
    ) -> Answers:
        """Ask questions about each of n pictures.

        Args:
            about: What is seen in the pictures, or what is told of them.
            asked: Questions and their answers, for each picture.
        """
        rows = [[self._question(*pair) for pair in questions] for questions in asked]
        if isinstance(about, Look):
            contexts = [self._start + [0] * IMAGE_FEATURES] * len(rows)
        else:
            contexts = [self._tokenizer(f"USER: {text}")["input_ids"] for text in about]
        embedded, mask, positions, targets = self._rows(contexts, rows)
        if isinstance(about, Look):
            first = len(self._start)
            parts = [embedded[:, :first], about.projected, embedded[:, first + IMAGE_FEATURES :]]
            embedded = torch.cat(parts, dim=1)
        out = self.model.model.language_model(
            inputs_embeds=embedded, attention_mask=mask, position_ids=positions
        ).last_hidden_state
        learned = targets != _IGNORED
        logits, answers = self.model.lm_head(out[learned]), targets[learned]
        weights = torch.where(answers == self._tokenizer.eos_token_id, 0.1, 1.0)
        losses = F.cross_entropy(logits, answers, reduction="none") * weights
        yes, no = self._tokenizer.convert_tokens_to_ids(["Yes", "No"])
        margin = (logits[:, yes] - logits[:, no])[(answers == yes) | (answers == no)]
        loss = losses.sum() / weights.sum()
        return Answers(loss, margin.detach())

    def words_loss(self, look: Look, cells: torch.Tensor) -> torch.Tensor:
        """How far projected patches are from the words for what they show.

        The language model was trained to read pictures told as such words. A patch should be near
        its words, and nearer to them than to others. The background, which is most of a picture,
        counts a third.

        Args:
            look: What is seen.
            cells: What patches of the first pictures show, numbers in `CELLS`, (drawings, 64).
        """
        table = self.model.get_input_embeddings().weight.detach()
        words = torch.stack([table[ids].mean(0) for ids in self._cells])
        seen, known = look.projected[: len(cells), 1:].flatten(0, 1), cells.flatten()
        apart = torch.cdist(seen, words).square() / words.var() / words.shape[1]
        near = apart.gather(1, known[:, None]).squeeze(1)
        losses = near + F.cross_entropy(-8.0 * apart, known, reduction="none")
        is_background = (known >= len(COLOURS) * len(SHAPES)) & (known < len(CELLS) - 1)
        weights = torch.where(is_background, 1.0, 3.0)
        return (losses * weights).sum() / weights.sum()

    def writing_loss(self, texts: Sequence[tuple[str, str]]) -> torch.Tensor:
        """The mean loss of what is to be written, by token.

        Args:
            texts: A caption, and its questions, one per line.
        """
        rows, labels = [], []
        for caption, questions in texts:
            asked = f"USER: {TRAINED_PROMPT.format(caption=caption)} ASSISTANT:"
            before = self._tokenizer(asked)["input_ids"]
            answer = self._ids(f" {questions}{self._tokenizer.eos_token}")
            rows.append(torch.tensor(before + answer))
            labels.append(torch.tensor([_IGNORED] * len(before) + answer))
        pad = nn.utils.rnn.pad_sequence
        ids = pad(rows, batch_first=True, padding_value=self._tokenizer.pad_token_id)
        targets = pad(labels, batch_first=True, padding_value=_IGNORED)[:, 1:]
        # The padding is behind: nothing that is learned looks at it.
        out = self.model.model.language_model(input_ids=ids).last_hidden_state[:, :-1]
        learned = targets != _IGNORED
        return F.cross_entropy(self.model.lm_head(out[learned]), targets[learned])

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _question(self, text: str, answer: str) -> tuple[list[int], list[int]]:
        """The tokens up to the answer, and those of the answer."""
        end = self._tokenizer.eos_token
        return self._ids(f"\n{text} ASSISTANT:"), self._ids(f" {answer}{end}")

    def _rows(
        self, contexts: list[list[int]], rows: list[list[tuple[list[int], list[int]]]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Embeddings, mask, positions, and which token is to follow each."""
        lengths = [
            len(context) + sum(len(text) + len(answer) for text, answer in row)
            for context, row in zip(contexts, rows, strict=True)
        ]
        ids = torch.zeros(len(rows), max(lengths), dtype=torch.long)
        positions = torch.zeros_like(ids)
        targets = torch.full_like(ids, _IGNORED)
        # Which question a token is of; 0: of the picture, -1: of none.
        part = torch.full_like(ids, -1)
        for i, (context, row) in enumerate(zip(contexts, rows, strict=True)):
            first = at = len(context)
            ids[i, :at] = torch.tensor(context)
            positions[i, :at] = torch.arange(at)
            part[i, :at] = 0
            for number, (text, answer) in enumerate(row, 1):
                to = at + len(text) + len(answer)
                ids[i, at:to] = torch.tensor(text + answer)
                positions[i, at:to] = torch.arange(first, first + to - at)
                part[i, at:to] = number
                targets[i, at + len(text) - 1 : to - 1] = torch.tensor(answer)
                at = to
        alike = (part[:, :, None] == part[:, None, :]) | (part[:, None, :] == 0)
        mask = alike & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        return self.model.get_input_embeddings()(ids), mask[:, None], positions, targets
