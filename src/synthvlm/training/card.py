"""The card of a trained model: data, hyper-parameters, versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.training.versions import versions

if TYPE_CHECKING:
    from synthvlm.training.facts import DataFacts, TrainingSummary
    from synthvlm.training.recipe import TrainingRecipe

__all__ = ["model_card"]

_STAGES = {
    "pretrain": "stage 1: the projector alone was trained",
    "finetune": "stage 2: the language model and the projector were trained",
}


def model_card(recipe: TrainingRecipe, facts: DataFacts, summary: TrainingSummary) -> str:
    """The card as Markdown, with the head that the hub reads."""
    recipe = recipe.published()
    start = recipe.model.start
    base = [start] if start else [recipe.model.language_model, recipe.model.vision_tower]
    kind = "LoRA, merged" if recipe.lora else "full"
    listed = "\n".join(f"- {name} {number}" for name, number in versions().items())
    data = "\n".join(f"- `{source.path}`" for source in recipe.data)
    return f"""---
library_name: transformers
pipeline_tag: image-text-to-text
tags:
- llava
- synthvlm
---

# A LLaVA model trained with SynthVLM

LLaVA-1.5's recipe, {_STAGES[recipe.stage]} ({kind}). Built on: {", ".join(f"`{b}`" for b in base)}.

```python
from transformers import AutoProcessor, LlavaForConditionalGeneration

model = LlavaForConditionalGeneration.from_pretrained(FOLDER)
processor = AutoProcessor.from_pretrained(FOLDER)
```

Its chat template is Vicuna's format (v1), in which stage 2 trains.

## Data

{data}

{facts.records:,} records, of which {facts.samples:,} were used ({facts.with_image:,} with an image;
{facts.tokens:,} tokens, those of images included) and {facts.failed:,} could not be.

## Training

{summary.steps:,} steps; mean loss over the last tenth {summary.loss:.4f}.

```yaml
{recipe.to_yaml().rstrip()}
```

## Versions

{listed}
"""
