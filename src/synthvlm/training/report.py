"""What comes with a trained model: its summary, its card, and a report in one HTML file."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from synthvlm.components.settings import published_name
from synthvlm.report.charts import ticks
from synthvlm.report.pages import page_environment
from synthvlm.safe_text import fenced, for_html, for_markdown

if TYPE_CHECKING:
    import jinja2

    from synthvlm.training.recipe import TrainingRecipe
    from synthvlm.training.sources import DataFacts

__all__ = ["TrainingSummary", "curve", "model_card", "render", "sparkline", "versions"]

_PACKAGES = ("synthvlm", "torch", "transformers", "trl", "peft", "accelerate", "tokenizers")


def versions() -> dict[str, str]:
    """Version of Python and of each package that has a part in it."""
    numbers = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            numbers[package] = version(package)
        except PackageNotFoundError:
            numbers[package] = "not installed"
    return numbers


_WIDTH, _HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 26
_MOST_POINTS = 600
_BLOCKS = "▁▂▃▄▅▆▇█"


def curve(points: Sequence[tuple[int, float]], *, label: str) -> Markup:
    """A line through values at steps; of many, means of neighbours are shown.

    Args:
        points: Step and finite value, by rising step; not empty.
        label: Name of the value.
    """
    shown = _thinned(points)
    first, last = shown[0][0], max(shown[-1][0], shown[0][0] + 1)
    low, high = min(y for _, y in shown), max(y for _, y in shown)
    if high <= low:
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5

    def x(step: float) -> float:
        return _LEFT + (step - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for value in ticks(low, high):
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text class="tick y" x="{_LEFT - 6}" y="{y(value) + 4:.1f}">'
            f"{value:g}</text>"
        )
    for step in ticks(first, last):
        parts.append(f'<text class="tick x" x="{x(step):.1f}" y="{_HEIGHT - 8}">{step:g}</text>')
    path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in shown)
    parts.append(f'<polyline class="line" points="{path}"/>')
    ends = [f"{value:.4g} at step {step}" for step, value in (points[0], points[-1])]
    text = f"{label}: {', '.join(ends)}"
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{for_html(text)}">'
        f"<title>{for_html(text)}</title>{''.join(parts)}</svg>"
    )


def sparkline(values: Sequence[float], width: int = 32) -> str:
    """Values as a row of blocks, at most ``width``; each is the mean of its neighbours."""
    means = [y for _, y in _thinned(list(enumerate(values)), width)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    if high <= low:
        return _BLOCKS[0] * len(means)
    return "".join(_BLOCKS[round((v - low) / (high - low) * (len(_BLOCKS) - 1))] for v in means)


def _thinned(
    points: Sequence[tuple[int, float]], most: int = _MOST_POINTS
) -> list[tuple[float, float]]:
    groups = min(len(points), most)
    edges = [n * len(points) // groups for n in range(groups + 1)] if groups else []
    means = []
    for begin, end in pairwise(edges):
        part = points[begin:end]
        means.append((sum(p[0] for p in part) / len(part), sum(p[1] for p in part) / len(part)))
    return means


_STAGES = {
    "pretrain": "stage 1: the projector alone was trained",
    "finetune": "stage 2: the language model and the projector were trained",
}


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What a training came to.

    Attributes:
        model: Folder of the model, for ``from_pretrained``.
        steps: Of the optimiser.
        samples: Records that were used.
        failed: Records that could not be.
        loss: Mean over the last tenth of the logged steps.
        seconds: That this call took to train; 0 where all was done.
        resumed_at: Step at which this call went on; 0 for a new training.
    """

    model: str
    steps: int
    samples: int
    failed: int
    loss: float
    seconds: float
    resumed_at: int


def model_card(recipe: TrainingRecipe, facts: DataFacts, summary: TrainingSummary) -> str:
    """The card as Markdown, with the head that the hub reads."""
    recipe = recipe.published()
    start = recipe.model.start
    base = [start] if start else [recipe.model.language_model, recipe.model.vision_tower]
    based_on = ", ".join(map(for_markdown, base))
    kind = "LoRA, merged" if recipe.lora else "full"
    listed = "\n".join(f"- {name} {number}" for name, number in versions().items())
    data = "\n".join(f"- {for_markdown(source.path)}" for source in recipe.data)
    return f"""---
library_name: transformers
pipeline_tag: image-text-to-text
tags:
- llava
- synthvlm
---

# A LLaVA model trained with SynthVLM

LLaVA-1.5's recipe, {_STAGES[recipe.stage]} ({kind}). Built on: {based_on}.

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

{fenced(recipe.to_yaml(), "yaml")}

## Versions

{listed}
"""


def render(
    recipe: TrainingRecipe,
    facts: DataFacts,
    summary: TrainingSummary,
    rows: Sequence[Mapping[str, Any]],
) -> str:
    """The page as HTML.

    Args:
        recipe: That was trained.
        facts: Of its data.
        summary: What it came to.
        rows: Of ``log.jsonl``, in order.
    """
    recipe = recipe.published()
    charts = [
        (title, curve(_points(rows, key), label=title))
        for key, title in (
            ("loss", "Loss"),
            ("learning_rate", "Learning rate"),
            ("gradient_norm", "Gradient norm"),
            ("token_accuracy", "Share of trained tokens that were the likeliest"),
        )
        if _points(rows, key)
    ]
    return _template().render(
        recipe=recipe,
        facts=facts,
        summary=summary,
        charts=charts,
        versions=versions(),
        settings=recipe.to_yaml(),
        place=_place,
    )


def _place(where: str) -> str:
    """The place of a record (``FILE, record N (id X)``) with a name for its file."""
    file, comma, record = where.partition(", record ")
    return published_name(file) + comma + record


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key]) for row in rows if row[key] is not None]


@cache
def _template() -> jinja2.Template:
    return page_environment(("synthvlm", "training")).get_template("report.html.jinja")
