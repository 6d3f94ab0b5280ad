"""Train the CLIP: a sigmoid loss with hard negatives, so that cosines compare across captions.

Run it with `python -m synthvlm.tiny.training.clip --out .training/clip.pt`.

Every picture comes with its caption and with captions that have one attribute changed; which of
all caption-picture pairs of a batch are true is known exactly. Some pictures show malformed
things, some went through the autoencoder. No generated picture and no checker is involved.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from synthvlm.tiny.captions import (
    KINDS,
    RELATIONS,
    Claim,
    holds,
    is_held_out,
    phrase,
    relation_of,
    sample_claim,
    sample_scene,
)
from synthvlm.tiny.training import autoencoder, checkpoint
from synthvlm.tiny.training.tokenizer import PREFIX
from synthvlm.tiny.world import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    Scene,
    place_of,
    render,
    size_of,
)

__all__ = ["EDITS", "build", "edits", "main"]

Floats = npt.NDArray[np.float32]

EDITS = (
    "colour",
    "shape",
    "size",
    "place",
    "relation",
    "swapped colours",
    "swapped shapes",
    "count",
    "background",
)

# A pair with cosine 0.5 is called even; the scale is fixed so that cosines spread widely.
SCALE, MIDDLE = 10.0, 0.5

MIX = (0.3, 0.1, 0.2, 0.4)  # shares of the kinds of captions: which is where takes longest


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A new model with random weights and two-dimensional sine positions."""
    common = {
        "hidden_size": 128,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "hidden_act": "gelu",
    }
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={
            **common,
            **special,
            "vocab_size": len(tokenizer),
            "num_hidden_layers": 3,
            "max_position_embeddings": 77,
            "projection_dim": 128,
        },
        vision_config={
            **common,
            "num_hidden_layers": 5,
            "image_size": 64,
            "patch_size": 8,
            "projection_dim": 128,
        },
        projection_dim=128,
        logit_scale_init_value=float(np.log(SCALE)),
    )
    model = CLIPModel(config)
    with torch.no_grad():
        # The default positions are twenty times weaker than the patches: place goes unseen.
        positions = model.vision_model.embeddings.position_embedding.weight
        positions[1:] = 0.4 * _sine_positions(8, positions.shape[1])
        nn.init.normal_(model.vision_model.embeddings.patch_embedding.weight, std=0.07)
        nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=0.3)
        nn.init.normal_(model.text_model.embeddings.position_embedding.weight, std=0.1)
    return model


def _sine_positions(side: int, width: int) -> torch.Tensor:
    quarter = width // 4
    rates = torch.pi / side * 2.0 ** torch.linspace(-1, 2, quarter)
    angle = (torch.arange(side) + 0.5)[:, None] * rates
    one = torch.cat([angle.sin(), angle.cos()], 1)
    rows = one[:, None].expand(-1, side, -1)
    columns = one[None].expand(side, -1, -1)
    return torch.cat([rows, columns], 2).reshape(side * side, width)


def edits(claim: Claim, rng: Random) -> dict[str, Claim]:
    """The claim with one attribute changed, for each attribute that it has.

    An attribute that the claim leaves open is not added.
    """
    out: dict[str, Claim] = {}
    i = rng.randrange(len(claim.shapes))
    shape = rng.choice([s for s in SHAPES if s not in claim.shapes])
    colour = rng.choice([c for c in COLOURS if c not in claim.colours])
    out["shape"] = replace(claim, shapes=(*claim.shapes[:i], shape, *claim.shapes[i + 1 :]))
    out["colour"] = replace(claim, colours=(*claim.colours[:i], colour, *claim.colours[i + 1 :]))
    if claim.size is not None:
        out["size"] = replace(claim, size="large" if claim.size == "small" else "small")
    if claim.place is not None:
        out["place"] = replace(claim, place=rng.choice([p for p in PLACES if p != claim.place]))
    if claim.relation is not None:
        other = rng.choice([r for r in RELATIONS if r != claim.relation])
        out["relation"] = replace(claim, relation=other)
    if len(claim.shapes) == 2:
        out["swapped colours"] = replace(claim, colours=claim.colours[::-1])
        out["swapped shapes"] = replace(claim, shapes=claim.shapes[::-1])
    if claim.kind == "count":
        out["count"] = replace(claim, count=5 - claim.count)
    if claim.background is not None:
        tint = rng.choice([b for b in BACKGROUNDS if b != claim.background])
        out["background"] = replace(claim, background=tint)
    return out


