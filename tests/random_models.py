"""Small real models with random weights, saved to folders and loaded as any other model is."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

WIDTH = 32
IMAGE_SIDE = 32


def tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer of single bytes: any text encodes."""
    letters = list(bytes_to_unicode().values())
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({name: n for n, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    )


def _text_config(words: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=WIDTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def save_clip(folder: Path) -> Path:
    """A CLIP model."""
    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_SIDE,
        patch_size=8,
        projection_dim=WIDTH,
    )
    text = _text_config(words)
    model = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH)
    )
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIDE}, crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    ).save_pretrained(folder)
    return folder


def _vae(latent_channels: int = 4, **options: object) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=IMAGE_SIDE,
        **options,
    )


def save_sd(folder: Path) -> Path:
    """A Stable Diffusion 1 pipeline."""
    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(words)),
        tokenizer=words,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def _xl_unet(cross_attention_dim: int, time_ids: int, pooled: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=time_ids * 8 + pooled,
        cross_attention_dim=cross_attention_dim,
        norm_num_groups=4,
    )


def save_sdxl(folder: Path) -> Path:
    """An SDXL base pipeline: two text encoders."""
    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(words)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(words)),
        tokenizer=words,
        tokenizer_2=words,
        unet=_xl_unet(2 * WIDTH, 6, WIDTH),
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1),
    ).save_pretrained(folder)
    return folder


def save_sdxl_refiner(folder: Path) -> Path:
    """An SDXL refiner: only the second text encoder, aesthetic scores."""
    torch.manual_seed(1)
    words = tokenizer(folder / "words")
    StableDiffusionXLImg2ImgPipeline(
        vae=_vae(),
        text_encoder=None,
        text_encoder_2=CLIPTextModelWithProjection(_text_config(words)),
        tokenizer=None,
        tokenizer_2=words,
        unet=_xl_unet(WIDTH, 5, WIDTH),
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
    ).save_pretrained(folder)
    return folder


def _t5_tokenizer() -> T5Tokenizer:
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    return T5Tokenizer(vocab=[*marks, *((chr(code), -3.0) for code in range(33, 127))], extra_ids=0)


def save_sd3(folder: Path) -> Path:
    """An SD3 pipeline: two CLIP text encoders and a T5."""
    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    t5 = T5Config(
        vocab_size=len(_t5_tokenizer()),
        d_model=2 * WIDTH,
        d_kv=8,
        d_ff=WIDTH,
        num_layers=1,
        num_heads=2,
        tie_word_embeddings=True,
    )
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=2 * WIDTH,
        pooled_projection_dim=2 * WIDTH,
        out_channels=16,
        pos_embed_max_size=16,
    )
    StableDiffusion3Pipeline(
        vae=_vae(16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06),
        text_encoder=CLIPTextModelWithProjection(_text_config(words)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(words)),
        text_encoder_3=T5EncoderModel(t5),
        tokenizer=words,
        tokenizer_2=words,
        tokenizer_3=_t5_tokenizer(),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(folder)
    return folder
