"""Both stages on small models; killed and resumed, the outcome is the same to the bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from random_llava import FEATURES, save_language
from synthvlm.errors import RunFolderError
from synthvlm.training.checkpoints import complete_checkpoints
from synthvlm.training.model import assemble
from synthvlm.training.prompts import v1_prompt
from synthvlm.training.recipe import ModelSettings, TrainingRecipe
from synthvlm.training.report import TrainingSummary
from synthvlm.training.tokens import Collator, Encoder
from synthvlm.training.train import train

HERE = Path(__file__).parent
PROJECTOR = "model.multi_modal_projector."


@pytest.fixture(scope="module")
def trained(
    recipes: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, TrainingSummary]:
    """Undisturbed trainings of each kind; the later ones start from stage 1."""
    folder = tmp_path_factory.mktemp("trained")
    found = {}
    for kind, values in recipes.items():
        if kind != "pretrain":
            values = {**values, "model": {"start": found["pretrain"].model}}
        found[kind] = train(TrainingRecipe.from_values(values), folder / kind)
    return found


def weights(model: str) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = LlavaForConditionalGeneration.from_pretrained(
        model
    ).state_dict()
    return loaded


def rows(model: str) -> list[dict[str, float]]:
    log = Path(model).parent / "log.jsonl"
    return [json.loads(row) for row in log.read_text().splitlines()]


def test_stage_1_changes_the_projector_alone(
    trained: dict[str, TrainingSummary], parts: dict[str, str]
) -> None:
    before = assemble(ModelSettings(**parts), "crop", 3).model.state_dict()
    after = weights(trained["pretrain"].model)
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith(PROJECTOR)}
    assert len(changed) == 4


def test_stage_2_leaves_the_vision_tower(trained: dict[str, TrainingSummary]) -> None:
    before = weights(trained["pretrain"].model)
    for kind in ("full", "lora"):
        after = weights(trained[kind].model)
        same = {name for name in before if torch.equal(before[name], after[name])}
        assert {name for name in before if "vision_tower" in name} <= same
        assert not any(name.startswith(PROJECTOR) for name in same)
        assert not any("_proj.weight" in name and "language_model" in name for name in same)
        # Adapters are on linear layers of the language model alone.
        assert ("lm_head.weight" in same) == (kind == "lora")


def test_loss_falls_and_is_logged(trained: dict[str, TrainingSummary]) -> None:
    for summary in trained.values():
        found = rows(summary.model)
        assert [row["step"] for row in found] == [1, 2, 3, 4, 5, 6]
        assert found[-1]["loss"] < found[0]["loss"]
        assert found[-1]["loss"] == summary.loss
        assert (summary.steps, summary.samples, summary.failed, summary.resumed_at) == (6, 24, 0, 0)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_who_may_read_the_folder_may_read_the_weights(
    trained: dict[str, TrainingSummary], kind: str
) -> None:
    for folder in ("model", "adapter")[: 1 + (kind == "lora")]:
        path = Path(trained[kind].model).with_name(folder)
        modes = {file.stat().st_mode & 0o777 for file in path.iterdir()}
        assert modes == {path.stat().st_mode & 0o666}


def test_done_says_so(trained: dict[str, TrainingSummary], recipes: dict[str, Any]) -> None:
    out = Path(trained["pretrain"].model).parent
    before = (out / "log.jsonl").stat().st_mtime_ns
    again = train(TrainingRecipe.from_values(recipes["pretrain"]), out)
    assert (again.model, again.loss) == (trained["pretrain"].model, trained["pretrain"].loss)
    assert again.seconds == 0
    assert (out / "log.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize("kind", ["pretrain", "full", "lora"])
def test_saved_model_answers(
    trained: dict[str, TrainingSummary], kind: str, instructions: Path
) -> None:
    processor = AutoProcessor.from_pretrained(trained[kind].model)
    model = LlavaForConditionalGeneration.from_pretrained(trained[kind].model).eval()
    content = [{"type": "image"}, {"type": "text", "text": "Which colour is it?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    with Image.open(instructions / "images" / "0" / "1.png") as image:
        inputs = processor(images=[image], text=[text], return_tensors="pt")
    made = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert made.shape[1] == inputs["input_ids"].shape[1] + 3


def test_processor_gives_what_was_trained_on(
    trained: dict[str, TrainingSummary], instructions: Path
) -> None:
    """Ids and pixels of training are those of the processor that is saved beside the model."""
    from synthvlm.data_sets.conversations import read_conversations

    processor = AutoProcessor.from_pretrained(trained["full"].model)
    talk = list(read_conversations(str(instructions / "llava.json")))[1]
    pieces = v1_prompt(talk, "</s>")
    tokens = Encoder(processor.tokenizer, FEATURES, 2048).encode(pieces)
    file = str(instructions / "images" / talk.image)
    collator = Collator(processor, processor.image_token_id, FEATURES)
    row = {"input_ids": tokens.ids, "trained": tokens.trained, "image_file": file}
    batch = collator([row])
    with Image.open(file) as image:
        inputs = processor(
            images=[image], text=["".join(p.text for p in pieces)], return_tensors="pt"
        )
    for name in ("input_ids", "attention_mask", "pixel_values"):
        assert torch.equal(batch[name], inputs[name]), name


@pytest.mark.parametrize("tied", [False, True])
def test_saved_and_reloaded_logits_are_the_same_bits(
    parts: dict[str, str], tmp_path: Path, tied: bool
) -> None:
    words = str(save_language(tmp_path / "words", tied=tied))
    built = assemble(ModelSettings(**{**parts, "language_model": words}), "crop", 3)
    head = built.model.get_output_embeddings().weight
    assert (head is built.model.get_input_embeddings().weight) == tied
    built.model.save_pretrained(tmp_path / "model")
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path / "model").eval()
    ids = torch.tensor([[0] + [built.image_id] * FEATURES + [70, 71]])
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = (m(input_ids=ids, pixel_values=pixels).logits for m in (built.model, again))
    assert torch.equal(first, second)


# peft reads a setting of transformers by its older name.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_adapter_alone_gives_the_merged_model(trained: dict[str, TrainingSummary]) -> None:
    from peft import PeftModel

    base = LlavaForConditionalGeneration.from_pretrained(trained["pretrain"].model)
    adapter = Path(trained["lora"].model).parent / "adapter"
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().state_dict()
    # It may be published: the base has a name, and is not looked for where it lies here.
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == (
        "model"
    )
    kept = weights(trained["lora"].model)
    assert all(torch.equal(merged[name], kept[name]) for name in kept)


KILLS = {"pretrain": ("step", 5), "full": ("checkpoint", 4), "lora": ("step", 3)}


@pytest.fixture(scope="module")
def killed(
    trained: dict[str, TrainingSummary],
    recipes: dict[str, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[dict[str, Any], Path]]:
    """Trainings that were killed: recipe and folder."""
    folder = tmp_path_factory.mktemp("killed")
    found = {}
    for kind, values in recipes.items():
        if kind != "pretrain":
            values = {**values, "model": {"start": trained["pretrain"].model}}
        found[kind] = (values, folder / kind)
    arguments = [json.dumps([v, str(out), *KILLS[kind]]) for kind, (v, out) in found.items()]
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_trainings.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["9"] * 3, done.stderr
    return found


@pytest.mark.parametrize("kind", ["pretrain", "full", "lora"])
def test_killed_and_resumed_is_the_same_to_the_bit(
    trained: dict[str, TrainingSummary],
    killed: dict[str, tuple[dict[str, Any], Path]],
    kind: str,
) -> None:
    values, out = killed[kind]
    what, when = KILLS[kind]
    steps = [step for step, _ in complete_checkpoints(out / "checkpoints")]
    assert steps == [(when - 1) // 2 * 2]
    half = out / "checkpoints" / f"checkpoint-{when}"
    assert half.exists() == (what == "checkpoint")
    summary = train(TrainingRecipe.from_values(values), out)
    assert summary.resumed_at == steps[0]
    whole, resumed = weights(trained[kind].model), weights(summary.model)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert rows(summary.model) == rows(trained[kind].model)
    assert [step for step, _ in complete_checkpoints(out / "checkpoints")] == [6]


def test_another_recipe_is_refused_and_run_time_knobs_are_not(
    killed: dict[str, tuple[dict[str, Any], Path]], recipes: dict[str, dict[str, Any]]
) -> None:
    values, out = killed["pretrain"]
    changed = {**values, "optimisation": {**values["optimisation"], "learning_rate": 0.5}}
    with pytest.raises(RunFolderError, match=r"optimisation\.learning_rate changed"):
        train(TrainingRecipe.from_values(changed), out)
    knob = {**values, "log_steps": 3, "max_failed_share": 0.5}
    train(TrainingRecipe.from_values(knob), out)


@pytest.fixture
def finished(
    trained: dict[str, TrainingSummary], recipes: dict[str, dict[str, Any]], tmp_path: Path
) -> tuple[TrainingRecipe, Path]:
    """A copy of stage 1's folder, with a checkpoint at its last step."""
    out = tmp_path / "moved"
    shutil.copytree(Path(trained["pretrain"].model).parent, out)
    return TrainingRecipe.from_values(recipes["pretrain"]), out