def _wrong_claims(claim: Claim, scene: Scene, rng: Random, count: int) -> list[Claim]:
    """Claims near this one that the scene does not bear out, for training."""
    near = edits(claim, rng)
    if claim.kind == "relation":  # the swaps and the relation are the hardest to learn
        near["relation again"] = edits(claim, rng)["relation"]
        order = {r: i for i, r in enumerate(RELATIONS)}
        opposite = RELATIONS[order[claim.relation] ^ 1] if claim.relation else None
        near["inverse"] = replace(claim, relation=opposite)
    elif claim.kind == "one":
        shape, colour = claim.shapes[0], claim.colours[0]
        near["count"] = Claim(
            "count", (shape,), (colour,), rng.choice((2, 3)), background=claim.background
        )
        near["size"] = replace(claim, size=rng.choice(("small", "large")))
        near["place"] = replace(claim, place=rng.choice(PLACES))
        near["place again"] = replace(claim, place=rng.choice(PLACES))
    elif claim.kind == "count":
        near["single"] = Claim("one", claim.shapes, claim.colours, 1, background=claim.background)
    else:
        relation = rng.choice(RELATIONS)
        near["relation"] = replace(claim, kind="relation", relation=relation)
    if len(claim.shapes) == 2 and rng.random() < 0.3:
        i = rng.randrange(2)
        near["single"] = Claim(
            "one", (claim.shapes[i],), (claim.colours[i],), 1, background=claim.background
        )
    # An attribute left open may be filled in wrongly.
    if claim.background is None:
        near["background"] = replace(claim, background=rng.choice(tuple(BACKGROUNDS)))
    wrong = [c for c in near.values() if not is_held_out(c) and not holds(c, scene)]
    rng.shuffle(wrong)
    if len(claim.shapes) == 2:
        hard = ("swapped colours", "swapped shapes", "relation", "inverse", "relation again")
        first = near[rng.choice([name for name in hard if name in near])]
        wrong.sort(key=lambda c: c is not first)
    while len(wrong) < count:
        other = sample_claim(rng)
        if not is_held_out(other) and not holds(other, scene):
            wrong.append(other)
    return wrong[:count]


def _opened(claim: Claim, rng: Random) -> Claim:
    """The claim with some of its optional attributes left out."""
    return replace(
        claim,
        size=claim.size if rng.random() < 0.7 else None,
        place=claim.place if rng.random() < 0.7 else None,
        background=claim.background if rng.random() < 0.8 else None,
    )


def _trainable_claim(rng: Random) -> Claim:
    while is_held_out(claim := sample_claim(rng, rng.choices(KINDS, MIX)[0])):
        pass
    return claim


def _malformed(scene: Scene, rng: Random) -> Scene:
    things = list(scene.things)
    i = rng.randrange(len(things))
    thing = things[i]
    fault = rng.random()
    if fault < 0.35:
        other = rng.choice([b for b in BACKGROUNDS if b != scene.background])
        return replace(scene, stain=other)
    if fault < 0.6:
        blend = rng.choice([s for s in SHAPES if s != thing.shape])
        things[i] = replace(thing, blend=blend, mix=rng.uniform(0.35, 0.65))
    elif fault < 0.7:
        things[i] = replace(thing, wobble=rng.uniform(0.09, 0.16) * thing.radius)
    else:
        things[i] = replace(thing, stain=rng.choice([c for c in COLOURS if c != thing.colour]))
    return replace(scene, things=tuple(things))


_ATOMS: dict[str, int] = {}


def _atom(name: str) -> int:
    return _ATOMS.setdefault(name, len(_ATOMS))


def _scene_atoms(scene: Scene) -> list[str]:
    """Simple facts about a scene: extra targets that teach the vision tower sooner."""
    things = scene.things
    out = [f"count {len(things)}", f"background {scene.background}"]
    if scene.stain is not None:
        out[-1] = "malformed background"
    for thing in things:
        if thing.malformed:
            out.append("malformed")
            continue
        out.append(f"{thing.colour} {thing.shape}")
        out.append(f"{thing.colour} in {place_of(thing.x, thing.y)}")
        out.append(f"{thing.shape} in {place_of(thing.x, thing.y)}")
    if len(things) == 1:
        out.append(f"size {size_of(things[0].radius)}")
    if len(things) == 2 and things[0].colour != things[1].colour:
        a, b = things
        relation = relation_of(a.x, a.y, b.x, b.y)
        if relation in ("right", "below"):
            a, b, relation = b, a, relation_of(b.x, b.y, a.x, a.y)
        out += [f"{a.colour} {relation} {b.colour}", f"{a.shape} {relation} {b.shape}"]
    return out


def _claim_atoms(claim: Claim) -> list[str]:
    out = [f"count {claim.count}"]
    out += [f"{c} {s}" for c, s in zip(claim.colours, claim.shapes, strict=True)]
    if claim.background is not None:
        out.append(f"background {claim.background}")
    if claim.size is not None:
        out.append(f"size {claim.size}")
    if claim.place is not None:
        out += [f"{claim.colours[0]} in {claim.place}", f"{claim.shapes[0]} in {claim.place}"]
    if claim.relation is not None:
        pairs = [claim.colours, claim.shapes]
        relation = claim.relation
        if relation in ("right", "below"):
            relation = "left" if relation == "right" else "above"
            pairs = [claim.colours[::-1], claim.shapes[::-1]]
        out += [f"{a} {relation} {b}" for a, b in pairs]
    return out


ATOMS = 640


def _atom_targets(facts: list[list[str]]) -> torch.Tensor:
    out = torch.zeros(len(facts), ATOMS)
    for row, names in zip(out, facts, strict=True):
        row[[_atom(n) for n in names]] = 1.0
    return out


class Trainer(nn.Module):
    """The model with the extra heads that training alone uses."""

    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.model = model
        self.image_head = nn.Linear(128, ATOMS)
        self.text_head = nn.Linear(128, ATOMS)
        for head in (self.image_head, self.text_head):
            nn.init.constant_(head.bias, -4.0)  # few of the facts hold of any one picture

    def forward(
        self, pixels: torch.Tensor, ids: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cosines (images, texts) and the logits of both extra heads."""
        seen = self.model.vision_model(pixel_values=pixels).pooler_output
        # Causal attention never looks at the padding, so it needs no mask, and the shorter
        # half of the texts need not carry the longer half's padding.
        order = lengths.argsort()
        halves = order.chunk(2)
        pooled = [
            self.model.text_model(input_ids=ids[half, : int(lengths[half].max())]).pooler_output
            for half in halves
        ]
        read = torch.cat(pooled)[order.argsort()]
        image = F.normalize(self.model.visual_projection(seen), dim=-1)
        text = F.normalize(self.model.text_projection(read), dim=-1)
        return image @ text.T, self.image_head(seen), self.text_head(read)


def _augment(
    pixels: torch.Tensor, codec: AutoencoderTiny | None, rng: Random, share: float
) -> torch.Tensor:
    """Make drawings look like generated pictures: autoencoder, blur, noise, colour shifts."""
    n = len(pixels)
    if codec is not None:
        k = int(share * n)
        with torch.no_grad():
            latents = codec.encoder(pixels[:k])
            level = torch.rand(k, 1, 1, 1) * 0.3
            pixels[:k] = codec.decoder(latents + level * torch.randn_like(latents)).clamp(-1, 1)
    order = torch.randperm(n)
    m = n // 4
    some = pixels[order[:m]]
    blurred = F.avg_pool2d(F.pad(some, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pixels[order[:m]] = torch.lerp(some, blurred, torch.rand(m, 1, 1, 1) * 0.7)
    some = order[m : 2 * m]
    pixels[some] += 0.02 * torch.randn(m, 3, 1, 1) + 0.03 * torch.randn_like(pixels[some])
    return pixels.clamp_(-1, 1)


def main(argv: list[str] | None = None) -> None:
    """Train, or go on training, and write checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".training/clip.pt"))
    parser.add_argument("--tokenizer", type=Path, default=Path(".training/tokenizer"))
    parser.add_argument("--autoencoder", type=Path, default=Path(".training/autoencoder.pt"))
    parser.add_argument("--autoencoder-from", type=int, default=1000, help="first step")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--decay-from", type=int, default=None)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--negatives", type=int, default=3, help="changed captions per picture")
    parser.add_argument("--malformed", type=float, default=0.12, help="share of such pictures")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    for colour in COLOURS:  # fixed numbers for the facts, whatever is met first
        for shape in SHAPES:
            _atom(f"{colour} {shape}")
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    trainer = Trainer(build(tokenizer))
    decayed = [p for p in trainer.parameters() if p.ndim > 1]
    plain = [p for p in trainer.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
        lr=args.rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    ema = checkpoint.Ema(trainer, 0.998)
    step, cpu_before, images_seen = 0, 0.0, 0
    state = checkpoint.load(args.out)
    if state is not None:
        trainer.load_state_dict(state["model"])
        if "optimiser" in state:  # not where shipped weights were restored
            optimiser.load_state_dict(state["optimiser"])
        ema.values, step, cpu_before = state["ema"], state["step"], state["cpu_seconds"]
        images_seen = state["images"]
        _ATOMS.update(state["atoms"])
    codec: AutoencoderTiny | None = None
    began, cpu = time.time(), time.process_time()
    while step < args.steps:
        if codec is None and step >= args.autoencoder_from and step % 100 == 0:
            saved = checkpoint.load(args.autoencoder)
            if saved is not None:
                codec = autoencoder.build()
                codec.load_state_dict(saved["averaged"])
                codec.to(memory_format=torch.channels_last).eval()
        rng = checkpoint.seed_step(args.seed, step)
        claims, scenes, wrong = [], [], []
        for _ in range(args.batch):
            claim = _trainable_claim(rng)
            scene = sample_scene(claim, rng, rng.choice((1.0, 2.5)))
            if rng.random() < args.malformed:
                wrong.append([*_wrong_claims(claim, scene, rng, args.negatives - 1), claim])
                scene = _malformed(scene, rng)
            else:
                claim = claim if is_held_out(opened := _opened(claim, rng)) else opened
                wrong.append(_wrong_claims(claim, scene, rng, args.negatives))
            claims.append(claim)
            scenes.append(scene)
        texts = claims + [c for row in wrong for c in row]
        true = torch.tensor([[holds(c, s) for c in texts] for s in scenes])
        words = [(PREFIX if rng.random() < 0.8 else "") + phrase(c, rng) for c in texts]
        tokens = tokenizer(words, padding=True, return_tensors="pt")
        pixels = _augment(autoencoder.to_tensor(render(scenes)), codec, rng, 0.4)
        rate = checkpoint.learning_rate(
            step, peak=args.rate, warmup=400, steps=args.steps, decay_from=args.decay_from
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        cosines, seen, read = trainer(
            pixels.contiguous(), tokens["input_ids"], tokens["attention_mask"].sum(1)
        )
        pair = F.softplus(torch.where(true, -1.0, 1.0) * SCALE * (cosines - MIDDLE))
        n = args.batch
        own = torch.zeros_like(true)
        for i in range(n):
            own[i, n + i * args.negatives : n + (i + 1) * args.negatives] = True
        right = (pair * true).sum() / n
        near = (pair * (own & ~true)).sum() / n
        far = (pair * ~(own | true)).sum() / n * (10.0 / n)
        facts = F.binary_cross_entropy_with_logits(
            seen, _atom_targets([_scene_atoms(s) for s in scenes])
        ) + F.binary_cross_entropy_with_logits(
            read, _atom_targets([_claim_atoms(c) for c in texts])
        )
        total = right + near + far + 100.0 * facts
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(trainer.parameters(), 5.0)
        optimiser.step()
        ema.update(trainer, step)
        step += 1
        images_seen += args.batch
        if step % 100 == 0:
            diagonal = cosines.detach()[:, :n].diagonal()[true[:, :n].diagonal()]
            beside = cosines.detach()[own & ~true]
            print(
                f"{step} right={right.item():.3f} near={near.item():.3f} far={far.item():.3f}"
                f" facts={facts.item():.4f} cos={diagonal.mean():.3f}/{beside.mean():.3f}"
                f" codec={codec is not None} {time.time() - began:.0f}s",
                flush=True,
            )
        if step % 500 == 0 or step == args.steps:
            averaged = ema.state_dict(trainer)
            prefix = "model."
            checkpoint.save(
                args.out,
                {
                    "model": trainer.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "ema": ema.values,
                    "averaged": {
                        k.removeprefix(prefix): v
                        for k, v in averaged.items()
                        if k.startswith(prefix)
                    },
                    "atoms": dict(_ATOMS),
                    "step": step,
                    "images": images_seen,
                    "cpu_seconds": cpu_before + time.process_time() - cpu,
                },
            )


if __name__ == "__main__":
    main()
