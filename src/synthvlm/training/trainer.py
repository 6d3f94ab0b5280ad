"""TRL's trainer with our order of samples, rates, and checkpoints."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import orjson
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from synthvlm.errors import RunFolderError, SynthVLMError, first_line, is_out_of_memory
from synthvlm.training.checkpoints import mark_complete, save_trained, sweep
from synthvlm.training.model import PROJECTOR

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress
    from synthvlm.training.recipe import TrainingRecipe
    from synthvlm.training.samples import GroupedSampler

__all__ = ["LlavaTrainer", "StepLog", "trainer_settings"]

#: Lines of a training without a display.
_NOTES = 20
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def trainer_settings(
    recipe: TrainingRecipe, folder: str, accumulation: int, steps: int, *, cuda: bool
) -> SFTConfig:
    """The recipe as TRL's settings.

    Args:
        recipe: With its precision resolved.
        folder: Of the checkpoints.
        accumulation: Small batches of a step on each device.
        steps: Of the whole training.
        cuda: Whether it runs on GPUs.
    """
    options = recipe.optimisation
    return SFTConfig(
        output_dir=folder,
        seed=recipe.seed,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.device_batch_size,
        gradient_accumulation_steps=accumulation,
        learning_rate=options.learning_rate,
        lr_scheduler_type=_SCHEDULES[options.schedule],
        # The first step of a warm-up has the rate 0: a training of one step would teach nothing.
        warmup_steps=min(math.ceil(steps * options.warmup_share), steps - 1),
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_gradient_norm,
        use_cpu=not cuda,
        bf16=options.precision == "bfloat16",
        tf32=options.tf32 if cuda else None,
        activation_checkpointing=options.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=recipe.log_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps" if recipe.checkpoint_steps else "no",
        save_steps=recipe.checkpoint_steps or 1,
        dataloader_num_workers=recipe.image_workers,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        report_to="none",
        disable_tqdm=True,
    )


class LlavaTrainer(SFTTrainer):  # type: ignore[misc]
    """``SFTTrainer`` for rows of ``samples.arrow``."""

    optimizer: Any

    def __init__(
        self,
        *,
        sampler: GroupedSampler,
        projector_learning_rate: float | None,
        checkpoints_kept: int,
        **options: Any,
    ) -> None:
        """Take the order of samples, and what ``SFTTrainer`` takes."""
        self._sampler = sampler
        self._projector_rate = projector_learning_rate
        self._checkpoints_kept = checkpoints_kept
        super().__init__(**options)
        self.remove_callback(PrinterCallback)

    def _send_telemetry(self) -> None:
        """Send nothing."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._sampler

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW, with a rate of its own for the projector."""
        if self.optimizer is not None:
            return self.optimizer
        trained = self.model if model is None else model
        decayed = set(self.get_decay_parameter_names(trained))
        groups: dict[tuple[bool, bool], list[Any]] = {}
        for name, weight in trained.named_parameters():
            if weight.requires_grad:
                groups.setdefault((PROJECTOR in name, name in decayed), []).append(weight)
        kind, options = self.get_optimizer_cls_and_kwargs(self.args, trained)
        projector_rate = self._projector_rate or self.args.learning_rate
        self.optimizer = kind(
            [
                {
                    "params": weights,
                    "weight_decay": self.args.weight_decay if decays else 0.0,
                    "lr": projector_rate if projector else self.args.learning_rate,
                }
                # The logged rate is that of the first group.
                for (projector, decays), weights in sorted(groups.items(), key=lambda g: g[0])
            ],
            **options,
        )
        return self.optimizer

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """The weights are loaded before there is a trainer; see ``load_trained``."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:
            save_trained(self.model, output_dir or self.args.output_dir, state_dict)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _load_errors(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _load_errors(checkpoint):
            super()._load_rng_state(checkpoint)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        try:
            Trainer._save_checkpoint(self, model, trial)  # TRL's adds a model card to each
        except RuntimeError as error:  # torch's, where a disk is full
            if is_out_of_memory(error):
                raise
            raise OSError(f"a checkpoint, is the disk full? ({first_line(error)})") from error
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = self.args.output_dir
            mark_complete(os.path.join(folder, f"checkpoint-{self.state.global_step}"))
            sweep(folder, self._checkpoints_kept)


@contextmanager
def _load_errors(checkpoint: str | None) -> Iterator[None]:
    """Its files are what was written (``drop_damaged``): what fails here are other libraries."""
    try:
        yield
    except (RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        if is_out_of_memory(error):
            raise
        raise RunFolderError(
            f"{checkpoint} cannot be loaded: {first_line(error)}; go on with the versions of torch "
            f"and transformers that wrote it, or delete it"
        ) from None


class StepLog(TrainerCallback):  # type: ignore[misc]
    """Writes rows of the loss, shows progress, and stops where it is no number."""

    def __init__(
        self,
        write: Callable[[bytes], object],
        progress: Progress,
        sampler: GroupedSampler,
        steps: int,
        samples: int,
    ) -> None:
        """Take where rows go, what shows it, and the number of steps and samples of an epoch."""
        self._write, self._progress, self._sampler = write, progress, sampler
        self._epoch_steps, self._epoch_samples = steps, samples
        self._noted = 0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Give the sampler its epoch: libraries in between do not always do so."""
        self._sampler.set_epoch(state.global_step // self._epoch_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Show a step."""
        batch = math.ceil(self._epoch_samples / self._epoch_steps)
        first = (state.global_step - 1) % self._epoch_steps * batch
        self._progress.advance(min(batch, max(0, self._epoch_samples - first)))

    def on_log(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Write a row.

        Raises:
            SynthVLMError: The loss or the gradient is no number.
        """
        values = others["logs"]
        if "loss" not in values:
            return
        loss = float(values["loss"])
        for name, value in (("loss", loss), ("gradient's norm", values.get("grad_norm", 0.0))):
            if not math.isfinite(value):
                raise SynthVLMError(
                    f"step {state.global_step}: the {name} is {value}: take another --out with a "
                    f"lower optimisation.learning_rate"
                )
        row = {
            "step": state.global_step,
            "loss": loss,
            "learning_rate": values.get("learning_rate"),
            "gradient_norm": values.get("grad_norm"),
            "token_accuracy": values.get("mean_token_accuracy"),
        }
        self._write(orjson.dumps(row) + b"\n")
        part = state.global_step * _NOTES // state.max_steps
        if part > self._noted:
            self._noted = part
            self._progress.note(
                f"step {state.global_step:,} of {state.max_steps:,}: loss {loss:.4f}, "
                f"learning rate {row['learning_rate']:.3g}"
            )
