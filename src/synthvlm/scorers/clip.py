"""CLIPScore: does the image show what the caption describes?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from synthvlm.components.component import LoadContext
from synthvlm.components.settings import TINY, InHash, ModelName
from synthvlm.errors import ModelError
from synthvlm.models.model_files import clip_path
from synthvlm.models.open_clip import OPEN_CLIP_CONFIG
from synthvlm.models.pretrained import load_pretrained, model_config
from synthvlm.scorers.base import ScorerSettings
from synthvlm.scorers.embedding import EmbeddingScorer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ClipScorer", "ClipSettings"]

#: Tokens that a text tower was trained on where it has places for more, by type of model: those
#: are of the language model that it began as (Chinese-CLIP's and AltCLIP's own code).
_CONTEXT = {"chinese_clip": 52, "altclip": 77}
#: Scorers of other types of models.
_OTHER_SCORERS = {"siglip": "siglip", "siglip2": "siglip"}


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

    CLIPScore (Hessel et al. 2021) without its weight of 2.5, as SynthVLM reports it; in 0 .. 1. Any
    CLIP model of ``transformers``: CLIP (OpenAI's, LAION's, DFN's, MetaCLIP ..., with text towers
    of any length), Chinese-CLIP, AltCLIP, MetaCLIP 2.
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
        classes, max_tokens = _classes(model, revision)
        parts = load_pretrained(classes, "CLIP", model, device, "float32", revision)
        super().__init__(*parts, device=device, max_tokens=max_tokens)
        self._prefix = prefix

    def _text(self, caption: str) -> str:
        return self._prefix + caption

    def _values(self, cosines: np.ndarray) -> np.ndarray:
        return cosines.clip(0.0, 1.0)


def _classes(model: str, revision: str | None) -> tuple[list[Any], int | None]:
    """The classes of a CLIP model, its tokenizer and image processor; and its longest text.

    Raises:
        ModelError: It cannot be found, or is of another type.
    """
    from transformers import (
        AltCLIPModel,
        AutoTokenizer,
        ChineseCLIPImageProcessorPil,
        ChineseCLIPModel,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPTokenizer,
        MetaClip2Model,
    )

    families: dict[str, list[Any]] = {
        "clip": [CLIPModel, CLIPTokenizer, CLIPImageProcessorPil],
        "chinese_clip": [ChineseCLIPModel, AutoTokenizer, ChineseCLIPImageProcessorPil],
        "altclip": [AltCLIPModel, AutoTokenizer, CLIPImageProcessorPil],
        "metaclip_2": [MetaClip2Model, AutoTokenizer, CLIPImageProcessorPil],
    }
    folder = Path(model)
    if (folder / OPEN_CLIP_CONFIG).is_file() and not (folder / "config.json").is_file():
        raise ModelError(
            f"{model} is a model of open_clip: the scorer open_clip takes it "
            f"(`--set scoring.open_clip.model={model}`)"
        )
    kind = str(model_config("CLIP", model, revision).get("model_type") or "clip")
    if kind not in families:
        other = _OTHER_SCORERS.get(kind)
        hint = f": `--set scoring.{other}.model={model}`" if other else f" ({', '.join(families)})"
        raise ModelError(f"{model} is a model of type {kind!r}, not a CLIP model{hint}")
    return families[kind], _CONTEXT.get(kind)