def test_a_moved_training_names_the_model_where_it_is(
    finished: tuple[TrainingRecipe, Path],
) -> None:
    assert train(*finished).model == str(finished[1] / "model")


@pytest.mark.parametrize("gone", ["done.json", "model"])
def test_what_is_gone_is_made_again_from_the_last_step(
    trained: dict[str, TrainingSummary], finished: tuple[TrainingRecipe, Path], gone: str
) -> None:
    path = finished[1] / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    summary = train(*finished)
    assert (summary.resumed_at, summary.loss) == (6, trained["pretrain"].loss)
    whole, again = weights(trained["pretrain"].model), weights(summary.model)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert rows(summary.model) == rows(trained["pretrain"].model)


def test_data_that_changed_since_are_refused(
    recipes: dict[str, dict[str, Any]], pairs: Path, tmp_path: Path
) -> None:
    shutil.copytree(pairs, tmp_path / "data")
    values = {**recipes["pretrain"], "data": [{"path": str(tmp_path / "data")}]}
    recipe = TrainingRecipe.from_values({**values, "checkpoint_steps": 0})
    train(recipe, tmp_path / "out")
    entries = json.loads((pairs / "llava.json").read_text())
    (tmp_path / "data" / "llava.json").write_text(json.dumps(entries[:-1]))
    with pytest.raises(RunFolderError, match="what is in the data changed; take another --out"):
        train(recipe, tmp_path / "out")


