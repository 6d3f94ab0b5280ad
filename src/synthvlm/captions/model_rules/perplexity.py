"""How surprising a caption is to a language model: KenLM with SentencePiece, or a causal LM."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthvlm.captions.rules.base import Measured, ModelRule, RuleSettings, Subject
from synthvlm.components.component import LoadContext
from synthvlm.components.settings import InHash, ModelName
from synthvlm.errors import MissingExtraError, ModelError, first_line
from synthvlm.models.model_files import language_path
from synthvlm.models.pretrained import check_unicode, load_pretrained

if TYPE_CHECKING:
    import torch

__all__ = [
    "MAX_TOKENS",
    "CausalLm",
    "CausalLmPerplexity",
    "KenlmPerplexity",
]

#: A longer text is a problem row, also where the model would take more: it is no caption.
MAX_TOKENS = 4096


class PerplexitySettings(RuleSettings):
    """Bounds on perplexity: by KenLM with SentencePiece, or by a causal language model."""

    model: Annotated[str, ModelName("language")] = Field(
        min_length=1, description="KenLM file, or hub id or folder of a causal LM, or `tiny`."
    )
    tokenizer: Annotated[str | None, ModelName()] = Field(
        None, description="SentencePiece file of the KenLM model; null: the model is a causal LM."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    batch_size: Annotated[int, InHash.NEVER] = Field(16, ge=1, description="Captions at a time.")


class Perplexity(ModelRule):
    """How surprising a caption is to a language model; above 0, lower is more usual."""

    name: ClassVar[str] = "perplexity"
    label = "Perplexity"
    Settings = PerplexitySettings

    @classmethod
    def load(cls, settings: PerplexitySettings, context: LoadContext) -> Perplexity:
        """Load KenLM where there is a tokenizer for it, else a causal language model.

        Raises:
            MissingExtraError: kenlm or sentencepiece is not installed.
            ModelError: A model cannot be loaded.
        """
        if settings.tokenizer is not None:
            return KenlmPerplexity(settings.model, settings.tokenizer)
        return CausalLmPerplexity(
            language_path(settings.model),
            device=context.device,
            dtype=context.dtype,
            batch_size=settings.batch_size,
            revision=settings.revision,
        )


class KenlmPerplexity(Perplexity):
    """Perplexity by a KenLM n-gram model over SentencePiece pieces, as Data-Juicer defines it.

    The pieces of the text are joined by spaces. Over its lines (as a rule one: most SentencePiece
    models turn line breaks into spaces) the value is 10 ** (-(sum of log10 scores) / (sum of
    (pieces + 1))), rounded to one decimal; each line is scored with its begin and its end. A text
    without pieces, an empty one say, has 0.
    """

    def __init__(self, model: str | os.PathLike[str], tokenizer: str | os.PathLike[str]) -> None:
        """Load the models.

        Args:
            model: A KenLM model, ARPA or binary (a binary one loads faster).
            tokenizer: The SentencePiece model of the text that it was made of.

        Raises:
            MissingExtraError: kenlm or sentencepiece is not installed.
            ModelError: A file is missing, or not of its kind.
        """
        try:
            import kenlm
            import sentencepiece
        except ImportError as error:
            raise MissingExtraError(
                f"perplexity by KenLM needs {error.name}: pip install 'synthvlm[perplexity]'"
            ) from error
        config = kenlm.Config()
        config.show_progress = False
        config.arpa_complain = kenlm.ARPALoadComplain.NONE
        for path, kind in ((model, "KenLM"), (tokenizer, "SentencePiece")):
            if not Path(path).is_file():
                raise ModelError(f"{path}: no such file; give the path of a {kind} model")
        try:
            self._model: Any = kenlm.Model(os.fspath(model), config)
        except (OSError, RuntimeError, UnicodeError) as error:
            raise ModelError(f"{model} is no KenLM model: {first_line(error)}") from error
        try:
            self._tokenizer: Any = sentencepiece.SentencePieceProcessor(
                model_file=os.fspath(tokenizer)
            )
        except (OSError, RuntimeError, UnicodeError) as error:
            raise ModelError(
                f"{tokenizer} is no SentencePiece model: {first_line(error)}"
            ) from error

    def measure(self, subjects: Sequence[Subject]) -> Measured:
        """Perplexity of each caption, 0 or more."""
        values = np.full(len(subjects), np.nan)
        problems: list[str | None] = [None] * len(subjects)
        for row, subject in enumerate(subjects):
            try:
                values[row] = self._perplexity(subject.text)
            except (ValueError, OverflowError) as error:  # OverflowError: over 1e308
                problems[row] = f"perplexity: {first_line(error)}"
        return Measured(values, tuple(problems))

    def _perplexity(self, text: str) -> float:
        check_unicode(text)
        pieces = " ".join(self._tokenizer.encode_as_pieces(text))
        if "\0" in pieces:  # KenLM would take it for the end of the line
            raise ValueError("the text holds NUL")
        score, length = 0.0, 0
        for line in pieces.splitlines():
            score += self._model.score(line)
            length += len(line.split()) + 1
        return round(10.0 ** (-score / length), 1) if length else 0.0


class CausalLmPerplexity(Perplexity):
    """Perplexity by a causal language model: exp of the mean negative log-likelihood of a token.

    Every token of the text counts, and none beside them: the first one is predicted from the
    model's start token (else its end token, which parts documents), so a text of one token has
    1 / p(token | start). Markers in the text such as ``</s>`` are read as plain characters. A
    text of no tokens, or of more than the model takes (at most ``MAX_TOKENS`` with the start
    token), is a problem and is not cut off.

    In float32 a value depends on the other texts of its batch by rounding only.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 16,
        revision: str | None = None,
    ) -> None:
        """Load the model.

        Args:
            model: A hub id or folder of a causal language model of ``transformers``.
            device: A torch device.
            dtype: ``float32``, ``float16`` or ``bfloat16``.
            batch_size: Texts at a time; their logits (texts x tokens x vocabulary) are the memory
                that it takes beside the model.
            revision: Branch, tag or commit on the hub.

        Raises:
            ModelError: The model cannot be found, is damaged, has no start or end token.
        """
        self._lm = CausalLm(model, device=device, dtype=dtype, revision=revision)
        self._batch_size = batch_size
        tokenizer = self._lm.tokenizer
        start = tokenizer.bos_token_id
        start = tokenizer.eos_token_id if start is None else start
        if start is None:
            raise ModelError(
                f"the tokenizer of {model} has no start and no end token, so nothing predicts the "
                "first token of a text; use another model"
            )
        self._start: int = start

    def measure(self, subjects: Sequence[Subject]) -> Measured:
        """Perplexity of each caption, 1 or more.

        Raises:
            ModelError: The model fails on a batch, for want of memory say.
        """
        return self._lm.measure(
            "perplexity", subjects, self._batch_size, self._tokens, self._values
        )

    def _tokens(self, text: str) -> list[int]:
        tokens = [self._start, *self._lm.encode(text)]
        if len(tokens) == 1:
            raise ValueError("the text has no tokens")
        return tokens

    def _values(self, batch: list[list[int]]) -> npt.NDArray[np.float64]:
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(self._mean_nll(batch)))

    def _mean_nll(self, batch: list[list[int]]) -> list[float]:
        """Mean negative log-likelihood (nats) of the tokens after the first, of each text."""
        import torch

        logits = self._lm.logits(batch)
        means = []
        for row, tokens in enumerate(batch):
            targets = torch.tensor(tokens[1:], device=logits.device)
            # One text at a time: it is a large copy.
            text_logits = logits[row, : len(targets)].float()
            means.append(torch.nn.functional.cross_entropy(text_logits, targets).item())
        return means


