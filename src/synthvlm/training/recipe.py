"""The training recipe: strict models, every knob, an unknown key is an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from synthvlm.components.settings import TINY, Settings, Share, SourcePath
from synthvlm.errors import RecipeError
from synthvlm.recipe.files import RecipeFiles
from synthvlm.recipe.problems import validated
from synthvlm.recipe.yaml_text import apply_change, dump_yaml, parse_recipe

__all__ = [
    "TRAINING_RECIPES",
    "DataSettings",
    "LoraSettings",
    "ModelSettings",
    "OptimisationSettings",
    "TrainingRecipe",
    "changed_settings",
]

#: The built-in training recipes.
TRAINING_RECIPES = RecipeFiles("synthvlm.training", "training recipe")

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0.0)]


class ModelSettings(Settings):
    """What is trained: a LLaVA checkpoint, or the parts of a new one."""

    start: str | None = Field(
        None,
        description="Folder or hub id of a LLaVA checkpoint, e.g. `FOLDER/model` of stage 1; then "
        "the settings below are its own.",
    )
    start_revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    vision_tower: str = Field(
        TINY, description="CLIP's vision half, by folder or hub id; `tiny` is the embedded one."
    )
    vision_tower_revision: str | None = Field(None, description="Branch, tag or commit.")
    language_model: str = Field(
        TINY,
        description="Any causal language model, by folder or hub id; `tiny` is the embedded one.",
    )
    language_model_revision: str | None = Field(None, description="Branch, tag or commit.")
    vision_feature_layer: int = Field(
        -2,
        le=-1,
        description="Layer of the vision tower whose patch features are used, counted from the "
        "last one.",
    )
    projector_hidden_act: Literal["gelu", "relu", "silu"] = Field(
        "gelu", description="Activation between the projector's two layers."
    )


class DataSettings(Settings):
    """Conversations to train on."""

    path: SourcePath = Field(
        description="A run folder, JSON of conversations or messages, WebDataset .tar, or Parquet "
        "with images."
    )
    images: SourcePath | None = Field(
        None,
        description="Folder of the images of a JSON file; null: `images/` beside it, or its own of "
        "messages.",
    )


class OptimisationSettings(Settings):
    """How the weights are optimised."""

    epochs: Count = Field(1, description="Passes over the data.")
    global_batch_size: Count = Field(
        128, description="Samples of one step, on all devices together."
    )
    device_batch_size: Count = Field(
        16,
        description="Samples that a device takes at once; the rest is gradient accumulation.",
    )
    learning_rate: Rate = Field(2e-5, description="Highest one, after the rise.")
    projector_learning_rate: Rate | None = Field(None, description="null: that of everything else.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Of the learning rate after its rise."
    )
    warmup_share: Share = Field(
        0.03, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: float = Field(0.0, ge=0.0, description="Of AdamW.")
    max_gradient_norm: float = Field(
        1.0, ge=0.0, description="Longer gradients are shortened to it."
    )
    max_tokens: int = Field(2048, ge=8, description="Of a sample.")
    gradient_checkpointing: bool = Field(
        True, description="Less memory for more time; changes no result."
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="bfloat16: frozen weights and computation in it, trained weights in float32. "
        "auto: on a GPU that has it.",
    )
    tf32: bool = Field(
        True, description="TensorFloat-32 matrix products, where the device has them."
    )


class LoraSettings(Settings):
    """Low-rank adapters on every linear layer of the language model; the projector as a whole."""

    rank: Count = Field(128, description="Of the adapters.")
    alpha: Count = Field(256, description="Adapters are scaled by alpha over rank.")
    dropout: float = Field(0.05, ge=0.0, lt=1.0, description="Before the adapters.")


class TrainingRecipe(Settings):
    """A training, whole: the same recipe on the same data gives the same model."""

    seed: int = Field(0, ge=0, lt=2**32, description="Of weights, order and dropout.")
    stage: Literal["pretrain", "finetune"] = Field(
        description="pretrain: the projector alone learns. finetune: the language model too."
    )
    model: ModelSettings = ModelSettings()
    data: list[DataSettings] = Field(min_length=1, description="Read in their order.")
    prompt: Literal["plain", "v1"] = Field(
        description="plain: image, caption. v1: Vicuna's conversation."
    )
    image: Literal["crop", "pad"] = Field(
        description="crop: resize and centre crop. pad: to a square, with CLIP's mean colour."
    )
    optimisation: OptimisationSettings = OptimisationSettings()
    lora: LoraSettings | None = None
    grouping: bool = Field(
        True,
        description="Each batch holds samples with an image, or without, and is sorted by length.",
    )
    checkpoint_steps: int = Field(500, ge=0, description="Steps between checkpoints; 0 for none.")
    checkpoints_kept: Count = Field(1, description="The latest ones.")
    log_steps: Count = Field(1, description="Steps between rows of log.jsonl.")
    threads: Literal["auto"] | Count = Field(
        "auto",
        description="CPU threads of each process, which change the rounding of results. auto: "
        "those that torch has when the folder is made, and for as long as it is used.",
    )
    image_workers: int = Field(
        4, ge=0, description="Processes that decode images; 0: the training's own."
    )
    max_failed_share: Share = Field(
        0.01, description="More bad records than that stop the command before it trains."
    )
    report: bool = Field(True, description="Whether report.html and the model card are written.")

    @model_validator(mode="after")
    def _fits(self) -> TrainingRecipe:
        if self.lora is not None and self.stage == "pretrain":
            raise ValueError("lora is for stage finetune: pretrain trains the projector alone")
        if self.optimisation.global_batch_size % self.optimisation.device_batch_size:
            raise ValueError(
                f"global_batch_size {self.optimisation.global_batch_size} is no multiple of "
                f"device_batch_size {self.optimisation.device_batch_size}"
            )
        return self

    @classmethod
    def load(
        cls,
        recipe: str | Path,
        *,
        data: Sequence[str | Path] = (),
        overrides: Sequence[str] = (),
    ) -> TrainingRecipe:
        """Read a recipe and change it.

        Args:
            recipe: Name of a built-in recipe, or a YAML file.
            data: Data sets or run folders that replace the recipe's data.
            overrides: Changes of the form ``KEY=VALUE``, e.g. ``optimisation.epochs=2``.

        Raises:
            RecipeError: The recipe does not exist or does not validate.
        """
        label, text = TRAINING_RECIPES.read(recipe)
        values = parse_recipe(text, label)
        if data:
            values["data"] = [{"path": str(path)} for path in data]
        for change in overrides:
            apply_change(values, change)
        return cls.from_values(values, label)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], label: str = "recipe") -> TrainingRecipe:
        """Validate plain values, as read from YAML.

        Raises:
            RecipeError: A line for each problem, with the key's path.
        """
        if not values.get("data"):
            raise RecipeError(f"{label}: no data is named: add --data RUN_OR_DATASET, or set data")
        return validated(cls, values, label)

    def to_yaml(self) -> str:
        """The whole recipe as YAML, every default written out."""
        return dump_yaml(self.model_dump(mode="json"))


#: Settings that change no result (but for the order of floating-point sums).
_RUN_TIME = {
    "optimisation.device_batch_size",
    "optimisation.gradient_checkpointing",
    "optimisation.tf32",
    "checkpoint_steps",
    "checkpoints_kept",
    "log_steps",
    "image_workers",
    "max_failed_share",
    "report",
}


def changed_settings(old: TrainingRecipe, new: TrainingRecipe) -> list[str]:
    """Keys of the settings that change the result and differ between two recipes."""
    before, after = dict(_flat(old.model_dump())), dict(_flat(new.model_dump()))
    return [
        key
        for key in dict.fromkeys((*before, *after))
        if key not in _RUN_TIME and before.get(key) != after.get(key)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
