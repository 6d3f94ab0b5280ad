"""A vision-language model that answers questions: any of ``transformers`` with a chat template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from synthvlm.errors import ModelError, first_line
from synthvlm.models.devices import resolve_device
from synthvlm.models.language import (
    WRITER_SETTINGS,
    carefully,
    check_length,
    generated,
    greedy,
    pad_in_front,
)
from synthvlm.models.pretrained import load_pretrained, model_config
from synthvlm.models.yes_no import YesAnswer, YesTokens

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["VisionLanguageModel", "answers_about_images", "check_model", "resolved"]

_T = TypeVar("_T")

#: What commands have for a model that answers, and that makes it need less memory.
_OPTIONS = "--batch-size or --max-new-tokens"


class VisionLanguageModel:
    """Answers questions about images, and without one, greedily: the same every time."""

    def __init__(
        self, model: str, *, device: str = "auto", dtype: str = "auto", revision: str | None = None
    ) -> None:
        """Load a model by hub id or folder.

        Args:
            model: Of any class that ``AutoModelForImageTextToText`` knows, with a processor and a
                chat template, such as LLaVA.
            device: A torch device, or ``auto``: a GPU where there is one.
            dtype: ``float32``, ``float16``, ``bfloat16``, or ``auto``: bfloat16 on a GPU,
                float32 elsewhere.
            revision: Branch, tag or commit on the hub.

        Raises:
            ModelError: It cannot be found, is damaged or of another kind, has no safetensors, no
                processor of images, or no chat template.
        """
        from transformers import AutoModelForImageTextToText

        device, dtype = resolved(device, dtype)
        check_model(model, revision)
        self._model: Any
        self._processor: Any
        self._model, self._processor = load_pretrained(
            [AutoModelForImageTextToText, _PilProcessor],
            "vision-language",
            model,
            device,
            dtype,
            revision,
        )
        self._name = model
        self.device, self.dtype = device, dtype
        self._check_processor()
        pad_in_front(self._processor.tokenizer)
        # Longer questions are an error of ours; the tokenizer's own warning goes by other numbers.
        self._processor.tokenizer.model_max_length = int(1e30)

    def answer(
        self, images: Sequence[Image | None], questions: Sequence[str], *, max_new_tokens: int
    ) -> list[str]:
        """Answer n questions, in their order, in at most two batches: with and without an image.

        Args:
            images: n images in RGB, each as it goes with its question; None: there is none.
            questions: n texts, which go into the model's chat template as the user's turn.
            max_new_tokens: Longest answer; a longer one is cut off there.

        Returns:
            n answers, stripped of white space and of special tokens.

        Raises:
            OutOfMemoryError: So many questions at a time do not fit into the device's memory.
            ValueError: The numbers of images and questions differ, a question holds the mark that
                stands for an image, or is longer than what the model can hold.
        """
        if len(images) != len(questions):
            raise ValueError(f"{len(images)} images for {len(questions)} questions")
        mark = getattr(self._processor, "image_token", None)
        for question in questions:
            if mark and mark in question:
                raise ValueError(f"a question holds {mark}, the model's mark of an image")
        answers = [""] * len(questions)
        for rows in (
            [row for row, image in enumerate(images) if image is not None],
            [row for row, image in enumerate(images) if image is None],
        ):
            if rows:
                turns = [_turn(images[row], questions[row]) for row in rows]
                replies = self._generated(turns, max_new_tokens, _OPTIONS)
                for row, (text, _) in zip(rows, replies, strict=True):
                    answers[row] = text
        return answers

    def write(self, texts: Sequence[str], *, max_new_tokens: int) -> list[tuple[str, bool]]:
        """What the model replies to n texts, greedily, and whether that was cut off.

        Raises:
            OutOfMemoryError: So many texts at a time do not fit into the device's memory.
            ValueError: A text is longer than what the model can hold.
        """
        turns = [_turn(None, text) for text in texts]
        return self._generated(turns, max_new_tokens, WRITER_SETTINGS)

    def say_yes(self, images: Sequence[Image], questions: Sequence[str]) -> list[YesAnswer]:
        """How sure the model is that the answer to each question about an image is Yes.

        Args:
            images: n images in RGB.
            questions: n texts, which go into the model's chat template as the user's turn.

        Returns:
            n answers; a question that holds a special token of the model, or is too long for it,
            is a problem and spoils no other.

        Raises:
            OutOfMemoryError: So many questions at a time do not fit into the device's memory.
            ModelError: The chat template does not work.
        """
        answers: dict[int, YesAnswer] = {}
        for row, question in enumerate(questions):
            mark = next((mark for mark in self._marks if mark in question), None)
            if mark is not None:
                problem = f"the text holds {mark}, a special token of {self._name}"
                answers[row] = YesAnswer.failed(problem)
        rows = [row for row in range(len(questions)) if row not in answers]
        answers |= zip(rows, self._yes(rows, images, questions), strict=True)
        return [answers[row] for row in range(len(questions))]

    def _yes(
        self, rows: Sequence[int], images: Sequence[Image], questions: Sequence[str]
    ) -> list[YesAnswer]:
        """The answers to some questions; where one is too long, each is asked alone."""
        if not rows:
            return []
        turns = [_turn(images[row], questions[row]) for row in rows]
        try:
            return self._carefully(lambda: self._scored(turns), turns, "its batch_size")
        except ValueError as error:
            if len(rows) == 1:
                return [YesAnswer.failed(first_line(error))]
        return [answer for row in rows for answer in self._yes([row], images, questions)]

    def _scored(self, turns: list[list[dict[str, Any]]]) -> list[YesAnswer]:
        import torch

        tokens = self._yes_tokens
        with torch.inference_mode():
            said = self._model.generate(
                **self._inputs(turns),
                max_new_tokens=len(tokens.answer),
                logits_processor=tokens.forced(),
                output_logits=True,  # as the model gave them, not as they were forced
                return_dict_in_generate=True,
                **greedy(self._processor.tokenizer),
            )
        return tokens.read(said.logits)

    @cached_property
    def _marks(self) -> list[str]:
        """Texts that the tokenizer reads as special tokens."""
        tokens = self._processor.tokenizer.added_tokens_decoder.values()
        return sorted({str(token) for token in tokens if token.special and str(token).strip()})

    @cached_property
    def _yes_tokens(self) -> YesTokens:
        return YesTokens.of(self._processor, self._model.config.model_type)

    def _generated(
        self, turns: list[list[dict[str, Any]]], max_new_tokens: int, lower: str
    ) -> list[tuple[str, bool]]:
        """The reply to each turn, and whether it was cut off."""
        tokenizer = self._processor.tokenizer
        return self._carefully(
            lambda: generated(self._model, tokenizer, self._inputs(turns), max_new_tokens),
            turns,
            lower,
        )

    def _carefully(self, work: Callable[[], _T], turns: Sequence[object], lower: str) -> _T:
        return carefully(work, self._name, self.device, len(turns), lower)

    def _inputs(self, turns: list[list[dict[str, Any]]]) -> Any:
        """The tokens and pixels of a batch, on the model's device.

        Raises:
            ValueError: A conversation is longer than what the model can hold.
        """
        batch = self._processor.apply_chat_template(
            turns,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            processor_kwargs={"padding": True, "return_tensors": "pt"},
        ).to(self._model.device, self._model.dtype)
        check_length(batch, self._model, self._name)
        return batch

    def _check_processor(self) -> None:
        lacking = None
        if getattr(self._processor, "tokenizer", None) is None:
            lacking = "no processor of images and text"
        elif not getattr(self._processor, "chat_template", None):
            lacking = "no chat template"
        if lacking:
            raise ModelError(
                f"the vision-language model {self._name} has {lacking}: save its AutoProcessor, "
                f"with a chat template, beside the weights"
            )


class _PilProcessor:
    """``AutoProcessor`` by PIL: the other backend, where installed, resizes otherwise."""

    @staticmethod
    def from_pretrained(model: str, **options: Any) -> Any:
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(model, backend="pil", **options)


def _turn(image: Image | None, question: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = [{"type": "text", "text": question}]
    if image is not None:
        content.insert(0, {"type": "image", "image": image})
    return [{"role": "user", "content": content}]


def answers_about_images(model: str, revision: str | None = None) -> bool:
    """Whether ``config.json`` names a kind of model that answers questions about images.

    Raises:
        ModelError: It cannot be found, or is damaged.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN,
    )

    kind = model_config("vision-language", model, revision).get("model_type")
    return kind is None or kind in KNOWN


def check_model(model: str, revision: str | None = None) -> None:
    """Look for a model before work that needs it later; no weights are read.

    Raises:
        ModelError: It cannot be found, its ``config.json`` is damaged, or names another kind.
    """
    if not answers_about_images(model, revision):
        kind = model_config("vision-language", model, revision).get("model_type")
        raise ModelError(
            f"{model} is a model of the kind {kind}, which answers no questions about images: take "
            f"one that AutoModelForImageTextToText of transformers knows, such as LLaVA"
        )


def resolved(device: str, dtype: str) -> tuple[str, str]:
    """The device and dtype that ``auto`` stands for here.

    Raises:
        ModelError: The device or dtype is not known.
    """
    device = resolve_device(device)
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    if dtype not in ("float32", "float16", "bfloat16"):
        raise ModelError(f"the dtype {dtype!r} is not known: float32, float16, bfloat16 or auto")
    return device, dtype
