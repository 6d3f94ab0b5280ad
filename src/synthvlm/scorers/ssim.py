"""SSIMScore: how much of an image survives the input size of a vision-language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator

from synthvlm.components.settings import InHash
from synthvlm.scorers.base import Scorer, ScorerSettings, Scores
from synthvlm.scorers.pixels import arrays

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["SsimScorer", "SsimSettings", "ssim_score"]


class SsimSettings(ScorerSettings):
    """SSIMScore: the image against itself after the trip through the VLM's input size."""

    side: Annotated[int, InHash.ALWAYS] = Field(
        768, ge=7, description="Side in pixels at which images are compared."
    )
    model_input_side: Annotated[int, InHash.ALWAYS] = Field(
        336, ge=1, description="Side of the VLM's input."
    )
    weight: Annotated[float, InHash.NEVER] = Field(
        0.5, ge=0.0, description="Of this score in the weighted sum."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model_input_side >= self.side:
            raise ValueError(
                f"model_input_side {self.model_input_side} must be below side {self.side}"
            )
        return self


class SsimScorer(Scorer):
    """SSIMScore as SynthVLM's authors compute it; the captions play no part."""

    name: ClassVar[str] = "ssim"
    label = "SSIMScore"
    about = (
        "structural similarity of the image with itself after a trip through the vision-language "
        "model's input size; the two numbers are the side in pixels at which images are compared, "
        "and that of the input"
    )
    on_cpu = True
    may_embed = False
    Settings = SsimSettings
    default = SsimSettings()

    def __init__(self, *, side: int = 768, model_input_side: int = 336) -> None:
        """Set the sides in pixels at which images are compared, and of the model's input."""
        self._side = side
        self._model_input_side = model_input_side

    @classmethod
    def label_of(cls, settings: SsimSettings) -> str:
        """The label with both sides, e.g. ``SSIMScore 768/336``: other sides, other values."""
        return f"{cls.label} {settings.side}/{settings.model_input_side}"

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        """Score n images (uint8, shape (n, 3, height, width), RGB); values lie in -1 .. 1."""
        import numpy as np

        sides = self._side, self._model_input_side
        values = [ssim_score(image, *sides) for image in arrays(images)]
        return Scores(np.asarray(values, dtype=np.float64))


def ssim_score(image: np.ndarray, side: int, model_input_side: int) -> float:
    """SSIMScore of one image (uint8, shape (height, width, 3)).

    The image is resized to ``side``, to ``model_input_side`` and back to ``side`` (bilinear, 8
    bit), and compared with itself in grey by scikit-image's structural similarity with its
    default 7x7 uniform window (SynthVLM, arXiv 2407.20756, the authors' code).
    """
    import numpy as np
    from PIL import Image
    from skimage.metrics import structural_similarity

    bilinear = Image.Resampling.BILINEAR
    full = Image.fromarray(image).resize((side, side), bilinear)
    small = full.resize((model_input_side, model_input_side), bilinear)
    back = small.resize((side, side), bilinear)
    return float(
        structural_similarity(np.asarray(full.convert("L")), np.asarray(back.convert("L")))
    )
