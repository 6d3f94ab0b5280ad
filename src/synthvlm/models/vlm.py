"""A vision-language model that answers questions: any of ``transformers`` with a chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from synthvlm.errors import ModelError, OutOfMemoryError, first_line, is_out_of_memory
from synthvlm.models.devices import resolve_device
from synthvlm.models.pretrained import load_pretrained, model_config

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["VisionLanguageModel", "check_model", "resolved"]


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
        self._processor.tokenizer.padding_side = "left"  # answers begin where their prompts end
        if self._processor.tokenizer.pad_token is None:
            self._processor.tokenizer.pad_token = self._processor.tokenizer.eos_token
        config = self._model.config
        self._room: int | None = None  # tokens that it holds
        if not config.is_encoder_decoder:
            self._room = getattr(config.get_text_config(), "max_position_embeddings", None)
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
                texts = self._generate(turns, max_new_tokens)
                for row, text in zip(rows, texts, strict=True):
                    answers[row] = text
        return answers

    def _generate(self, turns: list[list[dict[str, Any]]], max_new_tokens: int) -> list[str]:
        from jinja2 import TemplateError

        try:
            return self._generated(turns, max_new_tokens)
        except Exception as error:
            problem = first_line(error)
            if isinstance(error, TemplateError):
                raise ModelError(f"the chat template of {self._name}: {problem}") from None
            if not is_out_of_memory(error):
                raise
        raise OutOfMemoryError(
            f"{self._name} ran out of memory on {self.device} with {len(turns)} questions at a "
            f"time: lower --batch-size or --max-new-tokens, or take a smaller model ({problem})"
        )

    def _generated(self, turns: list[list[dict[str, Any]]], max_new_tokens: int) -> list[str]:
        import torch

        batch = self._processor.apply_chat_template(
            turns,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            processor_kwargs={"padding": True, "return_tensors": "pt"},
        ).to(self._model.device, self._model.dtype)
        tokenizer = self._processor.tokenizer
        longest = batch["input_ids"].shape[1]
        if self._room is not None and longest >= self._room:
            raise ValueError(f"it has {longest:,} tokens, and {self._name} holds {self._room:,}")
        with torch.inference_mode():
            rows = self._model.generate(
                **batch,
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                num_beams=1,
                do_sample=False,
                # Sampling settings of a model's generation_config.json would only cause warnings.
                temperature=None,
                top_p=None,
                top_k=None,
            )
        replies = rows[:, batch["input_ids"].shape[1] :]
        return [text.strip() for text in tokenizer.batch_decode(replies, skip_special_tokens=True)]

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


def check_model(model: str, revision: str | None = None) -> None:
    """Look for a model before work that needs it later; no weights are read.

    Raises:
        ModelError: It cannot be found, its ``config.json`` is damaged, or names another kind.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN,
    )

    kind = model_config("vision-language", model, revision).get("model_type")
    if kind is not None and kind not in KNOWN:
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
