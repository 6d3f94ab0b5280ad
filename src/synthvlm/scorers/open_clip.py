"""CLIPScore by a model of open_clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BeforeValidator, Field

from synthvlm.components.component import LoadContext
from synthvlm.components.settings import InHash, ModelName
from synthvlm.models.open_clip import load_open_clip, open_clip_text
from synthvlm.scorers.base import ScorerSettings
from synthvlm.scorers.embedding import EmbeddingScorer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["OpenClipScorer", "OpenClipSettings"]


def _without_schema(model: object) -> object:
    """A name as open_clip has it, without its ``hf-hub:`` or ``local-dir:``."""
    if isinstance(model, str):
        return model.removeprefix("hf-hub:").removeprefix("local-dir:")
    return model


class OpenClipSettings(ScorerSettings):
    """CLIPScore by a model that was published for open_clip."""

    model: Annotated[str, ModelName(), InHash.ALWAYS, BeforeValidator(_without_schema)] = Field(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        min_length=1,
        description="Hub id or folder with open_clip_config.json and open_clip_model.safetensors.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    tokenizer: Annotated[str | None, ModelName()] = Field(
        None, description="Hub id or folder of its tokenizer, if not the model's own."
    )
    prefix: Annotated[str, InHash.ALWAYS] = Field(
        "A photo depicts ", description="What is put before each caption."
    )


class OpenClipScorer(EmbeddingScorer):
    """CLIPScore as of ``clip``, in 0 .. 1, by an open_clip model, read as open_clip reads it.

    For models with a ViT and a text transformer of CLIP's kind that are published for open_clip (of
    LAION, DataComp, MetaCLIP, DFN, timm ...). Their images are resized and cropped, and captions
    cleaned (ftfy, HTML, lower case), by open_clip's rules.
    """

    name: ClassVar[str] = "open_clip"
    label = "CLIPScore (open_clip)"
    about = "cosine of the embeddings of image and caption by a model of open_clip, clipped at 0"
    Settings = OpenClipSettings

    @classmethod
    def load(cls, settings: OpenClipSettings, context: LoadContext) -> OpenClipScorer:
        """Load the model.

        Raises:
            ModelError: It cannot be loaded, or is of another kind than CLIP's.
        """
        return cls(
            settings.model,
            device=context.device,
            revision=settings.revision,
            tokenizer=settings.tokenizer,
            prefix=settings.prefix,
        )

    def __init__(
        self,
        model: str,
        *,
        device: str = "cpu",
        revision: str | None = None,
        tokenizer: str | None = None,
        prefix: str = "A photo depicts ",
    ) -> None:
        """Load a model by hub id or folder.

        Raises:
            ModelError: The model cannot be found, is damaged, or is of another kind than CLIP's.
        """
        parts = load_open_clip(model, device, revision, tokenizer)
        super().__init__(*parts, device=device)
        self._prefix = prefix

    def _text(self, caption: str) -> str:
        return open_clip_text(self._prefix + caption)

    def _values(self, cosines: np.ndarray) -> np.ndarray:
        return cosines.clip(0.0, 1.0)
