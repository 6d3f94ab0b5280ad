"""Train: the recipe and its data become a model. Read this first."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from synthvlm.checks.current import refuse_outdated_files
from synthvlm.errors import RecipeError, SynthVLMError
from synthvlm.progress.display import SilentProgress, terminal_progress
from synthvlm.progress.notebook import default_progress
from synthvlm.training.folder import TrainingFolder
from synthvlm.training.model import model_identities
from synthvlm.training.recipe import TrainingRecipe
from synthvlm.training.report import TrainingSummary, sparkline
from synthvlm.training.runtime import cpu_threads, explained, process_state, quiet
from synthvlm.training.samples import GroupedSampler, mapped_samples, write_samples
from synthvlm.training.sources import find_source

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress
    from synthvlm.training.model import Assembled
    from synthvlm.training.sources import DataFacts

__all__ = ["train", "train_command"]

STAGE = "train"


def train(
    recipe: TrainingRecipe, out: str | os.PathLike[str], *, progress: Progress | None = None
) -> TrainingSummary:
    """Train a model, or go on where an earlier call was stopped.

    Under ``accelerate launch`` every process calls it; the main one alone prints and writes.

    Args:
        recipe: What to do.
        out: Folder of the training: a new one, or one to go on with.
        progress: Shows it.

    Raises:
        SynthVLMError: With one line about what is wrong.
    """
    state = process_state()
    shown = progress or default_progress()
    if not state.is_main_process:
        shown = SilentProgress()
    recipe = _resolved(recipe, state)
    accumulation = _accumulation(recipe, state.num_processes)
    sources = [find_source(settings) for settings in recipe.data]
    folder = TrainingFolder(str(out), main=state.is_main_process)
    # One that has begun knows its data by their content.
    if not folder.path.is_dir() or folder.facts() is None:
        for settings in recipe.data:
            refuse_outdated_files(settings.path)
    with folder.locked(), explained(folder.path):
        models = model_identities(recipe.model) if state.is_main_process else {}
        folder.claim(recipe, sources, models)
        state.wait_for_everyone()
        done = folder.done()
        if done is not None:
            shown.note(f"{folder.path}: the training is done")
            return TrainingSummary(**done, seconds=0.0, resumed_at=done["steps"])
        recipe = recipe.model_copy(update={"threads": folder.recipe().threads})
        with quiet(), cpu_threads(int(recipe.threads)):
            assembled = _assembled(recipe)
            facts = _facts(recipe, assembled, sources, models, folder, state, shown)
            return _run(recipe, assembled, facts, folder, state, accumulation, shown)


def _resolved(recipe: TrainingRecipe, state: Any) -> TrainingRecipe:
    """The recipe with ``auto`` written out."""
    options = recipe.optimisation
    if options.precision != "auto":
        return recipe
    import torch

    has_bfloat16 = state.device.type == "cuda" and torch.cuda.is_bf16_supported()
    precision = "bfloat16" if has_bfloat16 else "float32"
    resolved = options.model_copy(update={"precision": precision})
    return recipe.model_copy(update={"optimisation": resolved})


def _accumulation(recipe: TrainingRecipe, devices: int) -> int:
    options = recipe.optimisation
    at_once = devices * options.device_batch_size
    if options.global_batch_size % at_once:
        raise RecipeError(
            f"optimisation.global_batch_size {options.global_batch_size} is no multiple of "
            f"{devices} devices x device_batch_size {options.device_batch_size}"
        )
    return options.global_batch_size // at_once


def _assembled(recipe: TrainingRecipe) -> Assembled:
    """The model with what is trained in float32, and the rest in the precision of the recipe."""
    import torch

    from synthvlm.training.model import add_lora, assemble, choose_trained

    low = recipe.optimisation.precision == "bfloat16"
    frozen = recipe.stage == "pretrain" or recipe.lora is not None
    dtype = "bfloat16" if low and frozen else "float32"
    assembled = assemble(recipe.model, recipe.image, recipe.seed, dtype)
    model = assembled.model
    choose_trained(model, recipe.stage)
    if recipe.lora is not None:
        model = add_lora(model, recipe.lora, recipe.seed)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
        elif low:
            weight.data = weight.data.to(torch.bfloat16)
    return dataclasses.replace(assembled, model=model)


def _facts(
    recipe: TrainingRecipe,
    assembled: Assembled,
    sources: Any,
    models: dict[str, str],
    folder: TrainingFolder,
    state: Any,
    progress: Progress,
) -> DataFacts:
    """Check the data, unless an earlier call has."""
    from synthvlm.training.tokens import Encoder

    if state.is_main_process and folder.facts() is None:
        tokenizer = assembled.processor.tokenizer
        encoder = Encoder(tokenizer, assembled.image_features, recipe.optimisation.max_tokens)
        facts = write_samples(
            sources,
            encoder,
            recipe.prompt,
            tokenizer.eos_token,
            folder.path,
            recipe.max_failed_share,
            progress,
        )
        facts.models = models
        folder.write_facts(facts)
    state.wait_for_everyone()
    checked = folder.facts()
    assert checked is not None
    return checked


def _run(
    recipe: TrainingRecipe,
    assembled: Assembled,
    facts: DataFacts,
    folder: TrainingFolder,
    state: Any,
    accumulation: int,
    progress: Progress,
) -> TrainingSummary:
    from synthvlm.training.checkpoints import save_model
    from synthvlm.training.tokens import Collator
    from synthvlm.training.trainer import LlavaTrainer, StepLog, trainer_settings

    options = recipe.optimisation
    rows = mapped_samples(folder.path, facts.samples)
    sampler = _sampler(rows, recipe)
    epoch_steps = -(-len(rows) // options.global_batch_size)
    steps = epoch_steps * options.epochs
    step, checkpoint = _last_checkpoint(recipe, assembled.model, folder, state, progress)
    cuda = state.device.type == "cuda"
    with folder.log(step) as write:
        trainer = LlavaTrainer(
            sampler=sampler,
            projector_learning_rate=options.projector_learning_rate,
            checkpoints_kept=recipe.checkpoints_kept,
            model=assembled.model,
            args=trainer_settings(recipe, str(folder.checkpoints), accumulation, steps, cuda=cuda),
            train_dataset=rows,
            data_collator=Collator(
                assembled.processor, assembled.image_id, assembled.image_features
            ),
            processing_class=assembled.processor,
            callbacks=[StepLog(write, progress, sampler, epoch_steps, len(rows))],
        )
        seen = step // epoch_steps * len(rows) + step % epoch_steps * options.global_batch_size
        progress.start(STAGE, len(rows) * options.epochs, "samples", seen)
        began = time.monotonic()
        trainer.train(resume_from_checkpoint=checkpoint)
        seconds = time.monotonic() - began
    state.wait_for_everyone()
    logged = folder.logged()
    last = logged[-max(1, len(logged) // 10) :]
    summary = TrainingSummary(
        model=str(folder.model),
        steps=steps,
        samples=facts.samples,
        failed=facts.failed,
        loss=sum(row["loss"] for row in last) / len(last) if last else float("nan"),
        seconds=seconds,
        resumed_at=step,
    )
    if state.is_main_process:
        save_model(recipe, assembled, facts, summary, folder)
        done = dataclasses.asdict(summary)
        del done["model"], done["seconds"], done["resumed_at"]
        folder.finish(done)
        progress.finish(STAGE, _line(summary, [row["loss"] for row in logged]))
    state.wait_for_everyone()
    return summary


def _sampler(rows: Any, recipe: TrainingRecipe) -> GroupedSampler:
    import numpy as np

    columns = rows.data
    return GroupedSampler(
        columns.column("length").to_numpy().astype(np.int64),
        columns.column("image_file").is_valid().to_numpy(zero_copy_only=False),
        recipe.optimisation.global_batch_size,
        recipe.seed,
        grouping=recipe.grouping,
    )


def _last_checkpoint(
    recipe: TrainingRecipe, model: Any, folder: TrainingFolder, state: Any, progress: Progress
) -> tuple[int, str | None]:
    """The step and folder of the newest sound checkpoint, its weights put into the model."""
    from synthvlm.training.checkpoints import (
        complete_checkpoints,
        drop_damaged,
        load_trained,
        sweep,
    )

    if state.is_main_process:
        drop_damaged(folder.checkpoints, progress.note)
        sweep(folder.checkpoints, recipe.checkpoints_kept)
    state.wait_for_everyone()
    checkpoints = complete_checkpoints(folder.checkpoints)
    step, checkpoint = checkpoints[-1] if checkpoints else (0, None)
    if checkpoint is not None:
        load_trained(model, checkpoint)
    return step, checkpoint


def _line(summary: TrainingSummary, losses: Sequence[float]) -> str:
    loss = f", loss {losses[0]:.4f} {sparkline(losses)} {summary.loss:.4f}" if losses else ""
    return f"{summary.steps:,} steps on {summary.samples:,} samples{loss}: {summary.model}"


def train_command(recipe: str, out: str, *, data: Sequence[str], changes: Sequence[str]) -> None:
    """Train as ``synthvlm train`` does; of several processes the main one alone prints.

    Args:
        recipe: Name of a built-in recipe, or a YAML file.
        out: Folder of the training.
        data: LLaVA JSON files or run folders that replace the recipe's.
        changes: Of settings, ``KEY=VALUE``.

    Raises:
        SynthVLMError: In the main process.
        SystemExit: In another process: the main one reports the error.
    """
    if os.environ.get("RANK", "0") != "0":
        try:
            train(TrainingRecipe.load(recipe, data=data, overrides=changes), out)
        except SynthVLMError:
            raise SystemExit(1) from None
        return
    settings = TrainingRecipe.load(recipe, data=data, overrides=changes)
    with terminal_progress() as progress:
        summary = train(settings, out, progress=progress)
    progress.note(f"model:  {summary.model}")
    if settings.report:
        progress.note(f"report: {os.path.join(os.path.dirname(summary.model), 'report.html')}")
