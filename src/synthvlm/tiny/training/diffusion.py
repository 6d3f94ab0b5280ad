"""Train the diffusion model (UNet and its text encoder) on the autoencoder's latents.

Run it with `python -m synthvlm.tiny.training.diffusion --out .training/diffusion.pt`.

Two processes, one a core, share the work when both are started with `--ranks 2`, one of them with
`--rank 1`; the first alone writes checkpoints.

Needs the tokenizer, the autoencoder and (to start the text encoder from) the CLIP.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import distributed, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from synthvlm.tiny.captions import KINDS, Claim, is_held_out, phrase, sample_claim, sample_scene
from synthvlm.tiny.training import autoencoder, checkpoint
from synthvlm.tiny.world import render

__all__ = ["TEXT_LENGTH", "build", "build_scheduler", "build_text_encoder", "main", "token_ids"]

TEXT_LENGTH = 28  # tokens that the diffusion model reads; CLIP itself reads 77


def build() -> UNet2DConditionModel:
    """A new UNet with random weights."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=autoencoder.LATENT_CHANNELS,
        out_channels=autoencoder.LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(96, 128),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=16,
        # The caption as a whole reaches every block together with the timestep: colours and
        # shapes are learnt much sooner than through cross-attention alone.
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A new text encoder with random weights, of the same make as the CLIP's."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            num_attention_heads=4,
            intermediate_size=512,
            num_hidden_layers=3,
            max_position_embeddings=77,
            projection_dim=128,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_scheduler() -> DDIMScheduler:
    """The noise schedule of training, which is also the sampler of the pipeline."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def _trainable_claim(rng: Random, mix: tuple[float, ...]) -> Claim:
    kind = rng.choices(KINDS, mix)[0]
    while is_held_out(claim := sample_claim(rng, kind)):
        pass
    return claim


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token numbers (n, `TEXT_LENGTH`), padded as the pipeline pads them."""
    ids: torch.Tensor = tokenizer(
        captions,
        padding="max_length",
        max_length=TEXT_LENGTH,
        truncation=True,
        return_tensors="pt",
    )["input_ids"]
    return ids


class Trainer(nn.Module):
    """UNet and text encoder, trained together."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor
    ) -> torch.Tensor:
        """The predicted velocity, of the latents' shape."""
        context = self.text_encoder(input_ids=ids).last_hidden_state
        predicted: torch.Tensor = self.unet(noisy, timesteps, context).sample
        return predicted


def _latent_std(codec: AutoencoderTiny) -> float:
    rng = Random(0)
    scenes = [sample_scene(sample_claim(rng), rng) for _ in range(256)]
    with torch.no_grad():
        return float(codec.encoder(autoencoder.to_tensor(render(scenes))).std())


