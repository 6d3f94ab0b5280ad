"""People's names by a token-classification model of ``transformers``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from synthvlm.errors import ModelError, first_line
from synthvlm.models.pretrained import load_pretrained

__all__ = ["NameTagger"]

#: What models call a person, after the "B-" or "I-" that some put before it.
_PERSON = frozenset({"per", "person"})
#: Tokens that neighbouring windows of a long text share.
_OVERLAP = 32
#: Longest window, also where a model names no limit or a huge one.
_MAX_TOKENS = 512


class NameTagger:
    """Recognises names with any model that tags persons (labels ``PER`` or ``PERSON``, IOB or not).

    Each token takes its likeliest label; a person's tokens in a row are a name, a ``B-`` label
    begins a new one, and a word takes the label of its first token (in scripts with letter case;
    others may have no spaces between words). A text longer than the model takes is read in windows
    that overlap.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        revision: str | None = None,
        batch_size: int = 32,
    ) -> None:
        """Load the model: safetensors only, none of its code is run.

        Args:
            model: Hub id or local folder, with a fast tokenizer.
            device: A torch device.
            dtype: ``float32``, ``float16`` or ``bfloat16``.
            revision: Branch, tag or commit on the hub.
            batch_size: Windows at a time.

        Raises:
            ModelError: The model cannot be loaded, has no label for persons, or its tokenizer
                cannot tell where tokens are.
        """
        from transformers import AutoModelForTokenClassification, AutoTokenizer

        self._model, self._tokenizer = load_pretrained(
            (AutoModelForTokenClassification, AutoTokenizer),
            "tagger",
            model,
            device,
            dtype,
            revision,
        )
        self._name, self._device, self._batch_size = model, device, batch_size
        labels: dict[int, str] = self._model.config.id2label
        self._persons = {number for number, label in labels.items() if _is_person(label)}
        self._begins = {number for number in self._persons if labels[number][:2].upper() == "B-"}
        if not self._persons:
            some = ", ".join(sorted(labels.values())[:8])
            raise ModelError(
                f"{model} has no label PER or PERSON, only {some}; "
                "use a model for named-entity recognition"
            )
        if not self._tokenizer.is_fast:
            raise ModelError(f"the tokenizer of {model} is no fast one; use a model that has one")
        limit = getattr(self._model.config, "max_position_embeddings", None) or _MAX_TOKENS
        # RoBERTa's positions begin behind that of the padding.
        padding = self._model.config.pad_token_id or 0
        self._window = min(limit - padding - 1, self._tokenizer.model_max_length, _MAX_TOKENS)

    def find(self, texts: Sequence[str]) -> list[list[str]]:
        """The names in each text, as written, in order; one list per text.

        Raises:
            ModelError: The model fails, for want of memory say.
        """
        if not texts:
            return []
        spans: list[list[tuple[int, int]]] = [[] for _ in texts]
        # Lone surrogates, which tokenizers refuse, each become one character.
        plain = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoded = self._tokenizer(
            plain,
            split_special_tokens=True,
            truncation=True,
            max_length=self._window,
            stride=min(_OVERLAP, self._window // 4),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        windows = encoded["input_ids"]
        order = sorted(range(len(windows)), key=lambda window: len(windows[window]))
        for begin in range(0, len(order), self._batch_size):
            batch = order[begin : begin + self._batch_size]
            for window, labels in zip(
                batch, self._labels([windows[i] for i in batch]), strict=True
            ):
                row = encoded["overflow_to_sample_mapping"][window]
                spans[row] += self._spans(plain[row], labels, encoded["offset_mapping"][window])
        return [
            [text[begin:end] for begin, end in _merged(text_spans)]
            for text, text_spans in zip(texts, spans, strict=True)
        ]

    def _labels(self, batch: list[list[int]]) -> list[list[int]]:
        """The likeliest label of each token, and of padding behind them."""
        import torch

        padding = self._tokenizer.pad_token_id or 0
        ids = torch.full((len(batch), max(map(len, batch))), padding)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        try:
            with torch.inference_mode():
                logits = self._model(
                    input_ids=ids.to(self._device), attention_mask=mask.to(self._device)
                ).logits
        except (RuntimeError, IndexError) as error:
            raise ModelError(
                f"the tagger {self._name} failed on a batch of {len(batch)}: {first_line(error)}; "
                "where memory is short, lower the batch size"
            ) from error
        labels: list[list[int]] = logits.argmax(dim=-1).tolist()
        return labels

    def _spans(
        self, text: str, labels: Sequence[int], offsets: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, int]]:
        """Where names are; ``offsets`` may be fewer than ``labels``, which padding has, too."""
        begin = end = -1
        for label, (first, last) in zip(labels, offsets, strict=False):
            while first < last and text[first].isspace():  # some tokens hold the space before
                first += 1
            if first == last:
                continue
            is_person = label in self._persons
            if first and _is_cased(text[first - 1]) and _is_cased(text[first]):
                is_person, starts = begin >= 0, False  # within a word
            else:
                starts = label in self._begins
            if begin >= 0 and (starts or not is_person):
                yield begin, end
                begin = -1
            if is_person:
                begin, end = (first if begin < 0 else begin), last
        if begin >= 0:
            yield begin, end


def _is_person(label: str) -> bool:
    return label.rpartition("-")[2].lower() in _PERSON


def _is_cased(char: str) -> bool:
    return char.lower() != char.upper()


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, those that overlap put together."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged
