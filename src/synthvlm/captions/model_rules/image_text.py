"""Does a caption fit its original image: BLIP's matching head, CLIP similarity, and CLIPScore."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthvlm.captions.readers.images import decode_image
from synthvlm.captions.rules.base import Measured, ModelRule, RuleSettings, Subject
from synthvlm.components.component import LoadContext
from synthvlm.components.settings import InHash, ModelName
from synthvlm.errors import ModelError, first_line
from synthvlm.models.model_files import clip_path
from synthvlm.models.pretrained import check_unicode, load_pretrained

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = ["Alignment", "ClipSimilarity", "ImageTextMatching", "decode_image"]

_T = TypeVar("_T")
_Scores = npt.NDArray[np.floating]


class ImageTextSettings(RuleSettings):
    """Bounds on the agreement of a caption and its original image; one without is let pass."""

    model: Annotated[str, ModelName("clip")] = Field(
        min_length=1, description="Hub id or local folder."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    batch_size: Annotated[int, InHash.NEVER] = Field(16, ge=1, description="Captions at a time.")


class _ImageTextRule(ModelRule):
    """A rule that compares a caption with its original image by a model."""

    Settings = ImageTextSettings
    needs_image = True

    #: What the model is called in messages.
    kind: ClassVar[str]

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
            model: A hub id or folder of a model of the rule's kind.
            device: A torch device.
            dtype: ``float32``, ``float16`` or ``bfloat16``.
            batch_size: Pairs at a time.
            revision: Branch, tag or commit on the hub.

        Raises:
            ModelError: The model cannot be found, is damaged, or is of another kind.
        """
        self._model, self._tokenizer, self._processor = load_pretrained(
            self._classes(), self.kind, model, device, dtype, revision
        )
        self._batch_size = batch_size

    @staticmethod
    @abstractmethod
    def _classes() -> tuple[Any, Any, Any]:
        """Classes of the model, its tokenizer and its image processor."""

    @abstractmethod
    def _score(self, pixels: list[torch.Tensor], captions: list[str]) -> _Scores:
        """One value per pair, of pixels of shape (3, height, width)."""

    @classmethod
    def load(cls, settings: ImageTextSettings, context: LoadContext) -> Self:
        """Load the model.

        Raises:
            ModelError: It cannot be loaded.
        """
        return cls(
            clip_path(settings.model),
            device=context.device,
            dtype=context.dtype,
            batch_size=settings.batch_size,
            revision=settings.revision,
        )

    def measure(self, subjects: Sequence[Subject]) -> Measured:
        """One value per caption; NaN without an original image."""
        return _measure_pairs(self.name, subjects, self._batch_size, self._prepare, self._score)

    def _prepare(self, image: Image) -> torch.Tensor:
        inputs = self._processor(images=[image], return_tensors="pt")
        pixels: torch.Tensor = inputs["pixel_values"][0]
        return pixels

    def _stacked(self, pixels: list[torch.Tensor]) -> torch.Tensor:
        import torch

        return torch.stack(pixels).to(self._model.device, self._model.dtype)

    def _tokens(self, captions: list[str]) -> dict[str, torch.Tensor]:
        inputs = self._tokenizer(
            captions,
            padding=True,
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        return {
            name: inputs[name].to(self._model.device) for name in ("input_ids", "attention_mask")
        }


class ImageTextMatching(_ImageTextRule):
    """Probability (0 .. 1) that image and caption match, by BLIP's image-text matching head.

    As Data-Juicer's ``image_text_matching_filter`` with ``Salesforce/blip-itm-base-coco``: softmax
    over the head's two logits. A caption beyond the text model's positions (512 tokens) is judged
    by what comes before.
    """

    name: ClassVar[str] = "image_text_matching"
    label = "Image-text matching"
    kind = "BLIP"

    @staticmethod
    def _classes() -> tuple[Any, Any, Any]:
        from transformers import BertTokenizer, BlipForImageTextRetrieval, BlipImageProcessorPil

        return BlipForImageTextRetrieval, BertTokenizer, BlipImageProcessorPil

    def _score(self, pixels: list[torch.Tensor], captions: list[str]) -> _Scores:
        texts = self._tokens(captions)
        logits = self._model(
            **texts, pixel_values=self._stacked(pixels), use_itm_head=True
        ).itm_score
        return np.asarray(logits.float().softmax(dim=-1)[:, 1].cpu())


class ClipSimilarity(_ImageTextRule):
    """Cosine (-1 .. 1) of CLIP's image and text embeddings, the caption as it is.

    As Data-Juicer's ``image_text_similarity_filter`` with ``openai/clip-vit-base-patch32``: unlike
    CLIPScore there is no prefix and no clipping at 0. A caption beyond CLIP's 77 tokens is
    compared by what comes before.
    """

    name: ClassVar[str] = "clip_similarity"
    label = "CLIP similarity"
    kind = "CLIP"

    @staticmethod
    def _classes() -> tuple[Any, Any, Any]:
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        return CLIPModel, CLIPTokenizer, CLIPImageProcessorPil

    def _score(self, pixels: list[torch.Tensor], captions: list[str]) -> _Scores:
        import torch

        texts = self._tokens(captions)
        text = self._model.get_text_features(**texts).pooler_output
        image = self._model.get_image_features(self._stacked(pixels)).pooler_output
        cosines = torch.nn.functional.cosine_similarity(text.float(), image.float())
        return np.asarray(cosines.clamp(-1.0, 1.0).cpu())  # rounding may go beyond 1


class Alignment(ModelRule):
    """CLIPScore of a caption and its original image: the measure of the alignment round.

    It shares the CLIP model that scores the generated images, so it takes that model's two
    functions. Cosine of the embeddings, clipped at 0.
    """

    name: ClassVar[str] = "alignment"
    needs_image = True

    def __init__(
        self,
        embed_images: Callable[[torch.Tensor], npt.NDArray[np.float32]],
        embed_captions: Callable[[Sequence[str]], tuple[npt.NDArray[np.float32], Sequence[bool]]],
        *,
        batch_size: int = 32,
    ) -> None:
        """Measure by the embeddings of a loaded model.

        Args:
            embed_images: Unit embeddings, shape (n, d), of images of one size: uint8, shape
                (n, 3, height, width), RGB.
            embed_captions: Unit embeddings, shape (n, d), of captions; it adds the prefix. What
                it tells of captions that were cut off is not used.
            batch_size: Pairs at a time.
        """
        self._embed_images = embed_images
        self._embed_captions = embed_captions
        self._batch_size = batch_size

    def measure(self, subjects: Sequence[Subject]) -> Measured:
        """CLIPScore, 0 .. 1; NaN without an original image."""
        return _measure_pairs(self.name, subjects, self._batch_size, self._prepare, self._score)

    def _prepare(self, image: Image) -> npt.NDArray[np.float32]:
        import torch

        # Original images differ in size, and a tensor holds one size.
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        vector: npt.NDArray[np.float32] = self._embed_images(pixels)[0]
        return vector

    def _score(self, vectors: list[npt.NDArray[np.float32]], captions: list[str]) -> _Scores:
        texts, _ = self._embed_captions(captions)
        cosines = (np.stack(vectors).astype(np.float64) * texts).sum(axis=1)
        return np.asarray(np.clip(cosines, 0.0, 1.0))


def _measure_pairs(
    name: str,
    subjects: Sequence[Subject],
    batch_size: int,
    prepare: Callable[[Image], _T],
    score: Callable[[list[_T], list[str]], _Scores],
) -> Measured:
    """Score what decodes; only one image at a time is held in its full size."""
    import torch

    values = np.full(len(subjects), np.nan)
    problems: list[str | None] = [None] * len(subjects)
    pairs = [row for row, subject in enumerate(subjects) if subject.image is not None]
    for begin in range(0, len(pairs), batch_size):
        prepared: dict[int, _T] = {}
        try:
            with torch.inference_mode():
                for row in pairs[begin : begin + batch_size]:
                    try:
                        check_unicode(subjects[row].text)
                        prepared[row] = prepare(decode_image(subjects[row].image or b""))
                    except ValueError as error:
                        problems[row] = f"{name}: {first_line(error)}"
                rows = list(prepared)
                if rows:
                    captions = [subjects[row].text for row in rows]
                    values[rows] = score(list(prepared.values()), captions)
        except RuntimeError as error:
            raise ModelError(
                f"{name}: the model failed on a batch of {len(prepared)}: {first_line(error)}; "
                "where memory is short, lower the batch size"
            ) from error
        for row in prepared:
            if np.isnan(values[row]):
                problems[row] = f"{name}: the model gave no number; try float32"
    return Measured(values, tuple(problems))
