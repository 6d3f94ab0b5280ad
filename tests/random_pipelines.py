"""Small real pipelines of today's classes with random weights, saved to folders."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    Kandinsky5T2IPipeline,
    Kandinsky5Transformer3DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImageOmniPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextModel,
    Gemma2Config,
    Gemma2Model,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    Siglip2ImageProcessorPil,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    T5Config,
    T5EncoderModel,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from random_models import (
    WIDTH,
    _t5_tokenizer,
    _text_config,
    save_sd,
    save_sd3,
    save_sdxl,
    save_sdxl_refiner,
    tokenizer,
)

_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{{ message.content[0].text }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _byte_tokenizer() -> Qwen2Tokenizer:
    """A tokenizer of single bytes with a chat template: any text encodes."""
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    names = [*bytes_to_unicode().values(), *marks]
    words = Qwen2Tokenizer(vocab={name: n for n, name in enumerate(names)}, merges=[])
    words.add_tokens(marks, special_tokens=True)
    words.chat_template = _CHAT
    return words


def _t5(width: int = WIDTH) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(_t5_tokenizer()),
        d_model=width,
        d_kv=8,
        d_ff=WIDTH,
        num_layers=1,
        num_heads=2,
        tie_word_embeddings=True,
    )
    return T5EncoderModel(config).eval()


def _qwen3(kind: type[Any], layers: int = 3) -> Any:
    config = Qwen3Config(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=300,
        max_position_embeddings=2048,
    )
    return kind(config).eval()


def _flow_vae(channels: int, blocks: int = 2) -> AutoencoderKL:
    """Latents at half the side for each block but one."""
    return AutoencoderKL(
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    ).eval()


def save_flux(folder: Path, guidance_embeds: bool = True) -> Path:
    """A FLUX.1 pipeline: dev with a guidance embedding, schnell without."""
    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_flow_vae(4),
        text_encoder=CLIPTextModel(_text_config(words)),
        tokenizer=words,
        text_encoder_2=_t5(),
        tokenizer_2=_t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance_embeds,
        ),
    ).save_pretrained(folder)
    return folder


def save_flux_schnell(folder: Path) -> Path:
    """A FLUX.1 pipeline without guidance embedding."""
    return save_flux(folder, guidance_embeds=False)


def save_chroma(folder: Path) -> Path:
    """A Chroma pipeline."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of diffusers, about diffusers
        transformer = ChromaTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            axes_dims_rope=(4, 4, 8),
            approximator_hidden_dim=32,
            approximator_layers=1,
            approximator_num_channels=16,
        )
    ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_flow_vae(4),
        text_encoder=_t5(),
        tokenizer=_t5_tokenizer(),
        transformer=transformer,
    ).save_pretrained(folder)
    return folder


def _flux2_parts() -> dict[str, Any]:
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": AutoencoderKLFlux2(
            sample_size=32,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            latent_channels=2,
            norm_num_groups=4,
        ).eval(),
        "tokenizer": _byte_tokenizer(),
        "text_encoder": _qwen3(Qwen3ForCausalLM, layers=30),  # they take those up to 30
    }


def _flux2_transformer(guidance_embeds: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )


def save_flux2_klein(folder: Path) -> Path:
    """A FLUX.2 klein pipeline that is guided."""
    torch.manual_seed(0)
    Flux2KleinPipeline(
        **_flux2_parts(), transformer=_flux2_transformer(False), is_distilled=False
    ).save_pretrained(folder)
    return folder


def save_flux2(folder: Path) -> Path:
    """A FLUX.2 pipeline, with a language model and tokenizer in place of Mistral's."""
    torch.manual_seed(0)
    Flux2Pipeline(**_flux2_parts(), transformer=_flux2_transformer(True)).save_pretrained(folder)
    return folder


def save_pixart_sigma(folder: Path) -> Path:
    """A PixArt-Sigma pipeline."""
    torch.manual_seed(0)
    PixArtSigmaPipeline(
        scheduler=DPMSolverMultistepScheduler(),
        vae=_flow_vae(4),
        text_encoder=_t5(),
        tokenizer=_t5_tokenizer(),
        transformer=PixArtTransformer2DModel(
            sample_size=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=3,
            caption_channels=WIDTH,
            cross_attention_dim=24,
        ),
    ).save_pretrained(folder)
    return folder


def _sana_parts(**transformer: Any) -> dict[str, Any]:
    words = _byte_tokenizer()
    return {
        "tokenizer": words,
        "text_encoder": Gemma2Model(
            Gemma2Config(
                head_dim=8,
                hidden_size=16,
                intermediate_size=16,
                num_attention_heads=2,
                num_hidden_layers=1,
                num_key_value_heads=2,
                vocab_size=300,
                attn_implementation="eager",
            )
        ).eval(),
        "vae": AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ).eval(),
        "transformer": SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=16,
            sample_size=32,
            **transformer,
        ),
    }


def save_sana(folder: Path) -> Path:
    """A Sana pipeline."""
    torch.manual_seed(0)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    SanaPipeline(**_sana_parts(), scheduler=scheduler).save_pretrained(folder)
    return folder