def test_the_only_step_of_a_training_teaches(
    recipes: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    values = {**recipes["pretrain"], "checkpoint_steps": 0}
    values["optimisation"] = {**values["optimisation"], "epochs": 1, "global_batch_size": 32}
    summary = train(TrainingRecipe.from_values(values), tmp_path)
    assert [row["learning_rate"] for row in rows(summary.model)] == [1e-2]


@pytest.mark.parametrize("at_once", [1, 8])
def test_loss_is_the_mean_over_the_tokens_of_the_global_batch(
    trained: dict[str, TrainingSummary],
    recipes: dict[str, dict[str, Any]],
    tmp_path: Path,
    at_once: int,
) -> None:
    """However few samples a device takes at once (4 in the other training)."""
    values = {**recipes["full"], "checkpoint_steps": 0}
    values["model"] = {"start": trained["pretrain"].model}
    values["optimisation"] = {**values["optimisation"], "device_batch_size": at_once}
    found = rows(train(TrainingRecipe.from_values(values), tmp_path).model)
    for name in ("loss", "gradient_norm"):
        expected = [row[name] for row in rows(trained["full"].model)]
        assert [row[name] for row in found] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_projector_has_a_rate_of_its_own(
    trained: dict[str, TrainingSummary],
    recipes: dict[str, dict[str, Any]],
    tmp_path: Path,
    kind: str,
) -> None:
    """One so small that its weights stay as they were, while the language model learns."""
    values = {**recipes[kind], "checkpoint_steps": 0}
    values["model"] = {"start": trained["pretrain"].model}
    options = {**values["optimisation"], "epochs": 1, "projector_learning_rate": 1e-30}
    summary = train(TrainingRecipe.from_values({**values, "optimisation": options}), tmp_path)
    before, after = weights(trained["pretrain"].model), weights(summary.model)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith(PROJECTOR)} <= same
    assert not any("_proj.weight" in name and "language_model" in name for name in same)


@pytest.mark.parametrize("kind", ["lora"])
def test_bfloat16_keeps_what_is_trained_in_float32(
    recipes: dict[str, dict[str, Any]], kind: str, tmp_path: Path
) -> None:
    values = {**recipes[kind], "checkpoint_steps": 6}
    values["optimisation"] = {**values["optimisation"], "precision": "bfloat16"}
    summary = train(TrainingRecipe.from_values(values), tmp_path)
    kept = load_file(tmp_path / "checkpoints" / "checkpoint-6" / "trained.safetensors")
    assert {weight.dtype for weight in kept.values()} == {torch.float32}
    saved = load_file(Path(summary.model) / "model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.bfloat16}
    found = rows(summary.model)
    assert found[-1]["loss"] < found[0]["loss"]
