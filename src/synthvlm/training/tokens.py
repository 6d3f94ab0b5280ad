"""Prompts as tokens, and as batches with images.

Images are opened here: untrusted files, decoded with care.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synthvlm.captions.readers.images import ImageProblem, decode_image, read_image
from synthvlm.data_sets.conversations import IMAGE_MARK
from synthvlm.errors import CaptionSourceError, first_line
from synthvlm.training.prompts import CHAT_TEMPLATE, Piece

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = [
    "IGNORED",
    "Collator",
    "Encoder",
    "Tokens",
    "chat_template",
    "check_image",
    "expand",
    "text_tokens",
]

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
        masked: Whether the trained parts do not add up, so that nothing is trained.
    """

    ids: npt.NDArray[np.int32]
    trained: npt.NDArray[np.bool_]
    length: int
    truncated: bool
    masked: bool


def chat_template(tokenizer: Any) -> str:
    """``CHAT_TEMPLATE``, so that the whole text has the tokens of training; see ``text_tokens``.

    A tokenizer that puts no mark of a word behind the image gets a space there, which is that mark.
    """
    image_id = tokenizer.convert_tokens_to_ids(IMAGE_MARK)
    trained = text_tokens(tokenizer, f"{IMAGE_MARK}\nA", image_id)[0].tolist()
    for between in ("\n", " \n"):
        if tokenizer(f"{IMAGE_MARK}{between}A")["input_ids"] == trained:
            return CHAT_TEMPLATE.replace("<image>\\n", "<image>" + between.replace("\n", "\\n"))
    return CHAT_TEMPLATE


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
        # What the tokenizer itself puts around any text; the first once, the rest around each part.
        empty = tokenizer("")["input_ids"]
        self._once = int(empty[:1] == [tokenizer.bos_token_id])
        self._around = len(empty) - self._once

    def encode(self, pieces: Sequence[Piece]) -> Tokens:
        """The tokens of a prompt.

        As in LLaVA, what stands before and after an image's mark is tokenised by itself, so that a
        tokenizer begins either with its mark of a word; see ``text_tokens``. A token that crosses
        the edge of a piece, or a special token's text within someone's words, would train
        something else than was meant: then the whole sample has no loss.

        Raises:
            ValueError: Truncation would cut the image's tokens, or leave nothing that is trained.
        """
        text = "".join(piece.text for piece in pieces)
        ids, offsets = text_tokens(self._tokenizer, text, self._image_id)
        trained, whole = _trained(offsets, pieces)
        whole = whole and self._specials_add_up(ids, trained, pieces)
        trained = trained & whole
        masked = not trained.any()
        more = int((ids == self._image_id).sum()) * (self._image_features - 1)
        limit = self._max_tokens - more
        truncated = len(ids) > limit
        if truncated:
            if limit <= 0 or (ids[limit:] == self._image_id).any():
                raise ValueError("its image does not fit into max_tokens")
            ids, trained = ids[:limit], trained[:limit]
            if not masked and not trained.any():
                raise ValueError("its answer does not begin within max_tokens")
        return Tokens(ids, trained, len(ids) + more, truncated, masked)

    def _specials_add_up(
        self, ids: npt.NDArray[np.int32], trained: npt.NDArray[np.bool_], pieces: Sequence[Piece]
    ) -> bool:
        eos = self._tokenizer.eos_token
        ends = sum(piece.text.endswith(eos) for piece in pieces if piece.trained)
        images = sum(piece.text.count(IMAGE_MARK) for piece in pieces if not piece.trained)
        around = self._once + self._around * (images + 1)
        special = np.isin(ids, self._special)
        return (
            int(special.sum()) == around + ends + images
            and int((ids[trained] == self._eos_id).sum()) == ends
            and int((ids == self._image_id).sum()) == images
        )


def text_tokens(
    tokenizer: Any, text: str, image_id: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """A text as LLaVA tokenises it: the parts around marks of images one by one.

    ``<image>There`` is the image and ``▁There``, whether the tokenizer puts its mark of a word
    behind a special token (``legacy``) or not. Its beginning of text stands in front of all, once.

    Returns:
        Ids, shape (n,), and the range of characters of each, shape (n, 2), empty for what the
        tokenizer put there itself.
    """
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    begin = skipped = 0
    for n, part in enumerate(text.split(IMAGE_MARK)):
        encoded = tokenizer(part, return_offsets_mapping=True, verbose=False)
        part_ids = encoded["input_ids"]
        if n:
            ids.append(image_id)
            offsets.append((begin - len(IMAGE_MARK), begin))
        ids += part_ids[skipped:]
        offsets += [(one + begin, end + begin) for one, end in encoded["offset_mapping"][skipped:]]
        if n == 0:
            skipped = int(part_ids[:1] == [tokenizer.bos_token_id])
        begin += len(part) + len(IMAGE_MARK)
    return np.array(ids, np.int32), np.array(offsets, np.int64).reshape(-1, 2)


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


_MISSING = "its image file is missing"
_UNREADABLE = "its image file cannot be decoded"
_OUTSIDE = "its image file is a link out of the folder of images"


def _open_image(path: str) -> Image:
    """The image as RGB; see ``decode_image`` for what is refused.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no image, or none that is decoded here.
    """
    try:
        return decode_image(read_image(path))
    except ImageProblem as error:
        raise ValueError(str(error)) from error


def check_image(path: str, folder: str) -> tuple[str | None, str]:
    """Read and decode an image file once.

    Args:
        path: Of the file, by a name that was not chosen here.
        folder: It must lie in it, links followed.

    Returns:
        What is wrong with it, as one of few fixed texts, or None; the SHA-256 of a good one.
    """
    real = os.path.realpath(folder)
    if os.path.commonpath([real, os.path.realpath(path)]) != real:
        return _OUTSIDE, ""
    try:
        data = read_image(path)
        decode_image(data)
    except FileNotFoundError:
        return _MISSING, ""
    except (OSError, ValueError, ImageProblem):
        return _UNREADABLE, ""
    return None, hashlib.sha256(data).hexdigest()


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
                images.append(_open_image(file))
            except (OSError, ValueError) as error:
                problem = getattr(error, "strerror", None) or first_line(error)
                raise CaptionSourceError(
                    f"{file} could be read before training and now cannot: {problem}; put it back, "
                    f"and the same command goes on"
                ) from None
        pixels: torch.Tensor = self._images(images, return_tensors="pt")["pixel_values"]
        return pixels
