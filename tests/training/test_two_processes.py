"""Two processes under torch's elastic agent, as ``accelerate launch`` has, do what one does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from synthvlm.recipe.yaml_text import dump_yaml
from synthvlm.training.recipe import TrainingRecipe
from synthvlm.training.train import train

HERE = Path(__file__).parent
# `accelerate launch` itself starts a single process where there is no GPU.
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]


@pytest.mark.long
def test_two_processes_have_the_losses_of_one(
    recipes: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    values = recipes["full"]
    one = tmp_path / "one"
    train(TrainingRecipe.from_values(values), one)
    (tmp_path / "recipe.yaml").write_text(dump_yaml(values))
    script = [str(HERE / "run_training.py"), str(tmp_path / "recipe.yaml"), str(tmp_path / "two")]
    done = subprocess.run([*LAUNCH, *script], capture_output=True, text=True, check=False)
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


def test_sigterm_ends_both_with_one_line(
    recipes: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """The agent passes it on; whichever is first takes the other's connection away."""
    values = recipes["pretrain"]
    values = {**values, "optimisation": {**values["optimisation"], "epochs": 10_000}}
    (tmp_path / "recipe.yaml").write_text(dump_yaml(values))
    out = tmp_path / "two"
    command = ["-m", "synthvlm", "train", str(tmp_path / "recipe.yaml"), "--out", str(out)]
    with (tmp_path / "output").open("w+") as output:
        agent = subprocess.Popen([*LAUNCH, *command], stdout=output, stderr=subprocess.STDOUT)
        until = time.monotonic() + 120
        while not list(out.glob("checkpoints/*")):
            assert time.monotonic() < until
            assert agent.poll() is None
            time.sleep(0.1)
        agent.terminate()
        agent.wait(25)  # of the 30 s after which it kills them
        output.seek(0)
        text = output.read()
    assert text.count("interrupted; run the same command again to resume from the newest") == 1
    assert "error:" not in text
    assert "Unable to shutdown" not in text