class CausalLm:
    """A causal language model of ``transformers`` with its tokenizer.

    Attributes:
        tokenizer: The tokenizer.
    """

    tokenizer: Any

    def __init__(
        self,
        model: str,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        revision: str | None = None,
    ) -> None:
        """Load the model; arguments as in ``CausalLmPerplexity``.

        Raises:
            ModelError: The model cannot be found, is damaged, or is no causal language model.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._model, self.tokenizer = load_pretrained(
            (AutoModelForCausalLM, AutoTokenizer), "language", model, device, dtype, revision
        )
        self._name = model
        self._device = device
        limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self._max_tokens: int = min(limit or MAX_TOKENS, MAX_TOKENS)

    def encode(self, text: str, *, markers: bool = False) -> list[int]:
        """The tokens of a text, none added.

        Args:
            text: The text.
            markers: Whether ``</s>`` and the like are special tokens, not plain characters.

        Raises:
            ValueError: The text cannot be encoded: it holds a lone surrogate.
        """
        check_unicode(text)
        tokens: list[int] = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=not markers, verbose=False
        )["input_ids"]
        return tokens

    def measure(
        self,
        name: str,
        subjects: Sequence[Subject],
        batch_size: int,
        encode: Callable[[str], list[int]],
        score: Callable[[list[list[int]]], npt.ArrayLike],
    ) -> Measured:
        """One value per caption; one whose text or value is of no use is a problem.

        Args:
            name: Of the rule, for problems.
            subjects: The captions.
            batch_size: Captions at a time; those of like length go together.
            encode: Gives the tokens of a caption, or raises ``ValueError``.
            score: Gives one value for the tokens of each caption of a batch.

        Raises:
            ModelError: The model fails on a batch, for want of memory say.
        """
        values = np.full(len(subjects), np.nan)
        problems: list[str | None] = [None] * len(subjects)
        encoded: dict[int, list[int]] = {}
        for row, subject in enumerate(subjects):
            try:
                tokens = encode(subject.text)
                if len(tokens) > self._max_tokens:
                    raise ValueError(
                        f"the text has {len(tokens):,} tokens, the limit is {self._max_tokens:,}"
                    )
                encoded[row] = tokens
            except ValueError as error:
                problems[row] = f"{name}: {error}"
        for rows in _by_length(encoded, batch_size):
            values[rows] = score([encoded[row] for row in rows])
            for row in rows:
                if not np.isfinite(values[row]):
                    values[row] = np.nan
                    problems[row] = f"{name}: the model gave no finite number; try float32"
        return Measured(values, tuple(problems))

    def logits(self, batch: Sequence[Sequence[int]], positions: Sequence[int] = ()) -> torch.Tensor:
        """Logits of the next token, shape (texts, positions, vocabulary).

        Args:
            batch: The tokens of each text. They are padded on the right, where a causal model
                never looks.
            positions: After which positions, in ascending order; empty for all.

        Raises:
            ModelError: The model fails, for want of memory say.
        """
        import inspect

        import torch

        width = max(map(len, batch))
        ids = torch.zeros((len(batch), width), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        index = torch.tensor(positions, device=self._device) if positions else None
        options: dict[str, Any] = {}
        if (
            index is not None
            and "logits_to_keep" in inspect.signature(self._model.forward).parameters
        ):
            options["logits_to_keep"] = index
        try:
            with torch.inference_mode():
                logits: torch.Tensor = self._model(
                    input_ids=ids.to(self._device),
                    attention_mask=mask.to(self._device),
                    use_cache=False,
                    **options,
                ).logits
        except (RuntimeError, IndexError) as error:
            raise ModelError(
                f"the language model {self._name} failed on a batch of {len(batch)}: "
                f"{first_line(error)}; where memory is short, lower the batch size"
            ) from error
        return logits if index is None or options else logits[:, index]


def _by_length(encoded: dict[int, list[int]], batch_size: int) -> Iterator[list[int]]:
    """Batches of the keys, texts of like length together so that little is padding."""
    rows = sorted(encoded, key=lambda row: (len(encoded[row]), row))
    for begin in range(0, len(rows), batch_size):
        yield rows[begin : begin + batch_size]
