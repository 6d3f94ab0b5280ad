"""What has to be known of a pipeline class to encode a prompt once for all its images."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROMPT_FACTS", "PromptFacts"]


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """How a pipeline class encodes prompts.

    Attributes:
        returned: For each value that ``encode_prompt`` returns, the argument of ``__call__`` that
            it stands for; None for one that the call makes again by itself.
        scale: The argument of ``__call__`` that guides away from the negative prompt.
        above: The scale above which it does.
        apart: Whether the negative prompt is encoded by a second ``encode_prompt``, whose values
            are the arguments with ``negative_`` before their names.
        negative: The negative prompt of such a pipeline where none is given; None for no guidance.
    """

    returned: tuple[str | None, ...]
    scale: str = "guidance_scale"
    above: float = 1.0
    apart: bool = False
    negative: str | None = None


_CLASSIC = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = (*_CLASSIC, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_MASKED = (
    "prompt_embeds",
    "prompt_attention_mask",
    "negative_prompt_embeds",
    "negative_prompt_attention_mask",
)
_CHROMA = (
    "prompt_embeds",
    None,  # the places of the tokens: zeros
    "prompt_attention_mask",
    "negative_prompt_embeds",
    None,
    "negative_prompt_attention_mask",
)

#: A class that is not listed gets plain prompts, and encodes a prompt for each of its images.
PROMPT_FACTS = {
    "StableDiffusionPipeline": PromptFacts(_CLASSIC),
    "StableDiffusionXLPipeline": PromptFacts(_POOLED),
    "StableDiffusionXLImg2ImgPipeline": PromptFacts(_POOLED),
    "StableDiffusion3Pipeline": PromptFacts(_POOLED),
    "PixArtAlphaPipeline": PromptFacts(_MASKED),
    "PixArtSigmaPipeline": PromptFacts(_MASKED),
    "SanaPipeline": PromptFacts(_MASKED),
    "SanaSprintPipeline": PromptFacts(("prompt_embeds", "prompt_attention_mask")),
    "Lumina2Pipeline": PromptFacts(_MASKED),
    "ChromaPipeline": PromptFacts(_CHROMA),
    "ZImagePipeline": PromptFacts(_CLASSIC, above=0.0),
    "FluxPipeline": PromptFacts(
        ("prompt_embeds", "pooled_prompt_embeds", None), scale="true_cfg_scale", apart=True
    ),
    "Flux2Pipeline": PromptFacts(("prompt_embeds", None)),
    "Flux2KleinPipeline": PromptFacts(("prompt_embeds", None), apart=True, negative=""),
    "QwenImagePipeline": PromptFacts(
        ("prompt_embeds", "prompt_embeds_mask"), scale="true_cfg_scale", apart=True
    ),
}
