"""Two processes under ``accelerate launch`` do what one does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from synthvlm.recipe_yaml import dump_yaml
from synthvlm.training.recipe import TrainingRecipe
from synthvlm.training.train import train

HERE = Path(__file__).parent


def test_two_processes_have_the_losses_of_one(
    recipes: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    values = recipes["full"]
    one = tmp_path / "one"
    train(TrainingRecipe.from_values(values), one)
    (tmp_path / "recipe.yaml").write_text(dump_yaml(values))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", "0"]
    script = [str(HERE / "run_training.py"), str(tmp_path / "recipe.yaml"), str(tmp_path / "two")]
    done = subprocess.run([*launch, *script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    # The main process alone prints.
    assert done.stdout.count("records can be used") == 1
    assert done.stdout.count("step 6 of 6") == 1
    assert done.stdout.count("model:") == 1
    first, second = (
        [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()]
        for out in (one, tmp_path / "two")
    )
    assert [row["step"] for row in second] == [1, 2, 3, 4, 5, 6]
    for name in ("loss", "gradient_norm"):
        assert [row[name] for row in second] == pytest.approx(
            [row[name] for row in first], rel=1e-3
        )