def main(argv: list[str] | None = None) -> None:
    """Train, or go on training, and write checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".training/diffusion.pt"))
    parser.add_argument("--tokenizer", type=Path, default=Path(".training/tokenizer"))
    parser.add_argument("--autoencoder", type=Path, default=Path(".training/autoencoder.pt"))
    parser.add_argument("--clip", type=Path, default=Path(".training/clip.pt"))
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--decay-from", type=int, default=None)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--mix", default="0.35,0.15,0.15,0.35", help="shares of the four kinds")
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--noisy", type=float, default=0.6, help="below 1: more noisy timesteps")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=1, help="processes that train together")
    parser.add_argument("--rank", type=int, default=0, help="which of them this one is")
    parser.add_argument("--port", type=int, default=29511, help="where they meet")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.ranks > 1:
        distributed.init_process_group(
            "gloo",
            init_method=f"tcp://127.0.0.1:{args.port}",
            rank=args.rank,
            world_size=args.ranks,
        )
    mix = tuple(float(share) for share in args.mix.split(","))
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    trainer = Trainer(build(), build_text_encoder(tokenizer))
    trainer.unet.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        trainer.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    codec = autoencoder.build()
    step, cpu_before, images_seen = 0, 0.0, 0
    state = checkpoint.load(args.out)
    if state is None:
        codec.load_state_dict(_needed(args.autoencoder))
        scaling = 1.0 / _latent_std(codec)
        tower = {
            k.removeprefix("text_model."): v
            for k, v in _needed(args.clip).items()
            if k.startswith("text_model.")
        }
        own = trainer.text_encoder.state_dict()
        trainer.text_encoder.load_state_dict({k: tower[k.removeprefix("text_model.")] for k in own})
        ema = checkpoint.Ema(trainer, 0.999)
    else:
        codec.load_state_dict(state["autoencoder"])
        trainer.load_state_dict(state["model"])
        if "optimiser" in state:  # not where shipped weights were restored
            optimiser.load_state_dict(state["optimiser"])
        ema = checkpoint.Ema(trainer, 0.999)
        ema.values, step, scaling = state["ema"], state["step"], state["scaling"]
        cpu_before, images_seen = state["cpu_seconds"], state["images"]
    codec.to(memory_format=torch.channels_last).eval()
    alphas = build_scheduler().alphas_cumprod
    began, cpu, losses = time.time(), time.process_time(), []
    while step < args.steps:
        rng = checkpoint.seed_step(args.seed + 100 * args.rank, step)
        claims = [_trainable_claim(rng, mix) for _ in range(args.batch)]
        images = render([sample_scene(claim, rng) for claim in claims])
        words = ["" if rng.random() < 0.1 else phrase(claim, rng) for claim in claims]
        ids = token_ids(tokenizer, words)
        with torch.no_grad():
            latents = codec.encoder(autoencoder.to_tensor(images)) * scaling
        # One timestep in each of `batch` equal parts of the schedule: less noise in the loss.
        # Noisy ones more often: there the caption decides what the picture shows.
        spread = (torch.randperm(args.batch) + torch.rand(args.batch)) / args.batch
        timesteps = (spread**args.noisy * len(alphas)).long().clamp_max(len(alphas) - 1)
        noise = torch.randn_like(latents)
        signal = alphas[timesteps].sqrt()[:, None, None, None]
        sigma = (1 - alphas[timesteps]).sqrt()[:, None, None, None]
        predicted = trainer(signal * latents + sigma * noise, timesteps, ids)
        loss = F.mse_loss(predicted, signal * noise - sigma * latents)
        rate = checkpoint.learning_rate(
            step, peak=args.rate, warmup=300, steps=args.steps, decay_from=args.decay_from
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if args.ranks > 1:
            _average_gradients(trainer, args.ranks)
        nn.utils.clip_grad_norm_(trainer.parameters(), 1.0)
        optimiser.step()
        ema.update(trainer, step)
        step += 1
        images_seen += args.batch * args.ranks
        losses.append(loss.item())
        if step % 100 == 0:
            mean = sum(losses[-100:]) / len(losses[-100:])
            print(
                f"{step} loss={mean:.4f} images={images_seen} {time.time() - began:.0f}s",
                flush=True,
            )
        if args.rank == 0 and (step % 250 == 0 or step == args.steps):
            checkpoint.save(
                args.out,
                {
                    "model": trainer.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "ema": ema.values,
                    "averaged": ema.state_dict(trainer),
                    "autoencoder": codec.state_dict(),
                    "scaling": scaling,
                    "step": step,
                    "images": images_seen,
                    "cpu_seconds": cpu_before + time.process_time() - cpu,
                },
            )


def _average_gradients(module: nn.Module, ranks: int) -> None:
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= ranks
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def _needed(path: Path) -> dict[str, torch.Tensor]:
    state = checkpoint.load(path)
    if state is None:
        raise SystemExit(f"{path} is missing: train that part first")
    weights: dict[str, torch.Tensor] = state["averaged"]
    return weights


if __name__ == "__main__":
    main()
