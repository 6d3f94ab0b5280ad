"""CLIPScore: does the image show what the caption describes?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from synthvlm.components.component import LoadContext
from synthvlm.components.settings import TINY, InHash, ModelName
from synthvlm.models.model_files import clip_path
from synthvlm.models.pretrained import load_pretrained
from synthvlm.scorers.base import ScorerSettings
from synthvlm.scorers.embedding import EmbeddingScorer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ClipScorer", "ClipSettings"]


class ClipSettings(ScorerSettings):
    """CLIPScore: cosine of the embeddings of image and prefixed caption, clipped at 0."""

    model: Annotated[str, ModelName("clip"), InHash.ALWAYS] = Field(
        TINY, min_length=1, description="A CLIP model: hub id, local folder, or `tiny`."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    prefix: Annotated[str, InHash.ALWAYS] = Field(
        "A photo depicts ", description="What is put before each caption."
    )


class ClipScorer(EmbeddingScorer):
    """Cosine of CLIP's image and text embeddings, clipped at 0, the caption prefixed.

    CLIPScore (Hessel et al. 2021) without its weight of 2.5, as SynthVLM reports it.
    """

    name: ClassVar[str] = "clip"
    label = "CLIPScore"
    about = "cosine of the CLIP embeddings of image and caption, clipped at 0"
    Settings = ClipSettings
    default = ClipSettings()

    @classmethod
    def load(cls, settings: ClipSettings, context: LoadContext) -> ClipScorer:
        """Load the CLIP model; ``tiny`` is the embedded one.

        Raises:
            ModelError: It cannot be loaded.
        """
        return cls(
            clip_path(settings.model),
            device=context.device,
            revision=settings.revision,
            prefix=settings.prefix,
        )

    def __init__(
        self,
        model: str,
        *,
        device: str = "cpu",
        revision: str | None = None,
        prefix: str = "A photo depicts ",
    ) -> None:
        """Load a CLIP model by hub id or folder.

        Raises:
            ModelError: The model cannot be found, is damaged, or is no CLIP model.
        """
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        classes = [CLIPModel, CLIPTokenizer, CLIPImageProcessorPil]
        parts = load_pretrained(classes, "CLIP", model, device, "float32", revision)
        super().__init__(*parts, device=device)
        self._prefix = prefix

    def _text(self, caption: str) -> str:
        return self._prefix + caption

    def _text_features(self, inputs: Any) -> Any:
        return self._model.get_text_features(**inputs)

    def _values(self, cosines: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.asarray(np.clip(cosines, 0.0, 1.0))