def save_sana_sprint(folder: Path) -> Path:
    """A Sana-Sprint pipeline, whose scheduler adds noise at each step."""
    torch.manual_seed(0)
    parts = _sana_parts(qk_norm="rms_norm_across_heads", guidance_embeds=True)
    SanaSprintPipeline(**parts, scheduler=SCMScheduler()).save_pretrained(folder)
    return folder


def save_z_image(folder: Path) -> Path:
    """A Z-Image pipeline."""
    torch.manual_seed(0)
    ZImagePipeline(**_z_image_parts()).save_pretrained(folder)
    return folder


def save_z_image_omni(folder: Path) -> Path:
    """A Z-Image Omni pipeline: it may be given images, and makes one without."""
    torch.manual_seed(0)
    vision = Siglip2VisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    ZImageOmniPipeline(
        **_z_image_parts(siglip_feat_dim=16),
        siglip=Siglip2VisionModel(vision).eval(),
        siglip_processor=Siglip2ImageProcessorPil(),
    ).save_pretrained(folder)
    return folder


def _z_image_parts(**transformer: Any) -> dict[str, Any]:
    denoiser = ZImageTransformer2DModel(
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 32, 32],
        **transformer,
    )
    with torch.no_grad():  # made without values
        for name, token in denoiser.named_parameters():
            if name.endswith("pad_token"):
                token.fill_(1.0)
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": _flow_vae(16),
        "text_encoder": _qwen3(Qwen3Model),
        "tokenizer": _byte_tokenizer(),
        "transformer": denoiser,
    }


def save_kandinsky5(folder: Path) -> Path:
    """A Kandinsky 5 pipeline; it generates in a few sizes alone, the smallest 640 x 1408."""
    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    Kandinsky5T2IPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_flow_vae(4, blocks=4),
        text_encoder=Qwen2_5_VLForConditionalGeneration(_qwen_vl()).eval(),
        tokenizer=_byte_tokenizer(),
        text_encoder_2=CLIPTextModel(_text_config(words)),
        tokenizer_2=words,
        transformer=Kandinsky5Transformer3DModel(
            in_visual_dim=4,
            out_visual_dim=4,
            in_text_dim=16,
            in_text_dim2=WIDTH,
            time_dim=16,
            model_dim=16,
            ff_dim=16,
            num_text_blocks=1,
            num_visual_blocks=1,
            axes_dims=(4, 2, 2),
        ),
    ).save_pretrained(folder)
    return folder


def _qwen_vl() -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": 300,
            "bos_token_id": 256,
            "eos_token_id": 258,
            "rope_parameters": {
                "mrope_section": [1, 1, 2],
                "rope_type": "default",
                "rope_theta": 1e6,
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
        },
        vision_start_token_id=297,
        vision_end_token_id=298,
        image_token_id=299,
        video_token_id=296,
    )


def save_qwen_image(folder: Path) -> Path:
    """A Qwen-Image pipeline."""
    torch.manual_seed(0)
    QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ).eval(),
        text_encoder=Qwen2_5_VLForConditionalGeneration(_qwen_vl()).eval(),
        tokenizer=_byte_tokenizer(),
        transformer=QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
    ).save_pretrained(folder)
    return folder


def save_lumina2(folder: Path) -> Path:
    """A Lumina 2 pipeline."""
    torch.manual_seed(0)
    Lumina2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_flow_vae(4, blocks=4),  # the pipeline holds it to be 8
        text_encoder=_qwen3(Qwen3Model),
        tokenizer=_byte_tokenizer(),
        transformer=Lumina2Transformer2DModel(
            sample_size=16,
            in_channels=4,
            hidden_size=16,
            num_layers=1,
            num_refiner_layers=1,
            num_attention_heads=2,
            num_kv_heads=2,
            multiple_of=16,
            axes_dim_rope=(4, 2, 2),
            axes_lens=(1024, 64, 64),
            cap_feat_dim=16,
        ),
    ).save_pretrained(folder)
    return folder


def save_sdxl_lora(model: Path, folder: Path, weight_name: str | None = None) -> Path:
    """A LoRA with random weights for the UNet of a saved SDXL pipeline."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(2)
    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
    unet.add_adapter(config)
    StableDiffusionXLPipeline.save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(unet),
        weight_name=weight_name,
        unet_lora_adapter_metadata=config.to_dict(),
    )
    return folder


#: By a short name, what saves a pipeline of each class to a folder.
SAVERS: dict[str, Callable[[Path], Path]] = {
    "sd": save_sd,
    "sdxl": save_sdxl,
    "refiner": save_sdxl_refiner,
    "sd3": save_sd3,
    "flux": save_flux,
    "flux-schnell": save_flux_schnell,
    "flux2": save_flux2,
    "flux2-klein": save_flux2_klein,
    "chroma": save_chroma,
    "pixart-sigma": save_pixart_sigma,
    "sana": save_sana,
    "sana-sprint": save_sana_sprint,
    "z-image": save_z_image,
    "z-image-omni": save_z_image_omni,
    "kandinsky5": save_kandinsky5,
    "qwen-image": save_qwen_image,
    "lumina2": save_lumina2,
}
