"""Conversations as the text that a model is trained on, as tokens, and as batches with images.

Images are opened here: untrusted files, decoded with care.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synthvlm.captions.readers.images import ImageProblem, decode_image, read_image
from synthvlm.errors import CaptionSourceError, first_line
from synthvlm.training.conversations import IMAGE_MARK, Conversation

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = [
    "CHAT_TEMPLATE",
    "IGNORED",
    "MISSING",
    "SYSTEM_PROMPT",
    "UNREADABLE",
    "Collator",
    "Encoder",
    "Piece",
    "Tokens",
    "expand",
    "image_problem",
    "open_image",
    "plain_prompt",
    "v1_prompt",
]

#: Vicuna's, which LLaVA-1.5 was tuned with.
SYSTEM_PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)

#: ``v1_prompt`` as a chat template of transformers. ``{% generation %}`` marks what is trained.
#: Of a content list, the images of a message stand before its text, wherever they stand in it.
CHAT_TEMPLATE = (
    """\
{%- if messages and messages[0]['role'] == 'system' -%}
{%- set system = messages[0]['content'] -%}{%- set turns = messages[1:] -%}
{%- else -%}
{%- set system = '"""
    + SYSTEM_PROMPT.replace("'", "\\'")
    + """' -%}{%- set turns = messages -%}
{%- endif -%}
{%- if system is not string -%}{%- set system = system[0]['text'] -%}{%- endif -%}
{{- system + ' ' -}}
{%- for message in turns -%}
{%- set found = namespace(images='', text='') -%}
{%- if message['content'] is string -%}
{%- set found.text = message['content'] -%}
{%- else -%}
{%- for item in message['content'] -%}
{%- if item['type'] == 'image' -%}{%- set found.images = found.images + '<image>\\n' -%}
{%- elif item['type'] == 'text' -%}{%- set found.text = found.text + item['text'] -%}
{%- endif -%}
{%- endfor -%}
{%- if found.images -%}
{%- set found.text = (found.images + found.text | trim) | trim -%}
{%- endif -%}
{%- endif -%}
{%- if message['role'] == 'assistant' -%}
{{- 'ASSISTANT:' -}}
{%- generation -%}{{- ' ' + found.text + eos_token -}}{%- endgeneration -%}
{%- else -%}
{{- 'USER: ' + found.text + ' ' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt: its text, and whether there is loss on it."""

    text: str
    trained: bool


def plain_prompt(conversation: Conversation) -> list[Piece]:
    """Stage 1: the image, then the caption and a newline, on which the loss is.

    The human's text is thrown away. A tokenizer puts its own beginning of text (BOS) before it.

    Raises:
        ValueError: The conversation has no image, or more than one answer.
    """
    if conversation.image is None:
        raise ValueError("it has no image, which the plain format needs")
    if len(conversation.turns) != 2:
        raise ValueError("it has more than one answer; the plain format takes one")
    return [Piece(IMAGE_MARK, False), Piece(conversation.turns[1].text + "\n", True)]


def v1_prompt(conversation: Conversation, eos: str) -> list[Piece]:
    r"""Stage 2, Vicuna's format: loss on each answer and the end of text after it.

    ``SYSTEM USER: <image>\nQ ASSISTANT: A</s>USER: Q ASSISTANT: A</s>``

    The mark of the image is moved to the front of its human turn, as LLaVA does.

    Args:
        conversation: At most one image.
        eos: The tokenizer's end of text, ``</s>`` for Vicuna.
    """
    pieces = []
    before = f"{SYSTEM_PROMPT} "
    for human, answer in zip(conversation.turns[::2], conversation.turns[1::2], strict=True):
        pieces.append(Piece(f"{before}USER: {_image_first(human.text)} ASSISTANT:", False))
        pieces.append(Piece(f" {answer.text}{eos}", True))
        before = ""
    return pieces


def _image_first(text: str) -> str:
    if IMAGE_MARK not in text:
        return text
    return f"{IMAGE_MARK}\n{text.replace(IMAGE_MARK, '').strip()}".strip()


#: Label of a token without loss (torch's own).
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt as tokens, in which one token stands for an image.

    Attributes:
        ids: Token ids, int32, shape (n,).
        trained: Whether there is loss on each of them, shape (n,).
        length: Tokens when each image has as many as it has patch features.
        truncated: Whether tokens were cut off at the end.
        masked: Whether the trained parts do not add up to whole tokens, so that nothing is trained.
    """

    ids: npt.NDArray[np.int32]
    trained: npt.NDArray[np.bool_]
    length: int
    truncated: bool
    masked: bool


class Encoder:
    """Turns prompts into tokens, with labels on what is trained."""

    def __init__(self, tokenizer: Any, image_features: int, max_tokens: int) -> None:
        """Take what prompts are encoded with.

        Args:
            tokenizer: Of transformers, with offsets (``tokenizers``), knowing ``<image>``.
            image_features: Tokens that stand for one image.
            max_tokens: What is longer is cut off at its end.
        """
        self._tokenizer = tokenizer
        self._image_features, self._max_tokens = image_features, max_tokens
        self._image_id: int = tokenizer.convert_tokens_to_ids(IMAGE_MARK)
        added = tokenizer.added_tokens_decoder
        special = {n for n, token in added.items() if token.special}
        special -= {tokenizer.unk_token_id}  # stands for any word that is not known
        self._special = np.array(sorted(special), np.int32)
        self._eos_id: int = tokenizer.eos_token_id
        # What the tokenizer itself puts around any text.
        self._around = len(tokenizer("")["input_ids"])

    def encode(self, pieces: Sequence[Piece]) -> Tokens:
        """The tokens of a prompt.

        The whole text is tokenised at once, as it is when the model answers. A token that crosses
        the edge of a piece, or a special token's text within someone's words, would train
        something else than was meant: then the whole sample has no loss, as in LLaVA.

        Raises:
            ValueError: Truncation would cut the image's tokens, or leave nothing that is trained.
        """
        text = "".join(piece.text for piece in pieces)
        encoded = self._tokenizer(text, return_offsets_mapping=True, verbose=False)
        ids = np.array(encoded["input_ids"], np.int32)
        offsets = np.array(encoded["offset_mapping"], np.int64).reshape(-1, 2)
        trained, whole = _trained(offsets, pieces)
        whole = whole and self._specials_add_up(ids, trained, pieces)
        trained = trained & whole
        more = int((ids == self._image_id).sum()) * (self._image_features - 1)
        limit = self._max_tokens - more
        truncated = len(ids) > limit
        if truncated:
            if limit <= 0 or (ids[limit:] == self._image_id).any():
                raise ValueError("its image does not fit into max_tokens")
            ids, trained = ids[:limit], trained[:limit]
            if whole and not trained.any():
                raise ValueError("its answer does not begin within max_tokens")
        return Tokens(ids, trained, len(ids) + more, truncated, masked=not whole)

    def _specials_add_up(
        self, ids: npt.NDArray[np.int32], trained: npt.NDArray[np.bool_], pieces: Sequence[Piece]
    ) -> bool:
        eos = self._tokenizer.eos_token
        ends = sum(piece.text.endswith(eos) for piece in pieces if piece.trained)
        images = sum(piece.text.count(IMAGE_MARK) for piece in pieces if not piece.trained)
        special = np.isin(ids, self._special)
        return (
            int(special.sum()) == self._around + ends + images
            and int((ids[trained] == self._eos_id).sum()) == ends
            and int((ids == self._image_id).sum()) == images
        )


def expand(
    ids: npt.NDArray[np.int32], trained: npt.NDArray[np.bool_], image_id: int, image_features: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ids and labels with the image's token once for each patch feature; shape (length,)."""
    times = np.where(ids == image_id, image_features, 1)
    labels = np.where(trained, ids, IGNORED)
    return np.repeat(ids, times).astype(np.int64), np.repeat(labels, times).astype(np.int64)


def _trained(
    offsets: npt.NDArray[np.int64], pieces: Sequence[Piece]
) -> tuple[npt.NDArray[np.bool_], bool]:
    """Which tokens lie in trained pieces, and whether each token lies in one piece."""
    edges = np.cumsum([len(piece.text) for piece in pieces])
    flags = np.array([*(piece.trained for piece in pieces), False])
    begins, ends = offsets[:, 0], offsets[:, 1]
    empty = begins == ends  # what the tokenizer puts around the text
    first = np.searchsorted(edges, begins, side="right")
    last = np.where(empty, first, np.searchsorted(edges, ends - 1, side="right"))
    return flags[first] & ~empty, bool((first == last).all())


MISSING = "its image file is missing"
UNREADABLE = "its image file cannot be decoded"


def open_image(path: str) -> Image:
    """The image as RGB; see ``decode_image`` for what is refused.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no image, or none that is decoded here.
    """
    try:
        return decode_image(read_image(path))
    except ImageProblem as error:
        raise ValueError(str(error)) from error


def image_problem(path: str) -> str | None:
    """What is wrong with an image file, as one of few fixed texts; it is decoded to find out."""
    try:
        open_image(path)
    except FileNotFoundError:
        return MISSING
    except (OSError, ValueError):
        return UNREADABLE
    return None


class Collator:
    """Pads rows of ``samples.arrow`` on the right, and opens their images."""

    def __init__(self, processor: Any, image_id: int, image_features: int) -> None:
        """Take the processor of images and words, and what stands for an image."""
        self._images = processor.image_processor
        self._pad_id: int = processor.tokenizer.pad_token_id
        self._image_id, self._image_features = image_id, image_features

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch of n rows, of which m have an image.

        Returns:
            ``input_ids``, ``labels`` and ``attention_mask`` (int64, shape (n, longest)) and, where
            m > 0, ``pixel_values`` (float32, shape (m, 3, side, side)), in the rows' order.

        Raises:
            CaptionSourceError: An image that could be opened before is gone or damaged.
        """
        import torch

        parts = [
            expand(
                np.asarray(row["input_ids"], np.int32),
                np.asarray(row["trained"], np.bool_),
                self._image_id,
                self._image_features,
            )
            for row in rows
        ]
        longest = max(len(ids) for ids, _ in parts)
        input_ids = np.full((len(rows), longest), self._pad_id, np.int64)
        labels = np.full((len(rows), longest), IGNORED, np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for n, (ids, targets) in enumerate(parts):
            input_ids[n, : len(ids)] = ids
            labels[n, : len(ids)] = targets
            mask[n, : len(ids)] = 1
        batch = {
            "input_ids": torch.from_numpy(input_ids),
            "labels": torch.from_numpy(labels),
            "attention_mask": torch.from_numpy(mask),
        }
        files = [row["image_file"] for row in rows if row["image_file"] is not None]
        if files:
            batch["pixel_values"] = self._pixels(files)
        return batch

    def _pixels(self, files: Sequence[str]) -> torch.Tensor:
        images = []
        for file in files:
            try:
                images.append(open_image(file))
            except (OSError, ValueError) as error:
                problem = getattr(error, "strerror", None) or first_line(error)
                raise CaptionSourceError(
                    f"{file} could be read before training and now cannot: {problem}; put it back, "
                    f"and the same command goes on"
                ) from None
        pixels: torch.Tensor = self._images(images, return_tensors="pt")["pixel_values"]
        return pixels
